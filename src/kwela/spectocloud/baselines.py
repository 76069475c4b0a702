"""What a held-out cloud can be guessed from without a model, and how near the target comes to itself.

- mean_cloud: one cloud for everything, moved by gradient descent to the least Chamfer distance to the training clouds.
- emotion_only: the same, for each held-out emotion, on the training clouds of the nearest emotions.
- nearest_neighbour: the cloud of the training segment with the nearest log-mel.
- floor: the target drawn again with another seed. A hand-made cloud is its own floor: 0.

All are mean squared Chamfer distances (kwela.spectocloud.chamfer) to the held-out targets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kwela.engine import order
from kwela.spectocloud import data
from kwela.spectocloud.best_constant import best_cloud
from kwela.spectocloud.chamfer import chamfer_with_matches

NAMES = ("mean_cloud", "emotion_only", "nearest_neighbour")
MOST_ROWS = 4_000  # training rows compared with, evenly chosen, so that large sets stay affordable
NEAREST = 64  # training segments at least that speak for an emotion, or a quarter of a small set's


def measure(train: data.Segments, held_out: data.Segments, seed: int) -> dict[str, np.ndarray]:
    """Distance of each held-out row's target to each of NAMES and to "floor": (rows,) float64."""
    every = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_ROWS)).astype(int)).tolist()
    plain = data.Segments(train.rows, train.cache_dir)
    known = data.collate([order.held_out_item(plain, index, seed) for index in every])
    asked = data.collate([order.held_out_item(held_out, index, seed) for index in range(len(held_out))])
    return {
        "mean_cloud": _to_each(best_cloud(known["positions"], seed), asked["positions"]),
        "emotion_only": _emotion_only(known, asked, seed),
        "nearest_neighbour": _distance(known["positions"][_nearest(known, asked)], asked["positions"]),
        "floor": _floor(held_out, asked, seed),
    }


def _emotion_only(known: dict[str, Tensor], asked: dict[str, Tensor], seed: int) -> np.ndarray:
    distances = np.zeros(len(asked["emotion"]))
    emotions, which = asked["emotion"].unique(dim=0, return_inverse=True)
    for k, emotion in enumerate(emotions):
        apart = (known["emotion"] - emotion).square().sum(1)
        widest = apart.sort().values[min(NEAREST, len(apart) // 4)]
        mine = (which == k).numpy()
        distances[mine] = _to_each(
            best_cloud(known["positions"][apart <= widest], seed), asked["positions"][mine]
        )
    return distances


def _nearest(known: dict[str, Tensor], asked: dict[str, Tensor]) -> Tensor:
    return torch.cdist(asked["spectrogram"].flatten(1), known["spectrogram"].flatten(1)).argmin(1)


def _floor(held_out: data.Segments, asked: dict[str, Tensor], seed: int) -> np.ndarray:
    """The rows' targets beside another draw of the same music."""
    distances = np.zeros(len(held_out))
    for index, row in enumerate(held_out.rows):
        if asked["has_attributes"][index]:
            start = data.segment_start(row, order.item_rng(seed, order.VALIDATION, index))
            again, _ = data.wanted(row, start, asked["spectrogram"][index].numpy(), redraw=1)
            distances[index] = _to_each(torch.from_numpy(again), asked["positions"][index][None])[0]
    return distances


def _to_each(cloud: Tensor, targets: Tensor) -> np.ndarray:
    return _distance(cloud.expand(len(targets), -1, -1), targets)


def _distance(clouds: Tensor, targets: Tensor) -> np.ndarray:
    return chamfer_with_matches(clouds, targets).distance.double().numpy()
