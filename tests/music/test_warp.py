"""Faster or slower, higher or lower: the log-mel and the score agree on where things went."""

import numpy as np
import pytest
from symusic.core import ControlChangeTick, NoteTick, ScoreTick, TempoTick, TrackTick

from kwela.music import audio, midi, warp


def tone(hertz: float, seconds: float = 2.5) -> np.ndarray:
    t = np.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def test_unwarped_it_is_the_contracts_log_mel() -> None:
    wave = np.random.default_rng(0).normal(size=audio.SEGMENT).astype(np.float32)
    np.testing.assert_allclose(warp.log_mel(wave, warp.NONE), audio.log_mel(wave).numpy(), atol=1e-5)


@pytest.mark.parametrize("semitones", [-5, -1, 2, 7])
@pytest.mark.parametrize("pitch", [45, 69, 90])
def test_a_tone_comes_out_as_the_tone_that_much_higher(pitch: int, semitones: int) -> None:
    shifted = warp.log_mel(tone(440 * 2 ** ((pitch - 69) / 12)), warp.Warp(1.0, semitones))
    played = audio.log_mel(tone(440 * 2 ** ((pitch + semitones - 69) / 12))[: audio.SEGMENT]).numpy()
    middle = np.s_[:, 2:-2]  # the edges reflect another phase
    assert (shifted[middle].argmax(0) == played[middle].argmax(0)).all()
    # Filters narrower than the window's 40 Hz catch it differently: 1.5 dB.
    assert np.abs(shifted[middle].max(0) - played[middle].max(0)).max() < 0.15


@pytest.mark.parametrize("rate", [0.7, 0.93, 1.0, 1.1, 1.4])
def test_clicks_come_out_at_their_time_over_the_rate(rate: float) -> None:
    seconds = np.array([0.2, 0.55, 0.9])
    wave = np.zeros(3 * audio.SAMPLE_RATE, np.float32)
    wave[np.rint(seconds * audio.SAMPLE_RATE).astype(int)] = 1
    loud = warp.log_mel(wave, warp.Warp(rate)).max(0)
    for at in seconds / rate * audio.SAMPLE_RATE / audio.HOP - 0.5:  # frame k is centred k + 1/2 hops in
        assert loud[round(at)] > loud.min() + 2
        assert (
            abs(np.average(np.arange(64), weights=(10**loud) * (np.abs(np.arange(64) - at) < 4)) - at) < 0.6
        )


def test_what_ends_early_is_silence() -> None:
    heard = warp.log_mel(tone(440, 0.5), warp.Warp(0.8))
    assert heard[:, :20].max() > -1 and heard[:, 40:].max() == pytest.approx(-5)


def song() -> ScoreTick:
    score = ScoreTick(480)
    score.tempos.append(TempoTick(960, 90.0))  # 120 until then, unsaid
    for drum in (False, True):
        track = TrackTick("", 0, drum)
        for tick, pitch in ((0, 60), (700, 126), (960, 2), (2000, 64)):
            track.notes.append(NoteTick(tick, 100, pitch, 80))
        track.controls.append(ControlChangeTick(100, 64, 127))
        score.tracks.append(track)
    return score


@pytest.mark.parametrize("rate", [0.75, 1.0, 1.2])
def test_notes_come_at_their_time_over_the_rate(rate: float) -> None:
    before, after = midi.notes(song()), midi.notes(warp.score(song(), warp.Warp(rate)))
    np.testing.assert_allclose(after["onset_s"], before["onset_s"] / rate, rtol=1e-5)
    np.testing.assert_allclose(after["end_s"], before["end_s"] / rate, rtol=1e-5)
    np.testing.assert_array_equal(after["pitch"], before["pitch"])


def test_pitches_move_but_drums_and_what_would_leave_midi() -> None:
    original = song()
    after = midi.notes(warp.score(original, warp.Warp(1.0, 3)))
    assert sorted(after["pitch"][~after["is_drum"]]) == [5, 63, 67]
    assert sorted(after["pitch"][after["is_drum"]]) == [2, 60, 64, 126]
    assert sorted(midi.notes(original)["pitch"][:2]) == [60, 60]  # left as it was
