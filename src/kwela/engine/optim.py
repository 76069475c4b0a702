"""The numbers of an optimiser step: its learning rate, precision, clipping and weight average."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kwela.config import Optim, Scheduler, Training


def adamw(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """Fused AdamW over what trains. Only matrices and larger decay, not gains and biases (Loshchilov & Hutter 2019)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)


def rate(step: int, total: int, lr: float, scheduler: Scheduler) -> float:
    """The learning rate of optimiser step `step` of `total` (both from 1): linear warm-up, then a cosine.

    Step `warmup_steps` is the first at `lr`, and step `total` is at `lr x min_lr_ratio`.
    """
    if step < scheduler.warmup_steps:
        return lr * step / scheduler.warmup_steps
    done = min(1.0, (step - scheduler.warmup_steps) / max(1, total - scheduler.warmup_steps))
    return lr * (scheduler.min_lr_ratio + (1 - scheduler.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2)


def precision(training: Training, device: torch.device) -> tuple[torch.dtype | None, str | None]:
    """Autocast's dtype (None: float32), and the line to say where it is not what the settings ask for."""
    if not training.amp:
        return None, None
    if training.amp_dtype == "float16" and device.type != "cuda":  # nowhere else is its scaler sure to work
        if device.type == "mps":
            return torch.bfloat16, "training.amp_dtype float16 needs a CUDA GPU: training in bfloat16"
        if torch.cpu._is_avx512_bf16_supported():
            return torch.bfloat16, "training.amp_dtype float16 needs a GPU: training in bfloat16"
        return None, "training.amp_dtype float16 needs a GPU: training in float32"
    return getattr(torch, training.amp_dtype), None


@torch.no_grad()
def rescale(grads: list[Tensor], factor: Tensor, largest: float) -> Tensor:
    """Multiply by `factor`, then clip to the global L2 norm `largest`, in place. Returns the norm before clipping.

    Nothing waits for the device. Non-finite gradients give a non-finite norm.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))) * factor
    torch._foreach_mul_(grads, factor * torch.clamp(largest / (norm + 1e-6), max=1.0))
    return norm


class Average:
    """Exponential moving average of a model's weights (EMA), as a model of its own for validation and previews.

    The decay warms up as min(decay, (1 + step) / (10 + step)). Buffers follow the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.weights = [
            (mine.data, theirs.data) for mine, theirs in _pairs(self.model.parameters(), model.parameters())
        ]
        self.buffers = _pairs(self.model.buffers(), model.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after optimiser step `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = zip(*self.weights, strict=True)
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for ours, its in self.buffers:
            ours.copy_(its)


def _pairs(mine: Iterable[Tensor], theirs: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(mine, theirs, strict=True))
