"""Estimate how much of the device's memory a run takes, before its first step.

The estimate follows from shapes. Weights and optimiser are exact; activations are meant to be within a
quarter. They count what the backward pass keeps of a transformer block (Korthikanti et al. 2022, section 4.1,
without the attention matrix, which is not stored).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kwela.musicgen.config import MusicgenConfig

GB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """GB of each part of a run, and of the device's memory."""

    weights: float
    optimizer: float  # with the gradients
    activations: float
    available: float | None  # None: not known

    @property
    def total(self) -> float:
        """GB of all parts together."""
        return self.weights + self.optimizer + self.activations

    def describe(self, config: MusicgenConfig) -> str:
        """Return one line with the parts and the total, and the settings to change if memory is too small."""
        data = config.data
        size = f"batch {data.batch_size} x {data.seconds:g} s"
        line = (
            f"Memory plan: weights {self.weights:.2f} GB, gradients and optimiser {self.optimizer:.2f} GB, "
            f"activations {self.activations:.2f} GB ({size}): {self.total:.2f} GB"
        )
        if self.available is None:
            return line
        line += f" of {self.available:.1f} GB"
        if self.total <= 0.95 * self.available:
            return line
        half = max(1, data.batch_size // 2)
        line += (
            f": too little; try --set data.batch_size={half} --set "
            f"training.grad_accum_steps={config.training.grad_accum_steps * data.batch_size // half}"
        )
        if config.training.gradient_checkpointing:
            return line
        return line + " or --set training.gradient_checkpointing=true"


def estimate(model: Any, config: MusicgenConfig, frames: int, device: torch.device) -> MemoryPlan:
    """Estimate the memory of training `model`, a MusicLm, on crops of `frames` frames."""
    decoder: nn.Module = model.decoder
    shape: Any = decoder.config
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    lora, amp = config.model.tuning == "lora", config.training.amp
    tokens = config.data.batch_size * (frames + shape.num_codebooks - 1)
    width, item_bytes = shape.hidden_size, 2 if amp else 4
    # Bytes of a token in a block: the inputs of its three parts and of their linear maps, the two of the
    # feed-forward part (4 times as wide), and the masks of three dropouts.
    block = item_bytes * (14 * width + 2 * shape.ffn_dim) + 3 * width
    if lora:  # each adapter keeps its input, in float32, and the mask of its dropout
        block += (5 if config.model.dropout else 4) * (7 * width + shape.ffn_dim)
    elif amp:  # the residual stream is float32
        block += 6 * width
    checkpointing = config.training.gradient_checkpointing
    blocks = shape.num_hidden_layers * (item_bytes * width if checkpointing else block)
    logits = shape.num_codebooks * shape.vocab_size * (4 + 4 + item_bytes)
    activations = tokens * (blocks + logits + (block if checkpointing else 0))
    ema = trained if config.training.ema.enabled else 0
    copies = 0 if lora or not amp else weights // 2  # autocast copies the weights that are trained
    return MemoryPlan(
        (weights + copies) / GB, (3 * trained + ema) / GB, activations / GB, _available_gb(device)
    )


def _available_gb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / GB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB if device.type == "cpu" else None
