"""Cut excerpts of a score, and change its tempo and velocity, as rivals and controls need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from kwela.judge.midi.note_table import note_table

FLAT_VELOCITY, FLAT_BPM = 64, 120.0
MIN_NOTES = 8  # a piece with fewer pitched notes can't be judged


def cut_excerpt(score: ScoreTick, start_q: float, quarters: float) -> ScoreTick:
    """Return the notes that begin in [start_q, start_q + quarters), moved to 0, in their tempo and meter.

    start_q, quarters: in quarters. A note that lasts beyond the end is cut there.
    """
    first, last = round(start_q * score.tpq), round((start_q + quarters) * score.tpq)
    excerpt = ScoreTick(score.tpq)
    for time, tempo in _events_in_force(score.tempos, first, last):
        excerpt.tempos.append(TempoTick(time, mspq=tempo.mspq))
    for time, meter in _events_in_force(score.time_signatures, first, last):
        excerpt.time_signatures.append(TimeSignatureTick(time, meter.numerator, meter.denominator))
    for track in score.tracks:
        copy = TrackTick(track.name, track.program, track.is_drum)
        for note in track.notes:
            if first <= note.time < last:
                length = min(note.duration, last - note.time)
                copy.notes.append(NoteTick(note.time - first, length, note.pitch, note.velocity))
        excerpt.tracks.append(copy)
    return excerpt


def cut_excerpts(score: ScoreTick, quarters: float, most: int, seed: int = 0) -> list[ScoreTick]:
    """Cut up to `most` excerpts of `quarters` that don't overlap, evenly spaced; a shorter piece stays whole.

    Excerpts with fewer than MIN_NOTES notes are left out. The first excerpt of a longer piece may begin
    later, by whole bars up to what is left over (drawn by `seed`), so that not every excerpt begins where its
    piece does.
    """
    notes = note_table(score)
    count = int(notes.quarters // quarters)
    if count < 1:
        return [score] if has_enough_notes(score) else []
    spare_bars = int((notes.quarters - count * quarters) // notes.bar_q)
    shift = float(np.random.default_rng(seed).integers(spare_bars + 1)) * notes.bar_q
    places = np.unique(np.linspace(0, count - 1, min(most, count)).round())
    excerpts = [cut_excerpt(score, shift + float(place) * quarters, quarters) for place in places]
    return [excerpt for excerpt in excerpts if has_enough_notes(excerpt)]


def count_pitched_notes(score: ScoreTick) -> int:
    """Count the notes that have a pitch; drums don't count."""
    return sum(len(track.notes) for track in score.tracks if not track.is_drum)


def has_enough_notes(score: ScoreTick) -> bool:
    """Return whether the score has the MIN_NOTES notes that it takes to judge it."""
    return count_pitched_notes(score) >= MIN_NOTES


def scale_tempo_and_velocity(
    score: ScoreTick, tempo_factor: float = 1.0, velocity_factor: float = 1.0
) -> ScoreTick:
    """Return a copy with every tempo and every velocity multiplied: an emotional change that needs no model.

    Tempos stay within 10 to 400 BPM, velocities within 1 to 127.
    """
    tempos = [(tempo.time, tempo.qpm) for tempo in score.tempos] or [(0, FLAT_BPM)]
    scaled = [(time, float(np.clip(bpm * tempo_factor, 10, 400))) for time, bpm in tempos]
    return _with_tempos_and_velocities(
        score, scaled, lambda velocity: int(np.clip(round(velocity * velocity_factor), 1, 127))
    )


def flatten_tempo_and_velocity(score: ScoreTick) -> ScoreTick:
    """Return a copy at 120 BPM throughout, with every velocity at 64."""
    return _with_tempos_and_velocities(score, [(0, FLAT_BPM)], lambda velocity: FLAT_VELOCITY)


def _with_tempos_and_velocities(
    score: ScoreTick, tempos: list[tuple[int, float]], change_velocity: Callable[[int], int]
) -> ScoreTick:
    """Return a copy with these (time in ticks, BPM), and with each velocity changed."""
    copy = score.copy()
    copy.tempos = copy.tempos[:0]
    for time, bpm in tempos:
        copy.tempos.append(TempoTick(time, qpm=bpm))
    for track in copy.tracks:
        for note in track.notes:
            note.velocity = change_velocity(note.velocity)
    return copy


def _events_in_force(events: Any, first: int, last: int) -> list[tuple[int, Any]]:
    """Return (ticks after `first`, event) of the event in force at `first` and of those up to `last`."""
    in_force = [event for event in events if event.time <= first][-1:]
    later = [event for event in events if first < event.time < last]
    return [(max(0, event.time - first), event) for event in [*in_force, *later]]
