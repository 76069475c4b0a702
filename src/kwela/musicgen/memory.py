"""What a run will take of the device's memory, said before its first step.

An estimate from shapes, meant to be within a quarter: weights and optimiser are exact; activations count what backward
keeps of a transformer block (Korthikanti et al. 2022, section 4.1, without the attention matrix, which isn't stored).
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
class Plan:
    """GB of each part, and what the device has (None: not known)."""

    weights: float
    optimizer: float
    activations: float
    there: float | None

    @property
    def total(self) -> float:
        return self.weights + self.optimizer + self.activations

    def line(self, config: MusicgenConfig) -> str:
        """One line: the parts, the whole, what there is; and what to change where it is too little."""
        data = config.data
        told = (
            f"Memory plan: weights {self.weights:.2f} GB, gradients and optimiser {self.optimizer:.2f} GB, activations "
            f"{self.activations:.2f} GB (batch {data.batch_size} x {data.seconds:g} s): {self.total:.2f} GB"
        )
        if self.there is None:
            return told
        told += f" of {self.there:.1f} GB"
        if self.total <= 0.95 * self.there:
            return told
        half = max(1, data.batch_size // 2)
        return (
            f"{told}: too little; try --set data.batch_size={half} --set "
            f"training.grad_accum_steps={config.training.grad_accum_steps * data.batch_size // half}"
            + (
                ""
                if config.training.gradient_checkpointing
                else " or --set training.gradient_checkpointing=true"
            )
        )


def plan(model: Any, config: MusicgenConfig, frames: int, device: torch.device) -> Plan:
    """model: MusicLm. frames: of a crop."""
    decoder: nn.Module = model.decoder
    shape: Any = decoder.config
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    lora, amp = config.model.tuning == "lora", config.training.amp
    tokens = config.data.batch_size * (frames + shape.num_codebooks - 1)
    width, half = shape.hidden_size, 2 if amp else 4
    # Bytes a token and block: inputs of its three parts and their maps, the feed-forward's two (4 x as wide), and
    # three dropouts' masks.
    block = half * (14 * width + 2 * shape.ffn_dim) + 3 * width
    if lora:  # each adapter keeps its input, in float32, and its dropout's mask
        block += (5 if config.model.dropout else 4) * (7 * width + shape.ffn_dim)
    elif amp:  # the residual stream is float32
        block += 6 * width
    blocks = shape.num_hidden_layers * (half * width if config.training.gradient_checkpointing else block)
    logits = shape.num_codebooks * shape.vocab_size * (4 + 4 + half)
    activations = tokens * (blocks + logits + (block if config.training.gradient_checkpointing else 0))
    ema = trained if config.training.ema.enabled else 0
    copies = 0 if lora or not amp else weights // 2  # autocast's, of weights that are trained
    return Plan((weights + copies) / GB, (3 * trained + ema) / GB, activations / GB, _there(device))


def _there(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / GB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB if device.type == "cpu" else None
