"""Baselines of MusicGen, which need no model: for each codebook, the best constant prediction and a bigram.

Both count codes of the training clips and are measured on held-out clips, in nats a code. They see no prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def measure(train: Iterable[np.ndarray], held_out: Sequence[np.ndarray], size: int) -> dict[str, float]:
    """Return {"constant_ce", "bigram_ce"} and, for codebook k from 1, "constant_ce_k" and "bigram_ce_k".

    train, held_out: codes (K, T) of each clip, integers below `size`. The bigram backs off to the constant by
    Witten and Bell's weights (Chen & Goodman 1999, section 2.5), and the constant backs off to the uniform
    distribution. Both predict the first code of a clip by the constant.
    """
    codebooks = held_out[0].shape[0]
    counts, pair_counts = np.zeros((codebooks, size)), np.zeros((codebooks, size * size), np.int64)
    for clip in train:
        codes = clip.astype(np.int64)
        for book in range(codebooks):
            counts[book] += np.bincount(codes[book], minlength=size)
            np.add.at(pair_counts[book], codes[book, :-1] * size + codes[book, 1:], 1)
    total = sum(clip.shape[1] for clip in held_out)
    nats = np.array(
        [
            _nats(counts[book], pair_counts[book].reshape(size, size), [clip[book] for clip in held_out])
            for book in range(codebooks)
        ]
    )
    figures = {}
    for name, values in zip(("constant_ce", "bigram_ce"), nats.T, strict=True):
        figures[name] = float(values.sum() / codebooks / total)
    for name, values in zip(("constant_ce", "bigram_ce"), nats.T, strict=True):
        figures |= {f"{name}_{book + 1}": float(values[book] / total) for book in range(codebooks)}
    return figures


def _nats(counts: np.ndarray, pair_counts: np.ndarray, held_out: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the summed nats of one codebook's held-out codes, under the constant and under the bigram.

    counts: (size,), how often each code occurs in training. pair_counts: (size, size), how often the second
    code follows the first.
    """
    kinds = np.count_nonzero(counts)
    constant = (counts + kinds / len(counts)) / (counts.sum() + kinds)
    pair_totals, followers = pair_counts.sum(1), np.count_nonzero(pair_counts, axis=1)
    constant_nats = bigram_nats = 0.0
    for clip in held_out:
        codes = clip.astype(np.int64)
        before, after = codes[:-1], codes[1:]
        weight = pair_totals[before] + followers[before]
        backed_off = pair_counts[before, after] + followers[before] * constant[after]
        bigram = np.where(weight > 0, backed_off / np.maximum(weight, 1), constant[after])
        constant_nats -= np.log(constant[codes]).sum()
        bigram_nats -= np.log(constant[codes[0]]) + np.log(bigram).sum()
    return constant_nats, bigram_nats
