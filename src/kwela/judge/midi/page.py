"""Write the sections of `kwela judge midi` on its evaluators, on the teacher-forced gain and on the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kwela import plots
from kwela.judge.midi import teacher_forcing
from kwela.judge.midi.emotion_grid import MODEL, PERMUTED_TARGETS, RULE_EDIT, TWIN, GridSize, SystemPieces
from kwela.judge.midi.emotion_metrics import EMOTION_METRICS, JUDGED_DIMENSIONS, refusal_reason
from kwela.judge.midi.evaluator_results import REAL_MUSIC, EvaluatorResult
from kwela.judge.midi.labelled_excerpts import EvaluatorData
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.stats import NOT_MEASURED, share

PUBLISHED = "EMOPIA (Hung et al. 2021) reports .58 to .68 with other pieces and labels"
SAME_TARGET = "same target, other seed (floor)"
COLOURS = {
    MODEL: plots.BLUE,
    TWIN: plots.ORANGE,
    "constant": "#999999",
    "no emotion": plots.SKY,
    PERMUTED_TARGETS: plots.PINK,
    "nearest training piece": plots.GREEN,
    RULE_EDIT: plots.RED,
    SAME_TARGET: plots.GREY,
    f"{REAL_MUSIC} (ceiling)": plots.BLACK,
}
_MUCH_OUT_OF_RANGE = 0.1  # share of features


def add_evaluators(card: Scorecard, results: Mapping[str, EvaluatorResult], data: EvaluatorData) -> None:
    """Add how accurate the evaluators are on series that they haven't seen."""
    rows: list[ScorecardRow] = []
    for name, result in results.items():
        accuracy = result.accuracy
        note = f"majority class {accuracy.majority_quadrant:.2f}; {PUBLISHED}" if name == "symbolic" else ""
        rows += [
            ScorecardRow.from_interval(
                f"{name}: 4 quadrants, piece", accuracy.quadrant, accuracy.pieces, note
            ),
            ScorecardRow.from_interval(
                f"{name}: 4 quadrants, excerpt", accuracy.quadrant_excerpt, note="what a generated piece is"
            ),
        ]
        for index, dimension in enumerate(JUDGED_DIMENSIONS):
            label = f"{name}: {dimension}"
            note = f"commonest sign {accuracy.majority_sign[index]:.2f}"
            rows.append(
                ScorecardRow.from_interval(f"{label}, sign", accuracy.sign[index], accuracy.pieces, note)
            )
            chance = "0.5 is not ruled out, by series or by piece: refused below"
            note = "" if accuracy.usable[index] else chance
            rows.append(
                ScorecardRow.from_interval(f"{label}, AUC", accuracy.auc[index], accuracy.pieces, note)
            )
        if name == "symbolic":
            label = "majority class: 4 quadrants"
            rows.append(ScorecardRow(label, accuracy.majority_quadrant, None, accuracy.pieces, "floor"))
    text = (
        "Accuracy on unseen series, intervals by series, of gradient boosting on symbolic features of the "
        "notes and on audio features of the rendering. A flattened evaluator was trained, and judges, at "
        "one tempo and one velocity."
    )
    for result in list(results.values())[:1]:
        labelled = "pieces that people labelled" if data.source == "human" else "the manifest's held-out rows"
        trained = f"Trained on {result.accuracy.pieces} {labelled}, {result.accuracy.series} series."
        text = f"{trained} {text}"
    if data.dropped:
        text += f" {data.dropped} labelled pieces are training music of the model and were left out."
    rows = rows or [ScorecardRow("4 quadrants", note=data.missing_reason)]
    card.add("evaluators", "How good the evaluators are", rows, text, "on unseen series")


def add_gain(
    card: Scorecard, nats: Mapping[str, teacher_forcing.HeldOutNats], songs: Sequence[str], out: Path
) -> None:
    """Add the held-out nats per id, and what the true emotion saves of them.

    nats: of the model and, where there is one, its twin. songs: the group of each song.
    """
    nats_rows, saved_rows = [], []
    for system, system_nats in nats.items():
        label = "" if system == MODEL else f" | {system}"
        nats_rows += teacher_forcing.nats_rows(system_nats, songs, card.seed, label)
        saved = teacher_forcing.nats_saved(system_nats, songs, card.seed)
        saved_rows += teacher_forcing.nats_saved_rows(saved, len(songs), label)
    text = (
        "Nats per id that the true emotion of a held-out song saves, compared with another emotion, or with "
        "none. Over 0: the true emotion helps. One dimension alone: the other two stay true. The true "
        "emotion can't help a twin, which is the floor."
    )
    card.add("nll", "Held-out surprise", nats_rows, "Nats per id, teacher-forced.", "nats per id")
    title = "What the emotion is worth to the model"
    card.add("gain", title, saved_rows, text, "nats per id saved", "gain.png")
    draw_forest(out / "gain.png", {"": saved_rows}, "nats per id saved (95 % by song)", COLOURS)


