from __future__ import annotations

import time

import made_music
import numpy as np
import pytest

from kwela.judge.authenticity import features as audio_features
from kwela.judge.authenticity import standard_form
from kwela.judge.authenticity.features import NAMES

RNG = np.random.default_rng(0)


def heard(wave: np.ndarray) -> dict[str, float]:
    return dict(
        zip(
            NAMES,
            audio_features.features(standard_form.standardise(wave.astype(np.float32)[:160_000])),
            strict=True,
        )
    )


def pattern(
    bpm: float, steps: tuple[int, ...], sound: np.ndarray, per_beat: int = 4, late: float = 0.0
) -> np.ndarray:
    """`sound` at steps of a bar of 4 beats; odd steps `late` of a step later."""
    mix = made_music.Mix()
    step = 60 / bpm / per_beat
    for bar in range(20):
        for s in steps:
            mix.put(sound, (bar * 4 * per_beat + s + (late if s % 2 else 0)) * step)
    return mix.wave[:160_000]


SHAKE = made_music.hiss(RNG, 3500, 7500, 0.03)
LOG = made_music.drum_tone(50, 0.45, 6, 1.0)
KICK = made_music.kick(48, 0.12)


def test_every_feature_is_documented_and_in_a_family() -> None:
    assert len(NAMES) == len(set(NAMES)) == 30
    assert all(
        f.meaning and f.unit and f.resolution > 0 and f.family in audio_features.FAMILIES
        for f in audio_features.DOCUMENTED.values()
    )


@pytest.mark.parametrize("bpm", [92.0, 111.0, 123.5, 148.0])
def test_tempo_is_that_of_the_beat(bpm: float) -> None:
    found = heard(pattern(bpm, (0, 4, 8, 12), KICK) + 0.2 * pattern(bpm, tuple(range(16)), SHAKE))
    assert found["tempo"] == pytest.approx(bpm, abs=1.0)
    assert (found["tempo_near"] > 0.5) == (bpm == 111)


def test_tempo_is_folded_by_octaves() -> None:
    slow = heard(pattern(55.5, (0, 4, 8, 12), KICK) + 0.2 * pattern(55.5, tuple(range(16)), SHAKE))
    assert slow["tempo"] == pytest.approx(111, abs=1)


def test_a_log_drum_is_a_tone_that_glides_and_rings_and_a_kick_is_not() -> None:
    log, kick = heard(pattern(111, (0, 6, 11), LOG)), heard(pattern(111, (0, 6, 11), KICK))
    assert log["low_tonal"] > 0.9 and kick["low_tonal"] < 0.1
    assert log["low_decay"] == pytest.approx(0.45, abs=0.08) and kick["low_decay"] < 0.2
    assert 20 * 2 ** log["low_pitch"] == pytest.approx(50, abs=2)
    assert log["low_glide"] > 0.5
    assert kick["kick_rate"] == pytest.approx(kick["low_rate"]) and log["kick_rate"] < 0.2
    assert log["low_rate"] == pytest.approx(3 / (4 * 60 / 111), abs=0.2)


def test_a_tone_without_glide_has_none() -> None:
    assert abs(heard(pattern(111, (0, 6, 11), made_music.drum_tone(60, 0.45, 0, 1.0)))["low_glide"]) < 0.2


def test_a_bass_line_spreads_and_one_note_does_not() -> None:
    line = sum(
        pattern(111, (s,), made_music.drum_tone(h, 0.4, 4, 1.0)) for s, h in ((0, 50), (6, 65), (11, 80))
    )
    assert heard(line)["low_spread"] > 2.5
    assert heard(pattern(111, (0, 6, 11), LOG))["low_spread"] < 0.5


def test_four_on_the_floor_is_told_from_syncopation() -> None:
    shakers = 0.2 * pattern(120, tuple(range(16)), SHAKE)
    floor = heard(pattern(120, (0, 4, 8, 12), KICK) + shakers)
    broken = heard(pattern(120, (0, 3, 6, 10, 13), KICK) + shakers)
    assert floor["four_on_floor"] > 0.95 and broken["four_on_floor"] < 0.7
    assert floor["off_beat"] < 0.05 and broken["off_beat"] > 0.4
    assert floor["syncopation"] == 0 and broken["syncopation"] > 0.4


def test_shakers_on_sixteenths_are_told_from_eighths() -> None:
    beat = pattern(111, (0, 4, 8, 12), KICK)
    sixteenth = heard(beat + 0.3 * pattern(111, tuple(range(16)), SHAKE))
    eighth = heard(beat + 0.3 * pattern(111, tuple(range(0, 16, 2)), SHAKE))
    assert sixteenth["sixteenths"] > 0.5 > 0.3 > eighth["sixteenths"]


def test_swing_is_long_over_short() -> None:
    beat = pattern(100, (0, 4, 8, 12), KICK)
    for late, ratio in ((0.0, 1.0), (1 / 3, 2.0)):
        swung = heard(beat + 0.3 * pattern(100, tuple(range(16)), SHAKE, late=late))["swing"]
        assert swung == pytest.approx(ratio, rel=0.15)


@pytest.mark.parametrize(("shape", "rich"), [((0, 3, 7), False), ((0, 4, 7), False), ((0, 3, 7, 10), True)])
def test_sevenths_are_told_from_triads(shape: tuple[int, ...], rich: bool) -> None:
    mix = made_music.Mix()
    for k in range(5):
        made_music.chord(mix, 57 + (0, 5)[k % 2], shape, 2 * k, 2.0, 0.5, 3)
    found = heard(mix.wave[:160_000])
    assert (found["sevenths"] > 0.5) == rich
    assert (found["seventh_margin"] > 0) == rich


def test_features_are_blind_to_level() -> None:
    wave = made_music.clip("log_drum", 5, 0)
    loud, soft = (audio_features.features(standard_form.standardise(wave * gain)) for gain in (1.0, 0.03))
    assert np.allclose(loud, soft, rtol=0.05, atol=0.15)
    assert not np.allclose(
        loud, audio_features.features(standard_form.standardise(made_music.clip("house", 5, 0))), atol=0.5
    )


def test_features_are_finite_where_there_is_nothing_to_hear() -> None:
    for name, wave in made_music.signals().items():
        found = audio_features.features(standard_form.standardise(wave))
        assert found.shape == (30,) and np.isfinite(found).all(), name
    assert not np.delete(audio_features.features(np.zeros(160_000, np.float32)), NAMES.index("swing")).any()


@pytest.mark.parametrize("samples", [16_000, 160_001])
def test_another_length_is_an_error(samples: int) -> None:
    with pytest.raises(ValueError, match="tenths"):
        audio_features.features(np.zeros(samples, np.float32))


def test_a_clip_takes_less_than_60_ms() -> None:
    wave = standard_form.standardise(made_music.clip("log_drum", 1, 0))
    audio_features.features(wave)
    seconds = []
    for _ in range(5):
        started = time.process_time()
        audio_features.features(wave)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.06
