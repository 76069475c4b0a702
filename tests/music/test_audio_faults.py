"""Samples that are no sound are refused by name, and sound that is hard to hear is heard."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import made_audio as made
from kwela.errors import UserError
from kwela.music import audio

TONE = made.tone(3.0)
LEVEL = float(np.sqrt(np.square(TONE).mean()))


def level(path: Path, start: float = 0.0, seconds: float | None = None) -> float:
    return float(np.sqrt(np.square(audio.load(path, start, seconds)).mean()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 101.0])
@pytest.mark.parametrize("kind", ["WAV", "W64", "AIFF", "AU", "CAF"])
def test_one_bad_sample_anywhere_is_found_before_a_row_is_given(
    value: float, kind: str, tmp_path: Path
) -> None:
    bad = TONE.copy()
    bad[round(2.7 * made.RATE)] = value
    path = tmp_path / "x.wav"
    path.write_bytes(made.by_sndfile(bad, kind=kind, subtype="FLOAT"))
    for read in (audio.probe, audio.check, audio.load):
        with pytest.raises(audio.UnreadableAudio, match=r"x\.wav: .*its sample at 2\.700 s is"):
            read(path)
    assert len(audio.load(path, 1.0, 1.5)) == 66_150  # what lies before it is sound


def test_a_number_that_no_float_of_32_bits_holds_is_refused(tmp_path: Path) -> None:
    bad = TONE.astype(np.float64)
    bad[-1] = 1e300
    (tmp_path / "x.wav").write_bytes(made.wav(bad, kind="<f8"))
    with pytest.raises(UserError, match="NaN or infinity"):
        audio.probe(tmp_path / "x.wav")


def test_hot_floating_samples_are_sound(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(made.wav(30 * TONE, kind="<f4"))
    audio.probe(tmp_path / "x.wav")
    assert level(tmp_path / "x.wav") == pytest.approx(30 * LEVEL, rel=1e-3)


def write(path: Path, wave: np.ndarray) -> Path:
    """Channels (n, channels) in the format of the suffix."""
    how = {".mp3": ("libmp3lame", "mp3"), ".m4a": ("aac", "ipod"), ".aac": ("aac", "adts")}
    if path.suffix in how:
        path.write_bytes(made.encoded(wave, made.RATE, *how[path.suffix], 160_000))
    elif path.suffix == ".opus":
        path.write_bytes(made.encoded(wave, 24_000, "libopus", "opus", 160_000))
    else:
        kinds = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
        path.write_bytes(made.by_sndfile(wave, kind=kinds[path.suffix]))
    return path


SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_channels_that_cancel_are_not_silence(suffix: str, tmp_path: Path) -> None:
    for right in (-TONE, -0.9 * TONE):
        path = write(tmp_path / f"x{suffix}", np.stack([TONE, right], 1))
        assert level(path) == pytest.approx(LEVEL, rel=0.1)
        whole, part = audio.load(path), audio.load(path, 1.0, 0.5)
        np.testing.assert_allclose(part, whole[44_100:66_150], atol=1e-6)
    plain = write(tmp_path / f"y{suffix}", np.stack([TONE, 0 * TONE], 1))
    assert level(plain) == pytest.approx(LEVEL / 2, rel=0.1)  # otherwise the mean


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize("container", ["matroska", "mov"])
def test_floating_samples_in_other_containers_are_looked_at_too(
    codec: str, container: str, tmp_path: Path
) -> None:
    bad = TONE.copy()
    bad[2 * made.RATE] = np.nan
    (tmp_path / "good.wav").write_bytes(made.encoded(TONE, made.RATE, codec, container))
    audio.probe(tmp_path / "good.wav")
    (tmp_path / "bad.wav").write_bytes(made.encoded(bad, made.RATE, codec, container))
    with pytest.raises(audio.UnreadableAudio, match=r"its sample at 2\.000 s is NaN"):
        audio.probe(tmp_path / "bad.wav")


def test_channels_that_cancel_only_somewhere_or_among_six_are_not_silence(tmp_path: Path) -> None:
    half = np.where(np.arange(len(TONE)) < len(TONE) // 2, TONE, -TONE)
    path = write(tmp_path / "x.wav", np.stack([TONE, half], 1))
    assert level(path, 2.0, 1.0) > 0.8 * LEVEL
    silent = 0 * TONE
    path = write(tmp_path / "y.flac", np.stack([TONE, -TONE, silent, silent, silent, silent], 1))
    assert level(path) == pytest.approx(LEVEL, rel=1e-3)


def test_silence_and_unlike_channels_are_averaged_as_ever(tmp_path: Path) -> None:
    other = made.tone(3.0, hertz=523.0)
    path = write(tmp_path / "x.wav", np.stack([TONE, other], 1))
    np.testing.assert_allclose(audio.whole(path, made.RATE)[0], (TONE + other) / 2, atol=1e-4)
    assert level(write(tmp_path / "y.wav", np.zeros((9999, 2)))) == 0


VORBIS = made.by_sndfile(TONE, kind="OGG")
OPUS = made.encoded(made.tone(3.0, 48_000), 48_000, "libopus", "opus", 48_000)
STEREO = made.by_sndfile(np.stack([made.tone(3.0, 11_025)] * 2, 1), 11_025, "OGG")


@pytest.mark.parametrize(
    "links", [[VORBIS, VORBIS], [OPUS, OPUS], [VORBIS, STEREO, OPUS]], ids=["vorbis", "opus", "mixed"]
)
def test_every_link_of_a_chained_ogg_is_heard(links: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    for data in (
        made.chained(links),
        b"".join(links),
    ):  # with serial numbers of their own, and as `cat` joins
        path.write_bytes(data)
        assert audio.duration(path) == pytest.approx(3.0 * len(links), abs=2e-3)
        whole = audio.load(path)
        for number in range(len(links)):
            middle = audio.load(path, 3 * number + 1.0, 1.0)
            assert np.abs(np.fft.rfft(middle)).argmax() == 440
            np.testing.assert_allclose(middle, whole[(3 * number + 1) * 44_100 :][:44_100], atol=1e-6)
        across = audio.load(path, 2.5, 1.0)
        np.testing.assert_allclose(across, whole[110_250:154_350], atol=1e-6)


@pytest.mark.parametrize("suffix", [".mp3", ".aac"])
def test_a_sample_rate_that_changes_changes_no_pitch(suffix: str, tmp_path: Path) -> None:
    rates = (44_100, 22_050, 48_000)
    if suffix == ".mp3":
        pieces = [made.mp3(made.tone(2.0, rate), rate, xing=False) for rate in rates]
    else:
        pieces = [made.encoded(made.tone(2.0, rate), rate, "aac", "adts", 64_000) for rate in rates]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"".join(pieces))
    assert audio.duration(path) == pytest.approx(6.0, abs=0.3)
    for start in (0.5, 2.6, 4.7):
        assert np.abs(np.fft.rfft(audio.load(path, start, 1.0))).argmax() == 440


@pytest.mark.parametrize("codec", ["mp3", "aac"])
def test_mono_that_turns_into_stereo_is_heard_on(codec: str, tmp_path: Path) -> None:
    how = {"mp3": ("libmp3lame", "mp3"), "aac": ("aac", "adts")}[codec]
    options = {"write_xing": "0", "id3v2_version": "0"} if codec == "mp3" else {}
    waves = (TONE, np.stack([TONE, TONE], 1))
    path = tmp_path / f"x.{codec}"
    path.write_bytes(b"".join(made.encoded(wave, made.RATE, *how, 96_000, options) for wave in waves))
    assert audio.duration(path) == pytest.approx(6.0, abs=0.2)
    assert level(path, 4.0, 1.0) == pytest.approx(level(path, 1.0, 1.0), rel=0.2)


def test_damage_in_the_middle_of_an_mp3_is_named(tmp_path: Path) -> None:
    data = made.mp3(TONE, xing=False)
    half = len(data) // 2
    (tmp_path / "x.mp3").write_bytes(data[:half] + bytes(4000) + data[half + 4000 :])
    with pytest.raises(UserError, match=r"x\.mp3.*damaged in its middle: \d+ bytes"):
        audio.duration(tmp_path / "x.mp3")


@pytest.mark.parametrize("rate", [1, 11, 999, 2_000_000])
def test_a_sample_rate_that_no_recording_has_is_refused(rate: int, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(made.wav(TONE, rate))  # resampling a second of 1 Hz gives 44,100
    with pytest.raises(UserError, match=rf"its sample rate is {rate} Hz"):
        audio.duration(tmp_path / "x.wav")


def test_no_more_than_some_hours_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(made.wav(TONE))
    monkeypatch.setattr(audio, "LONGEST", 2)
    assert audio.duration(path) == 3.0 and len(audio.load(path, 2.0, 0.5)) == 22_050
    with pytest.raises(UserError, match="the most that is read at once"):
        audio.load(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.wav", b"la la la\n" * 99, "it has no RIFF/WAVE header"),
        ("x.wav", made.wav(TONE)[:30], "truncated before its samples"),
        ("x.mp3", b"la la la\n" * 99, "no audio that kwela knows"),
        ("x.ogg", made.by_sndfile(TONE, kind="OGG")[:60], "it holds no samples"),
        ("x.flac", made.by_sndfile(TONE)[:40], "truncated before its samples"),
        ("x.ogg", b"OggS" + bytes(400), "truncated before its samples"),
        ("x.mp3", b"\x89PNG\r\n\x1a\n" + bytes(5000), "no audio that kwela knows"),
        (
            "x.m4a",
            made.encoded(TONE, made.RATE, "aac", "ipod", 64_000)[:5000],
            r"its index \(moov\) is missing",
        ),
    ],
    ids=["text.wav", "cut.wav", "text.mp3", "cut.ogg", "cut.flac", "junk.ogg", "png.mp3", "cut.m4a"],
)
def test_what_is_no_audio_is_refused_in_words(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    for read in (audio.probe, audio.duration, audio.load):
        with pytest.raises(audio.UnreadableAudio, match=rf"{name}: not readable as audio: .*{reason}"):
            read(tmp_path / name)


def test_many_channels_and_empty_promises_take_no_memory_and_no_time(tmp_path: Path) -> None:
    wide = made.wav(np.zeros((40_000, 255), np.float32), 8000)
    flac = made.by_sndfile(TONE)
    promising = flac[:15] + b"\xff\xff\xff" + flac[18:42] + b"\xff" * (3 << 20)  # frames of up to 16 MB
    for name, data in (("x.wav", wide), ("x.flac", promising), ("x.mp3", b"\xff" * (3 << 20))):
        (tmp_path / name).write_bytes(data)
        tracemalloc.start()
        began = time.process_time()
        try:
            audio.probe(tmp_path / name)
        except UserError:
            assert name != "x.wav"
        assert time.process_time() - began < 5
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        tracemalloc.stop()
