"""Loudness against the figures that BS.1770 and EBU Tech 3341 state for their test signals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import sosfilt, sosfreqz

from kwela.music import loudness

RATE = 48_000


def sine(hertz: float, decibels: float, seconds: float, rate: int = RATE) -> np.ndarray:
    """A tone whose peak lies `decibels` from full scale."""
    t = np.arange(round(seconds * rate)) / rate
    return 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * t)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("decibels", [0.0, -20.0, -36.0])
def test_a_tone_near_a_kilohertz_is_three_decibels_below_its_peak(rate, decibels):
    """BS.1770-4: a full-scale 997 Hz sine in one channel is -3.01 LUFS."""
    assert loudness.loudness(sine(997, decibels, 5, rate), rate) == pytest.approx(decibels - 3.01, abs=0.05)


def test_the_weighting_is_the_standards_table_at_48_khz():
    """BS.1770-4, tables 1 and 2."""
    shelf, high_pass = loudness._k_weighting(RATE)
    expected = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585]
    assert shelf == pytest.approx(expected, abs=1e-6)
    assert high_pass == pytest.approx([1, -2, 1, 1, -1.99004745483398, 0.99007225036621], abs=1e-6)


def test_weighting_at_another_rate_answers_alike():
    hertz = np.array([30.0, 100, 1000, 3000, 6000])
    at_48, at_32 = (
        20 * np.log10(np.abs(sosfreqz(loudness._k_weighting(rate), hertz, fs=rate)[1]))
        for rate in (48_000, 32_000)
    )
    assert at_32 == pytest.approx(at_48, abs=0.15)
    assert at_48[0] < -8 and at_48[-1] > 3.5  # deep tones count for little, high ones for more


def test_gates_leave_out_what_is_far_quieter():
    """EBU Tech 3341, cases 3 and 4, for one channel: -36 dB around -23 dB, and -72 dB around those."""
    tone = {level: sine(1000, level, 10) for level in (-72, -36)}
    loud = sine(1000, -23, 60)
    alone = loudness.loudness(loud, RATE)
    third = np.concatenate([tone[-36], loud, tone[-36]])
    fourth = np.concatenate([tone[-72], third, tone[-72]])
    assert alone == pytest.approx(-26.0, abs=0.1)
    assert loudness.loudness(third, RATE) == pytest.approx(alone, abs=0.1)
    assert loudness.loudness(fourth, RATE) == pytest.approx(alone, abs=0.1)
    power = np.square(sosfilt(loudness._k_weighting(RATE), third)).mean()
    assert -0.691 + 10 * math.log10(power) < alone - 1  # the control: without gates it would count


def test_normalised_reaches_the_level_or_stops_at_the_peak():
    quiet = sine(440, -50, 3)
    out = loudness.normalised(quiet, RATE, -16.0, 0.95)
    assert out.dtype == np.float32
    assert loudness.loudness(out, RATE) == pytest.approx(-16.0, abs=0.01)
    spiky = quiet.copy()
    spiky[::24_000] = 0.5
    limited = loudness.normalised(spiky, RATE, -16.0, 0.95)
    assert np.abs(limited).max() == pytest.approx(0.95, abs=1e-4)
    assert loudness.loudness(limited, RATE) < -16.5
    assert limited / 0.95 * 0.5 == pytest.approx(spiky, abs=1e-6)  # one gain for all of it
    loud = loudness.normalised(sine(440, 0, 3), RATE, -16.0)
    assert loudness.loudness(loud, RATE) == pytest.approx(-16.0, abs=0.01)


def test_silence_stays_silence_and_has_no_loudness():
    for wave in (np.zeros(RATE), np.zeros(10), sine(440, -90, 1)):
        assert loudness.loudness(wave, RATE) == -math.inf
        assert np.array_equal(loudness.normalised(wave, RATE, -16.0), wave.astype(np.float32))


@pytest.mark.parametrize("samples", [1, 100, RATE // 10, RATE // 4])
def test_less_than_a_block_is_judged_as_it_is(samples):
    wave = sine(997, 0, 1)[:samples]
    assert np.isfinite(loudness.normalised(wave, RATE, -16.0)).all()
    assert not math.isnan(loudness.loudness(wave, RATE))
