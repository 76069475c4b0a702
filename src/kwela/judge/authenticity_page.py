"""The page of an authenticity judgement: its tables and pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kwela import files
from kwela.judge import stats
from kwela.judge.audio_features import DOCUMENTED, NAMES
from kwela.judge.authenticity_folders import Folder
from kwela.judge.page import Row, Scorecard, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kwela.judge.authenticity import Evidence

ROLES = {
    "reference": "reference, held out (ceiling)",
    "samples": "samples",
    "base": "base model",
    "contrast": "contrast, held out (floor)",
}
_COLOURS = {"reference": "#1b7f5c", "samples": "#c4451c", "base": "#d9a441", "contrast": "#5b6b8c"}
WIDE = 60  # samples under which the page warns of a wide interval


def card(folders: dict[str, Folder], doubles: dict[str, Any], evidence: Evidence, out: Path, named: bool) -> Scorecard:
    """The scorecard, with its pictures drawn in `out`. named: artists came from a list."""
    made = Scorecard("Authenticity of samples", warning=_warning(folders, evidence, named))
    made.verdicts["status"] = evidence.status
    if evidence.why:
        made.verdicts["why"] = evidence.why
    if evidence.status == "measured":
        made.verdicts["score"] = _said(evidence)
        if evidence.difference is not None:
            word = "more" if evidence.difference.value > 0 else "fewer"
            made.verdicts["against_base"] = (
                f"{word} samples than base clips pass, p = {evidence.p_value:.2g} over {evidence.pairs} prompts"
            )
    if evidence.status == "measured":
        made.sections["score"] = _shares(folders, evidence)
        made.sections["distribution"] = _distribution(evidence)
    if evidence.evaluator is not None:
        made.sections["evaluator"] = _evaluator(folders, evidence)
        if evidence.ablations:
            made.sections["ablations"] = _ablations(evidence)
        made.sections["coefficients"] = _coefficients(folders, evidence)
        files.write(out / "authenticity_scores.png", _png(_draw_scores(evidence)))
        files.write(out / "authenticity_coefficients.png", _png(_draw_coefficients(evidence)))
    if evidence.status == "not_measurable":
        made.sections["conformity"] = _conformity(folders)
        made.more["conformity"] = {row.row: row.value for row in made.sections["conformity"].rows[: len(folders)]} | {
            "of": len(_priors())
        }
    if evidence.heard is not None:
        made.sections["listening"] = _listening(evidence)
    made.sections["files"] = _files(folders, doubles)
    return made


def _warning(folders: dict[str, Folder], evidence: Evidence, named: bool) -> str:
    said = []
    if "reference" not in folders:
        said.append("No reference clips were given: nothing here says how authentic the samples are.")
    if len(folders["samples"]) < WIDE and evidence.status == "measured":
        said.append(f"Only {len(folders['samples'])} samples: the score's interval is wide.")
    training = [clip for name in ("reference", "contrast") if name in folders for clip in folders[name].clips]
    if not named and (lone := sum("-" not in clip.path.stem for clip in training)) and "reference" in folders:
        said.append(
            f"{lone} clips name no artist (no '-' in the file's name) and count as one artist each: if some share an "
            "artist, the AUC is too good and its interval too narrow; give --artists."
        )
    return " ".join(said)


def _said(evidence: Evidence) -> str:
    parts = []
    for name in ("samples", "contrast", "base", "reference"):
        if name in evidence.shares:
            share = evidence.shares[name]
            label = {"samples": "", "contrast": "floor ", "base": "base ", "reference": "ceiling "}[name]
            parts.append(f"{label}{share.value:.2f} ({share.low:.2f} .. {share.high:.2f})")
    return ", ".join(parts)


def _shares(folders: dict[str, Folder], evidence: Evidence) -> Section:
    rows = [
        Row.of(role, evidence.shares[name], len(folders[name]))
        for name, role in ROLES.items()
        if name in evidence.shares
    ]
    if evidence.difference is not None:
        note = f"p = {evidence.p_value:.2g}, paired by file name, order of pairs shuffled"
        rows.append(Row.of("samples less base, same prompts", evidence.difference, evidence.pairs, note))
    text = (
        "The share of clips past the threshold that 5 % of held-out contrast clips pass, and not far from "
        "reference music (below). The threshold was fixed before a sample was scored. "
        "Intervals are Wilson's, over clips."
    )
    return Section("Share that sounds like reference", rows, text, "share", "authenticity_scores.png")


def _distribution(evidence: Evidence) -> Section:
    rows = []
    for name in ROLES:
        if name in evidence.judged:
            judged = evidence.judged[name]
            n = len(judged.log_odds)
            rows.append(Row.of(f"{name}: unlike either", stats.wilson(int(judged.outside.sum()), n), n))
            rows.append(Row.of(f"{name}: far from reference", stats.wilson(int((judged.far[:, 1] > 1).sum()), n), n))
    text = (
        "Far is a Mahalanobis distance half as far again as that of 99 % of the side's own held-out clips. What is "
        "unlike reference and contrast both is out of distribution: the evaluator has never heard the like, and what "
        "it says of it is worth nothing. Clips far from reference never pass."
    )
    return Section("Out of distribution", rows, text, "share")


def _evaluator(folders: dict[str, Folder], evidence: Evidence) -> Section:
    assert evidence.auc is not None and evidence.brier is not None and evidence.evaluator is not None
    n = len(folders["reference"]) + len(folders["contrast"])
    artists = len(set(folders["reference"].artists()) | set(folders["contrast"].artists()))
    strengths = ", ".join(f"{fold.strength:g}" for fold in evidence.evaluator.folds)
    rows = [
        Row.of("AUC", evidence.auc, n, f"reference over contrast, {artists} artists resampled"),
        Row.of("Brier score", evidence.brier, n, "mean squared error of the probability: 0 is best"),
        Row(
            "Brier score of a constant", evidence.brier_constant, None, n, "the share of reference, said of every clip"
        ),
        Row("threshold", evidence.evaluator.threshold, None, len(folders["contrast"]), "log-odds"),
    ]
    text = (
        "How well reference and contrast clips are told apart by artists that the evaluator hasn't heard: logistic "
        f"regression in nested cross-validation grouped by artist (C chosen in each fold: {strengths}). An AUC of 1 "
        "resamples to 1 alone: its interval then says too little, not that there is no doubt."
    )
    picture = "" if evidence.status == "measured" else "authenticity_scores.png"
    return Section("The evaluator, on artists it hasn't heard", rows, text, picture=picture)


def _ablations(evidence: Evidence) -> Section:
    rows = [Row.of(name, interval) for name, interval in evidence.ablations.items()]
    text = (
        "The evaluator built again without a family of features, and with it alone. If one family alone does it all, "
        "the score measures that family: look there for what reference and contrast differ in besides style."
    )
    return Section("What it hangs on", rows, text, "AUC")


def _coefficients(folders: dict[str, Folder], evidence: Evidence) -> Section:
    assert evidence.evaluator is not None
    by_fold = evidence.evaluator.coefficients()
    middles = {name: np.median(folders[name].features, axis=0) for name in ("reference", "contrast")}
    if evidence.status == "measured":
        middles["samples"] = np.median(folders["samples"].features, axis=0)
    rows = []
    for k in np.argsort(-np.abs(by_fold.mean(0))).tolist():
        feature = DOCUMENTED[NAMES[k]]
        notes = [f"{feature.meaning} ({feature.unit}): " + ", ".join(f"{n} {m[k]:.2f}" for n, m in middles.items())]
        if feature.expected:
            notes.append("expected {:g}..{:g}".format(*feature.expected))
        notes.append(f"folds {by_fold[:, k].min():.2f} to {by_fold[:, k].max():.2f}")
        rows.append(Row(NAMES[k], float(by_fold[:, k].mean()), None, None, "; ".join(notes)))
    text = (
        "Change of the log-odds with one standard deviation of a feature, mean over folds; then medians, and what "
        "producers' pages lead one to expect of amapiano (a prior, tested here). Features go together, so a small "
        "coefficient doesn't mean that a feature doesn't differ."
    )
    return Section("Coefficients", rows, text, "log-odds", "authenticity_coefficients.png")


def _priors() -> list[str]:
    return [name for name, feature in DOCUMENTED.items() if feature.expected]


def met(features: np.ndarray) -> np.ndarray:
    """(N, 30) features -> (N,) how many of the documented expectations a clip meets."""
    within = [_within(features, name) for name in _priors()]
    return np.sum(within, axis=0).astype(float)


def _within(features: np.ndarray, name: str) -> np.ndarray:
    expected = DOCUMENTED[name].expected
    assert expected is not None
    column = features[:, NAMES.index(name)]
    return (column >= expected[0]) & (column <= expected[1])


def _conformity(folders: dict[str, Folder]) -> Section:
    rows = []
    for name, folder in folders.items():
        count = met(folder.features)
        interval = stats.mean_by_group(count, range(len(count)))
        rows.append(Row.of(name, interval, len(folder), f"features within expectation, of {len(_priors())}"))
    for feature in _priors():
        documented = DOCUMENTED[feature]
        assert documented.expected is not None
        for name, folder in folders.items():
            middle = float(np.median(folder.features[:, NAMES.index(feature)]))
            note = "{} ({}), expected {:g}..{:g}".format(documented.meaning, documented.unit, *documented.expected)
            rows.append(Row(f"{feature}, {name}", middle, None, len(folder), note))
    text = (
        "How many features of a clip lie where producers' pages lead one to expect those of amapiano, and the medians. "
        "These ranges are priors that no measurement backs, and music of other styles meets some of them: this is no "
        "score, and no share of anything is authentic by it."
    )
    return Section("Feature conformity", rows, text, "mean count, then medians")


def _listening(evidence: Evidence) -> Section:
    heard = evidence.heard
    assert heard is not None
    rows = [Row.of("agreement (Krippendorff's alpha)", heard.agreement, heard.clips, f"{heard.raters} raters")]
    rows += [Row.of(f"mean rating, {name}", interval, n) for name, (interval, n) in heard.folders.items()]
    rows.append(Row.of("experts tell reference from contrast", heard.real, None, "AUC of mean ratings"))
    rows.append(Row.of("experts and this judge", heard.judge, None, "rank correlation of mean rating and log-odds"))
    text = (
        "Blind ratings of authenticity, 1 to 5. Below an agreement of about 0.67 (Krippendorff's own line for "
        "tentative conclusions) the means say little. Intervals resample clips, not raters."
    )
    if heard.unknown:
        text += f" {len(heard.unknown)} rated names are of no clip here (first: {heard.unknown[0]})."
    return Section("What experts heard", rows, text)


def _files(folders: dict[str, Folder], doubles: dict[str, Any]) -> Section:
    rows = [
        Row(
            f"clips in {name}",
            float(len(folder)),
            note=f"{len(set(folder.artists()))} artists" if name in ("reference", "contrast") else "",
        )
        for name, folder in folders.items()
    ]
    lines = [f"- {what.replace('_', ' ')}: {len(names)} ({', '.join(names[:5])})" for what, names in doubles.items()]
    for folder in folders.values():
        lines += [f"- left out of {folder.name}: {path}: {why}" for path, why in list(folder.left_out.items())[:20]]
        if len(folder.left_out) > 20:
            lines.append(f"- and {len(folder.left_out) - 20} more of {folder.name}")
    text = "Mono, 16 kHz, the middle 10 s, -23 LUFS, MP3 at 32 kbit/s and back."
    if lines:
        text += (
            " Samples that are training clips are left out; samples that repeat another, or are under 5 s, stay and "
            "never pass.\n\n" + "\n".join(lines)
        )
    return Section("Clips", rows, text, "clips")


# ------------------------------------------------------------------- pictures


def _draw_scores(evidence: Evidence) -> Figure:
    from matplotlib.figure import Figure

    assert evidence.evaluator is not None
    measured = evidence.status == "measured"
    figure = Figure(figsize=(11, 4.2) if measured else (6.5, 4.2), layout="constrained")
    axes = figure.subplots(1, 2 if measured else 1, squeeze=False, width_ratios=[1, 1.5] if measured else [1])[0]
    if measured:
        bars = [role for role in reversed(ROLES) if role in evidence.shares]
        for k, one in enumerate(bars):
            share = evidence.shares[one]
            axes[0].barh(k, share.value, color=_COLOURS[one], height=0.6)
            axes[0].plot([share.low, share.high], [k, k], color="black", lw=1.5)
            axes[0].text(1.02, k, f"{share.value:.2f}", va="center")
        axes[0].set_yticks(range(len(bars)), [ROLES[one].replace(", held out ", "\nheld out ") for one in bars])
        axes[0].set(xlim=(0, 1.15), xlabel="share that passes, 95 % interval")
    for name in evidence.judged if measured else ("reference", "contrast"):
        judged = evidence.judged[name]
        y = np.clip(judged.far[:, 1], 0.1, 20)
        axes[-1].scatter(judged.log_odds, y, s=14, alpha=0.6, color=_COLOURS[name], label=name, linewidths=0)
    axes[-1].axvline(evidence.evaluator.threshold, color="black", lw=0.8, ls="--")
    axes[-1].axhline(1, color="black", lw=0.8, ls="--")
    axes[-1].set_yscale("log")
    axes[-1].set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20], ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20"])
    axes[-1].set_yticks([], minor=True)
    axes[-1].margins(0.05)
    axes[-1].set(xlabel="log-odds of being reference", ylabel="distance to reference over its limit")
    axes[-1].set_title("lower right of the lines passes", fontsize=9)
    axes[-1].legend(frameon=False, fontsize=8)
    _plain(axes)
    return figure


def _draw_coefficients(evidence: Evidence) -> Figure:
    from matplotlib.figure import Figure

    assert evidence.evaluator is not None
    by_fold = evidence.evaluator.coefficients()
    order = np.argsort(np.abs(by_fold.mean(0)))
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    for k, which in enumerate(order.tolist()):
        mean = by_fold[:, which].mean()
        axes.barh(k, mean, color=_COLOURS["reference" if mean > 0 else "contrast"], height=0.65)
        axes.scatter(by_fold[:, which], [k] * len(by_fold), s=6, color="black", zorder=3, linewidths=0)
    axes.set_yticks(range(len(order)), [NAMES[k] for k in order], fontsize=8)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("change of log-odds with one standard deviation (dots: folds)")
    _plain([axes])
    return figure


def _plain(axes: Any) -> None:
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})
    return picture.getvalue()
