"""The page of an authenticity judgement: its tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kwela import plots, stats
from kwela.judge.authenticity.features import DOCUMENTED, NAMES
from kwela.judge.authenticity.findings import Findings
from kwela.judge.authenticity.folders import LEARNT, Folder
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
WIDE = 60  # samples under which the page warns of a wide interval
SHARES, SCORES, COEFFICIENTS = (f"authenticity_{name}.png" for name in ("shares", "scores", "coefficients"))
PRIORS = {name: feature for name, feature in DOCUMENTED.items() if feature.expected}


def card(
    folders: dict[str, Folder], doubles: dict[str, Any], evidence: Findings, out: Path, named: bool
) -> Scorecard:
    """The scorecard, with its pictures drawn in `out`. named: artists came from a list."""
    made = Scorecard(
        "Authenticity of samples", _warning(folders, evidence, named), evidence.quick, evidence.seed
    )
    made.verdicts["status"] = evidence.status
    if evidence.why:
        made.verdicts["why"] = evidence.why
    if evidence.status == "measured":
        made.verdicts["score"] = _said(evidence)
        if evidence.difference is not None:
            made.verdicts["against_base"] = _against_base(evidence)
        near = doubles.get("samples_near_reference")
        made.verdicts["near_copies_of_reference"] = doubles.get("near_copies", len(near) if near else 0)
        _shares(made, folders, evidence, out)
        _distribution(made, evidence)
    if evidence.evaluator is not None:
        _evaluator(made, folders, evidence)
        if evidence.ablations:
            _ablations(made, evidence)
        _coefficients(made, folders, evidence)
        _draw_scores(evidence, out / SCORES)
        _draw_coefficients(evidence.evaluator.coefficients(), out / COEFFICIENTS)
    if evidence.status == "not_measurable":
        _conformity(made, folders)
    if evidence.heard is not None:
        _listening(made, evidence)
    _files(made, folders, doubles)
    return made


def _warning(folders: dict[str, Folder], evidence: Findings, named: bool) -> str:
    said = []
    if "reference" not in folders:
        said.append("No reference clips were given: nothing here says how authentic the samples are.")
    if len(folders["samples"]) < WIDE and evidence.status == "measured":
        said.append(f"Only {len(folders['samples'])} samples: the score's interval is wide.")
    training = [clip for name in LEARNT if name in folders for clip in folders[name].clips]
    if not named and (lone := sum("-" not in clip.path.stem for clip in training)) and "reference" in folders:
        said.append(
            f"{lone} clips name no artist (no '-' in the file's name) and count as one artist each: if some share an "
            "artist, the AUC is too good and its interval too narrow; give --artists."
        )
    return " ".join(said)


def _said(evidence: Findings) -> str:
    labels = {"samples": "", "fresh": "floor ", "base": "base ", "reference": "ceiling "}
    there = {label: evidence.shares[name] for name, label in labels.items() if name in evidence.shares}
    return ", ".join(
        f"{label}{one.value:.2f} ({one.low:.2f} .. {one.high:.2f})" for label, one in there.items()
    )


def _against_base(evidence: Findings) -> str:
    change, over = evidence.difference, f"p = {evidence.p_value:.2g} over {evidence.pairs} prompts"
    assert change is not None and evidence.p_value is not None
    if evidence.p_value < 0.05:
        return f"{'more' if change.value > 0 else 'fewer'} samples than base clips pass, {over}"
    return f"no difference worth finding: {change.low:.2f} to {change.high:.2f}, {over}"


def _shares(made: Scorecard, folders: dict[str, Folder], evidence: Findings, out: Path) -> None:
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
        "The share of clips past a threshold, fixed before a sample was scored, and not far from reference music. "
        "That at most 5 % of contrast pass is so by construction: it was set on these clips. The floor that could "
        "have come out otherwise is theirs by thresholds set on other artists. Intervals are Wilson's, over clips."
    )
    made.add("score", "Share that sounds like reference", rows, text, "share", SHARES)
    draw_forest(out / SHARES, {"": rows}, "share that passes, 95 % interval", {"": plots.RED})


def _distribution(made: Scorecard, evidence: Findings) -> None:
    rows = []
    for name in (name for name in ROLES if name in evidence.judged):
        judged = evidence.judged[name]
        for what, hits in (("unlike either", judged.outside), ("far from reference", judged.far[:, 1] > 1)):
            rows.append(ScorecardRow.from_interval(f"{name}: {what}", stats.share(hits), len(hits)))
    text = (
        "Far: a distance half as far again as that of 99 % of the side's own held-out clips. Unlike either: the "
        "evaluator has never heard the like. Clips far from reference never pass."
    )
    made.add("distribution", "Out of distribution", rows, text, "share")


def _evaluator(made: Scorecard, folders: dict[str, Folder], evidence: Findings) -> None:
    assert evidence.auc is not None and evidence.brier is not None and evidence.evaluator is not None
    n = sum(len(folders[name]) for name in LEARNT)
    artists = len({artist for name in LEARNT for artist in folders[name].artists()})
    strengths = ", ".join(f"{fold.strength:g}" for fold in evidence.evaluator.folds)
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
        "How well reference and contrast clips are told apart by artists that the evaluator hasn't heard: logistic "
        f"regression in nested cross-validation grouped by artist (C chosen in each fold: {strengths}). An AUC of 1 "
        "resamples to 1 alone: its interval then says too little, not that there is no doubt."
    )
    made.add("evaluator", "The evaluator, on artists it hasn't heard", rows, text, picture=SCORES)


def _ablations(made: Scorecard, evidence: Findings) -> None:
    text = (
        "The evaluator without a family of features, and with it alone. If one alone does it all, the score measures "
        "that family: look there for what reference and contrast differ in besides style."
    )
    rows = [ScorecardRow.from_interval(name, interval) for name, interval in evidence.ablations.items()]
    made.add("ablations", "What it hangs on", rows, text, "AUC")


def _coefficients(made: Scorecard, folders: dict[str, Folder], evidence: Findings) -> None:
    assert evidence.evaluator is not None
    by_fold = evidence.evaluator.coefficients()
    shown = (*LEARNT, "samples") if evidence.status == "measured" else LEARNT
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
        "producers' pages lead one to expect of amapiano. Features go together: a small one may differ all the same."
    )
    made.add("coefficients", "Coefficients", rows, text, "log-odds", COEFFICIENTS)


def met(features: np.ndarray) -> np.ndarray:
    """(N, 30) features -> (N,) how many of the documented expectations a clip meets."""
    low, high = np.array([feature.expected for feature in PRIORS.values()]).T
    column = features[:, [NAMES.index(name) for name in PRIORS]]
    return ((column >= low) & (column <= high)).sum(1).astype(float)


def _conformity(made: Scorecard, folders: dict[str, Folder]) -> None:
    heard = {name: folder for name, folder in folders.items() if len(folder)}
    rows = []
    for name, folder in heard.items():
        count = met(folder.features)
        note = f"features within expectation, of {len(PRIORS)}"
        rows.append(ScorecardRow.from_interval(name, stats.mean_by_group(count), len(folder), note))
    made.extra_json["conformity"] = {row.label: row.value for row in rows} | {"of": len(PRIORS)}
    for feature, documented in PRIORS.items():
        for name, folder in heard.items():
            middle = float(np.median(folder.features[:, NAMES.index(feature)]))
            note = "{} ({}), expected {:g}..{:g}".format(
                documented.meaning, documented.unit, *documented.expected or (0, 0)
            )
            rows.append(ScorecardRow(f"{feature}, {name}", middle, None, len(folder), note))
    text = (
        "How many features of a clip lie where producers' pages lead one to expect those of amapiano, and the medians. "
        "No measurement backs these ranges, and other music meets some of them: this is no score."
    )
    made.add("conformity", "Feature conformity", rows, text, "mean count, then medians")


def _listening(made: Scorecard, evidence: Findings) -> None:
    heard = evidence.heard
    assert heard is not None
    rows = [
        ScorecardRow.from_interval(
            "agreement (Krippendorff's alpha)", heard.agreement, heard.clips, f"{heard.raters} raters"
        )
    ]
    rows += [
        ScorecardRow.from_interval(f"mean rating, {name}", interval, n)
        for name, (interval, n) in heard.folders.items()
    ]
    rows.append(
        ScorecardRow.from_interval(
            "experts tell reference from contrast", heard.real, None, "AUC of mean ratings"
        )
    )
    rows.append(
        ScorecardRow.from_interval(
            "experts and this judge", heard.judge, None, "rank correlation of mean rating and log-odds"
        )
    )
    text = (
        "Blind ratings, 1 to 5. Below an agreement of about 0.67 (Krippendorff's line for tentative conclusions) the "
        "means say little. Intervals resample clips, not raters."
    )
    if heard.unknown:
        text += f" {len(heard.unknown)} rated names are of no clip here (first: {heard.unknown[0]})."
    made.add("listening", "What experts heard", rows, text)


def _files(made: Scorecard, folders: dict[str, Folder], doubles: dict[str, Any]) -> None:
    rows = []
    for name, folder in folders.items():
        note = f"{len(set(folder.artists()))} artists" if name in LEARNT else ""
        rows.append(ScorecardRow(f"clips in {name}", float(len(folder)), note=note))
    lines = []
    for what, names in doubles.items():
        found = names if isinstance(names, str) else f"{len(names)} ({', '.join(names[:5])})"
        lines.append(f"- {what.replace('_', ' ')}: {found}")
    for folder in folders.values():
        lines += [
            f"- left out of {folder.name}: {path}: {why}" for path, why in list(folder.left_out.items())[:20]
        ]
        if len(folder.left_out) > 20:
            lines.append(f"- and {len(folder.left_out) - 20} more of {folder.name}")
    text = "Mono, 16 kHz, the middle 10 s, -23 LUFS, MP3 at 32 kbit/s and back."
    if lines:
        text += (
            " Samples that are training clips are left out; samples that repeat another, share a long stretch with a "
            "reference clip, or are under 5 s, stay and never pass.\n\n" + "\n".join(lines)
        )
    made.add("files", "Clips", rows, text, "clips")


def _draw_scores(evidence: Findings, path: Path) -> None:
    assert evidence.evaluator is not None
    measured = evidence.status == "measured"
    figure, (axis,) = plots.sheet(1, 1, (7, 4.2))
    for name in evidence.judged if measured else LEARNT:
        judged = evidence.judged[name]
        far = np.clip(judged.far[:, 1], 0.1, 20)
        axis.scatter(judged.log_odds, far, s=14, alpha=0.6, color=COLOURS[name], label=name, linewidths=0)
    axis.axvline(evidence.evaluator.threshold, color="black", lw=0.8, ls="--")
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


def _draw_coefficients(by_fold: np.ndarray, path: Path) -> None:
    order = np.argsort(np.abs(by_fold.mean(0)))
    figure, (axis,) = plots.sheet(1, 1, (7, 7))
    means = by_fold.mean(0)[order]
    axis.barh(
        range(len(order)), means, color=[COLOURS[LEARNT[int(mean <= 0)]] for mean in means], height=0.65
    )
    for k, which in enumerate(order.tolist()):
        axis.scatter(by_fold[:, which], [k] * len(by_fold), s=6, color="black", zorder=3, linewidths=0)
    axis.set_yticks(range(len(order)), [NAMES[k] for k in order], fontsize=8)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_xlabel("change of log-odds with one standard deviation (dots: folds)")
    plots.save(figure, path)
