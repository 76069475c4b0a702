"""How much samples sound like reference music rather than like contrast music, with everything needed to doubt it.

The score is the share of samples past a threshold that 5 % of held-out contrast clips pass, and not far from
reference music. It stands beside the same share of held-out reference clips (the ceiling), of contrast (the floor) and
of the base model's clips on the same prompts. Three things refuse it: reference and contrast that can't be told apart,
too few artists or clips to know that, and too few prompts to tell the samples from the base model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kwela.judge import (
    audio_features,
    authenticity_folders,
    authenticity_model,
    authenticity_page,
    clips,
    listening,
    stats,
)
from kwela.judge.authenticity_folders import Folder
from kwela.judge.authenticity_model import Evaluator, Judged
from kwela.judge.page import Scorecard
from kwela.judge.stats import Interval

LEAST_AUC = 0.75  # that the lower end of its interval must reach
LEAST_ARTISTS = 20  # of reference, and of contrast
LEAST_CLIPS = 40  # of reference, and of contrast: 5 % of fewer is less than two clips
ALPHA = 0.05  # p from which samples aren't told from the base model's
QUICK_STRENGTHS = (0.01, 0.1, 1.0)


@dataclass
class Evidence:
    """What was measured, filled in as far as the judgement came. shares: of reference and contrast (held out), samples
    and base. judged: of the same. difference: passes of samples less base, by pair. needed: clips an arm that would
    do."""

    status: str = "measured"
    why: str = ""
    auc: Interval | None = None
    brier: Interval | None = None
    brier_constant: float | None = None
    evaluator: Evaluator | None = None
    shares: dict[str, Interval] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    ablations: dict[str, Interval] = field(default_factory=dict)
    pairs: int | None = None
    difference: Interval | None = None
    p_value: float | None = None
    needed: int | None = None
    heard: listening.Heard | None = None

    def refuse(self, why: str) -> Evidence:
        self.status, self.why = "refused", why
        return self


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
    Raises UserError for a folder that is missing or unreadable, bad artists or ratings, or without scikit-learn.
    """
    listed = clips.read_artists(artists) if artists else None
    given = {"reference": reference, "contrast": contrast, "samples": samples, "base": base}
    places = {name: Path(place) for name, place in given.items() if place is not None}
    rated = listening.read_ratings(ratings) if ratings else None
    folders, doubles = authenticity_folders.apart(authenticity_folders.hear(places, listed, quick, seed))
    evidence = weigh(folders, quick, seed)
    if rated:
        evidence.heard = _ask(rated, folders, evidence, seed)
    card = authenticity_page.card(folders, doubles, evidence, out, named=listed is not None)
    card.more = _contract(folders, doubles, evidence) | card.more
    if sheet:
        chosen = {name: [(clip.path, clip.digest) for clip in folder.clips] for name, folder in folders.items()}
        card.verdicts["listening_sheet"] = str(listening.write_sheet(Path(sheet), chosen, seed))
    card.write(out, "authenticity")
    return card


def weigh(folders: dict[str, Folder], quick: bool = False, seed: int = 0) -> Evidence:
    """The evidence in `folders` (contrast and samples, with or without reference and base)."""
    found = Evidence()
    if "reference" not in folders:
        found.status, found.why = "not_measurable", "without reference clips there is nothing to be authentic to"
        return found
    if short := _too_few(folders):
        return found.refuse(short)
    train = [folders["reference"], folders["contrast"]]
    features = np.concatenate([folder.features for folder in train])
    genuine = np.repeat([True, False], [len(folder) for folder in train])
    artists = [artist for folder in train for artist in folder.artists()]
    strengths = QUICK_STRENGTHS if quick else authenticity_model.STRENGTHS
    resamples = 500 if quick else stats.RESAMPLES
    evaluator = found.evaluator = authenticity_model.fit(features, genuine, artists, seed, strengths)
    held_out = evaluator.held_out
    found.auc = _auc(held_out.log_odds, genuine, artists, resamples, seed)
    errors = (held_out.probability - genuine) ** 2
    found.brier = stats.bootstrap(artists, lambda index: float(errors[index].mean()), resamples, seed)
    found.brier_constant = float(genuine.mean() * (1 - genuine.mean()))
    found.judged = {"reference": held_out.take(genuine), "contrast": held_out.take(~genuine)}
    if not found.auc.low >= LEAST_AUC:
        low = f"{found.auc.low:.2f}" if math.isfinite(found.auc.low) else "unknown"
        return found.refuse(
            f"reference and contrast are not told apart well enough: the lower end of the AUC is {low}, "
            f"{LEAST_AUC} is needed; more clips by more artists, or a plainer contrast, would do"
        )
    found.ablations = _ablate(features, genuine, artists, evaluator, resamples, seed)
    passed = {name: judged.passes(evaluator.threshold) for name, judged in found.judged.items()}
    for name in ("samples", "base"):
        if name in folders:
            found.judged[name] = evaluator.judge(folders[name].features)
            passed[name] = found.judged[name].passes(evaluator.threshold) & folders[name].judgeable
    # What can't be read was made too, and doesn't pass; of real clips it is nobody's doing.
    for name, hits in passed.items():
        lost = folders[name].unreadable if name in ("samples", "base") else 0
        found.shares[name] = stats.wilson(int(hits.sum()), len(hits) + lost)
    return _compare(found, folders, passed, seed, resamples) if "base" in folders else found


