"""Predict the cloud of a held-out window without a model, in three simple ways.

- mean cloud: the same cloud for every window. Gradient descent moves its points until its mean Chamfer
  distance to the training clouds is least. Each point takes the mean colour and properties of the training
  points that are nearest to it.
- emotion only: a mean cloud of the training windows whose emotions are nearest to the window's.
- nearest neighbour: the cloud of the training window whose log-mel is nearest to the window's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree

from kwela.judge.clouds.windows import Window, WindowInputs, WindowWithTarget
from kwela.spectocloud.constant_cloud import fit_constant_cloud
from kwela.spectocloud.target import Cloud

BASELINE_NAMES = ("mean cloud", "emotion only", "nearest neighbour")
MIN_WINDOWS_OF_EMOTION = (
    64  # for a mean cloud of an emotion; in a small training set, a quarter of its windows
)
MAX_COLOUR_CLOUDS = 32  # how many training clouds are averaged for the colours of a mean cloud


class Baselines:
    """The three baselines, fitted to training windows."""

    def __init__(self, training: Sequence[WindowWithTarget], seed: int) -> None:
        self.seed = seed
        self.clouds = [example.target for example in training]
        self.log_mels = np.stack([example.inputs.log_mel.ravel() for example in training])
        self.squared_norms = np.square(self.log_mels).sum(1)
        self.emotions = np.stack([example.window.emotion for example in training])
        self.mean_cloud = self._fit_mean_cloud(np.arange(len(training)))
        self._by_emotion: dict[bytes, Cloud] = {}

    def clouds_for(self, window: Window, inputs: WindowInputs) -> dict[str, Cloud]:
        """Return {name: predicted cloud} for a window, with the names in BASELINE_NAMES."""
        clouds = (self.mean_cloud, self.emotion_cloud(window.emotion), self.nearest_cloud(inputs))
        return dict(zip(BASELINE_NAMES, clouds, strict=True))

    def emotion_cloud(self, emotion: np.ndarray) -> Cloud:
        """Return the mean cloud of the training windows whose emotions are nearest to `emotion` (64,)."""
        key = emotion.tobytes()
        if key not in self._by_emotion:
            squared_distances = np.square(self.emotions - emotion).sum(1)
            limit = np.sort(squared_distances)[min(MIN_WINDOWS_OF_EMOTION, len(squared_distances) // 4)]
            self._by_emotion[key] = self._fit_mean_cloud(np.flatnonzero(squared_distances <= limit))
        return self._by_emotion[key]

    def nearest_cloud(self, inputs: WindowInputs) -> Cloud:
        """Return the cloud of the training window whose log-mel is nearest to that of `inputs`."""
        # |a - b|^2 = |a|^2 - 2ab + |b|^2. The last term is the same for every training window a.
        squared_distances = self.squared_norms - 2 * self.log_mels @ inputs.log_mel.ravel()
        return self.clouds[int(squared_distances.argmin())]

    def _fit_mean_cloud(self, indexes: np.ndarray) -> Cloud:
        clouds = [self.clouds[index] for index in indexes]
        stacked = torch.from_numpy(np.stack([cloud.positions for cloud in clouds]))
        positions = fit_constant_cloud(stacked, self.seed).numpy()
        order = np.random.default_rng(self.seed).permutation(len(clouds))[:MAX_COLOUR_CLOUDS]
        attributes = [
            cloud.attributes[cKDTree(cloud.positions).query(positions)[1]]
            for cloud in (clouds[index] for index in order)
        ]
        return Cloud(positions, np.mean(attributes, axis=0).astype(np.float32))
