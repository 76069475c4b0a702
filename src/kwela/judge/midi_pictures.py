"""The pictures beside the page of `kwela judge midi`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kwela.judge.memorisation import Match
from kwela.judge.page import Row
from kwela.judge.quality import STATISTICS

if TYPE_CHECKING:
    from kwela.judge.midi_grid import Ear

# Okabe and Ito's colours, for all kinds of colour vision.
MODEL, REAL, FLOOR = "#0072b2", "#222222", "#b8b8b8"
RIVALS = {
    "constant": "#999999",
    "no emotion": "#56b4e9",
    "shuffled labels": "#cc79a7",
    "nearest training piece": "#009e73",
    "rule edit": "#d55e00",
}


def gain(rows: Sequence[Row], path: Path) -> None:
    """Gains as dots with their intervals, the zero line beneath."""
    figure, axes = _sheet(1, 1, (7.5, 0.45 * len(rows) + 1.2))
    axis = axes[0]
    for at, row in enumerate(reversed(rows)):
        if row.value is None:
            axis.annotate("not measured", (0, at), fontsize=8, color="#777777", va="center")
            continue
        if row.ci:
            axis.plot(row.ci, [at, at], color=MODEL, linewidth=2, alpha=0.6)
        axis.plot([row.value], [at], "o", color=MODEL)
    axis.axvline(0, color="#222222", linewidth=1)
    axis.set_yticks(range(len(rows)), [row.row for row in reversed(rows)])
    axis.set(ylim=(-0.6, len(rows) - 0.4), xlabel="nats per id saved by the true emotion (95 % by song)")
    axis.set_title("What the emotion is worth on held-out songs")
    figure.savefig(path, dpi=120)


def calibration(ears: Mapping[str, Ear], path: Path) -> None:
    """Judged against asked, by evaluator and dimension; the diagonal is perfection."""
    figure, axes = _sheet(len(ears), 2, (9, 3.4 * len(ears) + 0.4))
    for row, (name, ear) in enumerate(ears.items()):
        for dimension, title in enumerate(("valence", "arousal")):
            axis = axes[2 * row + dimension]
            axis.plot([-1, 1], [-1, 1], color=FLOOR, linewidth=1, linestyle="--")
            for system, judged in ear.judged.items():
                target, mean, spread = np.array(judged.at_levels(dimension)).T
                if system == "real, held-out":
                    decided = np.abs(target) > 0.79
                    axis.plot(target[decided], mean[decided], "D", color=REAL, label=system, markersize=6)
                    continue
                mine = system == "model"
                colour = MODEL if mine else RIVALS[system]
                axis.plot(
                    target,
                    mean,
                    "o-",
                    color=colour,
                    label=system,
                    linewidth=2.5 if mine else 1,
                    zorder=3 if mine else 2,
                )
                if mine:
                    axis.fill_between(target, mean - spread, mean + spread, color=MODEL, alpha=0.12)
            heard = "" if ear.standing.usable[dimension] else " (refused)"
            axis.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(-0.8, 0, 0.8), yticks=(-1, -0.5, 0, 0.5, 1))
            axis.set(xlabel=f"{title} asked", ylabel="judged", title=f"{name}: {title}{heard}")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def quality(made: np.ndarray, held_out: np.ndarray, noise: np.ndarray, path: Path) -> None:
    """Each statistic's distribution over generated pieces, held-out excerpts and notes thrown about."""
    figure, axes = _sheet(2, 3, (11, 6))
    for column, name in enumerate(STATISTICS):
        axis = axes[column]
        every = [values[np.isfinite(values[:, column]), column] for values in (held_out, made, noise)]
        whole = np.concatenate(every)
        if not len(whole):
            axis.set_title(f"{name}: nothing")
            continue
        low, high = float(whole.min()), float(whole.max())
        edges = np.linspace(low, high if high > low else low + 1, 17)
        for values, colour, label in zip(
            every, (REAL, MODEL, FLOOR), ("held-out", "generated", "thrown about"), strict=True
        ):
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                axis.hist(values, edges, weights=weights, histtype="step", color=colour, label=label, linewidth=1.8)
        lost = int((~np.isfinite(made[:, column])).sum())
        axis.set_title(name + (f" ({lost} NaN)" if lost else ""))
        axis.set_ylabel("share of pieces")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=120)


def memorisation(made: Sequence[Match], real: Sequence[Match], path: Path) -> None:
    """The share of pieces whose longest shared run has at least so many notes."""
    figure, axes = _sheet(1, 1, (7.5, 4))
    axis = axes[0]
    for matches, colour, label in ((real, REAL, "held-out real music"), (made, MODEL, "generated")):
        notes = np.array([one.notes for one in matches])
        if len(notes):
            lengths = np.append(1, np.unique(notes))
            axis.step(lengths, [(notes >= one).mean() for one in lengths], where="pre", color=colour, label=label, lw=2)
    longest = max((one.notes for one in [*made, *real]), default=2)
    axis.set(xscale="log", xlim=(1, 1.1 * max(longest, 2)), ylim=(0, 1.02))
    ticks = [value for value in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if value <= longest * 1.1]
    axis.set_xticks(ticks, [str(value) for value in ticks])
    axis.minorticks_off()
    axis.set(xlabel="notes in the longest run shared with a training piece", ylabel="share of pieces, at least as long")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _sheet(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
    return figure, axes
