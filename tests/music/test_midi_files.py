"""MIDI as it is in the world: read as players do, or refused in words, or counted; never lost in silence."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
from made_midi import (
    QUARTER,
    control,
    meta,
    midi,
    number,
    off,
    on,
    program,
    quarters,
    sysex,
    track,
)

from kwela.errors import UserError
from kwela.music import midi as midi_files
from kwela.music import midi_check, tokens

FOUR = quarters(60, 61, 62, 63)
PLAIN = midi(track(*FOUR), form=0)
FOUR_NOTES = ["60@0+1", "61@1+1", "62@2+1", "63@3+1"]


@pytest.fixture
def read(tmp_path: Path):
    """Read bytes as a file: its notes as pitch@onset+duration in quarters, and the report of `tokens check`."""
    names = itertools.count()

    def read(data: bytes, name: str = "") -> tuple[list[str], dict]:
        path = tmp_path / (name or f"{next(names)}.mid")
        path.write_bytes(data)
        score = midi_files.read(path)
        notes = sorted((n.time, n.pitch, n.duration) for t in score.tracks for n in t.notes)
        report = midi_check.check(path)
        assert report["notes_unaccounted"] == 0
        assert report["notes"] == len(notes) == report["notes_in_file"] - report["notes_after_end"]
        return [f"{p}@{t / QUARTER:g}+{d / QUARTER:g}" for t, p, d in notes], report

    return read


@pytest.fixture
def refused(tmp_path: Path):
    def refused(data: bytes) -> str:
        (tmp_path / "bad.mid").write_bytes(data)
        with pytest.raises(UserError) as caught:
            midi_files.read(tmp_path / "bad.mid")
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{tmp_path / 'bad.mid'}: ")

    return refused


GM_RESET = b"\x7e\x7f\x09\x01\xf7"


# ---- events


@pytest.mark.parametrize(
    "between",
    [sysex(GM_RESET), meta(1, b"la"), sysex(b"\xfa", 0xF7), meta(0x51, b"\7\xa1\x20"), sysex(b"")],
)
def test_running_status_goes_on_over_what_is_not_a_channel_message(read, between):
    events = [(0, on(60)), (0, between), (QUARTER, b"\x3c\0"), (0, b"\x40\x50"), (QUARTER, b"\x40\0")]
    assert read(midi(track(*events)))[0] == ["60@0+1", "64@1+1"]
    controls = [(0, control(7, 100)), (0, between), (0, b"\x0a\x40"), *FOUR]
    assert read(midi(track(*controls)))[0] == FOUR_NOTES


def test_running_status_of_one_data_byte(read):
    events = [(0, program(5)), (0, b"\7"), (0, b"\x28"), *FOUR]
    assert read(midi(track(*events)))[0] == FOUR_NOTES


def test_a_packet_has_a_delta_time_and_an_escape_is_counted(read):
    split = [(0, sysex(b"\x41\x10\x42")), (0, sysex(b"\x12\x40\xf7", 0xF7)), *FOUR]
    notes, report = read(midi(track(*split)))
    assert (notes, report["sysex"], report["escapes"]) == (FOUR_NOTES, 1, 0)
    later = [(0, sysex(b"\x41\x10\x42")), (QUARTER, sysex(b"\x12\x40\xf7", 0xF7)), *FOUR]
    assert read(midi(track(*later)))[0] == ["60@1+1", "61@2+1", "62@3+1", "63@4+1"]
    escaped = [(0, sysex(b"\xf3\1", 0xF7)), *FOUR]
    notes, report = read(midi(track(*escaped)))
    assert (notes, report["sysex"], report["escapes"]) == (FOUR_NOTES, 0, 1)


def test_long_and_padded_numbers(read, refused):
    assert read(midi(track(number(480, 4) + on(60), (480, off(60)))))[0] == ["60@1+1"]
    assert "delta time of over four bytes" in refused(midi(track(number(480, 5) + on(60), (480, off(60)))))
    too_long = b"\0\xff\x01" + number(2, 5) + b"la"
    assert "length of over four bytes" in refused(midi(track(too_long, *FOUR)))


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([(0, control(7, 255))], "a controller has the value 255, over 127"),
        ([(0, on(60, velocity=200))], "a note on has the velocity 200, over 127"),
        ([(0, on(200))], "a note on has the pitch 200, over 127"),
        ([(0, b"\x80\x3c\xff")], "a note off has the velocity 255, over 127"),
        ([(0, program(128))], "a program change has the program 128, over 127"),
        ([(0, b"\xe0\0\x80")], "a pitch bend has the high byte 128, over 127"),
        ([(0, b"\x3c\x40")], "a data byte stands at byte 23 where a status is needed"),
        ([(0, b"\xf8")], "status 0xf8 at byte 23 can't stand in a MIDI file"),
        ([(0, b"\xf2\0\0")], "status 0xf2"),
        ([(0, meta(0x51, b"\7\xa1"))], "a tempo of 2 bytes"),
        ([(0, b"\xff\1\x7f")], "ends inside an event of 127 bytes"),
    ],
)
def test_broken_events_are_refused_in_words(refused, events, reason):
    assert refused(midi(track(*events, *FOUR))).startswith("track 1: ")
    assert reason in refused(midi(track(*events, *FOUR)))


def test_metas_of_no_use_are_counted(read):
    bad = [meta(0x51, bytes(3)), meta(0x58, b"\4"), meta(0x59, b"\x0f\0"), meta(1, b"x"), meta(0x7F, b"x")]
    notes, report = read(midi(track(*((0, m) for m in bad), (0, b"\xa0\x3c\1"), (0, b"\xd0\1"), *FOUR)))
    assert notes == FOUR_NOTES
    names = ("tempos_zero", "metas_malformed", "texts", "pressures")
    assert [report[name] for name in names] == [1, 2, 1, 2]


def test_a_tempo_of_zero_is_passed_over(read, tmp_path):
    read(midi(track((0, meta(0x51, b"\x0f\x42\x40")), (QUARTER, meta(0x51, bytes(3))), *FOUR)), "a.mid")
    tempos = midi_files.read(tmp_path / "a.mid").tempos
    assert [(tempo.time, tempo.mspq) for tempo in tempos] == [(0, 1_000_000)]


def test_the_last_tempo_of_a_tick_is_the_last_of_the_file(tmp_path):
    """A sort that isn't stable swaps them."""
    values = [500_000 + i for i in range(40)]
    events = [(0, meta(0x51, value.to_bytes(3, "big"))) for value in values]
    (tmp_path / "a.mid").write_bytes(midi(track(*events, *FOUR)))
    assert [tempo.mspq for tempo in midi_files.read(tmp_path / "a.mid").tempos] == values


