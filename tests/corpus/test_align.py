"""A shifted recording is found where it is, and another piece is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from symusic.core import NoteTick, ScoreTick, TrackTick

from kwela.corpus.pairs.align import MATCH, align

RATE = 44_100


def piece(seed: int, seconds: float = 40.0) -> tuple[np.ndarray, ScoreTick]:
    """Notes in the seed's rhythm and tempo (a second is 960 ticks), and plucked sines that play them."""
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.uniform(0.1, 0.2) * rng.choice([1, 2, 3, 4], 400))
    onsets = onsets[onsets < seconds - 1]
    wave = rng.normal(0, 0.003, round(seconds * RATE))
    moment = np.arange(RATE // 3) / RATE
    track = TrackTick("piano", 0, False)
    for onset in onsets:
        pitch = int(rng.integers(40, 80))
        track.notes.append(NoteTick(round(onset * 960), 240, pitch, 80))
        at = round(onset * RATE)
        wave[at : at + len(moment)] += np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * moment) * np.exp(
            -9 * moment
        )
    score = ScoreTick(480)
    score.tracks.append(track)
    return 0.1 * wave, score


@pytest.mark.parametrize("shift", [-12.34, 0.0, 3.21, 28.9])
def test_the_offset_is_found_within_30_s_to_20_ms(tmp_path, shift):
    wave, score = piece(0)
    moved = (
        wave[round(-shift * RATE) :] if shift < 0 else np.concatenate([np.zeros(round(shift * RATE)), wave])
    )
    soundfile.write(tmp_path / "x.wav", moved, RATE)
    found = align(tmp_path / "x.wav", score)
    assert abs(found.offset - shift) < 0.02 and found.match > MATCH + 0.2


def test_another_piece_silence_and_an_empty_score_do_not_match(tmp_path):
    wave, score = piece(1)
    soundfile.write(tmp_path / "x.wav", wave, RATE)
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE * 5), RATE)
    assert align(tmp_path / "x.wav", score).match > MATCH  # the control: its own
    assert all(align(tmp_path / "x.wav", piece(seed)[1]).match < MATCH - 0.1 for seed in (2, 3, 4))
    assert align(tmp_path / "silence.wav", score).match == 0
    assert align(tmp_path / "x.wav", ScoreTick(480)).match == 0


def test_a_recording_that_drifts_by_one_percent_does_not_match(tmp_path):
    wave, score = piece(5)
    slower = np.interp(np.arange(0, len(wave), 0.99), np.arange(len(wave)), wave)
    soundfile.write(tmp_path / "x.wav", slower, RATE)
    assert align(tmp_path / "x.wav", score).match < MATCH
