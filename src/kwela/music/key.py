"""Read the key of each bar off the notes and the chords: 0 to 11 C to B major, 12 to 23 C to B minor.

- A stretch of bars is described by its chords (by degree), its pitch classes, and the first and last chord;
  one linear layer, the same for all twelve tonics, names its key.
- Where the song modulates is found first, over the twelve key signatures: a Viterbi search over the bars, in
  which each change costs `MODULATION`. Relative keys share a signature, and only whole stretches tell them
  apart.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kwela.music import chords
from kwela.music.beat_grid import Beats

# Groups of qualities that act alike in a key: major, minor, diminished and half-diminished, dominant, other.
GROUPS = np.array([0, 1, 2, 2, 3, 0, 1, 1, 2, 2, 3, 4, 4, 0, 1, 4])
GROUP_COUNT = 5
BAR_BLOCKS = GROUP_COUNT + 1  # and the pitch classes
STRETCH_BLOCKS = BAR_BLOCKS + 1 + 4  # and their square roots, first and last major and minor chords
MODULATION = 8.0  # cost of a change of signature, in nats of bars' evidence
BAR_WEIGHT = 0.5  # nats of a bar's evidence beside those of a whole stretch
AROUND = 2  # bars to each side that a bar's evidence is averaged over
SHORTEST = 4  # bars of a stretch
RELATIVE_MINOR = (np.arange(12) + 9) % 12 + 12  # of each major key


def bar_evidence(probability: np.ndarray, sounding: np.ndarray, grid: Beats) -> np.ndarray:
    """Return the mean of chord groups by root and of pitch classes in each bar: (bars, BAR_BLOCKS, 12).

    probability: (beats, 192), of each chord in each beat. Silent beats count as nothing.
    """
    by_root = probability.reshape(len(grid.bar), 12, len(chords.QUALITIES))
    groups = by_root @ np.eye(GROUP_COUNT, dtype=np.float32)[GROUPS]
    groups[chords.silent(sounding)] = 0
    classes = chords.share(chords.pitch_classes(np.minimum(sounding, 1)))
    both = np.concatenate([groups.transpose(0, 2, 1), classes[:, None]], 1)
    starts = np.flatnonzero(grid.place == 0)
    sizes = np.diff(np.append(starts, len(grid.bar)))
    return np.add.reduceat(both, starts, axis=0) / sizes[:, None, None].astype(np.float32)


def describe(evidence: np.ndarray, opens: np.ndarray, closes: np.ndarray) -> np.ndarray:
    """Turn mean evidence (n, BAR_BLOCKS, 12) into features (n, STRETCH_BLOCKS * 12).

    opens, closes: (n, 2, 12), the major and minor chords of the first and the last bar; zeros if unknown.
    """
    loud = np.sqrt(evidence[:, -1:])
    return np.concatenate([evidence, loud, opens, closes], 1).reshape(len(evidence), -1)


def stretch_features(evidence: np.ndarray, first: int, end: int) -> np.ndarray:
    """Describe bars [first, end) as one stretch: (STRETCH_BLOCKS * 12,)."""
    part = evidence[first:end]
    heard = np.flatnonzero(part[:, -1].sum(1) > 0.1)
    edges = part[heard[[0, -1]], :2] if len(heard) else np.zeros((2, 2, 12), part.dtype)
    return describe(part.mean(0)[None], edges[:1], edges[1:])[0]


def keys(evidence: np.ndarray) -> np.ndarray:
    """Return the key of each bar, int64 (bars,), 0 to 23; -1 throughout a song without tonal notes."""
    bars = len(evidence)
    if not (evidence[:, -1] > 0).any():
        return np.full(bars, -1)
    table = chords.tables()
    cuts = [0, *_modulations(_signatures(evidence)), bars]
    stretches = np.stack([stretch_features(evidence, *span) for span in pairwise(cuts)])
    named = (stretches @ table.key + table.key_bias).argmax(1)
    return np.repeat(named, np.diff(cuts))


def _signatures(evidence: np.ndarray) -> np.ndarray:
    """Return the log probability of each key signature (its major tonic) around each bar: (bars, 12)."""
    bars = len(evidence)
    total = np.concatenate([np.zeros_like(evidence[:1]), evidence.cumsum(0)])
    low, high = np.maximum(np.arange(bars) - AROUND, 0), np.minimum(np.arange(bars) + AROUND + 1, bars)
    mean = (total[high] - total[low]) / (high - low)[:, None, None].astype(np.float32)
    unknown = np.zeros((bars, 2, 12), mean.dtype)
    table = chords.tables()
    score = describe(np.maximum(mean, 0), unknown, unknown) @ table.key + table.key_bias
    score -= score.max(1, keepdims=True)
    probability = np.exp(score)
    probability /= probability.sum(1, keepdims=True)
    both = probability[:, :12] + probability[:, RELATIVE_MINOR]
    silent = evidence[:, -1].sum(1) <= 0
    return np.where(silent[:, None], 0.0, BAR_WEIGHT * np.log(both + 1e-4))


def _modulations(score: np.ndarray) -> list[int]:
    """Return the bars at which the best path through signatures (bars, 12) changes; each costs MODULATION."""
    if len(score) < 2 * SHORTEST or len(set(score.argmax(1).tolist())) == 1:
        return []
    best, back = score[0], np.zeros(score.shape, np.int64)
    stay = np.arange(12)
    for bar in range(1, len(score)):
        leader = int(best.argmax())
        moves = best[leader] - MODULATION > best
        back[bar] = np.where(moves, leader, stay)
        best = np.where(moves, best[leader] - MODULATION, best) + score[bar]
    path = int(best.argmax())
    changes = []
    for bar in range(len(score) - 1, 0, -1):
        if back[bar, path] != path:
            changes.append(bar)
            path = int(back[bar, path])
    return changes[::-1]
