"""POP909-CL as truth for keys and chords: the music without its chord track, and what its corrected labels say.

The folder holds 001.mid to 909.mid (some numbers are missing). Track 1 is the music. Track 2, `chords` or
`MIDI 01`, holds the chords as notes; its lowest note is the bass. Songs 518 and 620 are badly aligned and left
out. What is tuned is tuned on even song numbers, and figures to quote are of the odd ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from symusic import Score
from symusic.core import ScoreTick

from kwela.music import beat_grid
from kwela.music.chords import TONES
from kwela.music.score_events import ticks

MISALIGNED = (518, 620)
# Spelled without a tone: the quality whose name the rest still says.
INCOMPLETE = {(0, 4): 0, (0, 3): 1, (0, 4, 10): 4, (0, 4, 11): 5, (0, 3, 10): 6, (0, 7, 10): 4}
INVERTED = (0, 1, 4, 5, 6, 8, 2, 3, 7, 11, 12)  # of which qualities inversions are looked for, in this order


class Song(NamedTuple):
    number: int
    score: ScoreTick  # the music alone
    notes: beat_grid.BarNotes
    grid: beat_grid.Beats
    root: np.ndarray  # (beats,) 0-11, -1 where no chord is labelled
    quality: np.ndarray  # (beats,) 0-15
    key: np.ndarray  # (bars,) 0-23, major first
    path: Path


def chord_of(pitches: np.ndarray) -> tuple[int, int] | None:
    """Name the chord of some notes: as a root position of the bass if it is one, else as an inversion."""
    bass, classes = int(pitches.min()), sorted({int(pitch) % 12 for pitch in pitches})
    tones = tuple(sorted((c - bass) % 12 for c in classes))
    if tones in TONES:
        return bass % 12, TONES.index(tones)
    if tones in INCOMPLETE:
        return bass % 12, INCOMPLETE[tones]
    for quality in INVERTED:
        for root in classes:
            if tuple(sorted((c - root) % 12 for c in classes)) == TONES[quality]:
                return root, quality
    return None


def songs(folder: Path, step: int = 1, rest: int = 0) -> Iterator[Song]:
    """Read the songs that have chords and a key, in the order of their numbers.

    step, rest: only those whose number leaves `rest` when divided by `step`.
    """
    for path in sorted(folder.glob("*.mid")):
        if int(path.stem) in MISALIGNED or int(path.stem) % step != rest:
            continue
        score = Score(path)
        if len(score.tracks) != 2 or not score.key_signatures:
            continue
        labels = score.tracks[1].notes.numpy()
        del score.tracks[1]
        notes = beat_grid.bar_notes(score)
        grid = beat_grid.beats(notes)
        root, quality = _labels(labels, score.tpq, grid)
        key = _keys(score, notes.bar_tick[:-1])
        yield Song(int(path.stem), score, notes, grid, root, quality, key, path)


def _labels(labels: dict[str, np.ndarray], tpq: int, grid: beat_grid.Beats) -> tuple[np.ndarray, np.ndarray]:
    """Return root and quality of the chord that is on in the middle of each beat."""
    onset = ticks(labels["time"], tpq)
    end = ticks(labels["time"].astype(np.int64) + labels["duration"], tpq)
    starts = np.unique(onset)
    named = [chord_of(labels["pitch"][onset == start]) or (-1, -1) for start in starts]
    ends = np.array([end[onset == start].max() for start in starts])
    middle = (grid.tick[1:] + grid.tick[:-1]) / 2
    row = np.searchsorted(starts, middle, side="right") - 1
    chord = np.array(named)[np.maximum(row, 0)]
    chord[(row < 0) | (middle >= ends[np.maximum(row, 0)])] = -1
    return chord[:, 0], chord[:, 1]


def _keys(score: ScoreTick, bar_tick: np.ndarray) -> np.ndarray:
    """Return the key of each bar, 0-23, by the file's key signatures."""
    marks = sorted((int(ticks(np.array(k.time), score.tpq)), k.key, k.tonality) for k in score.key_signatures)
    keys = np.array([(sharps * 7 + 9 * minor) % 12 + 12 * minor for _, sharps, minor in marks])
    row = np.searchsorted([mark[0] for mark in marks], bar_tick + 1, side="right") - 1
    return keys[np.maximum(row, 0)]