def _ablate(
    features: np.ndarray,
    genuine: np.ndarray,
    artists: Sequence[str],
    evaluator: Evaluator,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """AUC without each family of features and with it alone, at the C that most folds chose."""
    usual = [float(np.median([fold.strength for fold in evaluator.folds]))]
    found = {}
    for family in audio_features.FAMILIES:
        member = np.array([audio_features.DOCUMENTED[name].family == family for name in audio_features.NAMES])
        for title, which in (("without", ~member), ("alone", member)):
            part = authenticity_model.fit(features[:, which], genuine, artists, seed, usual)
            found[f"{title} {family}"] = _auc(part.held_out.log_odds, genuine, artists, min(resamples, 500), seed)
    return found


def _too_few(folders: dict[str, Folder]) -> str:
    for name in ("reference", "contrast"):
        artists = len(set(folders[name].artists()))
        if artists < LEAST_ARTISTS:
            return (
                f"{name}: {artists} artists, {LEAST_ARTISTS} are needed to speak of more than these "
                "(an artist is a CSV's column, else a file's name before its first '-')"
            )
        if len(folders[name]) < LEAST_CLIPS:
            return f"{name}: {len(folders[name])} clips, {LEAST_CLIPS} are needed; 60 make it worth while"
    if not len(folders["samples"]):
        return "every sample is a reference or contrast clip"
    return ""


def _auc(log_odds: np.ndarray, genuine: np.ndarray, artists: Sequence[str], resamples: int, seed: int) -> Interval:
    def of(index: np.ndarray) -> float:
        scores, real = log_odds[index], genuine[index]
        return stats.auc(scores[real], scores[~real])

    return stats.bootstrap(artists, of, resamples, seed)


def _compare(
    found: Evidence, folders: dict[str, Folder], passed: dict[str, np.ndarray], seed: int, resamples: int
) -> Evidence:
    """Samples against the base model's clips on the same prompts; refuses if they can't be told apart."""
    places = {clip.prompt: k for k, clip in enumerate(folders["base"].clips)}
    both = [(k, places[c.prompt]) for k, c in enumerate(folders["samples"].clips) if c.prompt in places]
    found.pairs = len(both)
    if not both:
        return found.refuse("no file of --base has the name of a sample: prompts can't be paired")
    tuned, base = (passed[name][list(index)].astype(float) for name, index in zip(("samples", "base"), zip(*both)))
    change = tuned - base
    found.p_value = stats.paired_permutation(tuned, base, seed=seed)
    prompts = [str(k) for k in range(len(both))]
    found.difference = stats.bootstrap(prompts, lambda index: float(change[index].mean()), resamples, seed)
    if found.p_value < ALPHA:
        return found
    shares = float(base.mean()), float(tuned.mean())
    found.needed = None if shares[0] == shares[1] else stats.clips_needed(*shares)
    would = (
        "as many pass of either, and no number of clips tells equal shares apart"
        if found.needed is None
        else f"about {found.needed} would do, were the difference just what it is here"
    )
    return found.refuse(
        f"{len(both)} prompts don't tell the samples from the base model's (p = {found.p_value:.2f}): {would}; "
        f"20 % is told from 40 % by {stats.clips_needed(0.2, 0.4)}"
    )


def _ask(rated: list[listening.Rating], folders: dict[str, Folder], evidence: Evidence, seed: int) -> listening.Heard:
    digests = {name: [clip.digest for clip in folder.clips] for name, folder in folders.items()}
    odds: dict[str, float] = {}
    for name, judged in evidence.judged.items():
        if evidence.status == "measured":
            odds.update(zip(digests[name], judged.log_odds.tolist(), strict=True))
    return listening.summarise(rated, digests, odds, seed)


def _contract(folders: dict[str, Folder], doubles: dict[str, Any], evidence: Evidence) -> dict[str, Any]:
    """The keys that others read. Numbers about samples are null unless they were measured."""
    measured = evidence.status == "measured"
    shares = evidence.shares
    score = shares.get("samples") if measured else None
    counts: dict[str, Any] = {name: len(folder) for name, folder in folders.items()}
    counts |= {f"{n}_artists": len(set(folders[n].artists())) for n in ("reference", "contrast") if n in folders}
    outside = {name: float(judged.outside.mean()) for name, judged in evidence.judged.items()}
    return {
        "status": evidence.status,
        "why": evidence.why,
        "score": score.value if score else None,
        "ci": score.ci if score else None,
        "auc": {"value": evidence.auc.value, "ci": evidence.auc.ci} if evidence.auc else {"value": None, "ci": None},
        "ceiling": shares["reference"].value if shares else None,
        "floor": shares["contrast"].value if shares else None,
        "base": shares["base"].value if measured and "base" in shares else None,
        "p_value": evidence.p_value,
        "n": counts | {"pairs": evidence.pairs},
        "brier": evidence.brier.value if evidence.brier else None,
        "out_of_distribution": outside if measured else None,
        "clips_needed": evidence.needed,
        "overlap": doubles,
        "left_out": {name: folder.left_out for name, folder in folders.items() if folder.left_out},
    }
