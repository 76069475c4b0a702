"""Clouds that a held-out window can be given without a model.

- mean cloud: one for everything, moved by descent to the least Chamfer distance to the training clouds; each point has
  the mean colour and properties of the training points nearest to it.
- emotion only: the same, from the training clouds of the nearest emotions.
- nearest neighbour: the cloud of the training window whose log-mel, the very one the model is given, is nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree

from kwela.judge.clouds.windows import Heard, Sample, Window
from kwela.spectocloud.constant_cloud import fit_constant_cloud
from kwela.spectocloud.target import Cloud

NAMES = ("mean cloud", "emotion only", "nearest neighbour")
NEAREST = 64  # training windows at least that speak for an emotion, or a quarter of a small set's
COLOURING = 32  # training clouds that colour a mean cloud


class Baselines:
    """Fitted to training windows; `of(window, heard)` gives each baseline's cloud."""

    def __init__(self, training: Sequence[Sample], seed: int) -> None:
        self.seed = seed
        self.clouds = [sample.target for sample in training]
        self.sounds = np.stack([sample.heard.log_mel.ravel() for sample in training])
        self.energies = np.square(self.sounds).sum(1)
        self.emotions = np.stack([sample.window.emotion for sample in training])
        self.mean = self._middle(np.arange(len(training)))
        self._by_emotion: dict[bytes, Cloud] = {}

    def of(self, window: Window, heard: Heard) -> dict[str, Cloud]:
        return dict(
            zip(NAMES, (self.mean, self.for_emotion(window.emotion), self.nearest(heard)), strict=True)
        )

    def for_emotion(self, emotion: np.ndarray) -> Cloud:
        key = emotion.tobytes()
        if key not in self._by_emotion:
            far = np.square(self.emotions - emotion).sum(1)
            widest = np.sort(far)[min(NEAREST, len(far) // 4)]
            self._by_emotion[key] = self._middle(np.flatnonzero(far <= widest))
        return self._by_emotion[key]

    def nearest(self, heard: Heard) -> Cloud:
        return self.clouds[int((self.energies - 2 * self.sounds @ heard.log_mel.ravel()).argmin())]

    def _middle(self, which: np.ndarray) -> Cloud:
        same = [self.clouds[k] for k in which]
        positions = fit_constant_cloud(
            torch.from_numpy(np.stack([cloud.positions for cloud in same])), self.seed
        ).numpy()
        some = [same[k] for k in np.random.default_rng(self.seed).permutation(len(same))[:COLOURING]]
        nearest = [cloud.attributes[cKDTree(cloud.positions).query(positions)[1]] for cloud in some]
        return Cloud(positions, np.mean(nearest, axis=0).astype(np.float32))
