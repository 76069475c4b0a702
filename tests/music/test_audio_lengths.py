"""The length of an audio file is what decodes, whatever its header says."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest

import made_audio as made
from kwela.errors import UserError
from kwela.music import audio

SECONDS = 3.0
TONE = made.tone(SECONDS)
BYTES = 2 * len(TONE)


def measure(tmp_path: Path, data: bytes, suffix: str) -> float:
    """The length in seconds, after all ways to it have agreed."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    seconds = audio.duration(path)
    assert len(audio.load(path)) == pytest.approx(seconds * audio.SAMPLE_RATE, abs=1.01)
    assert len(audio.load(path, seconds + 0.01, 1.0)) == 0
    return seconds


OPEN_SIZES = [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x7FFF_F000, 0x7FFF_FFDB, 0x7FFF_FFD4, 0xFFFF_FFDB]


@pytest.mark.parametrize("size", OPEN_SIZES, ids=hex)
def test_a_wav_whose_size_was_left_open_is_as_long_as_its_samples(size: int, tmp_path: Path) -> None:
    assert measure(tmp_path, made.wav(TONE, size=size), ".wav") == SECONDS
    audio.probe(tmp_path / "x.wav")


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i4"])
def test_the_width_of_samples_changes_nothing(kind: str, tmp_path: Path) -> None:
    assert measure(tmp_path, made.wav(TONE, size=0x7FFF_FFFF, kind=kind), ".wav") == SECONDS


def ds64(size: int) -> bytes:
    return made.chunk(b"ds64", struct.pack("<QQQI", size, size, 0, 0))


def w64(size: int) -> bytes:
    data = made.by_sndfile(TONE, kind="W64")
    at = data.index(b"data\xf3\xac") + 16
    return data[:at] + struct.pack("<Q", size) + data[at + 8 :]


def aiff(size: int, frames: int) -> bytes:
    data = made.by_sndfile(TONE, kind="AIFF")
    at, common = data.index(b"SSND") + 4, data.index(b"COMM") + 10
    data = data[:at] + struct.pack(">I", size) + data[at + 4 :]
    return data[:common] + struct.pack(">I", frames) + data[common + 4 :]


def au(size: int) -> bytes:
    data = made.by_sndfile(TONE, kind="AU")
    return data[:8] + struct.pack(">I", size) + data[12:]


def caf(size: int) -> bytes:
    data = made.by_sndfile(TONE, kind="CAF")
    at = data.index(b"data") + 4
    return data[:at] + struct.pack(">Q", size) + data[at + 8 :]


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".wav", made.wav(TONE, riff=b"RF64", size=0xFFFF_FFFF, before=ds64(0))),
        (".rf64", made.wav(TONE, riff=b"RF64", size=0xFFFF_FFFF, before=ds64(2**64 - 1))),
        (".bwf", made.wav(TONE, riff=b"BW64", size=0xFFFF_FFFF, before=ds64(BYTES))),
        (".w64", w64(0)),
        (".w64", w64(2**63 - 1)),
        (".aiff", aiff(0, 0)),
        (".aif", aiff(0xFFFF_FFFF, 0xFFFF_FFFF)),
        (".aif", aiff(0x7FFF_FFFF, len(TONE))),
        (".au", au(0xFFFF_FFFF)),
        (".caf", caf(2**64 - 1)),
    ],
)
def test_other_containers_leave_their_size_open_too(suffix: str, data: bytes, tmp_path: Path) -> None:
    assert measure(tmp_path, data, suffix) == SECONDS
    audio.probe(tmp_path / f"x{suffix}")


@pytest.mark.parametrize(
    "chunks",
    [
        {"after": made.chunk(b"LIST", b"abc") + made.chunk(b"id3 ", b"xy")},
        {"before": made.chunk(b"bext", b"odd", pad=False)},
        {"before": made.chunk(b"bext", b"odd")},
        {"after": b"\x12\0\xff" * 50},
    ],
)
def test_other_chunks_and_rubbish_are_no_samples(chunks: dict[str, bytes], tmp_path: Path) -> None:
    assert measure(tmp_path, made.wav(TONE, **chunks), ".wav") == SECONDS
    audio.probe(tmp_path / "x.wav")


