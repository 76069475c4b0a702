"""A task's validation figures, summed here rather than by the loop."""

from __future__ import annotations

from typing import Any

import torch

from kwela.engine import order
from kwela.engine.task import Mean, Task


def items(task: Task, seed: int = 0) -> list[Any]:
    """All that validation sees."""
    held_out = task.datasets()[1]
    return [order.held_out_item(held_out, index, seed) for index in range(len(held_out))]


def figures(task: Task, model: torch.nn.Module, batch_size: int) -> dict[str, float]:
    drawn = items(task)
    sums: dict[str, Mean] = {}
    with torch.no_grad():
        for first in range(0, len(drawn), batch_size):
            for name, mean in task.losses(model, task.collate(drawn[first : first + batch_size])).items():
                before = sums.get(name)
                sums[name] = (
                    type(mean)(*(a + b for a, b in zip(before, mean, strict=True))) if before else mean
                )
    return {name: mean.value(float(mean.total), float(mean.weight)) for name, mean in sums.items()}
