"""A piece as the judges hear it: a table of its notes, an excerpt of it, and the edits that cheats and controls are.

Nothing here goes through the token codec. Times in seconds are symusic's own, those in quarters are ticks over tpq.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from symusic.core import NoteTick, ScoreSecond, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

EVEN_VELOCITY, EVEN_BPM = 64, 120.0
LEAST_NOTES = 8  # a piece with fewer can't be judged


@dataclass(frozen=True)
class Piece:
    """Notes by onset, then pitch; drums are apart, in `drums` (onsets in quarters). Arrays are (notes,) float64."""

    onset_s: np.ndarray
    end_s: np.ndarray
    onset_q: np.ndarray  # quarters
    end_q: np.ndarray
    pitch: np.ndarray  # int64, MIDI
    velocity: np.ndarray  # 0 to 127
    track: np.ndarray  # int64, place of the track in the score
    drums: np.ndarray
    bpm: np.ndarray  # of each stretch of one tempo
    bpm_s: np.ndarray  # its length in seconds
    bar_q: float  # quarters in a bar of the first meter

    @property
    def seconds(self) -> float:
        return float(self.end_s.max(initial=0.0))

    @property
    def quarters(self) -> float:
        return float(self.end_q.max(initial=0.0))


def piece(score: ScoreTick) -> Piece:
    timed = cast(ScoreSecond, score.to("second"))
    parts: list[np.ndarray] = []
    drums: list[np.ndarray] = []
    for number, (ticks, seconds) in enumerate(zip(score.tracks, timed.tracks, strict=True)):
        if not len(ticks.notes):
            continue
        t, s = ticks.notes.numpy(), seconds.notes.numpy()
        start = t["time"] / score.tpq
        if ticks.is_drum:
            drums.append(start)
            continue
        end = (t["time"].astype(np.int64) + t["duration"]) / score.tpq
        columns = (s["time"], s["time"] + s["duration"], start, end, t["pitch"], t["velocity"])
        parts.append(np.stack([*(np.asarray(c, float) for c in columns), np.full(len(start), float(number))]))
    table = np.concatenate(parts, 1) if parts else np.zeros((7, 0))
    table = table[:, np.lexsort((table[4], table[2]))]
    bpm, span = _tempos(score, timed)
    meter = score.time_signatures[0] if len(score.time_signatures) else None
    bar_q = 4.0 * meter.numerator / meter.denominator if meter else 4.0
    onset_s, end_s, onset_q, end_q, pitch, velocity, track = table
    struck = np.sort(np.concatenate(drums)) if drums else np.zeros(0)
    whole = pitch.astype(np.int64), velocity, track.astype(np.int64)
    return Piece(onset_s, end_s, onset_q, end_q, *whole, struck, bpm, span, bar_q)


def excerpt(score: ScoreTick, start_q: float, quarters: float) -> ScoreTick:
    """The notes that begin in [start_q, start_q + quarters), cut at its end, moved to 0, in their tempo and meter."""
    first, last = round(start_q * score.tpq), round((start_q + quarters) * score.tpq)
    out = ScoreTick(score.tpq)
    for at, tempo in _in_force(score.tempos, first, last):
        out.tempos.append(TempoTick(at, mspq=tempo.mspq))
    for at, meter in _in_force(score.time_signatures, first, last):
        out.time_signatures.append(TimeSignatureTick(at, meter.numerator, meter.denominator))
    for track in score.tracks:
        copy = TrackTick(track.name, track.program, track.is_drum)
        for note in track.notes:
            if first <= note.time < last:
                length = min(note.duration, last - note.time)
                copy.notes.append(NoteTick(note.time - first, length, note.pitch, note.velocity))
        out.tracks.append(copy)
    return out


def excerpts(score: ScoreTick, quarters: float, most: int, seed: int = 0) -> list[ScoreTick]:
    """Up to `most` excerpts of `quarters` that don't overlap, evenly spread; a shorter piece is one, whole.

    Those with fewer than LEAST_NOTES are left out. The start of a longer piece may be moved by up to the remainder
    (seeded), so that not all begin at its first bar.
    """
    whole = piece(score)
    length = whole.quarters
    count = int(length // quarters)
    if count < 1:
        return [score] if is_valid(score) else []
    spare = int((length - count * quarters) // whole.bar_q)
    shift = float(np.random.default_rng(seed).integers(spare + 1)) * whole.bar_q
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round())
    cut = [excerpt(score, shift + float(k) * quarters, quarters) for k in chosen]
    return [one for one in cut if is_valid(one)]


def note_count(score: ScoreTick) -> int:
    """Notes that have a pitch; drums don't count."""
    return sum(len(track.notes) for track in score.tracks if not track.is_drum)


def is_valid(score: ScoreTick) -> bool:
    """Whether there is enough of it to be judged."""
    return note_count(score) >= LEAST_NOTES


def edited(score: ScoreTick, tempo: float = 1.0, velocity: float = 1.0) -> ScoreTick:
    """A copy with every tempo and every velocity multiplied: a generator of emotion that needs no model."""
    tempos = [(one.time, one.qpm) for one in score.tempos] or [(0, EVEN_BPM)]
    faster = [(time, float(np.clip(bpm * tempo, 10, 400))) for time, bpm in tempos]
    return _played(score, faster, lambda plain: int(np.clip(round(plain * velocity), 1, 127)))


def flattened(score: ScoreTick) -> ScoreTick:
    """A copy at 120 BPM throughout with every velocity 64: what is left of an emotion when loud and fast are gone."""
    return _played(score, [(0, EVEN_BPM)], lambda plain: EVEN_VELOCITY)


def _played(score: ScoreTick, tempos: list[tuple[int, float]], velocity: Callable[[int], int]) -> ScoreTick:
    out = score.copy()
    out.tempos = out.tempos[:0]
    for time, bpm in tempos:
        out.tempos.append(TempoTick(time, qpm=bpm))
    for track in out.tracks:
        for note in track.notes:
            note.velocity = velocity(note.velocity)
    return out


def _tempos(score: ScoreTick, timed: ScoreSecond) -> tuple[np.ndarray, np.ndarray]:
    end = max((float(note.end) for track in timed.tracks for note in track.notes), default=0.0)
    starts = [float(one.time) for one in timed.tempos]
    bpm = [float(one.qpm) for one in score.tempos]
    if not starts or starts[0] > 0:
        starts, bpm = [0.0, *starts], [120.0, *bpm]
    span = np.diff(np.append(np.minimum(starts, end), max(end, 1e-9)))
    return np.array(bpm), np.maximum(span, 0.0)


def _in_force(events: Any, first: int, last: int) -> list[tuple[int, Any]]:
    """(time after `first`, event): the last event at `first` or before it, and those up to `last`."""
    known = [event for event in events if event.time <= first][-1:]
    return [
        (max(0, one.time - first), one) for one in [*known, *(e for e in events if first < e.time < last)]
    ]
