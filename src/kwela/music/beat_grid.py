"""Lay the notes of a score on its bars and beats: what keys, chords and bar descriptors are read from.

- Times are ticks of 1/24 quarter, and bars are those of the ids (`score_events.read_bars`), counted from 0,
  up to the bar in which the last note begins.
- A beat is a quarter; in compound meters (6/8, 9/8, 12/8, 3/8) it is three eighths. A beat ends at its bar's
  end at the latest.
- A note that begins just before a beat counts from the beat on: players and transcribers are that early.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.errors import UserError
from kwela.music import grammar as g
from kwela.music.score_events import MAX_TICK, read_bars, ticks

EARLY = 3  # ticks before a beat in which a note already belongs to the beat
# Longer pieces are read up to here (4.5 hours at 120 BPM), which bounds the memory; the rest is absent.
MAX_BEATS = 1 << 15
PITCHES = 128


class BarNotes(NamedTuple):
    """All notes of a score with their bars; int64 columns, by onset, then pitch."""

    pitch: np.ndarray
    velocity: np.ndarray
    tick: np.ndarray
    duration: np.ndarray  # at least 1
    drum: np.ndarray  # bool
    bar: np.ndarray
    bar_tick: np.ndarray  # (bars + 1,) where each bar begins, and where the last one ends
    meter: np.ndarray  # (bars, 2) numerator and denominator

    @property
    def bars(self) -> int:
        """How many bars there are."""
        return len(self.meter)


class Beats(NamedTuple):
    """The beats of some bars; the arrays are (beats,) unless said."""

    tick: np.ndarray  # (beats + 1,) where each begins, and where the last one ends
    bar: np.ndarray
    place: np.ndarray  # 0 for the first beat of its bar
    strength: np.ndarray  # 0 first of a bar, 1 half of a bar, 2 other


def bar_notes(score: ScoreTick) -> BarNotes:
    """Read the notes and bars of a score; no bars without notes. Raises UserError for times out of range."""
    tracks = [(track, track.notes.numpy()) for track in score.tracks if track.notes]
    if score.tpq <= 0:
        raise UserError("the score has no ticks per quarter (SMPTE time or 0): its beats are unknown")
    if not tracks:
        none, no_bars = np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
        return BarNotes(none, none, none, none, none.astype(bool), none, np.zeros(1, np.int64), no_bars)
    time, duration, pitch, velocity = (
        np.concatenate([columns[name] for _, columns in tracks], dtype=np.int64)
        for name in ("time", "duration", "pitch", "velocity")
    )
    drum = np.repeat([track.is_drum for track, _ in tracks], [len(columns["time"]) for _, columns in tracks])
    tick = ticks(time, score.tpq)
    if min(time.min(), duration.min(), pitch.min()) < 0 or pitch.max() >= PITCHES or tick.max() > MAX_TICK:
        raise UserError("a note's time or pitch is out of range: the score isn't valid MIDI")
    duration = np.maximum(ticks(time + duration, score.tpq) - tick, 1)
    order = np.argsort(tick << 7 | pitch, kind="stable")
    tick = tick[order]
    bar_tick, meter = _bars(score, int(tick[-1]))
    bar = np.searchsorted(bar_tick, tick, side="right") - 1
    return BarNotes(pitch[order], velocity[order], tick, duration[order], drum[order], bar, bar_tick, meter)


def _bars(score: ScoreTick, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the bars begin and the last one ends, and the meter of each, up to tick `last`."""
    begins, numerator, denominator = read_bars(score, last)
    changed = numerator > 0
    changed[:1] = True
    numerator[:1], denominator[:1] = (numerator[:1], denominator[:1]) if numerator[0] else (4, 4)
    row = np.maximum.accumulate(np.where(changed, np.arange(len(begins)), 0))
    meter = np.stack([numerator[row], denominator[row]], 1)
    end = begins[-1] + meter[-1, 0] * g.WHOLE // meter[-1, 1]
    return np.append(begins, end), meter


def beats(notes: BarNotes) -> Beats:
    """Return the beats of the bars, at most MAX_BEATS of them."""
    length = np.diff(notes.bar_tick)
    numerator, denominator = notes.meter.T
    compound = (numerator % 3 == 0) & (denominator >= 8)
    beat = np.where(compound, 3 * g.WHOLE // np.maximum(denominator, 1), g.TPQ)
    count = -(-length // beat)
    bar = np.repeat(np.arange(notes.bars), count)[:MAX_BEATS]
    place = np.arange(len(bar)) - (np.cumsum(count) - count)[bar]
    tick = notes.bar_tick[bar] + place * beat[bar]
    end = min(notes.bar_tick[bar[-1] + 1], tick[-1] + beat[bar[-1]]) if len(bar) else 0
    half = (count % 2 == 0) & (count > 2)
    strength = np.where(place == 0, 0, np.where(half[bar] & (2 * place == count[bar]), 1, 2))
    return Beats(np.append(tick, end), bar, place, strength)


def sounding(notes: BarNotes, grid: Beats) -> np.ndarray:
    """Return how long each pitch sounds in each beat, as a share of the beat: float32 (beats, 128).

    Drums don't count. Several notes of a pitch add up.
    """
    cells = len(grid.bar)
    tonal = np.flatnonzero(~notes.drum)
    start = notes.tick[tonal]
    end = start + notes.duration[tonal]
    pitch = notes.pitch[tonal]
    later = np.searchsorted(grid.tick, start, side="left")  # the first beat at or after the onset
    line = grid.tick[np.minimum(later, cells)]
    start = np.where((line - start <= EARLY) & (end > line + EARLY), line, start)
    # Time that sounds before each beat line, of a pitch: lines passed x line - onsets passed, less the same
    # of ends.
    passed = _count(grid.tick, start, end, pitch)
    return (np.diff(passed, axis=0) / np.diff(grid.tick)[:, None]).astype(np.float32)


def _count(line: np.ndarray, start: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Return how long each pitch has sounded before each line, float64 (lines, 128)."""
    rows = len(line) + 1  # the last row holds what comes after all lines
    cells = [np.searchsorted(line, at, side="left") * PITCHES + pitch for at in (start, end)]
    number, moment = (
        np.bincount(cells[0], begun, rows * PITCHES) - np.bincount(cells[1], ended, rows * PITCHES)
        for begun, ended in ((None, None), (start, end))
    )
    number, moment = (sums.reshape(rows, PITCHES)[:-1].cumsum(0) for sums in (number, moment))
    return line[:, None] * number - moment
