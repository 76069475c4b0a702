"""How much samples sound like reference music rather than like contrast music, with everything needed to doubt it.

The score is the share of samples past a threshold that 5 % of held-out contrast clips pass, and not far from
reference music. It stands beside the same share of held-out reference clips (the ceiling), of contrast (the floor) and
of the base model's clips on the same prompts. Three things refuse it: reference and contrast that can't be told apart,
too few artists or clips to know that, and too few prompts to tell the samples from the base model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kwela import stats
from kwela.errors import UserError
from kwela.judge.authenticity import classifier, listening
from kwela.judge.authenticity import features as audio_features
from kwela.judge.authenticity import page as authenticity_page
from kwela.judge.authenticity.classifier import Evaluator
from kwela.judge.authenticity.findings import Findings
from kwela.judge.authenticity.folders import LEARNT, Folder, hear
from kwela.judge.shared import clips
from kwela.judge.shared.scorecard import Scorecard
from kwela.stats import Interval

LEAST_AUC = 0.75  # that the lower end of its interval must reach
LEAST_ARTISTS = 20  # of reference, and of contrast
LEAST_CLIPS = 40  # of reference, and of contrast: 5 % of fewer is less than two clips
ALPHA = 0.05  # p from which samples aren't told from the base model's
WORTH = (
    0.20  # a difference from the base that is worth finding: if one so large is ruled out, that is an answer
)
QUICK_STRENGTHS = (0.01, 0.1, 1.0)


def judge(
    reference: Path | None,
    contrast: Path,
    samples: Path,
    base: Path | None = None,
    *,
    artists: Path | None = None,
    sheet: Path | None = None,
    ratings: Path | None = None,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of the folder `samples`, also written to `out` as authenticity.json, .md and pictures.

    artists: CSV file,artist. sheet: where to write a blind listening sheet. ratings: a sheet that was filled in.
    Raises UserError for a folder that is missing, unreadable or given twice, bad artists or ratings, or without
    scikit-learn.
    """
    listed = clips.read_artists(artists) if artists else None
    given = {"reference": reference, "contrast": contrast, "samples": samples, "base": base}
    places = {name: Path(place) for name, place in given.items() if place is not None}
    _check_apart(places)
    rated = listening.read_ratings(ratings) if ratings else None
    folders, doubles = hear(places, listed, quick, seed)
    evidence = weigh(folders, quick, seed)
    if rated:
        evidence.heard = _ask(rated, folders, evidence)
    card = authenticity_page.card(folders, doubles, evidence, out, named=listed is not None)
    card.extra_json = _contract(folders, doubles, evidence) | card.extra_json
    if sheet:
        chosen = {
            name: [(clip.path, clip.digest) for clip in folder.clips] for name, folder in folders.items()
        }
        card.verdicts["listening_sheet"] = str(listening.write_sheet(Path(sheet), chosen, seed))
    card.write(out, "authenticity")
    return card


def _check_apart(places: dict[str, Path]) -> None:
    seen: dict[Path, str] = {}
    for name, place in places.items():
        if (other := seen.setdefault(place.resolve(), name)) != name:
            raise UserError(f"--{name}: {place} is --{other} too: what is compared must be two folders")


def weigh(folders: dict[str, Folder], quick: bool = False, seed: int = 0) -> Findings:
    """The evidence in `folders` (contrast and samples, with or without reference and base)."""
    found = Findings(quick, seed)
    if "reference" not in folders:
        found.status, found.why = (
            "not_measurable",
            "without reference clips there is nothing to be authentic to",
        )
        return found
    if short := _too_few(folders):
        return found.refuse(short)
    train = [folders[name] for name in LEARNT]
    features = np.concatenate([folder.features for folder in train])
    genuine = np.repeat([True, False], [len(folder) for folder in train])
    artists = [artist for folder in train for artist in folder.artists()]
    strengths = QUICK_STRENGTHS if quick else classifier.STRENGTHS
    evaluator = found.evaluator = classifier.fit(features, genuine, artists, seed, strengths)
    held_out = evaluator.held_out
    found.auc = stats.auc_by_group(held_out.log_odds, genuine, artists, found.resamples, seed)
    errors = (held_out.probability - genuine) ** 2
    found.brier = stats.bootstrap(artists, lambda index: float(errors[index].mean()), found.resamples, seed)
    found.brier_constant = float(genuine.mean() * (1 - genuine.mean()))
    contrast = held_out.take(~genuine)
    found.judged = {"reference": held_out.take(genuine), "contrast": contrast}
    if not found.auc.low >= LEAST_AUC:
        low = f"{found.auc.low:.2f}" if math.isfinite(found.auc.low) else "unknown"
        return found.refuse(
            f"reference and contrast are not told apart well enough: the lower end of the AUC is {low}, "
            f"{LEAST_AUC} is needed; more clips by more artists, or a plainer contrast, would do"
        )
    found.ablations = _ablate(features, genuine, artists, evaluator, seed)
    found.threshold = stats.bootstrap(
        folders["contrast"].artists(),
        lambda index: classifier.threshold(contrast.log_odds[index]),
        found.resamples,
        seed,
    )
    limit = evaluator.threshold
    passed = {name: judged.passes(limit) for name, judged in found.judged.items()}
    passed["fresh"] = contrast.passes(evaluator.crossed[~genuine])
    found.shares = {name: stats.share(hits) for name, hits in passed.items()}
    ends = {"low": found.threshold.low, "high": found.threshold.high}
    for name, limits in (("samples", {"samples": limit} | ends), ("base", {"base": limit})):
        if name in folders:
            folder, judged = folders[name], evaluator.judge(folders[name].features)
            found.judged[name] = judged
            for title, at in limits.items():
                hits = passed[title] = judged.passes(at) & folder.judgeable
                # What can't be read was made too, and doesn't pass; of real clips it is nobody's doing.
                found.shares[title] = stats.wilson(int(hits.sum()), len(hits) + folder.unreadable)
    return _compare(found, folders, passed) if "base" in folders else found


