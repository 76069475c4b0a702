"""Baselines of Spectocloud, which need no model, and the floor: how near a target comes to itself.

- mean_cloud: one cloud for all, fitted by gradient descent to the least Chamfer distance to the training
  clouds.
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
from kwela.spectocloud.chamfer import chamfer_with_matches
from kwela.spectocloud.constant_cloud import fit_constant_cloud

NAMES = ("mean_cloud", "emotion_only", "nearest_neighbour")
MAX_ROWS = 4_000  # training rows that are used, evenly spaced, so that large sets stay affordable
NEAREST = 64  # least number of training segments that stand for an emotion, or a quarter of a small set


def measure(train: data.Segments, held_out: data.Segments, seed: int) -> dict[str, np.ndarray]:
    """Return the distance of each held-out row's target to each of NAMES and to "floor": (rows,) float64."""
    chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), MAX_ROWS)).astype(int)).tolist()
    unaugmented = data.Segments(train.rows, train.cache_dir)
    unaugmented.numbers = train.numbers
    train_batch = data.collate([order.held_out_item(unaugmented, index, seed) for index in chosen])
    held_out_batch = data.collate(
        [order.held_out_item(held_out, index, seed) for index in range(len(held_out))]
    )
    return {
        "mean_cloud": _to_each(
            fit_constant_cloud(train_batch["positions"], seed), held_out_batch["positions"]
        ),
        "emotion_only": _emotion_only(train_batch, held_out_batch, seed),
        "nearest_neighbour": _distance(
            train_batch["positions"][_nearest(train_batch, held_out_batch)], held_out_batch["positions"]
        ),
        "floor": _floor(held_out, held_out_batch, seed),
    }


def _emotion_only(train_batch: dict[str, Tensor], held_out_batch: dict[str, Tensor], seed: int) -> np.ndarray:
    distances = np.zeros(len(held_out_batch["emotion"]))
    emotions, which = held_out_batch["emotion"].unique(dim=0, return_inverse=True)
    for k, emotion in enumerate(emotions):
        distance = (train_batch["emotion"] - emotion).square().sum(1)
        radius = distance.sort().values[min(NEAREST, len(distance) // 4)]
        rows = (which == k).numpy()
        distances[rows] = _to_each(
            fit_constant_cloud(train_batch["positions"][distance <= radius], seed),
            held_out_batch["positions"][rows],
        )
    return distances


def _nearest(train_batch: dict[str, Tensor], held_out_batch: dict[str, Tensor]) -> Tensor:
    return torch.cdist(
        held_out_batch["spectrogram"].flatten(1), train_batch["spectrogram"].flatten(1)
    ).argmin(1)


def _floor(held_out: data.Segments, held_out_batch: dict[str, Tensor], seed: int) -> np.ndarray:
    """Return the distance of each row's target to another draw of the same music."""
    distances = np.zeros(len(held_out))
    for index, row in enumerate(held_out.rows):
        if held_out_batch["has_attributes"][index]:
            start = data.segment_start(row, order.item_rng(seed, order.VALIDATION, index))
            redrawn, _ = data.target_cloud(row, start, held_out_batch["spectrogram"][index].numpy(), redraw=1)
            distances[index] = _to_each(torch.from_numpy(redrawn), held_out_batch["positions"][index][None])[
                0
            ]
    return distances


def _to_each(cloud: Tensor, targets: Tensor) -> np.ndarray:
    return _distance(cloud.expand(len(targets), -1, -1), targets)


def _distance(clouds: Tensor, targets: Tensor) -> np.ndarray:
    return chamfer_with_matches(clouds, targets).distance.double().numpy()
