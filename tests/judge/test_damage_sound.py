"""Each measure of a clip on sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from kwela.judge.damage import audio_metrics
from kwela.judge.damage.audio_metrics import RATE
from kwela.judge.shared import copies

T = np.arange(10 * RATE) / RATE
NOISE = (0.1 * np.random.default_rng(0).standard_normal(len(T))).astype(np.float32)


def test_highs_of_two_equal_tones_are_half_the_energy() -> None:
    both = 0.3 * np.sin(2 * np.pi * 1000 * T) + 0.3 * np.sin(2 * np.pi * 10_000 * T)
    assert audio_metrics.highs(audio_metrics.spectrum(both)) == pytest.approx(-3.01, abs=0.05)
    low = 0.3 * np.sin(2 * np.pi * 1000 * T)
    assert audio_metrics.highs(audio_metrics.spectrum(low)) < -80
    assert audio_metrics.highs(audio_metrics.spectrum(0.01 * both)) == pytest.approx(-3.01, abs=0.05), (
        "at any level"
    )
    assert audio_metrics.highs(audio_metrics.spectrum(0 * both)) is None


def test_silent_share() -> None:
    half = NOISE.copy()
    half[len(half) // 2 :] = 0
    assert audio_metrics.silent_share(half) == pytest.approx(0.5, abs=0.01)
    assert audio_metrics.silent_share(NOISE) == 0
    assert audio_metrics.silent_share(0.001 * NOISE) == 1, "-80 dB full scale"


def test_clipping_counts_cut_tops_at_any_level_and_loud_music_not() -> None:
    sine = np.sin(2 * np.pi * 220 * T)[:, None].astype(np.float32)
    assert audio_metrics.clipping_share(0.99 * sine) == 0
    cut = np.clip(1.5 * sine, -1, 1)
    expected = 1 - 2 * np.arcsin(1 / 1.5) / np.pi
    assert audio_metrics.clipping_share(cut) == pytest.approx(expected, abs=0.01)
    assert audio_metrics.clipping_share(0.4 * cut) == pytest.approx(expected, abs=0.01)
    assert audio_metrics.clipping_share(np.hstack([0.1 * sine, cut])) == pytest.approx(expected, abs=0.01)
    assert audio_metrics.clipping_share(0 * sine) == 0


def tune(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 0.01 * NOISE
    for at in np.arange(0, 10, 0.2):
        age = T - at
        hertz = 110 * 2 ** (rng.integers(36) / 12)
        wave = wave + 0.3 * (age >= 0) * np.exp(-8 * np.clip(age, 0, None)) * np.sin(2 * np.pi * hertz * age)
    return wave.astype(np.float32)


def test_the_middle_third_of_an_octave_is_at_1_khz() -> None:
    assert audio_metrics.CENTRES[10] == 1000
    assert audio_metrics.CENTRES[[0, 23]] == pytest.approx([99.2, 20_159], rel=1e-3)


def test_looping_share() -> None:
    def looping(wave: np.ndarray) -> float | None:
        return audio_metrics.looping_share(audio_metrics.spectrum(wave))

    once = tune(0)
    assert looping(once) < 0.1
    for seconds in (0.8, 1.713, 3.377):
        assert looping(np.resize(once[: round(seconds * RATE)], len(once))) > 0.95
    half = np.concatenate([once[: len(once) // 2], np.resize(once[: round(1.1 * RATE)], len(once) // 2)])
    assert 0.25 < looping(half) < 0.75
    assert looping(0.3 * np.sin(2 * np.pi * 440 * T)) == 1, "a sound that stands still"
    assert looping(0 * once) is None and looping(once[:RATE]) is None, "silence, and too short to tell"


def test_nothing_above_8_khz_counts_as_100_db_less_and_next_to_no_sound_has_no_answer() -> None:
    power = np.zeros((4, 1025))
    power[:, 10] = 1.0
    assert audio_metrics.highs(power) == -100
    hertz = np.fft.rfftfreq(2048, 1 / RATE)
    power[:, np.searchsorted(hertz, 8000, side="right")] = 1 / 3
    assert audio_metrics.highs(power) == pytest.approx(10 * np.log10(1 / 4))
    assert audio_metrics.highs(power * 1e-11) is not None and audio_metrics.highs(power * 0.7e-11) is None


def test_silence_is_below_60_db_in_frames_of_50_ms() -> None:
    frame = round(0.05 * RATE)
    levels = np.repeat([10 ** (-59.9 / 20), 10 ** (-60.1 / 20), 0.5, 0.0], frame)
    assert audio_metrics.silent_share(levels) == 0.5
    assert audio_metrics.silent_share(levels[: -frame + 1]) == 0.5, "the last frame is filled with silence"
    assert audio_metrics.silent_share(np.full(frame + 1, 0.5)) == 0


def test_cut_off_samples_by_counting() -> None:
    wave = np.tile(np.linspace(-0.4, 0.4, 50), 2)
    assert audio_metrics.clipping_share(wave[:, None]) == 0
    for level, count in ((0.999, 3), (1.2, 3), (0.998, 0)):
        full = wave.copy()
        full[[5, 50, 90]] = [level, -level, level]
        assert audio_metrics.clipping_share(full[:, None]) == count / 100
    for long, count in ((3, 0), (4, 4), (7, 7)):
        flat = wave.copy()
        flat[20 : 20 + long] = 0.5
        assert audio_metrics.clipping_share(flat[:, None]) == count / 100
        flat[60] = 0.51  # the row lies more than 1 % under the peak
        assert audio_metrics.clipping_share(flat[:, None]) == 0
    assert audio_metrics.clipping_share(np.full((10, 1), 0.0009)) == 0, "too soft to have tops"
    assert audio_metrics.clipping_share(np.full((10, 1), 0.0011)) == 1


def lit(*spans: tuple[int, int], bands: tuple[int, ...] = (300,), steps: int = 200) -> np.ndarray:
    """Power of a spectrum whose bins `bands` sound in the frames of each span."""
    power = np.zeros((steps, 1025))
    for start, end in spans:
        power[start:end, list(bands)] = 1.0
    return power


def test_bands_are_thirds_of_an_octave() -> None:
    hertz = np.fft.rfftfreq(2048, 1 / RATE)
    power = np.zeros((1, 1025))
    for centre in (1000, 2000, 8000):
        power[0] = 0
        power[0, np.argmin(np.abs(hertz - centre))] = 2.0
        (bands,) = audio_metrics._bands(power)
        assert bands.sum() == 2 and bands.argmax() == np.argmin(np.abs(audio_metrics.CENTRES - centre))
    inside = (hertz >= 1000 * 2 ** (-10.5 / 3)) & (hertz < 1000 * 2 ** (13.5 / 3))
    assert audio_metrics._bands(np.ones((1, 1025))).sum() == inside.sum()


def test_a_sound_that_stands_still_repeats_and_one_that_comes_once_does_not() -> None:
    assert audio_metrics.looping_share(lit((0, 200))) == 1
    assert audio_metrics.looping_share(lit((0, 200))[:40]) is None, (
        "1.9 s: no second beside a second, half a clip away"
    )
    assert audio_metrics.looping_share(lit((90, 110))) < 0.4
    assert audio_metrics.looping_share(lit()) is None


def test_what_differs_by_2_db_or_more_is_no_repeat() -> None:
    for decibels, share in ((1.5, 1.0), (-1.5, 1.0), (2.5, 0.0), (-2.5, 0.0)):
        levels = np.zeros((80, 24))
        levels[40:] = decibels
        audible = np.ones((80, 24), bool)
        assert audio_metrics._repeats(levels, audible, 40, 40) == share
    late = np.zeros((120, 24))
    late[80:] = 5.0  # a second that holds fewer than 8 of these steps in 20 differs by less than 2 dB
    assert audio_metrics._repeats(late, np.ones((120, 24), bool), 40, 20) == 28 / 61
    half = np.zeros((80, 24))
    half[40:, 12:] = 3.9  # 1.95 in the mean over the bands
    assert audio_metrics._repeats(half, np.ones((80, 24), bool), 40, 40) == 1
    heard = np.repeat([[False] * 12 + [True] * 12], 80, 0)
    assert audio_metrics._repeats(half, heard, 40, 40) == 0, "3.9 in the mean over those that sound"
    assert audio_metrics._repeats(half, heard & False, 40, 40) == 0, "silence is no repeat"


def test_levels_are_in_steps_of_25_ms_and_end_50_db_under_the_loudest() -> None:
    power = lit((0, 200), bands=(300, 100))
    power[:, 100] = 1e-4
    power[:, 40] = 1e-6
    levels, audible = audio_metrics._levels(power)
    assert levels.shape == (round(200 * 1024 / RATE / 0.025 + 0.5), 24)
    middle = levels[len(levels) // 2]
    assert (
        sorted(set(middle.round(6)))[-2:] == pytest.approx([-40, 0], abs=0.01)
        and middle.min() == -50 + middle.max()
    )
    assert audible[len(levels) // 2].sum() == 2
    soft, heard = audio_metrics._levels(1e-6 * power)
    assert soft.min() == -98 and heard[len(soft) // 2].sum() == 1, "-98 dB is silence"


def test_a_copy_is_longer_than_3_seconds_and_than_chance_gives() -> None:
    assert (
        copies.copy_threshold([]) == copies.copy_threshold([1.0, 2.0]) == 3
        and copies.copy_threshold([4.0, 2.0]) == 6
    )


def test_chroma_counts_neither_what_is_soft_nor_what_is_too_low_or_too_high() -> None:
    t = np.arange(2 * copies.RATE) / copies.RATE
    tone = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    found = copies.chroma_frames(0.3 * tone)
    assert found.shape == (21, 12) and found.dtype == np.float32 and found.max() == found[10, 9] == 1
    assert (
        copies.chroma_frames(0.0015 * tone)[10].max() == 1
        and not copies.chroma_frames(0.0013 * tone)[10].any()
    ), "-60 dB"
    other = np.sin(2 * np.pi * 3520 * 2 ** (3 / 12) * t) + np.sin(2 * np.pi * 46 * t)  # C8, F sharp 1
    both = copies.chroma_frames((0.3 * tone + 0.3 * other).astype(np.float32))[10]
    assert both[9] == 1 and both[0] < 0.05 and both[6] < 0.05
    octaves = sum(np.sin(2 * np.pi * hertz * t) for hertz in (523.25, 1046.5)) + 1.2 * np.sin(
        2 * np.pi * 659.26 * t
    )
    two = copies.chroma_frames((0.2 * octaves).astype(np.float32))[10]
    assert two[0] == 1 and two[4] == pytest.approx(0.6, abs=0.05), "the octaves of a class are added"


def test_frames_match_from_a_correlation_of_0_8_on() -> None:
    first = np.zeros((1, 12))
    first[0, 0] = 1
    for other, seconds in ((0.5, copies.HOP_SECONDS), (1.0, 0.0)):
        second = first.copy()
        second[0, 5] = other
        correlation = np.corrcoef(first[0], second[0])[0, 1]
        assert (correlation >= 0.8) == (seconds > 0)
        assert copies.longest_shared_stretches([first], [second])[0].seconds == seconds
    assert copies.longest_shared_stretches([first], [100 * first + 7])[0].seconds == copies.HOP_SECONDS, (
        "whatever their level"
    )


def test_the_first_of_equal_stretches_counts_and_lengths_of_clips_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    long, short = rng.random((40, 12)), rng.random((6, 12))
    found = copies.longest_shared_stretches([short, long, long[:0]], [long[10:30], long, short])
    assert found[0] == (6 * copies.HOP_SECONDS, 2, 0, 0) and found[1] == (40 * copies.HOP_SECONDS, 1, 0, 0)
    assert found[2] == (0, -1, 0, 0) and copies.longest_shared_stretches([], [long]) == []
    part = copies.longest_shared_stretches([long], [long[10:30], long[25:30]])[0]
    assert part == (20 * copies.HOP_SECONDS, 0, 10 * copies.HOP_SECONDS, 0)


def test_chroma_names_the_pitch_class() -> None:
    t = np.arange(2 * copies.RATE) / copies.RATE
    for semitones in (0, 4, 9):
        wave = 0.3 * np.sin(2 * np.pi * 261.63 * 2 ** (semitones / 12) * t)
        middle = copies.chroma_frames(wave.astype(np.float32))[3:-3]
        assert (middle.argmax(1) == semitones).all()
    assert (copies.chroma_frames(np.zeros(copies.RATE, np.float32)) == 0).all()


def test_the_longest_shared_stretch_is_found_where_it_is() -> None:
    rng = np.random.default_rng(1)
    asked, other, training = (rng.random((n, 12)).astype(np.float32) for n in (80, 70, 120))
    asked[30:55] = training[61:86]
    first, second = copies.longest_shared_stretches(
        [asked, other], [other[:0], rng.random((50, 12)), training]
    )
    step = copies.HOP_SECONDS
    assert first.other == 2 and first.seconds == pytest.approx(25 * step)
    assert first.start == pytest.approx(30 * step) and first.other_start == pytest.approx(61 * step)
    assert second.seconds < 5 * step
    assert copies.longest_shared_stretches([other[:0]], [training])[0] == (0, -1, 0, 0)


def test_a_stretch_does_not_run_on_from_one_clip_into_the_next() -> None:
    clip = np.random.default_rng(2).random((60, 12)).astype(np.float32)
    first, second = copies.longest_shared_stretches([clip[:30], clip[30:]], [clip])
    assert first.seconds == second.seconds == pytest.approx(30 * copies.HOP_SECONDS)


def test_silence_is_no_copy_of_silence() -> None:
    quiet = np.zeros((50, 12), np.float32)
    assert copies.longest_shared_stretches([quiet], [quiet])[0].seconds == 0