def _ablate(
    features: np.ndarray, genuine: np.ndarray, artists: Sequence[str], evaluator: Evaluator, seed: int
) -> dict[str, Interval]:
    """AUC without each family of features and with it alone, at the C that most folds chose."""
    usual = [float(np.median([fold.strength for fold in evaluator.folds]))]
    found = {}
    for family in audio_features.FAMILIES:
        member = np.array([audio_features.DOCUMENTED[name].family == family for name in audio_features.NAMES])
        for title, which in (("without", ~member), ("alone", member)):
            part = classifier.fit(features[:, which], genuine, artists, seed, usual)
            found[f"{title} {family}"] = stats.auc_by_group(
                part.held_out.log_odds, genuine, artists, 500, seed
            )
    return found


def _too_few(folders: dict[str, Folder]) -> str:
    for name in LEARNT:
        artists = len(set(folders[name].artists()))
        if not artists and folders[name].left_out:
            return (
                f"{name}: nothing is left of it: every clip is in reference and contrast both, or under 5 s"
            )
        if artists < LEAST_ARTISTS:
            return (
                f"{name}: {artists} artists, {LEAST_ARTISTS} are needed to speak of more than these "
                "(an artist is a CSV's column, else a file's name before its first '-')"
            )
        if len(folders[name]) < LEAST_CLIPS:
            return f"{name}: {len(folders[name])} clips, {LEAST_CLIPS} are needed; 60 make it worth while"
    return "" if len(folders["samples"]) else "every sample is a reference or contrast clip"


def _compare(found: Findings, folders: dict[str, Folder], passed: dict[str, np.ndarray]) -> Findings:
    """Samples against the base model's clips on the same prompts.

    Refuses where neither a difference is found (p < ALPHA) nor one that is WORTH finding ruled out (by the interval).
    """
    places = {clip.prompt: k for k, clip in enumerate(folders["base"].clips)}
    both = [(k, places[c.prompt]) for k, c in enumerate(folders["samples"].clips) if c.prompt in places]
    found.pairs = len(both)
    if not both:
        return found.refuse("no file of --base has the name of a sample: prompts can't be paired")
    tuned, base = (passed[name][list(index)] for name, index in zip(("samples", "base"), zip(*both)))
    found.p_value = stats.paired_permutation(tuned, base, seed=found.seed)
    change = found.difference = stats.paired_difference(tuned, base)
    if found.p_value < ALPHA or (change.low > -WORTH and change.high < WORTH):
        return found
    found.needed = stats.pairs_needed(tuned, base, max(abs(change.value), WORTH - abs(change.value)))
    return found.refuse(
        f"{len(both)} prompts don't tell the samples from the base model's (p = {found.p_value:.2f}), nor rule out a "
        f"difference of {WORTH:g}: it may be anything from {change.low:.2f} to {change.high:.2f}. About {found.needed} "
        "would do, were the difference just what it is here"
    )


def _ask(rated: list[listening.Rating], folders: dict[str, Folder], evidence: Findings) -> listening.Heard:
    digests = {name: [clip.digest for clip in folder.clips] for name, folder in folders.items()}
    odds: dict[str, float] = {}
    for name, judged in evidence.judged.items() if evidence.status == "measured" else ():
        odds.update(zip(digests[name], judged.log_odds.tolist(), strict=True))
    return listening.summarise(rated, digests, odds, evidence.seed)


def _contract(folders: dict[str, Folder], doubles: dict[str, Any], evidence: Findings) -> dict[str, Any]:
    """The keys that others read. Numbers about samples are null unless they were measured."""
    measured = evidence.status == "measured"
    shares = evidence.shares
    score = shares.get("samples") if measured else None
    counts: dict[str, Any] = {name: len(folder) for name, folder in folders.items()}
    counts |= {f"{name}_artists": len(set(folders[name].artists())) for name in LEARNT if name in folders}
    outside = {name: float(judged.outside.mean()) for name, judged in evidence.judged.items()}
    return {
        "status": evidence.status,
        "why": evidence.why,
        "score": score.value if score else None,
        "ci": score.ci if score else None,
        "auc": (evidence.auc or stats.NOT_MEASURED).to_dict(),
        "ceiling": shares["reference"].value if shares else None,
        "floor": shares["contrast"].value if shares else None,
        "floor_fresh": shares["fresh"].value if shares else None,
        "threshold": evidence.threshold.to_dict() if evidence.threshold else None,
        "base": shares["base"].value if measured and "base" in shares else None,
        "p_value": evidence.p_value,
        "n": counts | {"pairs": evidence.pairs},
        "brier": evidence.brier.value if evidence.brier else None,
        "out_of_distribution": outside if measured else None,
        "clips_needed": evidence.needed,
        "overlap": doubles,
        "left_out": {name: folder.left_out for name, folder in folders.items() if folder.left_out},
    }
