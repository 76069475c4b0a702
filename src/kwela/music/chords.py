"""Read the chord of each beat off the notes.

- A chord is a root (0 to 11, C to B) and a quality (an index into `QUALITIES`). Root 0 to 11 and quality 0 to
  15 here; in a manifest's `context` both count from 1, and 0 is absent.
- Each of the 192 chords is scored by one linear layer on the pitch classes around the beat, counted from the
  chord's root: one table serves all twelve roots, so a transposed song has transposed chords.
- The layer sees the beat, its neighbours, its half bar and its bar, and that smooths. A Viterbi search over
  the beats, with costs of change by metric position, was tried on the songs used for tuning: it gained .001
  at most, and took as long as everything else together. So there is none.
- Sevenths are favoured over triads (`FOR_SEVENTHS` of the fit), because the labels leave out many that sound.
- The coefficients stand in harmony.json; `benchmarks/fit_context.py` makes them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kwela.music.beat_grid import Beats

QUALITIES = (
    "maj",
    "min",
    "dim",
    "aug",
    "7",
    "maj7",
    "min7",
    "minmaj7",
    "hdim7",
    "dim7",
    "aug7",
    "sus2",
    "sus4",
    "maj6",
    "min6",
    "power",
)
# The semitones over the root of each quality, in the same order.
TONES = (
    (0, 4, 7),
    (0, 3, 7),
    (0, 3, 6),
    (0, 4, 8),
    (0, 4, 7, 10),
    (0, 4, 7, 11),
    (0, 3, 7, 10),
    (0, 3, 7, 11),
    (0, 3, 6, 10),
    (0, 3, 6, 9),
    (0, 4, 8, 10),
    (0, 2, 7),
    (0, 5, 7),
    (0, 4, 7, 9),
    (0, 3, 7, 9),
    (0, 7),
)
CHORDS = 12 * len(QUALITIES)  # chord = 16 root + quality
AUDIBLE = 0.1  # of a beat: a shorter note is not its bass
SILENT = 0.02  # of a beat: less sound than this is none
LOW_SPAN = 24  # semitones over the bar's lowest note that count as its accompaniment
BLOCKS = 11  # of 12 pitch classes each, see `features`
CERTAIN = 50.0  # nats
_LOUDEST = 1.0  # a pitch counts once in a beat, however many notes play it


class Tables(NamedTuple):
    """The fitted coefficients; see benchmarks/fit_context.py."""

    chord: np.ndarray  # (BLOCKS * 12, 192), for all twelve roots
    chord_bias: np.ndarray  # (192,)
    key: np.ndarray  # (key features * 12, 24)
    key_bias: np.ndarray  # (24,)
    usual: np.ndarray  # (25, 192) see `usual`; zeros in the last row


@lru_cache(maxsize=1)
def tables() -> Tables:
    """Return the coefficients of harmony.json, spread over the twelve roots and tonics."""
    stored = json.loads((Path(__file__).parent / "harmony.json").read_text(encoding="utf-8"))
    return Tables(
        spread(np.array(stored["chord"], np.float32)),
        np.tile(np.array(stored["chord_bias"], np.float32), 12),
        _by_mode(spread(np.array(stored["key"], np.float32)), 2),
        np.repeat(np.array(stored["key_bias"], np.float32), 12),
        _usual(np.array(stored["usual"], np.float32)),
    )


def spread(weights: np.ndarray) -> np.ndarray:
    """Turn weights (blocks, 12, classes), counted from the root, into (blocks * 12, 12 * classes) for all."""
    blocks, _, classes = weights.shape
    by_root = np.stack([np.roll(weights, root, axis=1) for root in range(12)], axis=2)
    return by_root.reshape(blocks * 12, 12 * classes)


def _by_mode(columns: np.ndarray, modes: int) -> np.ndarray:
    """Reorder columns from (tonic, mode) to (mode, tonic): 24 keys, major first."""
    return columns.reshape(len(columns), 12, modes).transpose(0, 2, 1).reshape(len(columns), -1)


def _usual(by_mode: np.ndarray) -> np.ndarray:
    """Turn what is usual by mode, degree and quality (2, 12, 16) into (25, 192): 24 keys and none."""
    keys = np.stack([np.roll(mode, tonic, axis=0) for mode in by_mode for tonic in range(12)])
    return np.concatenate([keys.reshape(24, CHORDS), np.zeros((1, CHORDS), np.float32)])


def pitch_classes(by_pitch: np.ndarray) -> np.ndarray:
    """Add up octaves: (rows, 128) to (rows, 12)."""
    return np.pad(by_pitch, ((0, 0), (0, 4))).reshape(len(by_pitch), 11, 12).sum(1)


def share(classes: np.ndarray) -> np.ndarray:
    """Return the shares of pitch classes (rows, 12); almost silent rows stay near 0."""
    return classes / (classes.sum(1, keepdims=True) + 0.25)


def features(sounding: np.ndarray, grid: Beats) -> np.ndarray:
    """Describe each beat and what surrounds it by pitch classes, float32 (beats, BLOCKS * 12).

    sounding: (beats, 128), see `beat_grid.sounding`. Blocks: pitch classes and bass of the beat, of its half
    bar, the classes before and after, the bass before and after, classes and bass of the bar, and the classes
    within LOW_SPAN of the bar's lowest note. Pitch classes are square roots of shares, because a note twice
    as long is not twice the evidence; basses are shares of beats.
    """
    if not len(sounding):
        return np.zeros((0, BLOCKS * 12), np.float32)
    level = np.minimum(sounding, _LOUDEST)
    classes = pitch_classes(level)
    on = level > AUDIBLE
    heard = on.any(1)
    lowest = on.argmax(1)
    bass = np.zeros_like(classes)
    rows = np.flatnonzero(heard)
    bass[rows, lowest[rows] % 12] = 1
    bars = np.flatnonzero(grid.place == 0)
    halves = np.flatnonzero(grid.strength < 2)
    floor = np.minimum.reduceat(np.where(heard, lowest, 127), bars)
    ceiling = np.repeat(floor, _sizes(bars, len(classes))) + LOW_SPAN
    low = pitch_classes(level * (np.arange(level.shape[1]) <= ceiling[:, None]))
    blocks = (
        np.sqrt(share(classes)),
        bass,
        np.sqrt(share(_means(classes, halves))),
        share(_means(bass, halves)),
        np.sqrt(share(_shift(classes, 1))),
        np.sqrt(share(_shift(classes, -1))),
        _shift(bass, 1),
        _shift(bass, -1),
        np.sqrt(share(_means(classes, bars))),
        share(_means(bass, bars)),
        np.sqrt(share(low)),
    )
    return np.concatenate(blocks, 1)


def _sizes(starts: np.ndarray, rows: int) -> np.ndarray:
    return np.diff(np.append(starts, rows))


def _means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return for each row the mean of the group of rows it is in; groups begin at `starts`."""
    sizes = _sizes(starts, len(values))
    means = np.add.reduceat(values, starts, axis=0) / sizes[:, None].astype(np.float32)
    return np.repeat(means, sizes, axis=0)


