from __future__ import annotations

from pathlib import Path

import made_music
import numpy as np
import pytest
import soundfile

from kwela.errors import UserError
from kwela.judge.shared import clips
from kwela.music.loudness import loudness

T = np.arange(160_000) / 16_000


def tone(hertz: float, amplitude: float, seconds: float = 10) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * T[: round(seconds * 16_000)])).astype(np.float32)


def test_loudness_is_that_of_the_standard() -> None:
    # BS.1770: 997 Hz at 0 dBFS in one channel is -3.01 LUFS.
    assert loudness(tone(997, 1.0), clips.RATE) == pytest.approx(-3.01, abs=0.1)
    assert loudness(tone(997, 0.1), clips.RATE) == pytest.approx(-23.01, abs=0.1)
    assert loudness(np.zeros(16_000, np.float32), clips.RATE) == -np.inf


def test_every_clip_is_equally_loud() -> None:
    for amplitude in (0.01, 0.9):
        assert loudness(clips.normalise_loudness(tone(300, amplitude)), clips.RATE) == pytest.approx(
            -23, abs=0.05
        )


def test_mp3_keeps_length_and_place_in_time() -> None:
    wave = made_music.clip("house", 1, 0)
    back = clips.encode_and_decode_mp3(wave)
    assert back.shape == wave.shape and back.dtype == np.float32
    middle = slice(20_000, 140_000)
    shifts = {
        k: float(np.corrcoef(np.roll(back, k)[middle], wave[middle])[0, 1]) for k in (-300, -1, 0, 1, 300)
    }
    assert max(shifts, key=lambda k: shifts[k]) == 0 and shifts[0] > 0.95


def test_a_file_becomes_ten_seconds_at_16_khz_from_its_middle(tmp_path: Path) -> None:
    rate = 44_100
    t = np.arange(30 * rate) / rate
    wave = np.where((t > 10) & (t < 20), np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 2000 * t)) * 0.3
    soundfile.write(tmp_path / "x.wav", np.stack([wave, wave], 1), rate)
    found = clips.load_middle(tmp_path / "x.wav")
    assert found.shape == (160_000,) and found.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(found[1600:-1600]))
    assert np.argmax(spectrum) / len(found[1600:-1600]) * 16_000 == pytest.approx(440, abs=1)


def test_a_short_clip_is_repeated() -> None:
    assert np.array_equal(clips.cut_or_repeat(np.arange(3), 7), [0, 1, 2, 0, 1, 2, 0])
    assert np.array_equal(clips.cut_or_repeat(np.arange(9), 7), np.arange(7))


def test_one_recording_in_two_formats_has_one_hash(tmp_path: Path) -> None:
    wave = (made_music.clip("fiddle", 3, 0) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    soundfile.write(tmp_path / "b.flac", wave, 16_000)
    made_music.write(tmp_path / "c.wav", made_music.clip("fiddle", 3, 1))
    a, b, c = (clips.audio_hash(clips.load_middle(tmp_path / name)) for name in ("a.wav", "b.flac", "c.wav"))
    assert a == b != c


def test_files_are_found_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/x.WAV", "a.mp3", "notes.txt", ".hidden.wav", ".git/y.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in clips.find_audio_files(tmp_path)] == [
        "a.mp3",
        "b/x.WAV",
    ]
    with pytest.raises(UserError, match="not a folder"):
        clips.find_audio_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio"):
        clips.find_audio_files(tmp_path / "empty")


def test_a_link_to_a_folder_above_gives_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.wav").touch()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    assert [path.name for path in clips.find_audio_files(tmp_path)] == ["a.wav"]


def test_the_artist_is_listed_or_stands_before_the_first_dash(tmp_path: Path) -> None:
    assert clips.artist_of(Path("x/Kabza De Small - Song - Mix.wav")) == "kabza de small"
    assert clips.artist_of(Path("x/001.wav")) == "001"
    (tmp_path / "a.csv").write_text("file,artist\n001.wav,First\nhouse/002.wav,Second\n003,Third\n")
    listed = clips.read_artists(tmp_path / "a.csv")
    names = ("x/001.wav", "y/house/002.wav", "y/soul/002.wav", "003.flac")
    assert [clips.artist_of(Path(name), listed) for name in names] == ["first", "second", "002", "third"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("clip,by\na,b\n", "needed: file, artist"), ("file,artist\na,\n", "row 2"), ("", "no column file")],
)
def test_a_bad_list_of_artists_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        clips.read_artists(tmp_path / "a.csv")


def test_unreadable_files_are_left_out_with_their_reason(tmp_path: Path) -> None:
    good = made_music.write(tmp_path / "good.wav", tone(440, 0.3))
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio at all")
    got, failed = clips.map_files(_length, [good, bad], "clips")
    assert got == {good: 160_000} and "bad.wav" in failed[bad]


def _length(path: Path) -> int:
    return len(clips.load_middle(path))
