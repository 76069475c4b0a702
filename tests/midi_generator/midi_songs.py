"""Songs and settings small enough for tests."""

from __future__ import annotations

import numpy as np
from symusic import ControlChange, Note, Score, Tempo, TimeSignature, Track

from kwela.music import tokens

SETTINGS = {"layers": 3, "width": 32, "heads": 2, "cross_every": 2, "dropout": 0.0, "window": 128}


def a_score(seed: int, bars: int = 12) -> Score:
    """Two instruments, drums, pedal, a meter other than 4/4 and tempo changes, drawn by seed."""
    rng = np.random.default_rng(seed)
    score = Score(480)
    if seed % 2:
        score.tempos.append(Tempo(0, qpm=float(rng.integers(60, 180))))
    score.tempos.append(Tempo(480 * 5, qpm=float(rng.integers(60, 180))))
    if seed % 3:
        score.time_signatures.append(TimeSignature(0, 3, 4))
    for program, drum in ((0, False), (40, False), (0, True)):
        track = Track("", program, drum)
        # A silent first tick, in some songs: the tempo then needs a position of its own.
        for time in np.sort(rng.integers(seed % 2, bars * 4, size=bars * 4)):
            start, length = int(time) * 480 + int(rng.integers(2)) * 240, int(rng.integers(1, 9)) * 120
            track.notes.append(Note(start, length, int(rng.integers(36, 90)), int(rng.integers(40, 110))))
        if program == 0 and not drum:
            track.controls.append(ControlChange(480, 64, 127))
            track.controls.append(ControlChange(1440, 64, 0))
        score.tracks.append(track)
    return score


def a_song(seed: int, bars: int = 12) -> np.ndarray:
    return tokens.encode(a_score(seed, bars))


def check_grammar(ids: np.ndarray) -> None:
    """Fails at the first id that `allowed` refuses."""
    state = tokens.start()
    for at, one in enumerate(ids):
        assert tokens.allowed(state)[one], f"id {one} at {at} after {ids[max(0, at - 5) : at]}"
        state = tokens.advance(state, int(one))
