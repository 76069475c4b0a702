"""The cloud judge's pictures: the error of every song, and predicted beside wanted clouds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kwela.judge.cloud_scores import MODEL, SOURCES, Scores
from kwela.spectocloud import render
from kwela.spectocloud.target import Cloud

STYLES = {  # colour-blind safe (Okabe and Ito): colour and mark
    "model": ("#0072B2", "o"),
    "target drawn again": ("#000000", "|"),
    "mean cloud": ("#E69F00", "^"),
    "emotion only": ("#CC79A7", "v"),
    "nearest neighbour": ("#009E73", "s"),
}
MOST = 40  # songs in the chart


def songs(scores: Scores, path: Path) -> None:
    """Each song's mean Chamfer distance, best at the top, of every source."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    order = ranked(scores)
    if len(order) > MOST:
        order = [order[k] for k in np.linspace(0, len(order) - 1, MOST).astype(int)]
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.28 * len(order)), layout="constrained")
    for name in SOURCES:
        values = scores.measures["chamfer"][name]
        means = [values[scores.songs == song].mean() for song in order]
        colour, mark = STYLES[name]
        axes.scatter(means, range(len(order)), color=colour, marker=mark, label=name, s=46, linewidths=1.5, zorder=3)
    axes.set_yticks(range(len(order)), [song if len(song) < 42 else f"{song[:40]}…" for song in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("Chamfer distance to the target (squared cube edges; left is better)")
    axes.grid(axis="x", which="both", color="#dddddd", linewidth=0.6)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.0 + 0.9 / len(order) + 0.06), ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def clouds(scores: Scores, shown: Callable[[int], dict[str, Cloud]], path: Path, size: int = 420) -> None:
    """The middle window of the best, the median and the worst song. shown: the clouds of a window, by name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    order = ranked(scores)
    picked = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    chamfer = scores.measures["chamfer"]
    figure, grid = plt.subplots(3, 3, figsize=(12, 12.9), facecolor=render.BACKGROUND, layout="constrained")
    for line, (rank, song) in zip(grid, picked.items(), strict=True):
        mine = np.flatnonzero(scores.songs == song)
        index = int(mine[np.argsort(chamfer[MODEL][mine])[len(mine) // 2]])
        for axes, (name, cloud) in zip(line, shown(index).items(), strict=True):
            axes.imshow(render.image(cloud, size))
            axes.set_axis_off()
            figures = f": {chamfer[name][index]:.2g}" if name in chamfer else f" ({rank} song: {song[:28]})"
            axes.set_title(name + figures, color="#e8e6df", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, facecolor=render.BACKGROUND)
    plt.close(figure)


def ranked(scores: Scores) -> list[str]:
    """Songs by the model's mean Chamfer distance, best first."""
    values = scores.measures["chamfer"][MODEL]
    return sorted(np.unique(scores.songs).tolist(), key=lambda song: float(values[scores.songs == song].mean()))
