"""SYNTHETIC MUSIC, FOR SMOKE TESTS ONLY.

Nothing here is real: a few bars of arpeggios made from a seed, and sine waves that play them. A run on this
set shows that the pipeline works from end to end. Its losses, clouds and MIDI mean nothing, and a model
trained on it is worth nothing. It is made only if no manifest exists, and the runbook's warning is
printed with it. It never replaces a file that could not be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from kwela.music import midi

SAMPLE_RATE = 44_100
TICKS_PER_QUARTER = 480
PIECE_SECONDS = 8.0  # approximate: a piece is whole bars


class MusicStyle(NamedTuple):
    """The style of the pieces of one emotion."""

    scale: tuple[int, ...]  # semitones above the tonic
    bpm: float
    notes_per_quarter: int  # of the arpeggio
    velocity: int  # MIDI, 1..127


_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
STYLES = {
    "happy": MusicStyle(_MAJOR, 132, 2, 96),
    "calm": MusicStyle(_MAJOR, 72, 1, 56),
    "sad": MusicStyle(_MINOR, 66, 1, 60),
    "angry": MusicStyle(_MINOR, 152, 4, 118),
}


def make(folder: Path, pieces: int = 24, seed: int = 0) -> None:
    """Write `pieces` pairs, folder/audio/<emotion>/smoke_NNN.wav and folder/midi/<emotion>/smoke_NNN.mid.

    Each piece lasts about 8 s; its sound is mono, 16 bit, 44.1 kHz. The same `pieces` and `seed` give the
    same bytes. FOR SMOKE TESTS ONLY: see the top of this file.
    """
    for number in range(pieces):
        emotion = list(STYLES)[number % len(STYLES)]
        style = STYLES[emotion]
        notes = _compose(style, np.random.default_rng([seed, number]))
        for kind in ("audio", "midi"):
            (folder / kind / emotion).mkdir(parents=True, exist_ok=True)
        _write_midi(folder / "midi" / emotion / f"smoke_{number:03}.mid", notes, style)
        _write_wav(folder / "audio" / emotion / f"smoke_{number:03}.wav", notes, style)


def _compose(style: MusicStyle, rng: np.random.Generator) -> np.ndarray:
    """Return the notes of a piece, (notes, 4): onset and duration in quarters, MIDI pitch and velocity.

    Each bar has a bass note and an arpeggio of its chord above it.
    """
    tonic = int(rng.integers(48, 60))
    note_duration = 1 / style.notes_per_quarter
    rows: list[tuple[float, float, int, int]] = []
    for bar in range(round(PIECE_SECONDS * style.bpm / 60 / 4)):
        degree = int(rng.choice([0, 3, 4, 5])) if bar else 0
        chord = [
            tonic + style.scale[(degree + above) % 7] + 12 * ((degree + above) // 7) for above in (0, 2, 4)
        ]
        rows.append((4 * bar, 4.0, chord[0] - 12, style.velocity))
        for index in range(4 * style.notes_per_quarter):
            pitch = chord[index % 3] + 12 * int(rng.integers(0, 2))
            velocity = int(np.clip(style.velocity + rng.integers(-10, 11), 1, 127))
            rows.append((4 * bar + index * note_duration, note_duration, pitch, velocity))
    return np.array(rows, np.float64)


def _write_midi(path: Path, notes: np.ndarray, style: MusicStyle) -> None:
    score = ScoreTick(TICKS_PER_QUARTER)
    score.tempos.append(TempoTick(0, style.bpm))
    score.time_signatures.append(TimeSignatureTick(0, 4, 4))
    track = TrackTick("Piano", 0, False)
    for onset, duration, pitch, velocity in notes:
        ticks = round(onset * TICKS_PER_QUARTER), round(duration * TICKS_PER_QUARTER)
        track.notes.append(NoteTick(*ticks, int(pitch), int(velocity)))
    score.tracks.append(track)
    midi.write(score, path)


def _write_wav(path: Path, notes: np.ndarray, style: MusicStyle) -> None:
    """Write the notes as sound by additive synthesis: six harmonics a note; the higher ones decay faster."""
    quarter = 60 / style.bpm
    mix = np.zeros(round((notes[:, 0] + notes[:, 1]).max() * quarter * SAMPLE_RATE) + 1)
    harmonics = np.arange(1, 7)[:, None]
    for onset, duration, pitch, velocity in notes:
        time = np.arange(round(duration * quarter * SAMPLE_RATE)) / SAMPLE_RATE
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        partials = (
            np.sin(2 * np.pi * frequency * harmonics * time) * np.exp(-3 * harmonics * time) / harmonics
        )
        envelope = np.minimum(1, time / 0.005) * np.minimum(1, (time[-1] - time) / 0.005)
        start = round(onset * quarter * SAMPLE_RATE)
        mix[start : start + len(time)] += partials.sum(0) * envelope * (velocity / 127) ** 2
    samples = np.rint(mix * (0.8 * 32767 / np.abs(mix).max())).astype(np.int16)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