def add_grid(
    card: Scorecard,
    results: Mapping[str, EvaluatorResult],
    systems: Mapping[str, SystemPieces],
    size: GridSize,
    out: Path,
) -> None:
    """Add a table of the pieces, and one for each metric with the rivals and the ceiling in it."""
    piece_count = len(systems[MODEL].scores)
    rows = [
        ScorecardRow.from_interval(
            "valid pieces", share(systems[MODEL].valid), piece_count, "the rest is judged worst"
        )
    ]
    for name, result in results.items():
        for system in (MODEL, REAL_MUSIC):
            out_of_range = result.out_of_range[system]
            note = "judged far from what the evaluator knows" if out_of_range > _MUCH_OUT_OF_RANGE else ""
            rows.append(
                ScorecardRow.from_interval(
                    f"{name} | {system}: features out of range",
                    NOT_MEASURED._replace(value=out_of_range),
                    None,
                    note,
                )
            )
    if not results:
        rows.append(ScorecardRow("heard as asked", note="no evaluator: see the page's first line"))
    card.add("grid", "The grid", rows, _grid_text(results, systems, size), "share")
    for key in EMOTION_METRICS if results else ():
        _add_metric(card, results, key)
    if results:
        _draw_calibration(results, out / "calibration.png")
        card.sections["grid_slope_arousal"].picture = "calibration.png"


def _grid_text(
    results: Mapping[str, EvaluatorResult], systems: Mapping[str, SystemPieces], size: GridSize
) -> str:
    values, intensities = (
        ", ".join(f"{number:g}" for number in numbers) for numbers in (size.values, size.intensities)
    )
    text = (
        f"Valence and arousal {values}, intensity {intensities}, {size.seeds} seeds each, {size.bars} bars; "
        "nothing is discarded. Intensity has no human labels and is judged by no evaluator: see the turned "
        "dimensions."
    )
    piece_count = len(systems[MODEL].scores)
    if any(len(result.pieces[MODEL].scores) < piece_count for result in results.values()):
        text += " With --quick, only the pieces of the largest intensity were rendered."
    if TWIN not in systems:
        text += " No twin trained on shuffled labels was given (--twin): permuted targets are the only floor."
    return text


def _add_metric(card: Scorecard, results: Mapping[str, EvaluatorResult], key: str) -> None:
    title, _, dimension = EMOTION_METRICS[key]
    rows = []
    for name, result in results.items():
        refusal = refusal_reason(dimension, result.accuracy.usable)
        for system, judged in result.judged.items():
            label = f"{name} | {system}{' (ceiling)' if system == REAL_MUSIC else ''}"
            if refusal:
                rows.append(ScorecardRow(label, note=refusal))
            else:
                rows.append(ScorecardRow.from_interval(label, judged.metric(key), len(judged.groups)))
    meanings = {"mae": "Lower is better.", "slope": "1 is calibrated."}
    card.add(f"grid_{key}", f"Grid: {title}", rows, meanings.get(key.split("_")[0], ""), title)


def _draw_calibration(results: Mapping[str, EvaluatorResult], path: Path) -> None:
    """Draw judged values against targets, by evaluator and dimension; the diagonal is perfect."""
    figure, axes = plots.sheet(len(results), 2, (9, 3.4 * len(results) + 0.4))
    panels = [
        (name, result, dimension)
        for name, result in results.items()
        for dimension in range(len(JUDGED_DIMENSIONS))
    ]
    for axis, (name, result, dimension) in zip(axes, panels, strict=True):
        axis.plot([-1, 1], [-1, 1], color=plots.GREY, linewidth=1, linestyle="--")
        for system, judged in result.judged.items():
            target, mean, spread = np.array(judged.calibration_curve(dimension)).T
            if system == REAL_MUSIC:
                has_side = np.abs(target) > 0.79
                axis.plot(
                    target[has_side], mean[has_side], "D", color=plots.BLACK, label=system, markersize=6
                )
                continue
            width, order = (2.5, 3) if system == MODEL else (1, 2)
            axis.plot(target, mean, "o-", color=COLOURS[system], label=system, linewidth=width, zorder=order)
            if system == MODEL:
                axis.fill_between(target, mean - spread, mean + spread, color=COLOURS[system], alpha=0.12)
        refused = "" if result.accuracy.usable[dimension] else " (refused)"
        axis.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(-0.8, 0, 0.8), yticks=(-1, -0.5, 0, 0.5, 1))
        title = f"{name}: {JUDGED_DIMENSIONS[dimension]}{refused}"
        axis.set(xlabel=f"{JUDGED_DIMENSIONS[dimension]} asked", ylabel="judged", title=title)
    plots.add_legend(figure, axes[0])
    plots.save(figure, path)
