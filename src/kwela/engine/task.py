"""What the engine asks of a model family, and nothing more.

Sums and counts cross this wall, not means: gradient accumulation, an uneven last batch and any number of ranks then
give the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

Batch = dict[str, Tensor]


class Mean(NamedTuple):
    """A mean in two parts: `total` (scalar tensor, with gradient where it is a loss) over `count` (scalar tensor)."""

    total: Tensor
    count: Tensor


class Items(Protocol):
    """A data set. The same (index, rng state) gives the same item in any process; `item` must not use global RNGs."""

    def __len__(self) -> int: ...

    def item(self, index: int, rng: np.random.Generator) -> Any: ...


class Task(Protocol):
    name: str  # names the checkpoint folder: "spectocloud", "midi_generator"

    def model(self) -> nn.Module: ...

    def datasets(self) -> tuple[Items, Items]:
        """Train and validation. Engine-made rng = f(seed, epoch, index); validation always uses epoch 0."""
        ...

    def collate(self, items: Sequence[Any]) -> Batch: ...

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """"loss" (what is minimised) and its named parts under the runbook's names."""
        ...

    def baselines(self) -> dict[str, float]:
        """What the validation figures must beat, logged beside them."""
        ...

    def preview(self, model: nn.Module, folder: Path) -> None:
        """Pictures and samples into `folder` at each save."""
        ...
