"""Judge how much samples sound like reference music rather than like contrast music.

The score is the share of samples that lie past a threshold, which 5 % of held-out contrast clips pass, and
not far from reference music. It stands beside the same share of held-out reference clips (the ceiling), of
contrast (the floor) and of the base model's clips on the same prompts. The judge refuses in three cases:
reference and contrast cannot be told apart, there are too few artists or clips to know that, or there are too
few prompts to tell the samples from the base model's clips. docs/judging/authenticity.md explains the
figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kwela import stats
from kwela.errors import UserError
from kwela.judge.authenticity import classifier, listening, standard_form
from kwela.judge.authenticity import features as audio_features
from kwela.judge.authenticity import page as authenticity_page
from kwela.judge.authenticity.evidence import Evidence
from kwela.judge.authenticity.folders import TRAINING_SIDES, ClipFolder, read_folders
from kwela.judge.shared import clips
from kwela.judge.shared.scorecard import Scorecard
from kwela.stats import Interval

MIN_AUC = 0.75  # that the lower end of the AUC's interval must reach
MIN_ARTISTS = 20  # of reference, and of contrast
MIN_CLIPS = 40  # of reference, and of contrast: 5 % of fewer is less than two clips
WITHOUT_TIMBRE = "without timbre"  # the ablation that a recording's colour can't reach
ALPHA = 0.05  # the p below which samples differ from the base model's clips
WORTH_FINDING = 0.20  # a difference of shares from the base; to rule out one so large is an answer
QUICK_STRENGTHS = (0.01, 0.1, 1.0)
ABLATION_RESAMPLES = 500


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
    """Return the scorecard of the folder `samples`; write it to `out` as JSON, Markdown and pictures.

    artists: CSV file,artist. sheet: where to write a blind listening sheet. ratings: a sheet that was filled
    in. Raises UserError for a folder that is missing, unreadable or named twice, for bad artists or ratings,
    and without scikit-learn.
    """
    listed = clips.read_artists(artists) if artists else None
    options = {"reference": reference, "contrast": contrast, "samples": samples, "base": base}
    places = {name: Path(place) for name, place in options.items() if place is not None}
    _check_different(places)
    rated = listening.read_ratings(ratings) if ratings else None
    folders, overlaps = read_folders(places, listed, quick, seed)
    evidence = evaluate(folders, quick, seed)
    if rated:
        evidence.listening = _summarise_ratings(rated, folders, evidence)
    card = authenticity_page.build_scorecard(folders, overlaps, evidence, out, named=listed is not None)
    form = folders["samples"].form
    card.extra_json = _json_keys(folders, overlaps, evidence) | card.extra_json
    card.extra_json["standard_form"] = form._asdict()
    card.extra_json["features_version"] = audio_features.FEATURES_VERSION
    if sheet:
        chosen = {
            name: [(clip.path, clip.digest) for clip in folder.clips] for name, folder in folders.items()
        }
        card.verdicts["listening_sheet"] = str(listening.write_sheet(Path(sheet), chosen, seed, form))
    card.write(out, "authenticity")
    return card


def _check_different(places: dict[str, Path]) -> None:
    names: dict[Path, str] = {}
    for name, place in places.items():
        if (other := names.setdefault(place.resolve(), name)) != name:
            raise UserError(f"--{name}: {place} is --{other} too: what is compared must be two folders")


def evaluate(folders: dict[str, ClipFolder], quick: bool = False, seed: int = 0) -> Evidence:
    """Collect the evidence in `folders`: contrast and samples, with or without reference and base."""
    evidence = Evidence(quick, seed)
    if "reference" not in folders:
        evidence.status = "not_measurable"
        evidence.why = "without reference clips there is nothing to be authentic to"
        return evidence
    if shortage := _shortage(folders) or _unequal_noise(folders):
        return evidence.refuse(shortage)
    _train(evidence, folders)
    assert evidence.auc is not None
    if not evidence.auc.low >= MIN_AUC:
        low = f"{evidence.auc.low:.2f}" if math.isfinite(evidence.auc.low) else "unknown"
        return evidence.refuse(
            f"reference and contrast are not told apart well enough: the lower end of the AUC is {low}, "
            f"{MIN_AUC} is needed; more clips by more artists, or a plainer contrast, would do"
        )
    if not evidence.ablations[WITHOUT_TIMBRE].low >= MIN_AUC:
        return evidence.refuse(_told_by_timbre(evidence))
    passed = _score(evidence, folders)
    return _compare(evidence, folders, passed) if "base" in folders else evidence


def _told_by_timbre(evidence: Evidence) -> str:
    """Say that nothing but the colour of the sound tells reference from contrast."""
    assert evidence.auc is not None
    without = evidence.ablations[WITHOUT_TIMBRE]
    return (
        f"reference and contrast are told apart by the colour of their sound alone: the AUC is "
        f"{evidence.auc.value:.2f} with timbre, and {without.value:.2f} without it, with a lower end of "
        f"{without.low:.2f} where {MIN_AUC} is needed. A codec, an equaliser or a room does the same: "
        "take clips that were recorded and coded alike"
    )


def _train(evidence: Evidence, folders: dict[str, ClipFolder]) -> None:
    """Fit the classifier to reference and contrast, and say how well it tells them apart."""
    sides = [folders[name] for name in TRAINING_SIDES]
    features = np.concatenate([folder.features for folder in sides])
    genuine = np.repeat([True, False], [len(folder) for folder in sides])
    artists = [artist for folder in sides for artist in folder.artists()]
    splits = classifier.split_by_artist(genuine, artists, evidence.seed)
    strengths = QUICK_STRENGTHS if evidence.quick else classifier.STRENGTHS
    evidence.classifier = classifier.fit(features, genuine, splits, strengths)
    held_out = evidence.classifier.held_out
    resamples, seed = evidence.resamples, evidence.seed
    evidence.auc = stats.auc_by_group(held_out.log_odds, genuine, artists, resamples, seed)
    errors = (held_out.probability - genuine) ** 2
    evidence.brier = stats.bootstrap(artists, lambda index: float(errors[index].mean()), resamples, seed)
    evidence.brier_constant = float(genuine.mean() * (1 - genuine.mean()))
    evidence.scores = {"reference": held_out.select(genuine), "contrast": held_out.select(~genuine)}
    if evidence.auc.low >= MIN_AUC:
        strength = float(np.median([fold.strength for fold in evidence.classifier.folds]))
        evidence.ablations = _ablate(features, genuine, artists, splits, strength, seed)


def _ablate(
    features: np.ndarray,
    genuine: np.ndarray,
    artists: Sequence[str],
    splits: list[classifier.NestedSplit],
    strength: float,
    seed: int,
) -> dict[str, Interval]:
    """Return the AUC without each family of features and with it alone, at the C that most folds chose."""
    aucs = {}
    for family in audio_features.FAMILIES:
        member = np.array([audio_features.DOCUMENTED[name].family == family for name in audio_features.NAMES])
        for title, chosen in (("without", ~member), ("alone", member)):
            odds = classifier.fit(features[:, chosen], genuine, splits, [strength]).held_out.log_odds
            aucs[f"{title} {family}"] = stats.auc_by_group(odds, genuine, artists, ABLATION_RESAMPLES, seed)
    return aucs


def _score(evidence: Evidence, folders: dict[str, ClipFolder]) -> dict[str, np.ndarray]:
    """Fill in the shares of clips that pass; return which clips of each folder pass, (N,) bool."""
    model = evidence.classifier
    assert model is not None
    contrast = evidence.scores["contrast"]
    evidence.threshold = stats.bootstrap(
        folders["contrast"].artists(),
        lambda index: classifier.pass_threshold(contrast.log_odds[index]),
        evidence.resamples,
        evidence.seed,
    )
    passed = {name: scores.passes(model.threshold) for name, scores in evidence.scores.items()}
    passed["fresh"] = contrast.passes(model.thresholds_of_other_folds[len(folders["reference"]) :])
    evidence.shares = {name: stats.share(hits) for name, hits in passed.items()}
    ends = {"low": evidence.threshold.low, "high": evidence.threshold.high}
    for name, limits in (
        ("samples", {"samples": model.threshold} | ends),
        ("base", {"base": model.threshold}),
    ):
        if name not in folders:
            continue
        folder = folders[name]
        scores = evidence.scores[name] = model.score(folder.features)
        for title, limit in limits.items():
            hits = passed[title] = scores.passes(limit) & folder.judgeable
            # The model made the unreadable files too, and they do not pass. Real clips that cannot be read do
            # not count, since no model made them.
            evidence.shares[title] = stats.wilson(int(hits.sum()), len(hits) + folder.unreadable)
    return passed


def _shortage(folders: dict[str, ClipFolder]) -> str:
    """Return what there is too little of, empty if there is enough."""
    for name in TRAINING_SIDES:
        artists = len(set(folders[name].artists()))
        reasons = list(folders[name].left_out.values())
        lost = f"; {len(reasons)} clips are left out, the first because {reasons[0]}" if reasons else ""
        if not artists and lost:
            return f"{name}: nothing is left of it{lost}"
        if artists < MIN_ARTISTS:
            return (
                f"{name}: {artists} artists, {MIN_ARTISTS} are needed to speak of more than these "
                f"(an artist is a CSV's column, else a file's name before its first '-'){lost}"
            )
        if len(folders[name]) < MIN_CLIPS:
            found = f"{len(folders[name])} clips, {MIN_CLIPS} are needed"
            return f"{name}: {found}; 60 make it worth while{lost}"
    return "" if len(folders["samples"]) else "every sample is a reference or contrast clip"


def _unequal_noise(folders: dict[str, ClipFolder]) -> str:
    """Return how the noise of reference and contrast differs, if it is more than can be made equal."""
    noise = {
        name: standard_form.usual_noise([clip.recording for clip in folders[name].clips])
        for name in TRAINING_SIDES
    }
    low, high = sorted(noise.values())
    if high <= standard_form.MOST_NOISE or high - low < standard_form.NOISE_MARGIN:
        return ""
    figures = ", ".join(f"{name} {value:.0f} dB" for name, value in noise.items())
    return (
        f"reference and contrast are not recorded alike: their noise beside their music is {figures}. "
        f"Up to {standard_form.MOST_NOISE:.0f} dB could be made equal; take clips with less noise"
    )


def _compare(evidence: Evidence, folders: dict[str, ClipFolder], passed: dict[str, np.ndarray]) -> Evidence:
    """Compare samples with the base model's clips on the same prompts.

    Refuses if neither a difference is found (p < ALPHA) nor one of WORTH_FINDING is ruled out by the
    interval.
    """
    position = {clip.prompt: k for k, clip in enumerate(folders["base"].clips)}
    both = [(k, position[c.prompt]) for k, c in enumerate(folders["samples"].clips) if c.prompt in position]
    evidence.pairs = len(both)
    if not both:
        return evidence.refuse("no file of --base has the name of a sample: prompts can't be paired")
    tuned, base = (passed[name][list(index)] for name, index in zip(("samples", "base"), zip(*both)))
    evidence.p_value = stats.paired_permutation(tuned, base, seed=evidence.seed)
    change = evidence.difference = stats.paired_difference(tuned, base)
    if evidence.p_value < ALPHA or (change.low > -WORTH_FINDING and change.high < WORTH_FINDING):
        return evidence
    evidence.needed = stats.pairs_needed(
        tuned, base, max(abs(change.value), WORTH_FINDING - abs(change.value))
    )
    return evidence.refuse(
        f"{len(both)} prompts don't tell the samples from the base model's (p = "
        f"{evidence.p_value:.2f}), nor rule out a "
        f"difference of {WORTH_FINDING:g}: it may be anything from {change.low:.2f} to "
        f"{change.high:.2f}. About {evidence.needed} "
        "would do, were the difference just what it is here"
    )


def _summarise_ratings(
    rated: list[listening.Rating], folders: dict[str, ClipFolder], evidence: Evidence
) -> listening.ListeningSummary:
    digests = {name: [clip.digest for clip in folder.clips] for name, folder in folders.items()}
    odds: dict[str, float] = {}
    for name, scores in evidence.scores.items() if evidence.status == "measured" else ():
        odds.update(zip(digests[name], scores.log_odds.tolist(), strict=True))
    return listening.summarise(rated, digests, odds, evidence.seed)


def _json_keys(
    folders: dict[str, ClipFolder], overlaps: dict[str, Any], evidence: Evidence
) -> dict[str, Any]:
    """Return the promised keys of the JSON. Figures about samples are None unless they were measured."""
    measured = evidence.status == "measured"
    shares = evidence.shares
    score = shares.get("samples") if measured else None
    counts: dict[str, Any] = {name: len(folder) for name, folder in folders.items()}
    counts |= {
        f"{name}_artists": len(set(folders[name].artists())) for name in TRAINING_SIDES if name in folders
    }
    outside = {name: float(scores.outside.mean()) for name, scores in evidence.scores.items()}
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
        "overlap": overlaps,
        "left_out": {name: folder.left_out for name, folder in folders.items() if folder.left_out},
    }
