"""SYNTHETIC MUSIC, FOR SMOKE TESTS ONLY.

Nothing here is real: a few bars of arpeggios made from a seed, and sine waves that play them. A run on this
set shows that the pipeline works from end to end. Its losses, clouds and MIDI mean nothing, and a model
trained on it is worth nothing. It is made only where no manifest exists, under the runbook's own warning, and
never stands in for a file that could not be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from kwela.music import midi

SAMPLE_RATE = 44_100
TPQ = 480
SECONDS = 8.0  # of each piece, about


class Manner(NamedTuple):
    """How a folder's pieces go."""

    scale: tuple[int, ...]  # semitones above the tonic
    bpm: float
    per_quarter: int  # notes
    velocity: int


_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
MANNERS = {
    "happy": Manner(_MAJOR, 132, 2, 96),
    "calm": Manner(_MAJOR, 72, 1, 56),
    "sad": Manner(_MINOR, 66, 1, 60),
    "angry": Manner(_MINOR, 152, 4, 118),
}


def make(folder: Path, pieces: int = 24, seed: int = 0) -> None:
    """Write `pieces` pairs, folder/audio/<emotion>/smoke_NNN.wav and folder/midi/<emotion>/smoke_NNN.mid.

    About 8 s each, mono, 16 bit; the same bytes for the same arguments. FOR SMOKE TESTS ONLY: see above.
    """
    for number in range(pieces):
        name = list(MANNERS)[number % len(MANNERS)]
        manner = MANNERS[name]
        notes = _compose(manner, np.random.default_rng([seed, number]))
        for kind in ("audio", "midi"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        _write_midi(folder / "midi" / name / f"smoke_{number:03}.mid", notes, manner)
        _write_wav(folder / "audio" / name / f"smoke_{number:03}.wav", notes, manner)


def _compose(manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """Return columns onset, length (quarters), pitch, velocity.

    A bar has a bass note, and an arpeggio of its chord above.
    """
    tonic = int(rng.integers(48, 60))
    step = 1 / manner.per_quarter
    rows: list[tuple[float, float, int, int]] = []
    for bar in range(round(SECONDS * manner.bpm / 60 / 4)):
        degree = int(rng.choice([0, 3, 4, 5])) if bar else 0
        chord = [
            tonic + manner.scale[(degree + third) % 7] + 12 * ((degree + third) // 7) for third in (0, 2, 4)
        ]
        rows.append((4 * bar, 4.0, chord[0] - 12, manner.velocity))
        for index in range(4 * manner.per_quarter):
            pitch = chord[index % 3] + 12 * int(rng.integers(0, 2))
            velocity = int(np.clip(manner.velocity + rng.integers(-10, 11), 1, 127))
            rows.append((4 * bar + index * step, step, pitch, velocity))
    return np.array(rows, np.float64)


def _write_midi(path: Path, notes: np.ndarray, manner: Manner) -> None:
    score = ScoreTick(TPQ)
    score.tempos.append(TempoTick(0, manner.bpm))
    score.time_signatures.append(TimeSignatureTick(0, 4, 4))
    track = TrackTick("Piano", 0, False)
    for onset, length, pitch, velocity in notes:
        track.notes.append(NoteTick(round(onset * TPQ), round(length * TPQ), int(pitch), int(velocity)))
    score.tracks.append(track)
    midi.write(score, path)


def _write_wav(path: Path, notes: np.ndarray, manner: Manner) -> None:
    """Six harmonics a note, falling off as it decays: additive synthesis."""
    quarter = 60 / manner.bpm
    out = np.zeros(round((notes[:, 0] + notes[:, 1]).max() * quarter * SAMPLE_RATE) + 1)
    harmonics = np.arange(1, 7)[:, None]
    for onset, length, pitch, velocity in notes:
        time = np.arange(round(length * quarter * SAMPLE_RATE)) / SAMPLE_RATE
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        partials = np.sin(2 * np.pi * hertz * harmonics * time) * np.exp(-3 * harmonics * time) / harmonics
        attack = np.minimum(1, time / 0.005) * np.minimum(1, (time[-1] - time) / 0.005)
        start = round(onset * quarter * SAMPLE_RATE)
        out[start : start + len(time)] += partials.sum(0) * attack * (velocity / 127) ** 2
    samples = np.rint(out * (0.8 * 32767 / np.abs(out).max())).astype(np.int16)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
