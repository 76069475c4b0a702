"""Find the longest run of notes that a piece shares with training music, whatever its key and tempo.

- A line is read as steps from note to note: (interval in semitones, gap between onsets in twelfths of a
  quarter). A run of n steps is n + 1 notes.
- A piece has several lines: all notes by onset and pitch; each track alone; and the highest and the lowest
  voice alone, so that an accompaniment doesn't hide a melody.
- A change of key, tempo, velocities, note lengths or instruments changes no step, so such copies are found.

Runs are found by hashing. Prefix sums of a polynomial modulo 2^64 give the hash of any run at once, a sorted
table of the training music's runs of one length tells whether a run is among them, and bisection over the
length finds the longest. Each answer is checked step by step against the training notes, so that equal hashes
of different runs don't count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi.note_table import NoteTable, note_table

PLACES_PER_QUARTER = 12  # onsets are rounded to these
_GAP_BITS = 20  # of a step; the interval stands above them
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64


class SharedRun(NamedTuple):
    """The longest run that a piece shares with training music."""

    notes: int  # 1 where no step is shared
    share: float  # of the notes of the line in which it was found, in [0, 1]
    source: int  # index of a training piece that has the run; -1 where no step is shared


def step_lines(score: ScoreTick) -> list[np.ndarray]:
    """Return a piece's lines as steps, int64 (steps,) each.

    The first line is all notes; then come each track, where there are several, and the outer voices.
    """
    notes = note_table(score)
    place = np.round(notes.onset_q * PLACES_PER_QUARTER).astype(np.int64)
    all_notes = np.arange(len(place))
    tracks = np.unique(notes.track)
    parts = [np.flatnonzero(notes.track == track) for track in tracks] if len(tracks) > 1 else []
    parts += [voice for voice in (outer_voice(notes, 1), outer_voice(notes, -1)) if len(voice) < len(place)]
    lines = []
    for part in (all_notes, *parts):
        onset, pitch = place[part], notes.pitch[part]
        order = np.lexsort((pitch, onset))
        gap = np.minimum(np.diff(onset[order]), (1 << _GAP_BITS) - 1)
        lines.append((np.diff(pitch[order]) + 128) << _GAP_BITS | gap)
    return lines


def outer_voice(notes: NoteTable, side: int) -> np.ndarray:
    """Return the indexes of the notes that are the highest (side 1) or lowest (-1) sounding when they begin.

    This is the skyline of Uitdenbogerd and Zobel 1998. It finds a melody under, or over, an accompaniment in
    the same track. A note that ends within a sixth of a quarter counts as over, because players bind notes.
    """
    height = side * notes.pitch
    sounding: list[tuple[float, int]] = []  # (end, height)
    voice: list[int] = []
    for index in np.lexsort((-height, notes.onset_q)).tolist():
        onset = notes.onset_q[index]
        sounding = [(end, other) for end, other in sounding if end > onset + 1 / 6]
        onset_taken = bool(voice) and notes.onset_q[voice[-1]] == onset
        if not onset_taken and all(other <= height[index] for _, other in sounding):
            voice.append(index)
        sounding.append((float(notes.end_q[index]), int(height[index])))
    return np.array(voice, int)


class TrainingIndex:
    """The steps of all training music in one array, ready to be searched."""

    def __init__(self, scores: Sequence[ScoreTick]) -> None:
        parts, piece_of_part = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, score in enumerate(scores):
            for line in step_lines(score):
                # A negative mark, met once, ends each line, so that no run crosses from line to line.
                parts += [line, np.array([-1 - len(parts)])]
                piece_of_part.append(np.full(len(line) + 1, number))
        self.steps, self.piece = np.concatenate(parts), np.concatenate(piece_of_part)
        self.prefix = _prefix_hashes(self.steps)

    def longest_shared_runs(self, scores: Sequence[ScoreTick]) -> list[SharedRun]:
        """Return the longest shared run of each piece."""
        queries = [(number, line) for number, score in enumerate(scores) for line in step_lines(score)]
        prefixes = [_prefix_hashes(line) for _, line in queries]
        low = np.zeros(len(queries), int)  # a length that is known to be shared
        high = np.array([min(len(line), len(self.steps)) for _, line in queries], int)
        places = np.full(len(queries), -1)  # where the run of length `low` stands in `steps`
        while (low < high).any():
            # Short lengths are tried first: most runs are short, so a table is needed for few lengths.
            tried = np.where(low < high, np.minimum((low + high + 1) // 2, 2 * low + 4), 0)
            for length in np.unique(tried[tried > 0]).tolist():
                hashes = _run_hashes(self.prefix, length)
                order = np.argsort(hashes, kind="stable")
                hashes = hashes[order]
                for query in np.flatnonzero(tried == length):
                    place = self._find_run(queries[query][1], prefixes[query], length, hashes, order)
                    if place < 0:
                        high[query] = length - 1
                    else:
                        low[query], places[query] = length, place
        longest = [SharedRun(1, 0.0, -1)] * len(scores)
        for (number, line), length, place in zip(queries, low, places, strict=True):
            if length > 0 and length + 1 > longest[number].notes:
                share = float((length + 1) / (len(line) + 1))
                longest[number] = SharedRun(int(length) + 1, share, int(self.piece[place]))
        return longest

    def _find_run(
        self, line: np.ndarray, prefix: np.ndarray, length: int, hashes: np.ndarray, order: np.ndarray
    ) -> int:
        """Return where in `steps` a run of `line` of this length stands; -1 if nowhere.

        hashes, order: of the runs of this length in `steps`, sorted, and the place of each.
        """
        of_line = _run_hashes(prefix, length)
        if not len(hashes) or not len(of_line):
            return -1
        nearest = np.minimum(np.searchsorted(hashes, of_line), len(hashes) - 1)
        for start in np.flatnonzero(hashes[nearest] == of_line):
            place = int(order[nearest[start]])
            if np.array_equal(self.steps[place : place + length], line[start : start + length]):
                return place
        return -1


def _prefix_hashes(steps: np.ndarray) -> np.ndarray:
    """Return the sum of code[i] base^i over each beginning, modulo 2^64, (steps + 1,).

    A code is a step's mixed bits.
    """
    code = steps.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    code ^= code >> np.uint64(32)
    code *= np.uint64(0xD6E8FEB86659FD93)
    code ^= code >> np.uint64(29)
    return np.concatenate(([np.uint64(0)], np.cumsum(code * _powers(len(steps)), dtype=np.uint64)))


def _run_hashes(prefix: np.ndarray, length: int) -> np.ndarray:
    """Return the hash of every run of `length` steps: the sum over the run, divided by base^(its start)."""
    count = len(prefix) - length
    if count <= 0:
        return np.zeros(0, np.uint64)
    return (prefix[length:] - prefix[:count]) * _powers(count, pow(int(_BASE), -1, 1 << 64))


def _powers(count: int, base: int = int(_BASE)) -> np.ndarray:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
