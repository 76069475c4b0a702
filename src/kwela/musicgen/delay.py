"""MusicGen's delay pattern: codebook k lags k frames behind, so that one step predicts all codebooks in turn.

    frame of each codebook, by step      pad 0 1 2 3 .        codebook 0
                                         pad . 0 1 2 3        codebook 1 (. = pad)

Copet et al. 2023, "Simple and Controllable Music Generation", section 2.2. transformers applies it when it generates,
but not when it trains.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = -100  # a target that counts for nothing


def delay(codes: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """What the model reads and what it must predict: codes (B, K, T) int64 -> two of (B, K, T + K - 1).

    codes: `pad` past the end of a shorter item. The inputs begin with a step of `pad`; the targets are IGNORED where
    the pattern or the item has no code.
    """
    batch, books, frames = codes.shape
    steps = frames + books - 1
    laid = codes.new_full((batch, books, steps), pad)
    for book in range(books):
        laid[:, book, book : book + frames] = codes[:, book]
    inputs = torch.cat([laid.new_full((batch, books, 1), pad), laid[..., :-1]], dim=-1)
    return inputs, laid.masked_fill(laid == pad, IGNORED)
