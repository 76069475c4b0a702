"""The arithmetic of an optimiser step: its learning rate, gradient clipping and weight average."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kwela.config import Optim, Scheduler

Tensors = tuple[Tensor, ...] | list[Tensor]


def adamw(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """Return fused AdamW over the weights that train (Loshchilov and Hutter 2019).

    Weight decay applies to matrices and larger tensors only, not to gains and biases.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)


def rate(step: int, total: int, lr: float, scheduler: Scheduler) -> float:
    """Return the learning rate of step `step` of `total` (both from 1): linear warm-up, then a cosine.

    Step `warmup_steps` is the first at `lr`, and step `total` is at `lr x min_lr_ratio`.
    """
    if step < scheduler.warmup_steps:
        return lr * step / scheduler.warmup_steps
    done = min(1.0, (step - scheduler.warmup_steps) / max(1, total - scheduler.warmup_steps))
    return lr * (scheduler.min_lr_ratio + (1 - scheduler.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2)


@torch.no_grad()
def rescale(grads: list[Tensor], factor: Tensor, largest: float) -> Tensor:
    """Multiply gradients by `factor`, then clip them to the global L2 norm `largest`, in place.

    Returns the norm before clipping, on the device; nothing waits for it. Non-finite gradients give a
    non-finite norm.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))) * factor
    torch._foreach_mul_(grads, factor * torch.clamp(largest / (norm + 1e-6), max=1.0))
    return norm


class WeightAverage:
    """Exponential moving average (EMA) of a model's weights, as a model for validation and previews.

    The decay warms up as min(decay, (1 + step) / (10 + step)). Buffers follow the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        # torch's own count of updates is not used: the decay is a function of the step, so a resumed run
        # needs no count. The count stays on the CPU, so asking for it does not wait for the device. It must
        # not be 0, or the first update would copy the weights instead of averaging them.
        self._averaged = AveragedModel(model, multi_avg_fn=self._move_towards)
        self._averaged.n_averaged.fill_(1)
        self._source, self._decay, self._current_decay = model, decay, decay
        self.model: nn.Module = self._averaged.module.requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after optimiser step `step` (from 1)."""
        self._current_decay = min(self._decay, (1 + step) / (10 + step))
        self._averaged.update_parameters(self._source)

    def _move_towards(self, averages: Tensors, weights: Tensors, _: Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - self._current_decay)


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Use only deterministic algorithms of torch inside this context, if `wanted`."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
