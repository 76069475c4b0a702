"""What the engine asks of a model family.

A family returns sums and counts, not means. Gradient accumulation, an uneven last batch and any number of
ranks then give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor, nn

from kwela.engine.row_faults import Fault, Row

Batch = dict[str, Tensor]
T = TypeVar("T")
Sides = tuple[T, T]  # of the training and of the validation data


class Mean(NamedTuple):
    """A mean in two scalar tensors: `total` (a loss with its gradient) over `weight`."""

    total: Tensor
    weight: Tensor

    @staticmethod
    def value(total: float, weight: float) -> float:
        """Return the figure that summed parts stand for; NaN if the weight is 0."""
        return total / weight if weight else math.nan

    @staticmethod
    def gain(value: float, past: float) -> float:
        """Return how much better `value` is than `past`: lower is better."""
        return past - value


class GeometricMean(Mean):
    """A mean of logarithms that is reported as its exponential, as perplexity is."""

    @staticmethod
    def value(total: float, weight: float) -> float:
        """Return the exponential of the mean, at most e^700; NaN if the weight is 0."""
        return math.exp(min(total / weight, 700.0)) if weight else math.nan


class Share(Mean):
    """A mean of hits in 0..1, such as accuracy: higher is better."""

    @staticmethod
    def gain(value: float, past: float) -> float:
        """Return how much better `value` is than `past`: higher is better."""
        return value - past


class Items(Protocol):
    """A data set. The same (index, rng state) gives the same item in any process.

    `item` runs in worker processes and must not use global RNGs. It raises UserError, naming the file, for
    bad data. An attribute `places` (one "file:row N" for each item) is used in messages where it is present.
    """

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def item(self, index: int, rng: np.random.Generator) -> Any:
        """Return item `index`, augmented with numbers from `rng` alone."""
        ...


class Task(Protocol):
    """A model family as the engine sees it. `name` names the family in checkpoints: "midi_generator"."""

    name: str

    def model(self) -> nn.Module:
        """Return a new model with its first weights, drawn from torch's generator."""
        ...

    def datasets(self) -> tuple[Items, Items]:
        """Return the training and the validation items."""
        ...

    def collate(self, items: Sequence[Any]) -> Batch:
        """Return the batch of these items. Runs in worker processes and draws no random number."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """Return "loss", which is minimised, and its named parts, with the same names at every call.

        `loss` must be a sum over items, so the model has no batch statistics (BatchNorm). `model` is the
        module, or DDP or a compiled form of it: call it, `model(...)`, rather than one of its methods. This
        runs under autocast where AMP is on, in training and in validation (where `model.training` is False).
        """
        ...

    def baselines(self) -> dict[str, float]:
        """Return what the validation figures must beat. Called once a session, on the first rank."""
        ...

    def preview(self, model: nn.Module, folder: Path) -> None:
        """Write pictures and samples into the folder, every `save_every` epochs, on the first rank.

        `model` is the module itself, in eval mode and without gradients, with the averaged weights if EMA is
        on.
        """
        ...


@runtime_checkable
class RowTask(Protocol):
    """A task whose runs can go on without rows that can't be read any more; see engine.data_rows.

    `datasets` of such a task raises UserError for a row that can't be read, unless it was left out.
    """

    def rows(self) -> Sides[list[Row]]:
        """Return the rows of the manifests, in order, whether their files can be read or not."""
        ...

    def read_rows(self) -> Sides[list[int | Fault]]:
        """Return how many items each of the `rows` gives, or why it can't be read."""
        ...

    def examine(self, row: Row) -> Fault | None:
        """Read the files of a row, which need not be one of `rows`, to their end. None: they can be read."""
        ...

    def leave_out(self, left_out: Sides[set[int]]) -> None:
        """Use the data from now on without these of the `rows`: indexes in each list."""
        ...
