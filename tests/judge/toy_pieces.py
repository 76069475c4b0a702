"""Small made pieces: valence is their mode, arousal their pace, loudness and tempo."""

from __future__ import annotations

from typing import Any

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

from kwela.judge.midi.labelled_pieces import LabelledPiece, LabelledPieces
from kwela.judge.midi.songs import JudgedSongs
from kwela.music.emotion import to_64d

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
QUADRANTS = ((0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8))


def toy_piece(valence: float, arousal: float, seed: int, bars: int = 4, even: bool = False) -> Score:
    """Bass, and a tune that wanders through the scale. even: one tempo and one velocity."""
    rng = np.random.default_rng(seed)
    scale, tonic = (MAJOR if valence > 0 else MINOR), int(rng.integers(52, 64))
    score = Score(480)
    score.tempos.append(Tempo(0, 120 if even else 130 if arousal > 0 else 80))
    score.time_signatures.append(TimeSignature(0, 4, 4))
    track, degree = Track("", 0, False), 0
    step = 240 if arousal > 0 else 480
    for bar in range(bars):
        velocity = 64 if even else (96 if arousal > 0 else 50) + int(rng.integers(-6, 7))
        track.notes.append(Note(bar * 1920, 1900, tonic - 12 + scale[int(rng.choice([0, 3, 4]))], velocity))
        for at in range(0, 1920, step):
            degree = int(np.clip(degree + rng.integers(-2, 3), -3, 9))
            pitch = tonic + 12 * (degree // 7) + scale[degree % 7]
            track.notes.append(Note(bar * 1920 + at, int(step * rng.uniform(0.6, 1)), pitch, velocity))
    score.tracks.append(track)
    return score


def toy_rows(pieces: int, seed: int, bars: int = 8) -> list[dict[str, Any]]:
    out = []
    for number in range(pieces):
        valence, arousal = QUADRANTS[number % 4]
        feeling = to_64d(np.array([valence, arousal, 0.2 + 0.2 * (number % 5)]))
        score = toy_piece(valence, arousal, 1000 * seed + number, bars)
        name = f"song {seed}-{number}"
        out.append({"midi_path": f"{name}.mid", "emotion64": feeling, "group": name, "score": score})
    return out


def toy_labelled_pieces(pieces: int = 48, series: int = 6, shuffled: bool = False) -> LabelledPieces:
    """Labelled pieces; shuffled: each kind of piece gets every label equally often, and so does each
    series.
    """
    sides = np.array([QUADRANTS[number % 4] for number in range(pieces)])
    told = (
        np.array([QUADRANTS[(number + number // 4) % 4] for number in range(pieces)]) if shuffled else sides
    )
    return LabelledPieces(
        [
            LabelledPiece(
                f"{number}.mid",
                f"series {number * series // pieces}",
                float(np.sign(told[number, 0])),
                float(np.sign(told[number, 1])),
                toy_piece(*sides[number], 90_000 + number, 8),
            )
            for number in range(pieces)
        ]
    )


def toy_songs(derived: str = "") -> JudgedSongs:
    return JudgedSongs(toy_rows(24, 1), toy_rows(12, 2), derived)
