"""Audio in six formats: what decodes, what is refused, and the log-mel against its formula written out."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwela.errors import UserError
from kwela.music import audio

RATE = 48_000  # not ours, so that resampling is always in the path


BY_SNDFILE = {
    **{".wav": "WAV", ".wave": "WAV", ".bwf": "WAVEX", ".rf64": "RF64", ".w64": "W64", ".aiff": "AIFF"},
    **{
        ".aif": "AIFF",
        ".aifc": "AIFF",
        ".au": "AU",
        ".snd": "AU",
        ".caf": "CAF",
        ".flac": "FLAC",
        ".ogg": "OGG",
        ".oga": "OGG",
    },
}
BY_FFMPEG = {
    **{".mp3": ("libmp3lame", "mp3"), ".m4a": ("aac", "ipod"), ".aac": ("aac", "adts")},
    **{".opus": ("libopus", "opus"), ".webm": ("libopus", "webm"), ".mka": ("libopus", "matroska")},
    **{".mp2": ("mp2", "mp2"), ".m4b": ("aac", "ipod"), ".mp4": ("aac", "mp4")},
}


def chirp(seconds: float, rate: int = RATE) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * t) * t) * (0.6 + 0.4 * np.sin(5 * t))).astype(np.float32)


def write(path: Path, wave: np.ndarray, rate: int = RATE) -> Path:
    """Stereo `wave` in the format of the suffix, compressed ones by FFmpeg's own encoders."""
    if path.suffix in BY_SNDFILE:
        soundfile.write(path, np.stack([wave, wave], 1), rate, format=BY_SNDFILE[path.suffix])
        return path
    codec, container = BY_FFMPEG[path.suffix]
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo", bit_rate=128_000)
        whole = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        whole.sample_rate, whole.pts = rate, 0
        cut = av.AudioResampler(
            format=stream.format, layout="stereo", rate=rate, frame_size=stream.frame_size or 1152
        )
        for frame in [*cut.resample(whole), *cut.resample(None), None]:
            out.mux(stream.encode(frame))
    return path


@pytest.fixture(scope="module", params=sorted(audio.AUDIO_SUFFIXES))
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("audio") / f"chirp{request.param}", chirp(6.0))


def test_every_format_probes_and_knows_its_length(file: Path) -> None:
    audio.probe(file)
    codec_padding = 0.05  # AAC encoders pad whole frames
    assert audio.duration(file) == pytest.approx(6.0, abs=codec_padding)
    assert len(audio.load(file)) == pytest.approx(
        6.0 * audio.SAMPLE_RATE, abs=codec_padding * audio.SAMPLE_RATE
    )


def test_a_segment_is_the_same_samples_as_that_stretch_of_the_whole(file: Path) -> None:
    whole = audio.load(file)
    segment = audio.load(file, 2.37, 1.5)
    at = round(2.37 * audio.SAMPLE_RATE)
    assert segment.dtype == np.float32
    assert len(segment) == round(1.5 * audio.SAMPLE_RATE)
    np.testing.assert_allclose(segment, whole[at : at + len(segment)], atol=2e-6)
    assert (
        np.abs(segment - whole[at + 40 : at + 40 + len(segment)]).max() > 0.01
    )  # a shift by 1 ms would show


def test_every_format_holds_the_wave_that_was_written(file: Path) -> None:
    truth = chirp(6.0, audio.SAMPLE_RATE)[44_100:88_200]
    got = audio.load(file, 1.0, 1.0)
    lag = np.argmax(scipy.signal.correlate(got, truth)) - (len(truth) - 1)
    delays = {".aac": 1100, ".mp2": 500}  # they cannot say how long the encoder's delay is
    assert abs(lag) <= delays.get(file.suffix, 2)
    got = audio.load(file, 1.0 + lag / audio.SAMPLE_RATE, 1.0)
    assert np.abs(got - truth).mean() < 0.01


def test_a_segment_past_the_end_is_short_and_then_empty(file: Path) -> None:
    assert 0 < len(audio.load(file, 5.5, 1.5)) < audio.SAMPLE_RATE
    assert len(audio.load(file, 60.0, 1.5)) == 0


