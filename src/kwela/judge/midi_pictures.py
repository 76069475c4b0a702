"""The pictures beside the page of `kwela judge midi`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kwela.judge import pictures
from kwela.judge.grid import MODEL, PERMUTED, RULE, TWIN
from kwela.judge.memorisation import Match
from kwela.judge.midi_grid import REAL
from kwela.judge.page import Row
from kwela.judge.quality import STATISTICS

if TYPE_CHECKING:
    from kwela.judge.midi_grid import Ear

COLOURS = {
    MODEL: pictures.BLUE,
    TWIN: pictures.ORANGE,
    "constant": "#999999",
    "no emotion": pictures.SKY,
    PERMUTED: pictures.PINK,
    "nearest training piece": pictures.GREEN,
    RULE: pictures.RED,
    "same target, other seed (floor)": pictures.GREY,
    f"{REAL} (ceiling)": pictures.BLACK,
}


def gain(saved: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Gains as dots with their intervals, of each system."""
    systems = {name: {row.row: row for row in rows} for name, rows in saved.items()}
    lines = [row.row for row in saved[MODEL]]
    figure, (axis,) = pictures.sheet(1, 1, (7.5, 0.45 * len(lines) + 1.4))
    pictures.dots(axis, lines, systems, COLOURS)
    axis.set_xlabel("nats per id saved by the true emotion (95 % by song)")
    pictures.legend(figure, axis)
    pictures.save(figure, path)


def flips(drawn: Mapping[str, Mapping[str, Mapping[str, Row]]], path: Path) -> None:
    """Mean change of what is judged, a panel for each evaluator: evaluator -> system -> line -> row."""
    lines = list(dict.fromkeys(line for systems in drawn.values() for rows in systems.values() for line in rows))
    figure, axes = pictures.sheet(1, len(drawn), (4 + 3.2 * len(drawn), 0.8 * len(lines) + 1.2), sharey=True)
    for axis, (name, systems) in zip(axes, drawn.items(), strict=True):
        pictures.dots(axis, lines, systems, COLOURS)
        axis.set(title=name, xlabel="mean change (95 % by seed)")
    pictures.legend(figure, axes[0], 5)
    pictures.save(figure, path)


def calibration(ears: Mapping[str, Ear], path: Path) -> None:
    """Judged against asked, by evaluator and dimension; the diagonal is perfection."""
    figure, axes = pictures.sheet(len(ears), 2, (9, 3.4 * len(ears) + 0.4))
    panels = [(name, ear, dimension) for name, ear in ears.items() for dimension in (0, 1)]
    for axis, (name, ear, dimension) in zip(axes, panels, strict=True):
        axis.plot([-1, 1], [-1, 1], color=pictures.GREY, linewidth=1, linestyle="--")
        for system, judged in ear.judged.items():
            target, mean, spread = np.array(judged.at_levels(dimension)).T
            if system == REAL:
                decided = np.abs(target) > 0.79
                axis.plot(target[decided], mean[decided], "D", color=pictures.BLACK, label=system, markersize=6)
                continue
            width, order = (2.5, 3) if system == MODEL else (1, 2)
            axis.plot(target, mean, "o-", color=COLOURS[system], label=system, linewidth=width, zorder=order)
            if system == MODEL:
                axis.fill_between(target, mean - spread, mean + spread, color=COLOURS[system], alpha=0.12)
        title = ("valence", "arousal")[dimension]
        heard = "" if ear.standing.usable[dimension] else " (refused)"
        axis.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(-0.8, 0, 0.8), yticks=(-1, -0.5, 0, 0.5, 1))
        axis.set(xlabel=f"{title} asked", ylabel="judged", title=f"{name}: {title}{heard}")
    pictures.legend(figure, axes[0])
    pictures.save(figure, path)


def quality(made: np.ndarray, held_out: np.ndarray, noise: np.ndarray, path: Path) -> None:
    """Each statistic's distribution over generated pieces, held-out excerpts and notes thrown about."""
    figure, axes = pictures.sheet(2, 3, (11, 6))
    sources = (("held-out", held_out, pictures.BLACK), ("generated", made, pictures.BLUE))
    for column, (axis, name) in enumerate(zip(axes, STATISTICS, strict=True)):
        every = [(label, part[np.isfinite(part[:, column]), column], colour)
                 for label, part, colour in (*sources, ("thrown about", noise, pictures.GREY))]  # fmt: skip
        whole = np.concatenate([values for _, values, _ in every])
        edges = np.linspace(whole.min(), max(whole.max(), whole.min() + 1e-6), 17) if len(whole) else [0, 1]
        for label, values, colour in every:
            weights = np.full(len(values), 1 / max(1, len(values)))
            axis.hist(values, edges, weights=weights, histtype="step", color=colour, label=label, linewidth=1.8)
        lost = int((~np.isfinite(made[:, column])).sum())
        axis.set(title=name + (f" ({lost} NaN)" if lost else ""), ylabel="share of pieces")
    pictures.legend(figure, axes[0])
    pictures.save(figure, path)


def memorisation(made: Sequence[Match], real: Sequence[Match], path: Path) -> None:
    """The share of pieces whose longest shared run has at least so many notes."""
    figure, (axis,) = pictures.sheet(1, 1, (7.5, 4))
    longest = max((one.notes for one in [*made, *real]), default=2)
    for matches, colour, label in ((real, pictures.BLACK, "held-out real music"), (made, pictures.BLUE, "generated")):
        notes = np.array([one.notes for one in matches])
        lengths = np.append(1, np.unique(notes))
        shares = [(notes >= one).mean() if len(notes) else 0.0 for one in lengths]
        axis.step(lengths, shares, where="pre", color=colour, label=label, linewidth=2)
    axis.set(xscale="log", xlim=(1, 1.1 * max(longest, 2)), ylim=(0, 1.02))
    ticks = [value for value in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if value <= longest * 1.1]
    axis.set_xticks(ticks, [str(value) for value in ticks])
    axis.minorticks_off()
    axis.set(xlabel="notes in the longest run shared with a training piece", ylabel="share of pieces, at least as long")
    axis.legend(frameon=False)
    pictures.save(figure, path)