# ---- how notes end


def test_a_note_that_nothing_ends_is_held_to_the_end_of_its_track(read):
    events = [(0, on(60)), (QUARTER, on(64)), (QUARTER, off(60)), (2 * QUARTER, control(7, 100))]
    notes, report = read(midi(track(*events)))
    assert (notes, report["notes_held_to_end"]) == (["60@0+2", "64@1+3"], 1)
    assert read(midi(track((0, on(60)))))[0] == ["60@0+0"]


@pytest.mark.parametrize("number_", [120, 123, 124, 125, 126, 127])
def test_all_off_ends_the_notes_of_its_channel(read, number_):
    events = [
        (0, on(60)),
        (0, on(64)),
        (0, on(67, 1)),
        (2 * QUARTER, control(number_, 0)),
        (QUARTER, off(67, 1)),
    ]
    notes, report = read(midi(track(*events, (QUARTER, off(60)))))
    assert notes == ["60@0+2", "64@0+2", "67@0+3"]
    assert (report["notes_ended_by_all_off"], report["notes_held_to_end"]) == (2, 0)
    assert read(midi(track((0, on(60)), (QUARTER, control(121, 0)), (QUARTER, off(60)))))[0] == ["60@0+2"]


def test_a_pitch_struck_again_cuts_the_note_before(read):
    notes, report = read(midi(track((0, on(60)), (QUARTER, on(60)), (QUARTER, off(60)), *quarters(62))))
    assert notes == ["60@0+1", "60@1+1", "62@2+1"]
    assert report["notes_struck_again"] == 1
    twice_off = [(0, on(60)), (QUARTER, on(60)), (QUARTER, off(60)), (QUARTER, off(60))]
    assert read(midi(track(*twice_off)))[0] == ["60@0+1", "60@1+1"]
    other_channel = [(0, on(60)), (QUARTER, on(60, 1)), (QUARTER, off(60)), (QUARTER, off(60, 1))]
    assert read(midi(track(*other_channel)))[0] == ["60@0+2", "60@1+2"]


