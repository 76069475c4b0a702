"""Sampling codes: one delayed step at a time, with guidance, in windows that slide.

- A row's draws come from its own seed: a prompt gives the same codes whatever it is sampled beside (up to rounding).
- Guidance (Ho & Salimans 2022): logits = null + guidance * (prompt - null), two rows of the model for each prompt.
- Beyond the window the model was trained on (30 s), a new window opens with the last frames of the one before as its
  beginning: audiocraft's way, 18 s of each being new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kwela.errors import KwelaError

WINDOW, STRIDE = 30.0, 18.0  # seconds of a window, and of a later one that are new


@dataclass(frozen=True)
class Sampling:
    guidance: float = 3.0  # 1: none
    top_k: int = 250
    temperature: float = 1.0


@torch.inference_mode()
def frames(
    model: Any,
    states: Sequence[np.ndarray],
    count: int,
    seeds: Sequence[int],
    *,
    books: int,
    size: int,
    rate: float,
    how: Sampling,
) -> Iterator[Tensor]:
    """Codes of `count` frames, one frame (B, K) int64 at a time, as soon as its last codebook is known.

    model: MusicLm. states: the text encoder's of each of B prompts, (length, width). rate: frames a second.
    Raises KwelaError, at the end of a window, if the model's logits were not finite.
    """
    device = next(model.parameters()).device
    rngs = [np.random.default_rng(seed) for seed in seeds]
    prompt, mask = _conditions(states, device, how.guidance != 1)
    window, kept = round(WINDOW * rate), round((WINDOW - STRIDE) * rate)
    done: list[Tensor] = []
    while len(done) < count:
        before = (
            torch.stack(done[-kept:], -1)
            if done
            else prompt.new_zeros(len(states), books, 0, dtype=torch.int64)
        )
        length = min(window, before.shape[-1] + count - len(done))
        for frame in _window(model, prompt, mask, before, length, rngs, size, how):
            done.append(frame)
            yield frame


def _window(
    model: Any,
    prompt: Tensor,
    mask: Tensor,
    before: Tensor,
    length: int,
    rngs: Sequence[np.random.Generator],
    size: int,
    how: Sampling,
) -> Iterator[Tensor]:
    """The frames (B, K) of a window after those of `before` (B, K, known), `length` in all."""
    from transformers import DynamicCache, EncoderDecoderCache

    batch, books, known = before.shape
    steps = length + books - 1
    laid = torch.full((batch, books, steps), size, dtype=torch.int64, device=before.device)
    for book in range(books):
        laid[:, book, book : book + known] = before[:, book]
    past = EncoderDecoderCache(DynamicCache(), DynamicCache())
    rows = len(prompt) // batch
    inputs = torch.cat([laid.new_full((batch, books, 1), size), laid[..., :known]], dim=-1)
    finite = torch.ones((), dtype=torch.bool, device=before.device)  # fetched once: a step waits for nothing
    for step in range(known, steps):
        logits = model(inputs.repeat(rows, 1, 1), prompt, mask, past)[:, :, -1].float()
        if rows == 2:
            told, null = logits.chunk(2)
            logits = null + how.guidance * (told - null)
        finite &= logits.isfinite().all()
        drawn = _draw(logits, rngs, how)
        for book in range(books):  # what the pattern leaves open: later books begin, and end, later
            if known <= step - book < length:
                laid[:, book, step] = drawn[:, book]
        inputs = laid[..., step : step + 1]
        whole = step - books + 1
        if whole >= known:
            yield torch.stack([laid[:, book, whole + book] for book in range(books)], dim=1)
    if not finite:
        raise KwelaError(
            "the model's output is not finite: a diverged or damaged model, or settings out of all range"
        )


def _draw(logits: Tensor, rngs: Sequence[np.random.Generator], how: Sampling) -> Tensor:
    """One id (B, K) of logits (B, K, size), among the `top_k` likeliest, by inverting their distribution."""
    values, ids = torch.topk(logits / how.temperature, min(how.top_k, logits.shape[-1]), dim=-1)
    mass = torch.cumsum(torch.softmax(values, -1), -1)
    drawn = torch.from_numpy(np.stack([rng.random(logits.shape[1]) for rng in rngs])).to(mass)
    point = drawn[..., None] * mass[..., -1:]
    return ids.gather(-1, (mass <= point).sum(-1, keepdim=True).clamp(max=ids.shape[-1] - 1))[..., 0]


def _conditions(states: Sequence[np.ndarray], device: torch.device, null: bool) -> tuple[Tensor, Tensor]:
    """Padded states (B or 2B, S, width) and their mask; with `null`, B rows of no prompt follow."""
    length = max(len(state) for state in states)
    prompt = torch.zeros(len(states), length, states[0].shape[1])
    mask = torch.zeros(len(states), length, dtype=torch.int64)
    for row, state in enumerate(states):
        prompt[row, : len(state)] = torch.from_numpy(state.astype(np.float32))
        mask[row, : len(state)] = 1
    if null:
        prompt, mask = torch.cat([prompt, prompt * 0]), torch.cat([mask, mask * 0])
    return prompt.to(device), mask.to(device)
