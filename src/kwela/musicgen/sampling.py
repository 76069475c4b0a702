"""Sample codes from MusicGen: one delayed step at a time, with guidance, in windows that slide.

- The random numbers of a prompt come from its own seed. A prompt gives the same codes whatever other prompts
  are in the batch (up to rounding).
- Guidance (Ho & Salimans 2022): logits = null + guidance * (prompted - null). Each prompt takes two rows of
  the model's batch.
- The model was trained on 30 s. Beyond that, a new window begins with the last 12 s of the window before it
  and adds 18 s, as in audiocraft.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kwela.errors import KwelaError
from kwela.musicgen.base_model import CodecShape

WINDOW, STRIDE = 30.0, 18.0  # seconds of a window, and how many of them a later window adds


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are drawn."""

    guidance: float = 3.0  # how strongly the prompt counts; 1: no guidance
    top_k: int = 250  # only this many of the likeliest codes are drawn
    temperature: float = 1.0


@torch.inference_mode()
def sample_frames(
    model: Any,
    states: Sequence[np.ndarray],
    count: int,
    seeds: Sequence[int],
    shape: CodecShape,
    settings: SamplingSettings,
) -> Iterator[Tensor]:
    """Yield the codes of `count` frames, (B, K) int64 each, as soon as the last codebook of a frame is known.

    model: MusicLm. states: of each of the B prompts, (length, text width). seeds: of each prompt. Raises
    KwelaError, at the end of a window, if the model's logits were not finite.
    """
    device = next(model.parameters()).device
    rngs = [np.random.default_rng(seed) for seed in seeds]
    prompt, mask = _conditions(states, device, settings.guidance != 1)
    window, overlap = round(WINDOW * shape.frame_rate), round((WINDOW - STRIDE) * shape.frame_rate)
    frames: list[Tensor] = []
    while len(frames) < count:
        if frames:
            context = torch.stack(frames[-overlap:], -1)
        else:
            context = prompt.new_zeros(len(states), shape.codebooks, 0, dtype=torch.int64)
        length = min(window, context.shape[-1] + count - len(frames))
        for frame in _sample_window(
            model, prompt, mask, context, length, rngs, shape.codebook_size, settings
        ):
            frames.append(frame)
            yield frame


def _sample_window(
    model: Any,
    prompt: Tensor,
    mask: Tensor,
    context: Tensor,
    length: int,
    rngs: Sequence[np.random.Generator],
    pad: int,
    settings: SamplingSettings,
) -> Iterator[Tensor]:
    """Yield the new frames (B, K) of a window of `length` frames, which begins with `context` (B, K, n)."""
    from transformers import DynamicCache, EncoderDecoderCache

    batch, codebooks, known = context.shape
    steps = length + codebooks - 1
    delayed = torch.full((batch, codebooks, steps), pad, dtype=torch.int64, device=context.device)
    for book in range(codebooks):
        delayed[:, book, book : book + known] = context[:, book]
    past = EncoderDecoderCache(DynamicCache(), DynamicCache())
    inputs = torch.cat([delayed.new_full((batch, codebooks, 1), pad), delayed[..., :known]], dim=-1)
    finite = torch.ones(
        (), dtype=torch.bool, device=context.device
    )  # read once a window: no step waits for it
    for step in range(known, steps):
        logits = _guided_logits(model, inputs, prompt, mask, past, settings.guidance)
        finite &= logits.isfinite().all()
        codes = _draw_codes(logits, rngs, settings)
        for book in range(codebooks):  # at the ends of a window, the delay pattern leaves some codebooks out
            if known <= step - book < length:
                delayed[:, book, step] = codes[:, book]
        inputs = delayed[..., step : step + 1]
        complete = step - codebooks + 1  # the frame that all codebooks have now
        if complete >= known:
            yield torch.stack([delayed[:, book, complete + book] for book in range(codebooks)], dim=1)
    if not finite:
        raise KwelaError(
            "the model's output is not finite: a diverged or damaged model, or settings out of all range"
        )


def _guided_logits(
    model: Any, inputs: Tensor, prompt: Tensor, mask: Tensor, past: Any, guidance: float
) -> Tensor:
    """Return the logits (B, K, size) of the next codes. prompt has B rows, or 2B with guidance."""
    rows = len(prompt) // len(inputs)
    logits = model(inputs.repeat(rows, 1, 1), prompt, mask, past)[:, :, -1].float()
    if rows == 1:
        return logits
    prompted, null = logits.chunk(2)
    return null + guidance * (prompted - null)


def _draw_codes(logits: Tensor, rngs: Sequence[np.random.Generator], settings: SamplingSettings) -> Tensor:
    """Draw codes (B, K) from logits (B, K, size), by inverting the distribution of the `top_k` likeliest."""
    top_k = min(settings.top_k, logits.shape[-1])
    values, codes = torch.topk(logits / settings.temperature, top_k, dim=-1)
    cumulative = torch.cumsum(torch.softmax(values, -1), -1)
    uniform = torch.from_numpy(np.stack([rng.random(logits.shape[1]) for rng in rngs])).to(cumulative)
    point = uniform[..., None] * cumulative[..., -1:]
    index = (cumulative <= point).sum(-1, keepdim=True).clamp(max=codes.shape[-1] - 1)
    return codes.gather(-1, index)[..., 0]


def _conditions(states: Sequence[np.ndarray], device: torch.device, with_null: bool) -> tuple[Tensor, Tensor]:
    """Return padded states (B, S, width) and their mask; `with_null` appends B rows without a prompt."""
    length = max(len(state) for state in states)
    prompt = torch.zeros(len(states), length, states[0].shape[1])
    mask = torch.zeros(len(states), length, dtype=torch.int64)
    for row, state in enumerate(states):
        prompt[row, : len(state)] = torch.from_numpy(state.astype(np.float32))
        mask[row, : len(state)] = 1
    if with_null:
        prompt, mask = torch.cat([prompt, prompt * 0]), torch.cat([mask, mask * 0])
    return prompt.to(device), mask.to(device)