def test_notes_of_one_pitch_and_tick_end_together(read):
    events = [(0, on(60)), (0, on(60, velocity=40)), (QUARTER, off(60)), (QUARTER, off(60))]
    notes, report = read(midi(track(*events)))
    assert notes == ["60@0+1", "60@0+1"]
    assert report["notes_same_onset"] == report["notes_lost"] == 1


def test_a_note_off_after_the_new_note_on_of_its_tick_is_of_the_note_before(read):
    events = [(0, on(60)), (QUARTER, on(60)), (0, off(60)), (QUARTER, off(60)), *quarters(62)]
    assert read(midi(track(*events)))[0] == ["60@0+1", "60@1+1", "62@2+1"]
    without_second_off = [(0, on(60)), (QUARTER, on(60)), (0, off(60)), *quarters(62)]
    assert read(midi(track(*without_second_off)))[0] == ["60@0+1", "60@1+0", "62@1+1"]


def test_a_note_on_of_velocity_0_is_a_note_off(read):
    events = [(0, on(60)), (QUARTER, on(60, velocity=0)), (0, on(64, velocity=0))]
    notes, report = read(midi(track(*events)))
    assert (notes, report["notes_in_file"]) == (["60@0+1"], 1)


def test_a_note_off_in_another_track_of_the_channel_ends_the_note(read):
    ons = track((0, on(60)), (QUARTER, on(64)), (3 * QUARTER, control(7, 1)))
    offs = track((QUARTER, off(60)), (QUARTER, off(64)))
    assert read(midi(ons, offs))[0] == read(midi(offs, ons))[0] == ["60@0+1", "64@1+1"]
    elsewhere = track((QUARTER, off(60, 1)), (QUARTER, off(64, 1)))  # the negative control
    assert read(midi(ons, elsewhere))[0] == ["60@0+4", "64@1+3"]
    port = track((0, meta(0x21, b"\1")), (QUARTER, off(60)), (QUARTER, off(64)))
    assert read(midi(ons, port))[0] == ["60@0+4", "64@1+3"]


# ---- chunks and wrappers


def test_tracks_beyond_the_announced_count_are_read_and_missing_ones_counted(read):
    two = (track((0, meta(0x51, b"\7\xa1\x20"))), track(*FOUR))
    assert read(midi(*two, announced=1))[0] == FOUR_NOTES
    assert read(midi(*two, announced=0))[0] == FOUR_NOTES
    notes, report = read(midi(*two, announced=5))
    assert (notes, report["tracks_missing"]) == (FOUR_NOTES, 3)


def test_chunks_of_other_names_are_passed_over_wherever_they_stand(read):
    alien = b"XFIH\0\0\0\4abcd"
    for chunks in (
        (alien, track(*FOUR)),
        (track(*FOUR), alien),
        (track((0, meta(1, b"x"))), alien, track(*FOUR)),
    ):
        notes, report = read(midi(*chunks, announced=1))
        assert (notes, report["chunks_passed_over"]) == (FOUR_NOTES, 1)


def test_wrong_lengths_of_chunks_are_refused(refused):
    body = len(track(*FOUR)) - 8
    for claims in (0, 9, 18, body - 1):
        message = refused(midi(track(*FOUR, claims=claims)))
        assert "length" in message or "inside an event" in message
    assert "another track stands inside" in refused(midi(track(*FOUR, claims=2 * body + 8), track(*FOUR)))
    assert "claims 4294967295 bytes" in refused(midi(track(*FOUR, claims=2**32 - 1)))
    swallowed = b"XFIH" + (len(track(*FOUR))).to_bytes(4, "big") + track(*FOUR)
    assert "a track stands inside a chunk named 'XFIH'" in refused(midi(track(*FOUR), swallowed, announced=1))
    assert "a track stands inside what follows" in refused(PLAIN + b"\0" + track(*FOUR))
    assert "no chunk begins at byte 14" in refused(PLAIN.replace(b"MTrk", b"MT\0k"))


def test_notes_after_an_end_of_track_are_counted_as_lost(read):
    late = b"\0" + on(72) + b"\0" + b"\x48\0" + b"\0\x49\x50"
    notes, report = read(midi(track(*FOUR, b"\0\xff\x2f\0", late, end=None)))
    assert notes == FOUR_NOTES
    assert (report["notes_after_end"], report["notes_lost"], report["notes_in_file"]) == (2, 2, 6)
    notes, report = read(midi(track(*FOUR, b"\0\xff\x2f\0", bytes(100), end=None)))
    assert (notes, report["notes_lost"], report["bytes_after_end"]) == (FOUR_NOTES, 0, 100)


