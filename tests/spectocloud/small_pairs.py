"""Small real pairs: a few notes written as MIDI and sung by sine waves at the same times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from symusic import Note, Score, Tempo, Track

from kwela.music import audio

Notes = list[tuple[float, float, int, int]]  # onset s, length s, pitch, velocity

TUNE: Notes = [
    (0.1, 0.5, 60, 90),
    (0.6, 0.5, 64, 80),
    (0.6, 1.2, 67, 70),
    (1.4, 1.0, 72, 100),
    (2.2, 1.5, 55, 60),
]


def sing(notes: Notes, seconds: float) -> np.ndarray:
    """Each note as four decaying harmonics."""
    t = np.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    wave = np.zeros_like(t)
    for onset, length, pitch, velocity in notes:
        age = t - onset
        envelope = ((age >= 0) & (age < length)) * np.exp(-2 * np.clip(age, 0, None)) * velocity / 127
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        wave += sum(0.2 / h * envelope * np.sin(2 * np.pi * h * hertz * age) for h in range(1, 5))
    return wave.astype(np.float32)


def write_pair(folder: Path, name: str, notes: Notes, seconds: float = 4.0) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    track = Track(program=0)
    for onset, length, pitch, velocity in notes:
        track.notes.append(Note(round(onset * 960), round(length * 960), pitch, velocity))
    score.tracks.append(track)
    score.dump_midi(str(folder / f"{name}.mid"))
    soundfile.write(folder / f"{name}.wav", sing(notes, seconds), audio.SAMPLE_RATE)
    return folder / f"{name}.wav", folder / f"{name}.mid"
