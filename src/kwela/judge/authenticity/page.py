"""Lay out an authenticity judgement as a scorecard: its tables, texts and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kwela import plots, stats
from kwela.judge.authenticity.evidence import Evidence
from kwela.judge.authenticity.features import DOCUMENTED, NAMES
from kwela.judge.authenticity.folders import TRAINING_SIDES, ClipFolder, Overlaps
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow

ROLES = {
    "reference": "reference, held out (ceiling)",
    "samples": "samples",
    "base": "base model",
    "fresh": "contrast, threshold fixed on other artists (floor)",
    "contrast": "contrast (at most 5 % by construction)",
}
COLOURS = {"reference": plots.GREEN, "samples": plots.RED, "base": plots.PINK, "contrast": plots.BLUE}
FEW_SAMPLES = 60  # under which the page warns of a wide interval
SHARES, SCORES, COEFFICIENTS = (f"authenticity_{name}.png" for name in ("shares", "scores", "coefficients"))
PRIORS = {name: feature for name, feature in DOCUMENTED.items() if feature.expected}


def build_scorecard(
    folders: dict[str, ClipFolder], overlaps: Overlaps, evidence: Evidence, out: Path, named: bool
) -> Scorecard:
    """Return the scorecard, with its pictures drawn in `out`. named: the artists come from a list."""
    card = Scorecard(
        "Authenticity of samples", _warning(folders, evidence, named), evidence.quick, evidence.seed
    )
    card.verdicts["status"] = evidence.status
    if evidence.why:
        card.verdicts["why"] = evidence.why
    if evidence.status == "measured":
        card.verdicts["score"] = _score_text(evidence)
        if evidence.difference is not None:
            card.verdicts["against_base"] = _difference_text(evidence)
        near = overlaps.get("samples_near_reference")
        card.verdicts["near_copies_of_reference"] = overlaps.get("near_copies", len(near) if near else 0)
        _shares(card, folders, evidence, out)
        _distribution(card, evidence)
    if evidence.classifier is not None:
        _evaluator(card, folders, evidence)
        if evidence.ablations:
            _ablations(card, evidence)
        _coefficients(card, folders, evidence)
        _draw_scores(evidence, out / SCORES)
        _draw_coefficients(evidence.classifier.coefficients(), out / COEFFICIENTS)
    if evidence.status == "not_measurable":
        _conformity(card, folders)
    if evidence.listening is not None:
        _listening(card, evidence)
    _files(card, folders, overlaps)
    return card


def _warning(folders: dict[str, ClipFolder], evidence: Evidence, named: bool) -> str:
    warnings = []
    if "reference" not in folders:
        warnings.append("No reference clips were given: nothing here says how authentic the samples are.")
    if len(folders["samples"]) < FEW_SAMPLES and evidence.status == "measured":
        warnings.append(f"Only {len(folders['samples'])} samples: the score's interval is wide.")
    training = [clip for name in TRAINING_SIDES if name in folders for clip in folders[name].clips]
    if not named and (lone := sum("-" not in clip.path.stem for clip in training)) and "reference" in folders:
        warnings.append(
            f"{lone} clips name no artist (no '-' in the file's name) and count as one artist each: "
            "if some share an "
            "artist, the AUC is too good and its interval too narrow; give --artists."
        )
    return " ".join(warnings)


def _score_text(evidence: Evidence) -> str:
    labels = {"samples": "", "fresh": "floor ", "base": "base ", "reference": "ceiling "}
    shares = {label: evidence.shares[name] for name, label in labels.items() if name in evidence.shares}
    return ", ".join(
        f"{label}{share.value:.2f} ({share.low:.2f} .. {share.high:.2f})" for label, share in shares.items()
    )


def _difference_text(evidence: Evidence) -> str:
    change, over = evidence.difference, f"p = {evidence.p_value:.2g} over {evidence.pairs} prompts"
    assert change is not None and evidence.p_value is not None
    if evidence.p_value < 0.05:
        return f"{'more' if change.value > 0 else 'fewer'} samples than base clips pass, {over}"
    return f"no difference worth finding: {change.low:.2f} to {change.high:.2f}, {over}"


def _shares(card: Scorecard, folders: dict[str, ClipFolder], evidence: Evidence, out: Path) -> None:
    rows = [
        ScorecardRow.from_interval(
            role, evidence.shares[name], len(folders["contrast" if name == "fresh" else name])
        )
        for name, role in ROLES.items()
        if name in evidence.shares
    ]
    for end in ("low", "high"):
        note = "how far the score hangs on where the threshold fell"
        rows.append(
            ScorecardRow.from_interval(
                f"samples, threshold at its {end} end", evidence.shares[end], note=note
            )
        )
    if evidence.difference is not None:
        note = f"p = {evidence.p_value:.2g}, paired by file name, order of pairs shuffled"
        rows.append(
            ScorecardRow.from_interval(
                "samples less base, same prompts", evidence.difference, evidence.pairs, note
            )
        )
    text = (
        "The share of clips past a threshold, fixed before a sample was scored, and not far from "
        "reference music. "
        "That at most 5 % of contrast pass is so by construction: it was set on these clips. The "
        "floor that could "
        "have come out otherwise is theirs by thresholds set on other artists. Intervals are "
        "Wilson's, over clips."
    )
    card.add("score", "Share that sounds like reference", rows, text, "share", SHARES)
    draw_forest(out / SHARES, {"": rows}, "share that passes, 95 % interval", {"": plots.RED})


def _distribution(card: Scorecard, evidence: Evidence) -> None:
    rows = []
    for name in (name for name in ROLES if name in evidence.scores):
        scores = evidence.scores[name]
        for what, hits in (
            ("unlike either", scores.outside),
            ("far from reference", scores.relative_distances[:, 1] > 1),
        ):
            rows.append(ScorecardRow.from_interval(f"{name}: {what}", stats.share(hits), len(hits)))
    text = (
        "Far: a distance half as far again as that of 99 % of the side's own held-out clips. Unlike "
        "either: the "
        "evaluator has never heard the like. Clips far from reference never pass."
    )
    card.add("distribution", "Out of distribution", rows, text, "share")


def _evaluator(card: Scorecard, folders: dict[str, ClipFolder], evidence: Evidence) -> None:
    assert evidence.auc is not None and evidence.brier is not None and evidence.classifier is not None
    n = sum(len(folders[name]) for name in TRAINING_SIDES)
    artists = len({artist for name in TRAINING_SIDES for artist in folders[name].artists()})
    strengths = ", ".join(f"{fold.strength:g}" for fold in evidence.classifier.folds)
    rows = [
        ScorecardRow.from_interval(
            "AUC", evidence.auc, n, f"reference over contrast, {artists} artists resampled"
        ),
        ScorecardRow.from_interval(
            "Brier score", evidence.brier, n, "mean squared error of the probability: 0 is best"
        ),
        ScorecardRow(
            "Brier score of a constant",
            evidence.brier_constant,
            None,
            n,
            "the share of reference, of every clip",
        ),
    ]
    if evidence.threshold is not None:
        note = "log-odds; interval by contrast artists resampled"
        rows.append(
            ScorecardRow.from_interval("threshold", evidence.threshold, len(folders["contrast"]), note)
        )
    text = (
        "How well reference and contrast clips are told apart by artists that the evaluator hasn't "
        "heard: logistic "
        "regression in nested cross-validation grouped by artist (C chosen in each fold: "
        f"{strengths}). An AUC of 1 "
        "resamples to 1 alone: its interval then says too little, not that there is no doubt."
    )
    card.add("evaluator", "The evaluator, on artists it hasn't heard", rows, text, picture=SCORES)


def _ablations(card: Scorecard, evidence: Evidence) -> None:
    text = (
        "The evaluator without a family of features, and with it alone. If one alone does it all, "
        "the score measures "
        "that family: look there for what reference and contrast differ in besides style."
    )
    rows = [ScorecardRow.from_interval(name, interval) for name, interval in evidence.ablations.items()]
    card.add("ablations", "What it hangs on", rows, text, "AUC")


def _coefficients(card: Scorecard, folders: dict[str, ClipFolder], evidence: Evidence) -> None:
    assert evidence.classifier is not None
    by_fold = evidence.classifier.coefficients()
    shown = (*TRAINING_SIDES, "samples") if evidence.status == "measured" else TRAINING_SIDES
    middles = {name: np.median(folders[name].features, axis=0) for name in shown}
    rows = []
    for k in np.argsort(-np.abs(by_fold.mean(0))).tolist():
        feature = DOCUMENTED[NAMES[k]]
        notes = [
            f"{feature.meaning} ({feature.unit}): " + ", ".join(f"{n} {m[k]:.2f}" for n, m in middles.items())
        ]
        if feature.expected:
            notes.append("expected {:g}..{:g}".format(*feature.expected))
        notes.append(f"folds {by_fold[:, k].min():.2f} to {by_fold[:, k].max():.2f}")
        rows.append(ScorecardRow(NAMES[k], float(by_fold[:, k].mean()), None, None, "; ".join(notes)))
    text = (
        "Change of the log-odds with one standard deviation of a feature, mean over folds; medians; and what "
        "producers' pages lead one to expect of amapiano. Features go together: a small one may "
        "differ all the same."
    )
    card.add("coefficients", "Coefficients", rows, text, "log-odds", COEFFICIENTS)


def count_expectations_met(features: np.ndarray) -> np.ndarray:
    """Count the documented expectations that each clip meets: (N,) float, of features (N, 30)."""
    low, high = np.array([feature.expected for feature in PRIORS.values()]).T
    column = features[:, [NAMES.index(name) for name in PRIORS]]
    return ((column >= low) & (column <= high)).sum(1).astype(float)


def _conformity(card: Scorecard, folders: dict[str, ClipFolder]) -> None:
    measured = {name: folder for name, folder in folders.items() if len(folder)}
    rows = []
    for name, folder in measured.items():
        count = count_expectations_met(folder.features)
        note = f"features within expectation, of {len(PRIORS)}"
        rows.append(ScorecardRow.from_interval(name, stats.mean_by_group(count), len(folder), note))
    card.extra_json["conformity"] = {row.label: row.value for row in rows} | {"of": len(PRIORS)}
    for feature, documented in PRIORS.items():
        for name, folder in measured.items():
            middle = float(np.median(folder.features[:, NAMES.index(feature)]))
            note = "{} ({}), expected {:g}..{:g}".format(
                documented.meaning, documented.unit, *documented.expected or (0, 0)
            )
            rows.append(ScorecardRow(f"{feature}, {name}", middle, None, len(folder), note))
    text = (
        "How many features of a clip lie where producers' pages lead one to expect those of "
        "amapiano, and the medians. "
        "No measurement backs these ranges, and other music meets some of them: this is no score."
    )
    card.add("conformity", "Feature conformity", rows, text, "mean count, then medians")


def _listening(card: Scorecard, evidence: Evidence) -> None:
    summary = evidence.listening
    assert summary is not None
    rows = [
        ScorecardRow.from_interval(
            "agreement (Krippendorff's alpha)",
            summary.agreement,
            summary.clip_count,
            f"{summary.rater_count} raters",
        )
    ]
    rows += [
        ScorecardRow.from_interval(f"mean rating, {name}", interval, n)
        for name, (interval, n) in summary.mean_ratings.items()
    ]
    rows.append(
        ScorecardRow.from_interval(
            "experts tell reference from contrast", summary.reference_auc, None, "AUC of mean ratings"
        )
    )
    rows.append(
        ScorecardRow.from_interval(
            "experts and this judge",
            summary.judge_correlation,
            None,
            "rank correlation of mean rating and log-odds",
        )
    )
    text = (
        "Blind ratings, 1 to 5. Below an agreement of about 0.67 (Krippendorff's line for tentative "
        "conclusions) the "
        "means say little. Intervals resample clips, not raters."
    )
    if summary.unknown_clips:
        unknown = summary.unknown_clips
        text += f" {len(unknown)} rated names are of no clip here (first: {unknown[0]})."
    card.add("listening", "What experts heard", rows, text)


def _files(card: Scorecard, folders: dict[str, ClipFolder], overlaps: Overlaps) -> None:
    rows = []
    for name, folder in folders.items():
        note = f"{len(set(folder.artists()))} artists" if name in TRAINING_SIDES else ""
        rows.append(ScorecardRow(f"clips in {name}", float(len(folder)), note=note))
    lines = []
    for what, names in overlaps.items():
        found = names if isinstance(names, str) else f"{len(names)} ({', '.join(names[:5])})"
        lines.append(f"- {what.replace('_', ' ')}: {found}")
    for folder in folders.values():
        lines += [
            f"- left out of {folder.name}: {path}: {why}" for path, why in list(folder.left_out.items())[:20]
        ]
        if len(folder.left_out) > 20:
            lines.append(f"- and {len(folder.left_out) - 20} more of {folder.name}")
    form = folders["samples"].form
    text = (
        f"{form.seconds:g} s of each clip from its middle, without the silence at its ends; mono, 16 kHz, "
        f"nothing above {form.bandwidth:g} Hz, -23 LUFS, noise {-form.noise:g} dB below, MP3 at 32 kbit/s "
        "and back. The shortest clip sets the length, the dullest and the noisiest folder the rest."
    )
    if lines:
        text += (
            " Samples that are training clips are left out; samples that repeat another, share a "
            "long stretch with a "
            "reference clip, or are under 5 s, stay and never pass.\n\n" + "\n".join(lines)
        )
    card.add("files", "Clips", rows, text, "clips")


@plots.optional
def _draw_scores(evidence: Evidence, path: Path) -> None:
    assert evidence.classifier is not None
    measured = evidence.status == "measured"
    figure, (axis,) = plots.sheet(1, 1, (7, 4.2))
    for name in evidence.scores if measured else TRAINING_SIDES:
        scores = evidence.scores[name]
        distance = np.clip(scores.relative_distances[:, 1], 0.1, 20)
        axis.scatter(
            scores.log_odds, distance, s=14, alpha=0.6, color=COLOURS[name], label=name, linewidths=0
        )
    axis.axvline(evidence.classifier.threshold, color="black", lw=0.8, ls="--")
    if evidence.threshold is not None and evidence.threshold.ci:
        axis.axvspan(*evidence.threshold.ci, color="black", alpha=0.08, linewidth=0)
    axis.axhline(1, color="black", lw=0.8, ls="--")
    axis.set_yscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks([], minor=True)
    axis.set(xlabel="log-odds of being reference", ylabel="distance to reference over its limit")
    axis.set_title("lower right of the lines passes (grey: the threshold's interval)", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    plots.save(figure, path)


@plots.optional
def _draw_coefficients(by_fold: np.ndarray, path: Path) -> None:
    order = np.argsort(np.abs(by_fold.mean(0)))
    figure, (axis,) = plots.sheet(1, 1, (7, 7))
    means = by_fold.mean(0)[order]
    axis.barh(
        range(len(order)),
        means,
        color=[COLOURS[TRAINING_SIDES[int(mean <= 0)]] for mean in means],
        height=0.65,
    )
    for k, which in enumerate(order.tolist()):
        axis.scatter(by_fold[:, which], [k] * len(by_fold), s=6, color="black", zorder=3, linewidths=0)
    axis.set_yticks(range(len(order)), [NAMES[k] for k in order], fontsize=8)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_xlabel("change of log-odds with one standard deviation (dots: folds)")
    plots.save(figure, path)