@pytest.mark.parametrize(
    "name", ["text.mp3", "text.wav", "text.ogg", "empty.wav", "empty.mp3", "cut.wav", "no.wav"]
)
@pytest.mark.parametrize("read", [audio.probe, audio.duration, audio.load])
def test_a_file_that_is_not_audio_is_refused_by_name(name: str, read: object, tmp_path: Path) -> None:
    path = tmp_path / name
    kind = path.stem
    if kind == "text":
        path.write_text("These are the words of a song, not its sound.\n" * 200)
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        whole = write(tmp_path / "whole.wav", chirp(1.0)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    if kind == "cut" and read is not audio.probe:
        assert read(path) is not None  # it is read to where it ends, but no row begins with it
        return
    with pytest.raises(UserError) as caught:
        read(path)  # type: ignore[operator]
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_without_an_audio_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for frame in (picture, None):
            out.mux(stream.encode(frame))
    with pytest.raises(UserError, match=r"film\.m4a.*no audio stream"):
        audio.probe(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A short file of each format."""
    folder = tmp_path_factory.mktemp("small")
    return {
        suffix: write(folder / f"a{suffix}", chirp(0.3)).read_bytes()
        for suffix in sorted(audio.AUDIO_SUFFIXES)
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(sorted(audio.AUDIO_SUFFIXES)),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
    keep=st.floats(0, 1),
)
def test_mutated_files_decode_or_are_refused(small, tmp_path, suffix, changes, keep) -> None:
    data = bytearray(small[suffix])
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / f"mutant{suffix}"
    path.write_bytes(data if keep > 0.3 else data[: int(len(data) * keep / 0.3)])
    for read in (audio.probe, audio.duration, lambda path: audio.load(path, 0.1, 0.1)):
        with contextlib.suppress(UserError):
            read(path)


def test_rubbish_after_the_last_frame_is_passed_over_but_not_within(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp3", chirp(1.0))
    expected, data = audio.load(whole), whole.read_bytes()
    whole.write_bytes(data + b"\0\0")
    np.testing.assert_array_equal(audio.load(whole), expected)
    whole.write_bytes(data[: len(data) // 2] + b"\xff\xfb" * 400 + data[len(data) // 2 + 800 :])
    with pytest.raises(UserError, match=r"a\.mp3.*damaged in its middle"):
        audio.load(whole)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.wav")
    with pytest.raises(UserError, match=r"p\.wav.*not a regular file"):
        audio.load(tmp_path / "p.wav")


def test_eight_bit_and_float_samples_come_out_at_the_same_level(tmp_path: Path) -> None:
    wave = chirp(1.0, audio.SAMPLE_RATE)
    levels = []
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"):
        soundfile.write(tmp_path / "x.wav", wave, audio.SAMPLE_RATE, subtype=subtype)
        direct = audio.load(tmp_path / "x.wav")
        (tmp_path / "x.wav").rename(tmp_path / "x.m4a")  # the suffix sends it through FFmpeg
        np.testing.assert_allclose(audio.load(tmp_path / "x.m4a"), direct, atol=1e-6)
        levels.append(np.abs(direct).max())
    np.testing.assert_allclose(levels, levels[-1], atol=0.01)


def test_probing_a_thousand_wavs_takes_about_a_second(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", chirp(30.0))
    began = time.process_time()
    for _ in range(200):
        audio.probe(path)
    assert (time.process_time() - began) / 200 < 1.5e-3


def test_the_log_mel_is_its_formula() -> None:
    rng = np.random.default_rng(3)
    wave = (chirp(2.0)[: audio.SEGMENT] + 0.01 * rng.standard_normal(audio.SEGMENT)).astype(np.float32)
    got = audio.log_mel(wave).numpy()
    expected = log_mel_by_hand(wave)
    assert got.shape == (128, 64) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert np.abs(got - log_mel_by_hand(wave, htk=True)).max() > 0.1  # another mel scale would show


def log_mel_by_hand(wave: np.ndarray, htk: bool = False) -> np.ndarray:
    """The contract's sentence in SciPy and double precision, band by band."""
    padded = np.pad(wave.astype(np.float64), 512, mode="reflect")
    window = scipy.signal.get_window("hann", 2048)
    columns = [
        np.abs(scipy.fft.rfft(padded[at : at + 2048] * window)) ** 2 for at in range(0, 64 * 1024, 1024)
    ]
    power = np.array(columns).T
    hertz = np.arange(1025) * 44_100 / 2048

    def slaney(f: float) -> float:
        return (
            2595 * np.log10(1 + f / 700)
            if htk
            else f * 0.015
            if f < 1000
            else 15 + 27 * np.log(f / 1000) / np.log(6.4)
        )

    fine = np.geomspace(15, 21_000, 400_001)
    edges = np.interp(np.linspace(slaney(20), slaney(20_000), 130), [slaney(f) for f in fine], fine)
    bands = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        triangle = np.interp(hertz, [low, centre, high], [0, 1, 0], left=0, right=0)
        bands.append(triangle * 2 / (high - low) @ power)
    return np.log10(np.maximum(bands, 1e-5))


def test_the_log_mel_takes_batches_and_refuses_other_lengths() -> None:
    waves = torch.randn(2, 3, audio.SEGMENT) * 0.1
    batch = audio.log_mel(waves)
    assert batch.shape == (2, 3, 128, 64)
    torch.testing.assert_close(batch[1, 2], audio.log_mel(waves[1, 2]), atol=1e-4, rtol=0)
    assert torch.equal(audio.log_mel(torch.zeros(audio.SEGMENT)), torch.full((128, 64), -5.0))
    with pytest.raises(ValueError, match="65536"):
        audio.log_mel(np.zeros(65_000))
