"""Make the clouds that a held-out window can be given without a model.

- mean cloud: one for every window, moved by gradient descent to the least Chamfer distance to the training
  clouds. Each point has the mean colour and properties of the training points nearest to it.
- emotion only: the same, from the training clouds of the nearest emotions.
- nearest neighbour: the cloud of the training window with the nearest log-mel, the same one that the model is
  given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree

from kwela.judge.clouds.windows import Window, WindowInputs, WindowWithTarget
from kwela.spectocloud.constant_cloud import fit_constant_cloud
from kwela.spectocloud.target import Cloud

BASELINES = ("mean cloud", "emotion only", "nearest neighbour")
MIN_SAME_EMOTION = 64  # training windows at least that stand for an emotion, or a quarter of a small set's
COLOURING_CLOUDS = 32  # training clouds that colour a mean cloud


class Baselines:
    """The three baselines, fitted to training windows."""

    def __init__(self, training: Sequence[WindowWithTarget], seed: int) -> None:
        self.seed = seed
        self.clouds = [window.target for window in training]
        self.log_mels = np.stack([window.inputs.log_mel.ravel() for window in training])
        self.squared_norms = np.square(self.log_mels).sum(1)
        self.emotions = np.stack([window.window.emotion for window in training])
        self.mean = self._mean_cloud(np.arange(len(training)))
        self._by_emotion: dict[bytes, Cloud] = {}

    def clouds_for(self, window: Window, inputs: WindowInputs) -> dict[str, Cloud]:
        """Return the cloud of each of BASELINES for a window."""
        clouds = (self.mean, self.for_emotion(window.emotion), self.nearest(inputs))
        return dict(zip(BASELINES, clouds, strict=True))

    def for_emotion(self, emotion: np.ndarray) -> Cloud:
        """Return the mean cloud of the training windows nearest to an emotion (64,)."""
        key = emotion.tobytes()
        if key not in self._by_emotion:
            distance = np.square(self.emotions - emotion).sum(1)
            radius = np.sort(distance)[min(MIN_SAME_EMOTION, len(distance) // 4)]
            self._by_emotion[key] = self._mean_cloud(np.flatnonzero(distance <= radius))
        return self._by_emotion[key]

    def nearest(self, inputs: WindowInputs) -> Cloud:
        """Return the cloud of the training window with the nearest log-mel."""
        distance = self.squared_norms - 2 * self.log_mels @ inputs.log_mel.ravel()  # less a constant
        return self.clouds[int(distance.argmin())]

    def _mean_cloud(self, indexes: np.ndarray) -> Cloud:
        clouds = [self.clouds[index] for index in indexes]
        stacked = torch.from_numpy(np.stack([cloud.positions for cloud in clouds]))
        positions = fit_constant_cloud(stacked, self.seed).numpy()
        order = np.random.default_rng(self.seed).permutation(len(clouds))[:COLOURING_CLOUDS]
        attributes = [
            cloud.attributes[cKDTree(cloud.positions).query(positions)[1]]
            for cloud in (clouds[index] for index in order)
        ]
        return Cloud(positions, np.mean(attributes, axis=0).astype(np.float32))
