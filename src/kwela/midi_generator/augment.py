"""Augment songs as ids: shift the pitch, the tempo and the velocity of a whole song by array operations.

Every shift is monotone and never clamps, so the order of `encode` inside a position is kept and the grammar
still holds. A song that writes no tempo starts at 120 BPM. Where the tempo is shifted, a tempo is written at
its first position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kwela.midi_generator.config import MidiGeneratorAugment
from kwela.music import grammar as G
from kwela.music.score_events import START_TEMPO


class Shift(NamedTuple):
    """How far a song is shifted."""

    semitones: int  # of pitches after any program but DRUM
    tempo: int  # log-steps; 184.3 of them double the tempo
    velocity: int  # velocity ids, of 4 MIDI units


def pitched(ids: np.ndarray) -> np.ndarray:
    """Return bool (N,): where `ids`, a song from BOS on, has the pitch of a note that is not a drum."""
    program = ((ids >= G.FAMILY) & (ids < G.VARIANT)) | (ids == G.DRUM)
    last = np.maximum.accumulate(np.where(program, np.arange(len(ids)), 0))
    return (ids < G.VELOCITY) & (ids[last] != G.DRUM)


def draw(ids: np.ndarray, settings: MidiGeneratorAugment, rng: np.random.Generator) -> Shift:
    """Draw a shift within `settings` that keeps each pitch, velocity and tempo of the song in its range."""
    tempo = int(np.log1p(settings.tempo) * G.STEPS_PER_NAT)
    velocity = settings.velocity // G.VELOCITY_STEP
    steps = _tempos(ids)[1]
    return Shift(
        _within(ids[pitched(ids)], G.PITCHES - 1, settings.transpose, rng),
        _within(np.append(steps, START_TEMPO), G.TEMPOS - 1, tempo, rng),
        _within(ids[(ids >= G.VELOCITY) & (ids < G.BEAT)] - G.VELOCITY, G.VELOCITY_BINS - 1, velocity, rng),
    )


def apply(ids: np.ndarray, shift: Shift) -> np.ndarray:
    """Return the song with `shift`: int16 (N,), or up to three ids more where the first tempo is written."""
    out = ids.copy()
    out[pitched(ids)] += shift.semitones
    out[(ids >= G.VELOCITY) & (ids < G.BEAT)] += shift.velocity
    if not shift.tempo:
        return out
    where, steps = _tempos(ids)
    out[where], out[where + 1] = _pair(steps + shift.tempo)
    return _state_tempo(out, START_TEMPO + shift.tempo)


def transpose_context(context: np.ndarray, semitones: int) -> np.ndarray:
    """Transpose context (N, 4): keys move within their mode, roots within the octave, and 0 stays absent."""
    out = context.copy()
    key, root = context[:, 0] - 1, context[:, 1] - 1
    out[:, 0] = np.where(key >= 0, key // 12 * 12 + (key % 12 + semitones) % 12 + 1, 0)
    out[:, 1] = np.where(root >= 0, (root + semitones) % 12 + 1, 0)
    return out


def _within(values: np.ndarray, top: int, reach: int, rng: np.random.Generator) -> int:
    """Draw a uniform shift of at most `reach` up or down that keeps all `values` in 0..top."""
    # One number is drawn in any case, so that later draws do not depend on the song.
    low = max(-reach, -int(values.min(initial=top)))
    high = min(reach, top - int(values.max(initial=0)))
    return int(rng.integers(low, high + 1))


def _tempos(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the tempo pairs, and their log-steps."""
    where = np.flatnonzero((ids >= G.TEMPO_COARSE) & (ids < G.TEMPO_FINE))
    return where, G.FINE_TEMPOS * (ids[where] - G.TEMPO_COARSE) + ids[where + 1] - G.TEMPO_FINE


def _pair(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return G.TEMPO_COARSE + steps // G.FINE_TEMPOS, G.TEMPO_FINE + steps % G.FINE_TEMPOS


def _state_tempo(ids: np.ndarray, step: int) -> np.ndarray:
    """Write `step` at tick 0 unless a tempo is written there already or the song has no bar."""
    if ids[1] != G.BAR:
        return ids
    at = 4 if G.NUMERATOR < ids[2] < G.DENOMINATOR else 2  # after BAR and its meter, if any
    pair = [part[0] for part in _pair(np.array([step]))]
    # Where nothing stands at tick 0, the tempo gets a position.
    if ids[at] != G.BEAT or G.SUB < ids[at + 1] < G.SUB + G.TPQ:
        return np.insert(ids, at, [G.BEAT, *pair])
    if G.TEMPO_COARSE <= ids[at + 1] < G.TEMPO_FINE:
        return ids
    return np.insert(ids, at + 1, pair)
