"""MusicGen's delay pattern: codebook k lags k frames behind, so that one step predicts all codebooks in turn.

    frame of each codebook, by step      pad 0 1 2 3 .        codebook 0
                                         pad . 0 1 2 3        codebook 1 (. = pad)

Copet et al. 2023, "Simple and Controllable Music Generation", section 2.2. The transformers library applies
the pattern when it generates, but not when it trains.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = -100  # a target that adds nothing to the loss


def delay(codes: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Return the model's inputs and targets, (B, K, T + K - 1) int64 each, for codes (B, K, T) int64.

    codes: `pad` past the end of a shorter item. The inputs begin with a step of `pad`. The targets are
    IGNORED where the pattern or the item has no code.
    """
    batch, codebooks, frames = codes.shape
    steps = frames + codebooks - 1
    delayed = codes.new_full((batch, codebooks, steps), pad)
    for book in range(codebooks):
        delayed[:, book, book : book + frames] = codes[:, book]
    inputs = torch.cat([delayed.new_full((batch, codebooks, 1), pad), delayed[..., :-1]], dim=-1)
    return inputs, delayed.masked_fill(delayed == pad, IGNORED)
