"""Find the longest run of notes that a piece shares with training music, whatever its key and tempo.

- A line is a sequence of notes. It is read as steps from each note to the next. A step is the interval in
  semitones and the gap between the onsets in twelfths of a quarter. A run is several steps in a row; a run of
  n steps joins n + 1 notes.
- A piece has several lines: all its notes in the order of onset and pitch, each track alone, and the highest
  and the lowest voice alone. Because of the voices, an accompaniment doesn't hide a melody.
- A change of key, tempo, velocities, note lengths or instruments changes no step, so such copies are found.

Runs are found by hashing. Prefix sums of a polynomial modulo 2^64 give the hash of any run at once. A sorted
table of the training music's runs of one length tells whether a run is among them. Bisection over the length
finds the longest run. Each answer is checked step by step against the training notes, so that equal hashes
of different runs don't count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi.note_table import NoteTable, note_table

PLACES_PER_QUARTER = 12  # An onset is rounded to the nearest of these places.
_GAP_BITS = 20  # The lowest bits of a step hold the gap; the bits above them hold the interval.
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)  # It is odd, so it has an inverse modulo 2^64.


class SharedRun(NamedTuple):
    """The longest run that a piece shares with training music."""

    notes: int  # the number of notes in the run; 1 if no step is shared
    share: float  # the run's part of the notes of its line, in [0, 1]
    source: int  # the index of a training piece that has the run; -1 if no step is shared


def step_lines(score: ScoreTick) -> list[np.ndarray]:
    """Return a piece's lines as steps, int64 (steps,) each.

    The first line has all notes. The tracks follow, if there are several, and then the outer voices.
    """
    notes = note_table(score)
    rounded_onsets = np.round(notes.onset_q * PLACES_PER_QUARTER).astype(np.int64)
    all_notes = np.arange(len(rounded_onsets))
    tracks = np.unique(notes.track)
    selections = [np.flatnonzero(notes.track == track) for track in tracks] if len(tracks) > 1 else []
    voices = (outer_voice(notes, 1), outer_voice(notes, -1))
    selections += [voice for voice in voices if len(voice) < len(all_notes)]
    lines = []
    for selection in (all_notes, *selections):
        onset, pitch = rounded_onsets[selection], notes.pitch[selection]
        order = np.lexsort((pitch, onset))
        gap = np.minimum(np.diff(onset[order]), (1 << _GAP_BITS) - 1)
        lines.append((np.diff(pitch[order]) + 128) << _GAP_BITS | gap)
    return lines


def outer_voice(notes: NoteTable, side: int) -> np.ndarray:
    """Return the indexes of the notes that are the highest (side 1) or lowest (-1) sounding when they begin.

    This is the skyline of Uitdenbogerd and Zobel 1998. It finds a melody under, or over, an accompaniment in
    the same track. Players let notes overlap a little, so a note no longer counts as
    sounding if it ends at most a sixth of a quarter after the onset of the next one.
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
        steps, piece_of_step = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, score in enumerate(scores):
            for line in step_lines(score):
                # A negative number that occurs nowhere else ends each line, so that no run crosses its end.
                steps += [line, np.array([-1 - len(steps)])]
                piece_of_step.append(np.full(len(line) + 1, number))
        self.steps, self.piece_of_step = np.concatenate(steps), np.concatenate(piece_of_step)
        self.prefix = _prefix_hashes(self.steps)

    def longest_shared_runs(self, scores: Sequence[ScoreTick]) -> list[SharedRun]:
        """Return the longest shared run of each piece."""
        queries = [(number, line) for number, score in enumerate(scores) for line in step_lines(score)]
        prefixes = [_prefix_hashes(line) for _, line in queries]
        # A run of `low` steps is known to be shared, and no run of more than `high` steps can be.
        low = np.zeros(len(queries), int)
        high = np.array([min(len(line), len(self.steps)) for _, line in queries], int)
        starts = np.full(len(queries), -1)  # where the run of `low` steps begins in `self.steps`
        while (low < high).any():
            # Each length that is tried needs a table. Most runs are short, so short lengths are tried first.
            trial_lengths = np.where(low < high, np.minimum((low + high + 1) // 2, 2 * low + 4), 0)
            for length in np.unique(trial_lengths[trial_lengths > 0]).tolist():
                hashes = _run_hashes(self.prefix, length)
                order = np.argsort(hashes, kind="stable")
                hashes = hashes[order]
                for query in np.flatnonzero(trial_lengths == length):
                    start = self._find_run(queries[query][1], prefixes[query], length, hashes, order)
                    if start < 0:
                        high[query] = length - 1
                    else:
                        low[query], starts[query] = length, start
        longest = [SharedRun(1, 0.0, -1)] * len(scores)
        for (number, line), length, start in zip(queries, low, starts, strict=True):
            if length > 0 and length + 1 > longest[number].notes:
                share = float((length + 1) / (len(line) + 1))
                longest[number] = SharedRun(int(length) + 1, share, int(self.piece_of_step[start]))
        return longest

    def _find_run(
        self, line: np.ndarray, prefix: np.ndarray, length: int, hashes: np.ndarray, order: np.ndarray
    ) -> int:
        """Return where in `self.steps` a run of `line` with this length begins; -1 if none is there.

        hashes: of all runs of this length in `self.steps`, sorted. order: where each of these runs begins.
        """
        line_hashes = _run_hashes(prefix, length)
        if not len(hashes) or not len(line_hashes):
            return -1
        candidates = np.minimum(np.searchsorted(hashes, line_hashes), len(hashes) - 1)
        for line_start in np.flatnonzero(hashes[candidates] == line_hashes):
            start = int(order[candidates[line_start]])
            if np.array_equal(self.steps[start : start + length], line[line_start : line_start + length]):
                return start
        return -1


def _prefix_hashes(steps: np.ndarray) -> np.ndarray:
    """Return the hash of the first n steps for each n from 0 on, uint64 (steps + 1,).

    It is the sum of mixed[i] base^i for i below n, modulo 2^64; `mixed` has each step with its bits stirred.
    """
    mixed = steps.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(29)
    return np.concatenate(([np.uint64(0)], np.cumsum(mixed * _powers(len(steps)), dtype=np.uint64)))


def _run_hashes(prefix: np.ndarray, length: int) -> np.ndarray:
    """Return the hash of every run of `length` steps: the sum over the run, divided by base^(its start)."""
    count = len(prefix) - length
    if count <= 0:
        return np.zeros(0, np.uint64)
    return (prefix[length:] - prefix[:count]) * _powers(count, pow(int(_HASH_BASE), -1, 1 << 64))


def _powers(count: int, base: int = int(_HASH_BASE)) -> np.ndarray:
    """Return base^0, base^1, ... modulo 2^64, uint64 (count,)."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
