"""A segment is the same samples as that stretch of the whole, in every format and at every place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import made_audio as made
from kwela.music import audio

WAVE = np.stack([made.tone(9.0, 44_100), made.tone(9.0, 44_100, 660.0, 0.05)], 1)
LOW = made.tone(9.0, 16_000, noise=0.1)
LIVE = made.tone(9.0, 48_000)
VBR = {"global_quality": "590", "flags": "+qscale"}


def make(name: str) -> bytes:
    """The file of this name. Low bit rates use the reservoir most, and noise makes AAC invent noise."""
    return {
        "32k.mp3": lambda: made.encoded(WAVE[:, 0], 44_100, "libmp3lame", "mp3", 32_000),
        "8k.mp3": lambda: made.encoded(LOW, 16_000, "libmp3lame", "mp3", 8_000),
        "64k.mp3": lambda: made.encoded(WAVE, 44_100, "libmp3lame", "mp3", 64_000),
        "128k.mp3": lambda: made.encoded(WAVE, 48_000, "libmp3lame", "mp3", 128_000),
        "vbr.mp3": lambda: made.encoded(WAVE, 44_100, "libmp3lame", "mp3", 0, None, VBR),
        "plain.mp3": lambda: made.mp3(WAVE[:, 0], 44_100, 32, xing=False),
        "128k.m4a": lambda: made.encoded(WAVE, 44_100, "aac", "ipod", 128_000),
        "32k.m4a": lambda: made.encoded(WAVE[:, 0], 44_100, "aac", "ipod", 32_000),
        "64k.aac": lambda: made.encoded(WAVE, 44_100, "aac", "adts", 64_000),
        "alac.m4a": lambda: made.encoded(WAVE, 44_100, "alac", "ipod"),
        "12k.opus": lambda: made.encoded(WAVE[:, 0], 48_000, "libopus", "opus", 12_000),
        "96k.opus": lambda: made.encoded(WAVE, 48_000, "libopus", "opus", 96_000),
        "vorbis.ogg": lambda: made.by_sndfile(WAVE, 44_100, "OGG"),
        "low.ogg": lambda: made.by_sndfile(LOW, 16_000, "OGG"),
        "end.ogg": lambda: made.by_sndfile(made.tone(2.8), made.RATE, "OGG"),
        "flac.oga": lambda: made.encoded(WAVE[:, 0], 44_100, "flac", "ogg"),
        "ima.caf": lambda: made.encoded(WAVE[:, 0], 44_100, "adpcm_ima_qt", "caf"),
        "two.mp2": lambda: made.encoded(WAVE, 44_100, "mp2", "mp2", 128_000),
        "aac.mp4": lambda: made.encoded(WAVE, 44_100, "aac", "mp4", 96_000),
        "live.webm": lambda: made.encoded(LIVE, 48_000, "libopus", "webm", 64_000, {"live": "1"}),
        "plain.flac": lambda: made.by_sndfile(WAVE, 44_100),
        "open.flac": lambda: made.flac_claiming(made.by_sndfile(WAVE, 48_000), 0),
        "odd.wav": lambda: made.wav(WAVE, 44_056),
        "low.wav": lambda: made.wav(LOW, 11_025),
        "adpcm.wav": lambda: made.by_sndfile(WAVE, 22_050, "WAV", "MS_ADPCM"),
    }[name]()


NAMES = [
    *["32k.mp3", "8k.mp3", "64k.mp3", "128k.mp3", "vbr.mp3", "plain.mp3", "128k.m4a", "32k.m4a", "64k.aac"],
    *["alac.m4a", "12k.opus", "96k.opus", "vorbis.ogg", "low.ogg", "plain.flac", "open.flac", "odd.wav"],
    *["low.wav", "adpcm.wav", "end.ogg", "flac.oga", "ima.caf", "two.mp2", "aac.mp4", "live.webm"],
]


@pytest.fixture(scope="module", params=NAMES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("segments") / request.param
    path.write_bytes(make(request.param))
    return path, audio.load(path)


@settings(max_examples=12, deadline=None)
@given(start=st.floats(0, 9.5), seconds=st.floats(0.001, 2.0))
def test_a_segment_is_that_stretch_of_the_whole(
    file: tuple[Path, np.ndarray], start: float, seconds: float
) -> None:
    path, whole = file
    assert path.suffix in audio.AUDIO_SUFFIXES and len(whole) > 2.7 * audio.SAMPLE_RATE
    at = round(start * audio.SAMPLE_RATE)
    expected = whole[at : at + round(seconds * audio.SAMPLE_RATE)]
    found = audio.load(path, start, seconds)
    assert len(found) == len(expected)
    tolerance = 1e-5 if path.name == "odd.wav" else 2e-6  # soxr interpolates where no small ratio is
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("seconds", [0.3, 2.8, 7.77])
def test_the_last_page_of_a_vorbis_file_is_found_where_it_is(seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(made.by_sndfile(made.tone(seconds), made.RATE, "OGG"))
    whole = audio.load(path)
    starts = np.arange(max(0.0, seconds - 1.5), seconds - 0.1, 0.05)
    for start in starts:
        at = round(start * audio.SAMPLE_RATE)
        np.testing.assert_allclose(audio.load(path, start, 0.1), whole[at : at + 4410], atol=2e-6)


def test_libsndfile_alone_would_miss_the_place(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(made.by_sndfile(made.tone(2.8), made.RATE, "OGG"))
    whole, _ = soundfile.read(path)
    wrong, _ = soundfile.read(path, start=len(whole) - 5000, frames=1000)
    assert np.abs(wrong - whole[-5000:-4000]).max() > 0.1


def test_a_decoder_that_begins_at_the_segment_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kwela.music.audio_files import mpeg

    path = tmp_path / "8k.mp3"
    path.write_bytes(make("8k.mp3"))
    whole = audio.load(path)
    monkeypatch.setattr(mpeg, "_EARLY", 0)
    wrong = audio.load(path, 4.0, 0.5)
    assert np.abs(wrong - whole[4 * 44_100 :][: len(wrong)]).max() > 1e-3


def test_a_segment_late_in_a_file_needs_no_decoding_of_what_is_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kwela.music.audio_files import mpeg

    path = tmp_path / "x.mp3"
    path.write_bytes(made.mp3(np.tile(made.tone(2.0), 15)))
    audio.load(path, 0.0, 0.1)  # finds the length, and how the channels are mixed
    decoded = []
    monkeypatch.setattr(mpeg, "_wave", lambda frame: decoded.append(frame) or frame.to_ndarray().T)
    assert len(audio.load(path, 28.0, 1.0)) == 44_100
    assert len(decoded) < 120 < 30 * made.RATE // 576