def _shift(values: np.ndarray, by: int) -> np.ndarray:
    """Return the row before (1) or after (-1) each row, zeros at the end."""
    out = np.zeros_like(values)
    if by > 0:
        out[by:] = values[:-by]
    else:
        out[:by] = values[-by:]
    return out


def softmax(score: np.ndarray) -> np.ndarray:
    """Return probabilities of scores (rows, classes)."""
    probability = np.exp(score - score.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    return probability


def scores(sounding: np.ndarray, grid: Beats) -> np.ndarray:
    """Return how well each chord fits each beat, before the key is known, in nats: float32 (beats, 192)."""
    table = tables()
    score = features(sounding, grid) @ table.chord + table.chord_bias
    beat, root = _bare_fifths(sounding, grid)
    score[beat, root * len(QUALITIES) + QUALITIES.index("power")] += CERTAIN
    return score


def _bare_fifths(sounding: np.ndarray, grid: Beats) -> tuple[np.ndarray, np.ndarray]:
    """Return the beats of bars in which a root and its fifth are all that sounds, and these roots.

    The labels of pop songs name such bars by a third that their key implies, so it can't be fitted.
    """
    bars = np.flatnonzero(grid.place == 0)
    heard = np.add.reduceat(pitch_classes(sounding), bars, axis=0) > SILENT
    fifth = heard & np.roll(heard, -7, axis=1) & (heard.sum(1) == 2)[:, None]
    beat, root = np.nonzero(np.repeat(fifth, _sizes(bars, len(sounding)), axis=0))
    return beat, root


def choose(score: np.ndarray, grid: Beats) -> np.ndarray:
    """Return the best chord of each beat, int64 (beats,), by scores (beats, 192).

    Beats in a row of one bar whose best chords share a root have one quality: that of the best sum.
    """
    root = score.argmax(1) // len(QUALITIES)
    if not len(root):
        return root
    runs = np.flatnonzero((np.diff(root, prepend=-1) != 0) | (grid.place == 0))
    own = score.reshape(len(root), 12, -1)[np.arange(len(root)), root]
    quality = np.add.reduceat(own, runs, axis=0).argmax(1)
    return len(QUALITIES) * root + np.repeat(quality, _sizes(runs, len(root)))


def usual(key: np.ndarray) -> np.ndarray:
    """Return what the key adds to the scores of its chords, in nats: (beats, 192).

    key: (beats,) 0 to 23, -1 for none. It is a fifth of the log odds of a chord in its key against any key.
    """
    return tables().usual[key]


def silent(sounding: np.ndarray) -> np.ndarray:
    """Return bool (beats,): whether nothing tonal sounds."""
    return sounding.sum(1) < SILENT
