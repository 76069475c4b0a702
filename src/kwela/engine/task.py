"""What the engine asks of a model family, and nothing more.

Sums and counts cross this wall, not means: gradient accumulation, an uneven last batch and any number of ranks then
give the same number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

Batch = dict[str, Tensor]


class Mean(NamedTuple):
    """A mean in two parts, scalar tensors on the batch's device: `total` (a loss with its gradient) over `weight`."""

    total: Tensor
    weight: Tensor

    @staticmethod
    def value(total: float, weight: float) -> float:
        """The figure that summed parts stand for; NaN over nothing."""
        return total / weight if weight else math.nan

    @staticmethod
    def gain(value: float, past: float) -> float:
        """How much better `value` is than `past`: lower is better."""
        return past - value


class GeometricMean(Mean):
    """A Mean of logarithms, reported as the exponential of it: perplexity is that of the negative log-likelihood."""

    @staticmethod
    def value(total: float, weight: float) -> float:
        return math.exp(min(total / weight, 700.0)) if weight else math.nan


class Share(Mean):
    """A Mean of hits, in 0..1, as accuracy is: higher is better."""

    @staticmethod
    def gain(value: float, past: float) -> float:
        return value - past


class Items(Protocol):
    """A data set. The same (index, rng state) gives the same item in any process.

    `item` runs in worker processes and must not use global RNGs. It raises UserError, naming the file, for bad data.
    """

    def __len__(self) -> int: ...

    def item(self, index: int, rng: np.random.Generator) -> Any: ...


class Task(Protocol):
    name: str  # names the checkpoint folder: "spectocloud", "midi_generator"

    def model(self) -> nn.Module: ...

    def datasets(self) -> tuple[Items, Items]:
        """Train and validation. Engine-made rng = f(seed, epoch, index); validation always uses epoch 0."""
        ...

    def collate(self, items: Sequence[Any]) -> Batch:
        """Runs in worker processes; draws nothing at random."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """ "loss" (what is minimised) and its named parts under the runbook's names, the same names at every call.

        `loss` must be a sum over items, so no batch statistics (BatchNorm) in the model. `model` is the module, or
        DDP or a compiled form of it: call it, `model(...)`, rather than a method of it. Runs under autocast where AMP
        is on, in training and in validation (where `model.training` is False).
        """
        ...

    def baselines(self) -> dict[str, float]:
        """What the validation figures must beat, logged beside them. Called once a run, on the first rank."""
        ...

    def preview(self, model: nn.Module, folder: Path) -> None:
        """Pictures and samples into `folder` (which exists), each `save_every` epochs, on the first rank.

        `model` is the module itself, in eval mode and without gradients, with the averaged weights if EMA is on.
        """
        ...
