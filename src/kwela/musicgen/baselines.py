"""What a model of codes must beat: per codebook, the best constant prediction and a bigram.

Both are counted on the training clips and judged on held-out ones, in nats a code. They see no prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def baselines(train: Iterable[np.ndarray], held_out: Sequence[np.ndarray], size: int) -> dict[str, float]:
    """{"constant_ce", "bigram_ce"} and, for codebook k from 1, "constant_ce_k" and "bigram_ce_k".

    train, held_out: codes (K, T) of each clip, ids under `size`. The bigram backs off to the constant by
    Witten and Bell's weights (Chen & Goodman 1999, section 2.5), and the constant to the uniform. The first code of a
    clip is predicted by the constant in both.
    """
    books = held_out[0].shape[0]
    ones, pairs = np.zeros((books, size)), np.zeros((books, size * size), np.int64)
    for clip in train:
        ids = clip.astype(np.int64)
        for book in range(books):
            ones[book] += np.bincount(ids[book], minlength=size)
            np.add.at(pairs[book], ids[book, :-1] * size + ids[book, 1:], 1)
    constant, bigram = np.zeros(books), np.zeros(books)
    count = 0
    for clip in held_out:
        count += clip.shape[1]
    for book in range(books):
        kinds = np.count_nonzero(ones[book])
        single = (ones[book] + kinds / size) / (ones[book].sum() + kinds)
        table = pairs[book].reshape(size, size)
        seen, followers = table.sum(1), np.count_nonzero(table, axis=1)
        for clip in held_out:
            ids = clip[book].astype(np.int64)
            before, after = ids[:-1], ids[1:]
            total = seen[before] + followers[before]
            backed = (table[before, after] + followers[before] * single[after]) / np.maximum(total, 1)
            constant[book] -= np.log(single[ids]).sum()
            bigram[book] -= np.log(single[ids[0]]) + np.log(np.where(total > 0, backed, single[after])).sum()
    figures = {
        "constant_ce": float(constant.sum() / books / count),
        "bigram_ce": float(bigram.sum() / books / count),
    }
    for name, nats in (("constant_ce", constant), ("bigram_ce", bigram)):
        figures |= {f"{name}_{book + 1}": float(nats[book] / count) for book in range(books)}
    return figures
