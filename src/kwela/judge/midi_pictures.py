"""Colours of the systems on the page of `kwela judge midi`, and its calibration curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kwela.judge import pictures
from kwela.judge.grid import MODEL, PERMUTED, RULE, TWIN
from kwela.judge.midi_grid import REAL

if TYPE_CHECKING:
    from kwela.judge.midi_grid import Ear

CHANCE = "same target, other seed (floor)"
SOURCES = {
    "generated": pictures.BLUE,
    "held-out": pictures.BLACK,
    "held-out (ceiling)": pictures.BLACK,
    "thrown about (floor)": pictures.GREY,
    "planted copies": pictures.RED,
}
COLOURS = {
    MODEL: pictures.BLUE,
    TWIN: pictures.ORANGE,
    "constant": "#999999",
    "no emotion": pictures.SKY,
    PERMUTED: pictures.PINK,
    "nearest training piece": pictures.GREEN,
    RULE: pictures.RED,
    CHANCE: pictures.GREY,
    f"{REAL} (ceiling)": pictures.BLACK,
}


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
