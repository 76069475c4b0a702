"""Each measure of a clip on sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from kwela.judge import copies, damage_sound
from kwela.judge.damage_sound import RATE

T = np.arange(10 * RATE) / RATE
NOISE = (0.1 * np.random.default_rng(0).standard_normal(len(T))).astype(np.float32)


def test_highs_of_two_equal_tones_are_half_the_energy() -> None:
    both = 0.3 * np.sin(2 * np.pi * 1000 * T) + 0.3 * np.sin(2 * np.pi * 10_000 * T)
    assert damage_sound.highs(damage_sound.spectrum(both)) == pytest.approx(-3.01, abs=0.05)
    low = 0.3 * np.sin(2 * np.pi * 1000 * T)
    assert damage_sound.highs(damage_sound.spectrum(low)) < -80
    assert damage_sound.highs(damage_sound.spectrum(0.01 * both)) == pytest.approx(-3.01, abs=0.05), "at any level"
    assert damage_sound.highs(damage_sound.spectrum(0 * both)) is None


def test_silent_share() -> None:
    half = NOISE.copy()
    half[len(half) // 2 :] = 0
    assert damage_sound.silent_share(half) == pytest.approx(0.5, abs=0.01)
    assert damage_sound.silent_share(NOISE) == 0
    assert damage_sound.silent_share(0.001 * NOISE) == 1, "-80 dB full scale"


def test_clipping_counts_cut_tops_at_any_level_and_loud_music_not() -> None:
    sine = np.sin(2 * np.pi * 220 * T)[:, None].astype(np.float32)
    assert damage_sound.clipping_share(0.99 * sine) == 0
    cut = np.clip(1.5 * sine, -1, 1)
    expected = 1 - 2 * np.arcsin(1 / 1.5) / np.pi
    assert damage_sound.clipping_share(cut) == pytest.approx(expected, abs=0.01)
    assert damage_sound.clipping_share(0.4 * cut) == pytest.approx(expected, abs=0.01)
    assert damage_sound.clipping_share(np.hstack([0.1 * sine, cut])) == pytest.approx(expected, abs=0.01)
    assert damage_sound.clipping_share(0 * sine) == 0


def tune(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 0.01 * NOISE
    for at in np.arange(0, 10, 0.2):
        age = T - at
        hertz = 110 * 2 ** (rng.integers(36) / 12)
        wave = wave + 0.3 * (age >= 0) * np.exp(-8 * np.clip(age, 0, None)) * np.sin(2 * np.pi * hertz * age)
    return wave.astype(np.float32)


def test_looping_share() -> None:
    def looping(wave: np.ndarray) -> float | None:
        return damage_sound.looping_share(damage_sound.spectrum(wave))

    once = tune(0)
    assert looping(once) < 0.1
    for seconds in (0.8, 1.713, 3.377):
        assert looping(np.resize(once[: round(seconds * RATE)], len(once))) > 0.95
    half = np.concatenate([once[: len(once) // 2], np.resize(once[: round(1.1 * RATE)], len(once) // 2)])
    assert 0.25 < looping(half) < 0.75
    assert looping(0.3 * np.sin(2 * np.pi * 440 * T)) == 1, "a sound that stands still"
    assert looping(0 * once) is None and looping(once[:RATE]) is None, "silence, and too short to tell"


def test_chroma_names_the_pitch_class() -> None:
    t = np.arange(2 * copies.RATE) / copies.RATE
    for semitones in (0, 4, 9):
        wave = 0.3 * np.sin(2 * np.pi * 261.63 * 2 ** (semitones / 12) * t)
        middle = copies.chroma(wave.astype(np.float32))[3:-3]
        assert (middle.argmax(1) == semitones).all()
    assert (copies.chroma(np.zeros(copies.RATE, np.float32)) == 0).all()


def test_the_longest_shared_stretch_is_found_where_it_is() -> None:
    rng = np.random.default_rng(1)
    asked, other, training = (rng.random((n, 12)).astype(np.float32) for n in (80, 70, 120))
    asked[30:55] = training[61:86]
    first, second = copies.longest([asked, other], [other[:0], rng.random((50, 12)), training])
    step = copies.HOP_SECONDS
    assert first.other == 2 and first.seconds == pytest.approx(25 * step)
    assert first.start == pytest.approx(30 * step) and first.other_start == pytest.approx(61 * step)
    assert second.seconds < 5 * step
    assert copies.longest([other[:0]], [training])[0] == (0, -1, 0, 0)


def test_a_stretch_does_not_run_on_from_one_clip_into_the_next() -> None:
    clip = np.random.default_rng(2).random((60, 12)).astype(np.float32)
    first, second = copies.longest([clip[:30], clip[30:]], [clip])
    assert first.seconds == second.seconds == pytest.approx(30 * copies.HOP_SECONDS)


def test_silence_is_no_copy_of_silence() -> None:
    quiet = np.zeros((50, 12), np.float32)
    assert copies.longest([quiet], [quiet])[0].seconds == 0
