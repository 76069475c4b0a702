"""Compute the n-gram baselines that a model must beat, in nats per id.

Orders are 1, 2 and 4, with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998). The conventions
are those of the model: every id of a song except BOS is predicted from the ids before it in the song. BOS is
repeated where there are too few, and PAD never occurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kwela.midi_generator import augment
from kwela.music import tokens

ORDERS = {"unigram_ce": 1, "bigram_ce": 2, "fourgram_ce": 4}
COPIED_IDS = 4_000_000  # transposed copies of the training songs are made up to about this many ids


class Level(NamedTuple):
    """A table of one order. A code of an n-gram has the ids as digits of base VOCAB, the last id lowest."""

    grams: np.ndarray  # int64, ascending
    kept: np.ndarray  # count less discount, of each gram
    histories: np.ndarray  # int64, ascending
    total: np.ndarray  # count of each history
    freed: np.ndarray  # discounts taken from it, which the next lower order shares out


def fit(songs: Sequence[np.ndarray], order: int) -> list[Level]:
    """Count orders 1 to `order`; below the top one, a gram counts the distinct ids seen before it."""
    grams, counts = np.unique(np.concatenate([codes(ids, order) for ids in songs]), return_counts=True)
    levels = [_level(grams, counts)]
    for length in range(order - 1, 0, -1):
        grams, counts = np.unique(grams % tokens.VOCAB**length, return_counts=True)
        levels.insert(0, _level(grams, counts))
    return levels


def surprise(levels: Sequence[Level], ids: np.ndarray) -> np.ndarray:
    """Return -log p of each id except the first (BOS), float64 (N - 1,), in nats."""
    p = np.full(len(ids) - 1, 1 / tokens.VOCAB)
    for order, level in enumerate(levels, 1):
        gram = codes(ids, order)
        total = _find(level.histories, level.total, gram // tokens.VOCAB)
        freed = _find(level.histories, level.freed, gram // tokens.VOCAB)
        mixed = (_find(level.grams, level.kept, gram) + freed * p) / np.maximum(total, 1)
        p = np.where(total > 0, mixed, p)  # an unseen history changes nothing
    return -np.log(p)


def baselines(
    train: Sequence[np.ndarray], held_out: Sequence[np.ndarray], transpose: int
) -> dict[str, list[np.ndarray]]:
    """Return the `surprise` of each held-out song under each of ORDERS.

    Each order is fitted twice: on the training songs, and on these with copies up to `transpose` semitones up
    and down, as the model's augmentation makes them. The one that is better on the held-out songs counts, so
    that the baseline is as strong as it can be.
    """
    sets = [list(train), copies(train, transpose)] if transpose else [list(train)]
    out = {}
    for name, order in ORDERS.items():
        tries = [
            [surprise(levels, ids) for ids in held_out] for levels in (fit(songs, order) for songs in sets)
        ]
        out[name] = min(tries, key=lambda songs: float(np.concatenate(songs).mean()))
    return out


def copies(songs: Sequence[np.ndarray], transpose: int) -> list[np.ndarray]:
    """Return the songs and their transpositions, nearest first, up to COPIED_IDS ids."""
    out, room = list(songs), COPIED_IDS - sum(map(len, songs))
    for semitones in sorted(range(-transpose, transpose + 1), key=abs)[1:]:
        for ids in songs:
            pitches = ids[augment.pitched(ids)] + semitones
            if room > 0 and pitches.min(initial=0) >= 0 and pitches.max(initial=0) <= 127:
                out.append(augment.apply(ids, augment.Shift(semitones, 0, 0)))
                room -= len(ids)
    return out


def codes(ids: np.ndarray, order: int) -> np.ndarray:
    """Return the code of the `order`-gram that ends in each id except the first, int64 (N - 1,)."""
    padded = np.concatenate((np.full(max(0, order - 2), tokens.BOS, np.int64), ids))
    size = len(ids) - 1
    ends = [padded[len(padded) - size - back : len(padded) - back] for back in range(order)]
    return sum((digit * tokens.VOCAB**back for back, digit in enumerate(ends)), np.zeros(size, np.int64))


def _level(grams: np.ndarray, counts: np.ndarray) -> Level:
    seen = [float((counts == times).sum()) for times in (1, 2, 3, 4)]  # grams seen once, twice, ...
    share = seen[0] / max(1.0, seen[0] + 2 * seen[1])
    # Discounts of grams seen once, twice, and more often (Chen & Goodman 1998, eq. 26). They stay away from 0
    # and from the count, because transposed copies may leave no gram that was seen so few times.
    d = [np.clip(k - (k + 1) * share * seen[k] / max(1.0, seen[k - 1]), 0.05, k - 0.05) for k in (1, 2, 3)]
    discount = np.array([0.0, *d])[np.minimum(counts, 3)]
    histories, which = np.unique(grams // tokens.VOCAB, return_inverse=True)
    return Level(
        grams, counts - discount, histories, np.bincount(which, counts), np.bincount(which, discount)
    )


def _find(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return values[i] where keys[i] == wanted, 0 where there is none."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
