"""Memorisation: the longest run of notes that a piece shares with training music, key and tempo aside.

A piece is read as steps from note to note: (interval in semitones, gap between onsets in twelfths of a quarter), all
notes by onset and pitch; besides, each track alone, and the highest and the lowest voice alone, so that an
accompaniment doesn't hide a melody. A run of n steps is n + 1 notes. Transposing a piece or
changing its tempo, velocities, note lengths or instruments changes no step, so such copies are found.

Runs are found by hashing: prefix sums of a polynomial modulo 2^64 give the hash of any run at once, a sorted table of
the training music's runs of one length answers whether a run is among them, and bisection over the length finds the
longest. Each answer is checked step by step against the training notes, so a collision can't pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi.piece import Piece, piece

GRID = 12  # places in a quarter that an onset may take
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64


class Match(NamedTuple):
    notes: int  # of the longest shared run; 1 where no step is shared
    share: float  # of the notes of the line in which it was found
    source: int  # index of a training piece that has it; -1 where no step is shared


def lines(score: ScoreTick) -> list[np.ndarray]:
    """The piece's lines as int64 (steps,): all notes; then each track where there are several, and the outer voices."""
    found = piece(score)
    place = np.round(found.onset_q * GRID).astype(np.int64)
    every = np.arange(len(place))
    tracks = np.unique(found.track)
    voices = [np.flatnonzero(found.track == track) for track in tracks] if len(tracks) > 1 else []
    voices += [one for one in (outer_voice(found, 1), outer_voice(found, -1)) if len(one) < len(place)]
    out = []
    for mine in (every, *voices):
        onset, pitch = place[mine], found.pitch[mine]
        order = np.lexsort((pitch, onset))
        gap = np.minimum(np.diff(onset[order]), (1 << 20) - 1)
        out.append((np.diff(pitch[order]) + 128) << 20 | gap)
    return out


def outer_voice(of: Piece, side: int) -> np.ndarray:
    """Indexes of the notes that are the highest (side 1) or lowest (-1) sounding when they begin: the skyline.

    Uitdenbogerd and Zobel 1998. A melody is found so under, or over, an accompaniment in its own track. A note that
    ends within a sixth of a quarter counts as over: players bind notes.
    """
    height = side * of.pitch
    sounding: list[tuple[float, int]] = []  # (end, height)
    kept: list[int] = []
    for k in np.lexsort((-height, of.onset_q)).tolist():
        sounding = [one for one in sounding if one[0] > of.onset_q[k] + 1 / 6]
        begun = bool(kept) and of.onset_q[kept[-1]] == of.onset_q[k]
        if not begun and all(other <= height[k] for _, other in sounding):
            kept.append(k)
        sounding.append((float(of.end_q[k]), int(height[k])))
    return np.array(kept, int)


class Library:
    """Training music, ready to be searched."""

    def __init__(self, scores: Sequence[ScoreTick]) -> None:
        parts, owner = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, score in enumerate(scores):
            for line in lines(score):
                parts += [line, np.array([-1 - len(parts)])]  # no run crosses a mark: each mark is met once
                owner.append(np.full(len(line) + 1, number))
        self.steps, self.owner = np.concatenate(parts), np.concatenate(owner)
        self.prefix = _prefix(self.steps)

    def longest(self, scores: Sequence[ScoreTick]) -> list[Match]:
        """The longest shared run of each piece."""
        queries = [(number, line) for number, score in enumerate(scores) for line in lines(score)]
        low = np.zeros(len(queries), int)  # a length that is shared
        high = np.array([min(len(line), len(self.steps)) for _, line in queries], int)
        where = np.full(len(queries), -1)
        prefixes = [_prefix(line) for _, line in queries]
        while (low < high).any():
            # Low lengths first, so that a table is built for few lengths: most runs are short.
            middle = np.where(low < high, np.minimum((low + high + 1) // 2, 2 * low + 4), 0)
            for length in np.unique(middle[middle > 0]).tolist():
                keys = _runs(self.prefix, length)
                place = np.argsort(keys, kind="stable")
                keys = keys[place]
                for at in np.flatnonzero(middle == length):
                    found = self._find(queries[at][1], prefixes[at], length, keys, place)
                    if found < 0:
                        high[at] = length - 1
                    else:
                        low[at], where[at] = length, found
        out = [Match(1, 0.0, -1)] * len(scores)
        for (number, line), length, place in zip(queries, low, where, strict=True):
            if length > 0 and length + 1 > out[number].notes:
                out[number] = Match(
                    int(length) + 1, float((length + 1) / (len(line) + 1)), int(self.owner[place])
                )
        return out

    def _find(
        self, line: np.ndarray, prefix: np.ndarray, length: int, keys: np.ndarray, place: np.ndarray
    ) -> int:
        """Where in `steps` a run of `line` of this length stands, -1 if nowhere."""
        wanted = _runs(prefix, length)
        if not len(keys) or not len(wanted):
            return -1
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        for start in np.flatnonzero(keys[at] == wanted):
            there = int(place[at[start]])
            if np.array_equal(self.steps[there : there + length], line[start : start + length]):
                return there
        return -1


def _prefix(steps: np.ndarray) -> np.ndarray:
    """(steps + 1,) sum of code[i] base^i over each beginning, modulo 2^64; a step's code is its bits well mixed."""
    code = steps.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    code ^= code >> np.uint64(32)
    code *= np.uint64(0xD6E8FEB86659FD93)
    code ^= code >> np.uint64(29)
    return np.concatenate(([np.uint64(0)], np.cumsum(code * _powers(len(steps)), dtype=np.uint64)))


def _runs(prefix: np.ndarray, length: int) -> np.ndarray:
    """The hash of every run of `length` steps: the sum over it, divided by base^(its start)."""
    size = len(prefix) - length
    if size <= 0:
        return np.zeros(0, np.uint64)
    return (prefix[length:] - prefix[:size]) * _powers(size, pow(int(_BASE), -1, 1 << 64))


def _powers(size: int, base: int = int(_BASE)) -> np.ndarray:
    factors = np.full(size, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