def test_a_wav_without_samples_is_empty_and_not_open(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(made.wav(TONE[:0], after=made.chunk(b"LIST", b"abcd")))
    with pytest.raises(UserError, match=r"x\.wav.*no samples"):
        audio.duration(tmp_path / "x.wav")


FLAC = made.by_sndfile(TONE)


@pytest.mark.parametrize("claim", [0, len(TONE) // 2, 200 * len(TONE), len(TONE) + 999, 2**36 - 1])
def test_a_flacs_length_is_that_of_its_frames(claim: int, tmp_path: Path) -> None:
    assert measure(tmp_path, made.flac_claiming(FLAC, claim), ".flac") == SECONDS
    whole = audio.load(tmp_path / "x.flac")
    segment = audio.load(tmp_path / "x.flac", 1.234, 0.5)
    np.testing.assert_allclose(segment, whole[54_419 : 54_419 + 22_050], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.wav", made.wav(TONE)),
        ("x.wav", made.wav(TONE, riff=b"RF64", size=0xFFFF_FFFF, before=ds64(BYTES))),
        ("x.flac", FLAC),
        ("x.aiff", made.by_sndfile(TONE, kind="AIFF")),
    ],
)
def test_a_cut_file_earns_no_row_and_is_read_to_where_it_ends(name: str, data: bytes, tmp_path: Path) -> None:
    seconds = measure(tmp_path, data[: len(data) // 2], Path(name).suffix)
    assert seconds == pytest.approx(SECONDS / 2, abs=0.1)
    with pytest.raises(UserError, match=r"truncated: its header claims 3\.00 s, 1\.\d\d s are there"):
        audio.probe(tmp_path / name)
    audio.check(tmp_path / name)


def test_vbr_without_a_header_and_joined_files_are_counted(tmp_path: Path) -> None:
    frame = (
        1152 / 44_100
    )  # of the two rates; the encoder's delay and padding stay, because nothing names them
    two = [made.mp3(made.tone(s, 44_100), 44_100, kbps, xing=False) for s, kbps in ((1.0, 32), (5.0, 320))]
    assert measure(tmp_path, b"".join(two), ".mp3") == pytest.approx(6.0, abs=6 * frame)
    whole = made.mp3(TONE)
    joined = whole + made.ID3V1 + made.id3v2() + whole
    assert measure(tmp_path, joined, ".mp3") == pytest.approx(6.0, abs=1e-6)


@pytest.mark.parametrize("claim", [0, 1, 58, 11_700, 2**32 - 1])
def test_the_count_in_an_mp3s_first_frame_is_no_promise(claim: int, tmp_path: Path) -> None:
    data = made.mp3(TONE)
    at = data.index(b"Info") + 8
    data = data[:at] + struct.pack(">I", claim) + data[at + 4 :]
    assert measure(tmp_path, data, ".mp3") == pytest.approx(SECONDS, abs=0.06)
    audio.probe(tmp_path / "x.mp3")


MP3, AAC = made.mp3(TONE), made.encoded(TONE, made.RATE, "aac", "adts", 64_000)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (made.id3v2(), made.ape_tag() + made.ID3V1),
        (made.id3v2(90_000) + made.id3v2(), b""),
        (made.ape_tag(), b""),
        (b"\0\x12\xff" * 700, b"\0\x12\xff" * 700),
        (bytes(30_000), b"\xff\xfb"),
    ],
)
@pytest.mark.parametrize(("suffix", "data"), [(".mp3", MP3), (".aac", AAC)])
def test_tags_and_rubbish_around_frames_are_no_sound(
    before: bytes, after: bytes, suffix: str, data: bytes, tmp_path: Path
) -> None:
    plain = measure(tmp_path, data, suffix)
    expected = audio.load(tmp_path / f"x{suffix}")
    assert measure(tmp_path, before + data + after, suffix) == plain
    np.testing.assert_array_equal(audio.load(tmp_path / f"x{suffix}"), expected)


VORBIS = made.by_sndfile(TONE, kind="OGG")
OPUS = made.encoded(made.tone(SECONDS, 48_000), 48_000, "libopus", "opus", 48_000)


@pytest.mark.parametrize("granule", [0, 11_025, 600 * 22_050, 10**15])
@pytest.mark.parametrize("data", [VORBIS, OPUS], ids=["vorbis", "opus"])
def test_an_oggs_last_page_may_lie(granule: int, data: bytes, tmp_path: Path) -> None:
    *pages, last = made.ogg_pages(data)
    lying = b"".join([*pages, made.ogg_page(last, granule=granule)])
    assert measure(tmp_path, lying, ".ogg") == pytest.approx(SECONDS, abs=0.02)


@pytest.mark.parametrize("data", [VORBIS, OPUS], ids=["vorbis", "opus"])
def test_an_ogg_that_has_lost_a_page_is_as_long_as_the_rest(data: bytes, tmp_path: Path) -> None:
    pages = made.ogg_pages(data)
    found = measure(tmp_path, b"".join([*pages[:3], *pages[4:]]), ".ogg")
    assert SECONDS - 1.1 < found < SECONDS - 0.4
    (path,) = tmp_path.glob("*.ogg")
    whole = audio.load(path)
    assert len(whole) == pytest.approx(found * 44_100, abs=2)
    np.testing.assert_allclose(audio.load(path, 1.5, 0.4), whole[66_150:83_790], atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_a_flac_that_was_made_of_an_open_wav_claims_nothing(size: int, channels: int, tmp_path: Path) -> None:
    flac = made.by_sndfile(np.stack([TONE] * channels, 1))
    path = tmp_path / "x.flac"
    path.write_bytes(made.flac_claiming(flac, size // (2 * channels)))
    audio.probe(path)
    assert audio.duration(path) == SECONDS
    (tmp_path / "long.flac").write_bytes(made.flac_claiming(flac, 0x7000_0000 // channels))
    with pytest.raises(audio.UnreadableAudio, match="truncated"):
        audio.probe(tmp_path / "long.flac")


@pytest.mark.parametrize("data", [VORBIS, OPUS], ids=["vorbis", "opus"])
def test_a_cut_ogg_ends_with_its_last_whole_page(data: bytes, tmp_path: Path) -> None:
    pages = made.ogg_pages(data)
    assert 0.5 < measure(tmp_path, b"".join(pages)[: -len(pages[-1]) // 2], ".ogg") < SECONDS


MONO_44 = made.tone(SECONDS, 44_100)


def box(data: bytes, name: bytes, at: int, value: int) -> bytes:
    place = data.index(name) + 4 + at
    return data[:place] + struct.pack(">I", value) + data[place + 4 :]


def test_an_m4as_edit_list_counts_and_its_other_lengths_do_not(tmp_path: Path) -> None:
    data = made.encoded(MONO_44, 44_100, "aac", "ipod", 64_000)
    assert measure(tmp_path, data, ".m4a") == pytest.approx(
        SECONDS, abs=1e-4
    )  # not the last packet's padding
    for name, at in ((b"mdhd", 16), (b"mvhd", 16), (b"tkhd", 20)):
        assert measure(tmp_path, box(data, name, at, 10**6), ".m4a") == pytest.approx(SECONDS, abs=0.03)
    assert measure(tmp_path, box(data, b"elst", 8, 1500), ".m4a") == pytest.approx(1.5, abs=0.03)


def test_a_fragmented_mp4_is_as_long_as_its_fragments(tmp_path: Path) -> None:
    how = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}
    data = made.encoded(MONO_44, 44_100, "aac", "mp4", 64_000, how)
    assert measure(tmp_path, data, ".m4a") == pytest.approx(SECONDS, abs=0.03)
    assert 1.0 < measure(tmp_path, data[: len(data) // 2], ".m4a") < 2.0


def test_a_files_content_and_not_its_name_decides_what_it_is(tmp_path: Path) -> None:
    assert measure(tmp_path, made.wav(TONE), ".mp3") == SECONDS
    assert measure(tmp_path, MP3, ".wav") == pytest.approx(SECONDS, abs=1e-6)
    assert measure(tmp_path, OPUS, ".ogg") == pytest.approx(SECONDS, abs=1e-3)


def test_a_length_is_found_once_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(made.flac_claiming(made.by_sndfile(made.tone(60.0)), 0))
    began = time.process_time()
    first = audio.duration(path)
    found = time.process_time() - began
    began = time.process_time()
    assert all(audio.duration(path) == first for _ in range(100))
    assert (time.process_time() - began) / 100 < found / 20
    path.write_bytes(FLAC)
    assert audio.duration(path) == SECONDS != first


def test_joined_flacs_are_heard_to_the_end(tmp_path: Path) -> None:
    other = made.by_sndfile(made.tone(2.0, hertz=660.0))
    for data, seconds in ((FLAC + other, 5.0), (other + FLAC, 5.0), (FLAC + FLAC, 6.0)):
        assert measure(tmp_path, data, ".flac") == seconds
        whole = audio.load(tmp_path / "x.flac")
        late = audio.load(tmp_path / "x.flac", seconds - 1.0, 0.5)
        np.testing.assert_allclose(late, whole[-44_100:-22_050], atol=1e-6)
