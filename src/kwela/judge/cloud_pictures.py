"""The cloud judge's pictures: the error of every song, and predicted beside wanted clouds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kwela.judge import pictures
from kwela.judge.cloud_scores import MODEL, SOURCES, Scores, ranked
from kwela.spectocloud import render
from kwela.spectocloud.target import Cloud

STYLES = {  # colour and mark
    "model": (pictures.BLUE, "o"),
    "target drawn again": (pictures.BLACK, "|"),
    "mean cloud": (pictures.ORANGE, "^"),
    "emotion only": (pictures.PINK, "v"),
    "nearest neighbour": (pictures.GREEN, "s"),
}
MOST = 40  # songs in the chart


def songs(scores: Scores, path: Path) -> None:
    """Each song's mean Chamfer distance, best at the top, of every source."""
    order = ranked(scores)
    order = [order[k] for k in np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST)).astype(int))]
    figure, (axis,) = pictures.sheet(1, 1, (9, 1.8 + 0.28 * len(order)))
    for name in SOURCES:
        values = scores.measures["chamfer"][name]
        means = [values[scores.songs == song].mean() for song in order]
        colour, mark = STYLES[name]
        axis.scatter(means, range(len(order)), color=colour, marker=mark, label=name, s=46, linewidths=1.5, zorder=3)
    axis.set_yticks(range(len(order)), [song if len(song) < 42 else f"{song[:40]}…" for song in order], fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("Chamfer distance to the target (squared cube edges; left is better)")
    pictures.legend(figure, axis, 5)
    pictures.save(figure, path)


def clouds(scores: Scores, shown: Callable[[int], dict[str, Cloud]], path: Path, size: int = 420) -> None:
    """The middle window of the best, the median and the worst song. shown: the clouds of a window, by name."""
    order = ranked(scores)
    picked = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    chamfer = scores.measures["chamfer"]
    figure, grid = pictures.sheet(3, 3, (12, 12.9))
    figure.set_facecolor(render.BACKGROUND)
    for line, (rank, song) in enumerate(picked.items()):
        mine = np.flatnonzero(scores.songs == song)
        index = int(mine[np.argsort(chamfer[MODEL][mine])[len(mine) // 2]])
        for axis, (name, cloud) in zip(grid[3 * line :], shown(index).items(), strict=False):
            axis.imshow(render.image(cloud, size))
            axis.set_axis_off()
            figures = f": {chamfer[name][index]:.2g}" if name in chamfer else f" ({rank} song: {song[:28]})"
            axis.set_title(name + figures, color="#e8e6df", fontsize=10)
    pictures.save(figure, path, 100)
