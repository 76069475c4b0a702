"""Clips that differ in how they were recorded and not in their music are not told apart.

Both sides hold tunes of one distribution. One property is planted on one side alone: the judge must see
about chance, or refuse with a reason. Two measures are used: the AUC of the judge's own classifier, and the
shift of each feature of the same tunes, which sees a tenth of what the AUC does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from kwela import stats
from kwela.judge.authenticity import classifier, standard_form
from kwela.judge.authenticity import features as audio_features
from kwela.judge.authenticity import folders as authenticity_folders
from kwela.judge.authenticity import judge as authenticity
from kwela.judge.authenticity.folders import Clip, ClipFolder
from kwela.judge.shared import clips

RATE = 16_000
TUNES, SECONDS = 16, 6.8


def tune(seed: int, seconds: float = SECONDS, bass: bool = False) -> np.ndarray:
    """A made tune, float64: a melody of decaying tones with noise on every second beat, peak 0.4.

    bass: a low tone on every third beat, which is a difference in the music.
    """
    rng = np.random.default_rng(seed)
    beat, base = rng.uniform(0.22, 0.32), 110 * 2 ** (rng.integers(12) / 12)
    fall, drum, partials = rng.uniform(3, 8), rng.uniform(0.1, 0.4), int(rng.integers(2, 6))
    t = np.arange(round(0.6 * RATE)) / RATE
    hit = np.exp(-30 * t) * rng.standard_normal(len(t))
    wave = np.zeros(round((seconds + 1) * RATE))
    for k in range(int(seconds / beat) + 1):
        at = round(k * beat * RATE)
        hertz = base * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14]) / 12)
        sound = sum(np.sin(2 * np.pi * p * hertz * t) / p**1.3 for p in range(1, partials + 1))
        wave[at : at + len(t)] += 0.4 * sound * np.exp(-fall * t) + (drum * hit if k % 2 == 0 else 0)
        if bass and k % 3 == 0:
            wave[at : at + len(t)] += 0.5 * np.sin(2 * np.pi * 55 * t) * np.exp(-5 * t)
    wave = wave[: round(seconds * RATE)]
    return 0.4 * wave / np.abs(wave).max()


def padded(wave: np.ndarray, before: float, after: float) -> np.ndarray:
    return np.pad(wave, (round(before * RATE), round(after * RATE)))


def resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(soxr.resample(wave, RATE, rate), rate, RATE)


def dithered(wave: np.ndarray, bits: int) -> np.ndarray:
    rng, step = np.random.default_rng(1), 2.0 ** (1 - bits)
    return np.round(wave / step + rng.random(len(wave)) - rng.random(len(wave))) * step


PLANTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "length": lambda wave: wave[: round(5.7 * RATE)],
    "loudness": lambda wave: wave * 0.01,
    "silence at the ends": lambda wave: padded(wave[RATE // 2 : -RATE // 2], 1.5, 2.5),
    "faint noise at the ends": lambda wave: (
        padded(wave[RATE // 2 : -RATE // 2], 1, 1)
        + dithered(padded(0 * wave[RATE // 2 : -RATE // 2], 1, 1), 16)
    ),
    "start in the song": lambda wave: wave[round(0.7 * RATE) :],
    "sample rate of 8 kHz": lambda wave: resampled(wave, 8000),
    "sample rate of 11 kHz": lambda wave: resampled(wave, 11_025),
    "dither": lambda wave: dithered(wave, 16),
    "8 bits": lambda wave: dithered(wave, 8),
    "hiss": lambda wave: wave + 0.003 * np.random.default_rng(2).standard_normal(len(wave)),
    "constant offset": lambda wave: wave + 0.3,
    "polarity": lambda wave: -wave,
}


@pytest.fixture(scope="module")
def tunes() -> dict[str, list[np.ndarray]]:
    """TUNES tunes of each side, of one distribution."""
    return {
        side: [tune(1000 * number + k) for k in range(TUNES)]
        for number, side in enumerate(("reference", "contrast"))
    }


_features: dict[Any, np.ndarray] = {}  # of each wave in each form


def measured(*sides: list[np.ndarray]) -> list[np.ndarray]:
    """The features (N, 30) of each side, not blurred, in the form that they have in common."""
    waves = [[wave.astype(np.float32) for wave in side] for side in sides]
    form = standard_form.common_form([standard_form.describe(wave) for wave in side] for side in waves)
    for wave in (wave for side in waves for wave in side):
        if (key := (wave.tobytes(), form)) not in _features:
            _features[key] = audio_features.features(standard_form.standardise(wave, form))
    return [np.array([_features[wave.tobytes(), form] for wave in side]) for side in waves]


def auc(reference: np.ndarray, contrast: np.ndarray) -> stats.Interval:
    """The AUC of held-out tunes with its interval, as the judge computes it. Features are blurred here."""
    features = np.concatenate([reference, contrast])
    features = features + audio_features.RESOLUTIONS * np.random.default_rng(0).standard_normal(
        features.shape
    )
    genuine = np.repeat([True, False], [len(reference), len(contrast)])
    artists = [str(k) for k in range(len(features))]
    splits = classifier.split_by_artist(genuine, artists)
    found = classifier.fit(features, genuine, splits, [0.1])
    return stats.auc_by_group(found.held_out.log_odds, genuine, artists, 300)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_of_the_recording_is_not_heard(
    name: str, tunes: dict[str, list[np.ndarray]]
) -> None:
    planted = [PLANTED[name](wave) for wave in tunes["contrast"]]
    reference, same, other = measured(tunes["reference"], tunes["contrast"], planted)
    interval = auc(reference, other)
    assert interval.low < 0.5, interval
    change = other - same
    spread = np.hypot(np.concatenate([reference, same]).std(0), audio_features.RESOLUTIONS)
    shift = change.mean(0) / spread
    error = np.maximum(change.std(0) / np.sqrt(TUNES), 1e-6)
    heard = (np.abs(shift) > 0.35) & (np.abs(change.mean(0)) > 3 * error)
    assert not {audio_features.NAMES[k]: round(float(shift[k]), 2) for k in np.flatnonzero(heard)}


def test_a_planted_difference_is_heard_where_nothing_is_made_equal(
    tunes: dict[str, list[np.ndarray]],
) -> None:
    """The negative control: as before, the middle 6.8 s of each clip, and a shorter one repeated."""
    old = [
        np.array(
            [audio_features.features(clips.cut_or_repeat(wave.astype(np.float32), 108_800)) for wave in side]
        )
        for side in (tunes["reference"], [wave[: round(4.5 * RATE)] for wave in tunes["contrast"]])
    ]
    assert auc(*old).low > 0.6


def test_a_difference_of_the_music_is_heard_in_spite_of_all_planted_ones(
    tunes: dict[str, list[np.ndarray]],
) -> None:
    """The positive control: contrast has a bass, and every clip of it is recorded in another way."""
    planted = list(PLANTED.values())
    with_bass = [planted[k % len(planted)](tune(5000 + k, bass=True)) for k in range(TUNES)]
    assert auc(*measured(tunes["reference"], with_bass)).low > 0.75


def tilted(wave: np.ndarray) -> np.ndarray:
    """A bright equaliser: 12 dB more at 8 kHz than in the bass."""
    return wave - 0.6 * np.append(0, wave[:-1])


@pytest.fixture(scope="module")
def judged(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Callable[[int], np.ndarray]], dict[str, Any]]:
    """Judge files: reference against a contrast of 40 clips made by number."""
    root = tmp_path_factory.mktemp("judged")

    def written(name: str, made: Callable[[int], np.ndarray], count: int = 40) -> Path:
        (root / name).mkdir()
        for k in range(count):
            soundfile.write(root / name / f"{name}{k // 2} - {k % 2}.wav", made(k), RATE)
        return root / name

    reference = written("reference", lambda k: tune(k, 7.0))
    samples = written("samples", lambda k: tune(2000 + k, 7.0), 2)

    def judge(made: Callable[[int], np.ndarray]) -> dict[str, Any]:
        contrast = written(made.__qualname__ + str(len(list(root.iterdir()))), made)
        return authenticity.judge(reference, contrast, samples, out=root / "out", quick=True).to_dict()

    return judge


def test_clips_of_another_length_are_not_told_apart(judged: Callable[..., dict[str, Any]]) -> None:
    """Clips of 12 s and 9 s once gave an AUC of .93."""
    found = judged(lambda k: tune(1000 + k, 5.6))
    assert found["status"] == "refused" and "not told apart" in found["why"]
    assert found["auc"]["ci"][0] < 0.5 < found["auc"]["ci"][1]
    assert found["standard_form"]["seconds"] == pytest.approx(5.0, abs=0.2)
    assert found["features_version"] == audio_features.FEATURES_VERSION


def coded(wave: np.ndarray) -> np.ndarray:
    """A codec that leaves holes in the spectrum: MP3 at 16 kbit/s."""
    return clips.encode_and_decode_mp3(wave.astype(np.float32), 16_000)


def test_what_a_codec_left_is_refused(judged: Callable[..., dict[str, Any]]) -> None:
    found = judged(lambda k: coded(tune(1000 + k, 5.6)))
    assert found["status"] == "refused" and ("colour" in found["why"] or "not told apart" in found["why"])


def test_what_only_colours_the_sound_is_refused(judged: Callable[..., dict[str, Any]]) -> None:
    found = judged(lambda k: tilted(tune(1000 + k, 5.6)))
    assert found["auc"]["ci"][0] > authenticity.MIN_AUC  # so it is heard
    assert found["status"] == "refused" and "colour" in found["why"] and found["score"] is None


def test_music_that_differs_is_measured(judged: Callable[..., dict[str, Any]]) -> None:
    """The positive control of both refusals: shorter, coloured, and with a bass."""
    assert judged(lambda k: tilted(tune(1000 + k, 5.6, bass=True)))["status"] == "measured"


def test_a_side_of_faulty_recordings_is_refused_with_the_reason(tmp_path: Path) -> None:
    for name, rate in (("reference", 5000), ("contrast", RATE), ("samples", RATE)):
        (tmp_path / name).mkdir()
        for k in range(2):
            wave = soxr.resample(tune(k + len(name)), RATE, rate)
            soundfile.write(tmp_path / name / f"{k}.wav", wave, rate)
    places = {name: tmp_path / name for name in ("reference", "contrast", "samples")}
    evidence = authenticity.evaluate(authenticity_folders.read_folders(places)[0])
    assert evidence.status == "refused" and "reference: nothing is left" in evidence.why
    assert "its sample rate leaves 2250 Hz" in evidence.why


def test_noise_that_hides_the_music_of_one_side_is_refused_with_both_figures() -> None:
    def folder(name: str, noise: float) -> ClipFolder:
        recording = standard_form.Recording(8.0, 7000.0, noise)
        return ClipFolder(
            name, [Clip(Path(f"{name}{k}.wav"), "", str(k // 2), f"{name}{k}", recording) for k in range(40)]
        )

    folders = {
        name: folder(name, noise) for name, noise in (("reference", -60), ("contrast", -12), ("samples", -60))
    }
    evidence = authenticity.evaluate(folders)
    assert evidence.status == "refused" and "reference -60 dB, contrast -12 dB" in evidence.why


@pytest.mark.parametrize(
    ("channels", "taken"),
    [
        (lambda wave: [wave, 0.9 * np.roll(wave, 7)], 0),
        (lambda wave: [0.5 * wave, -wave], 1),
        (lambda wave: [wave, wave], None),
        (lambda wave: [wave, tune(9)], None),
    ],
    ids=["late", "turned round", "equal", "other music"],
)
def test_channels_that_are_copies_are_not_mixed(
    tmp_path: Path, channels: Callable[[np.ndarray], list[np.ndarray]], taken: int | None
) -> None:
    made = np.stack(channels(tune(3)), 1)
    soundfile.write(tmp_path / "stereo.wav", made, RATE)
    heard = standard_form.read(tmp_path / "stereo.wav")
    expected = made.mean(1) if taken is None else made[:, taken]
    assert np.square(heard - expected).mean() < 0.01 * np.square(expected).mean()


def test_what_was_cut_off_above_a_frequency_is_seen_and_a_dull_tone_is_not_taken_for_it() -> None:
    wave = tune(1)
    assert standard_form.bandwidth(wave) == standard_form.MAX_BANDWIDTH
    assert standard_form.bandwidth(resampled(wave, 8000)) == pytest.approx(3800, abs=250)
    tone = np.sin(2 * np.pi * 220 * np.arange(5 * RATE) / RATE)
    assert standard_form.bandwidth(tone) == standard_form.MAX_BANDWIDTH


def test_silence_stays_silence_and_a_clip_keeps_its_form() -> None:
    form = standard_form.StandardForm(6.0, 5000.0)
    assert not standard_form.standardise(np.zeros(100_000, np.float32), form).any()
    wave = standard_form.standardise(tune(1).astype(np.float32), form)
    assert wave.shape == (96_000,) and wave.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(wave))
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    assert spectrum[hertz > 5500].max() < 0.02 * spectrum.max()
    assert clips.loudness(wave, RATE) == pytest.approx(clips.LUFS, abs=0.5)