def test_a_track_may_lack_its_end(read):
    notes, report = read(midi(track(*FOUR, end=None), track(*quarters(72), end=None)))
    assert (len(notes), report["tracks_without_end"]) == (5, 2)


def test_headers(read, refused):
    long = PLAIN[:4] + b"\0\0\0\x0a" + PLAIN[8:14] + b"abcd" + PLAIN[14:]
    assert read(long)[0] == FOUR_NOTES
    assert "claims 4 bytes" in refused(PLAIN[:4] + b"\0\0\0\4" + PLAIN[8:])
    assert "format 3" in refused(midi(track(*FOUR), form=3))
    assert "format 2: its 2 tracks are pieces" in refused(midi(track(*FOUR), track(*FOUR), form=2))
    assert read(midi(track(*FOUR), form=2))[0] == FOUR_NOTES
    assert len(read(midi(track(*FOUR), track(*quarters(72)), form=0))[0]) == 5
    assert "SMPTE" in refused(midi(track(*FOUR), division=0xE728))


def riff(data: bytes, kind: bytes = b"RMID", before: bytes = b"") -> bytes:
    body = kind + before + b"data" + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def mac_binary(data: bytes) -> bytes:
    head = bytearray(128)
    head[1], head[2:10], head[83:87] = 8, b"song.mid", len(data).to_bytes(4, "big")
    return bytes(head) + data + bytes(-len(data) % 128) + b"resource fork"


@pytest.mark.parametrize(
    "wrapped",
    [
        riff(PLAIN),
        riff(PLAIN, before=b"LIST\3\0\0\0abc\0"),
        riff(PLAIN, before=b"DISP\3\0\0\0abc"),  # without its pad byte
        mac_binary(PLAIN),
        gzip.compress(PLAIN),
        gzip.compress(riff(PLAIN)),
        gzip.compress(PLAIN[:40]) + gzip.compress(PLAIN[40:]),
    ],
)
def test_wrappers_are_taken_off(read, wrapped):
    assert read(wrapped)[0] == FOUR_NOTES


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (riff(PLAIN, b"WAVE"), "a RIFF file of kind 'WAVE', not MIDI"),
        (b"RIFF\4\0\0\0RMID", "without MIDI data"),
        (gzip.compress(PLAIN)[:-9], "gzip data end early"),
        (b"\x1f\x8b" + bytes(30), "gzip data are damaged"),
        (gzip.compress(bytes(17 << 20)), "unpacks to over 16 MiB"),
        (b"SMF2CLIP" + PLAIN, "a MIDI 2.0 clip file"),
        (b"PK\3\4" + PLAIN, "a zip archive"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"\0", "doesn't begin with MThd"),
        (b"junk" + PLAIN, "4 unknown bytes stand before"),
        (b"hello, I am a text", "doesn't begin with MThd"),
    ],
)
def test_what_is_not_read_is_named(refused, data, reason):
    assert reason in refused(data)


# ---- the end of a piece


def bars(path: Path) -> int:
    return int((tokens.encode(midi_files.read(path)) == tokens.BAR).sum())


@pytest.mark.parametrize("gap", [1, 4, 4800])
def test_tempos_after_the_music_add_no_bars(read, tmp_path, gap):
    late = [(gap * QUARTER, meta(0x51, b"\7\xa1\x21")), (QUARTER, meta(0x51, b"\x0a\xa1\x20"))]
    report = read(midi(track(*FOUR, *late)), "a.mid")[1]
    assert (bars(tmp_path / "a.mid"), report["tempos_after_end"]) == (1, 2)


def test_tempos_inside_the_last_bar_and_of_a_file_without_notes_stay(read, tmp_path):
    inside = [*quarters(60), (QUARTER, meta(0x51, b"\x0a\xa1\x20"))]
    assert read(midi(track(*inside)), "a.mid")[1]["tempos_after_end"] == 0
    assert len(midi_files.read(tmp_path / "a.mid").tempos) == 1
    (tmp_path / "b.mid").write_bytes(midi(track((0, meta(0x51, b"\7\xa1\x20")))))
    assert len(midi_files.read(tmp_path / "b.mid").tempos) == 1
