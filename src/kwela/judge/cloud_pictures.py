"""Predicted beside wanted clouds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kwela.judge import pictures
from kwela.judge.cloud_scores import MODEL, Scores, ranked
from kwela.spectocloud import render
from kwela.spectocloud.target import Cloud


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
