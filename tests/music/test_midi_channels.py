"""A channel's instrument, pedal and controllers are its own, whichever track of a MIDI file they stand in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_midi import QUARTER, control, meta, midi, off, on, program, quarters, sysex, track
from made_score import score_of

from kwela.music import midi as midi_files
from kwela.music import midi_check, tokens

TEMPO = meta(0x51, b"\7\xa1\x20")


@pytest.fixture
def voices(tmp_path: Path):
    """Read bytes as a file: (program or "drums", pitches) of each track with notes."""

    def voices(data: bytes) -> list[tuple[int | str, list[int]]]:
        (tmp_path / "a.mid").write_bytes(data)
        score = midi_files.read(tmp_path / "a.mid")
        return [
            ("drums" if t.is_drum else t.program, [n.pitch for n in t.notes]) for t in score.tracks if t.notes
        ]

    return voices


@pytest.fixture
def pedals(tmp_path: Path):
    """Read bytes as a file: the pedal's (quarter, value) of each track with notes."""

    def pedals(data: bytes) -> list[list[tuple[float, int]]]:
        (tmp_path / "a.mid").write_bytes(data)
        score = midi_files.read(tmp_path / "a.mid")
        return [
            [(c.time / QUARTER, c.value) for c in t.controls if c.number == 64]
            for t in score.tracks
            if t.notes
        ]

    return pedals


# ---- programs


def test_the_conductor_track_sets_programs(voices):
    conductor = track((0, TEMPO), (0, program(40)), (0, program(73, 1)))
    parts = track(*quarters(60, 61)), track(*quarters(72, channel=1))
    assert voices(midi(conductor, *parts)) == [(40, [60, 61]), (73, [72])]
    assert voices(midi(track((0, program(40, 2))), *parts)) == [(0, [60, 61]), (0, [72])]


def test_a_program_change_in_one_track_holds_in_the_other(voices):
    first = track(*quarters(60), (0, program(40)), *quarters(61))
    second = track(*quarters(72, 73))
    assert voices(midi(first, second)) == [(0, [60]), (40, [61]), (0, [72]), (40, [73])]


def test_events_of_one_tick_count_in_the_order_of_the_tracks(voices):
    notes, change = track(*quarters(60, 61)), track((0, program(40)))
    assert voices(midi(change, notes)) == [(40, [60, 61])]
    assert voices(midi(notes, change)) == [(0, [60]), (40, [61])]


# ---- drums


def gs(channel_block: int, mode: int) -> bytes:
    body = bytes([0x40, 0x10 | channel_block, 0x15, mode])
    return sysex(b"\x41\x10\x42\x12" + body + bytes([-sum(body) % 128]) + b"\xf7")


GM, GM_OFF, GM2 = (sysex(b"\x7e\x7f\x09" + bytes([kind]) + b"\xf7") for kind in (1, 2, 3))
GS = sysex(b"\x41\x10\x42\x12\x40\0\x7f\0\x41\xf7")
XG = sysex(b"\x43\x10\x4c\0\0\x7e\0\xf7")
XG_PART_5_DRUMS = sysex(b"\x43\x10\x4c\x08\x04\x07\x02\xf7")


@pytest.mark.parametrize(
    ("channel", "before", "drums"),
    [
        (9, [], True),
        (4, [], False),
        (4, [control(0, 127, 4), control(32, 0, 4), program(0, 4)], True),
        (4, [control(0, 126, 4), program(0, 4)], True),
        (10, [control(0, 120, 10), program(0, 10)], True),
        (4, [XG, control(0, 127, 4), program(0, 4)], True),
        (4, [GM2, control(0, 120, 4), program(0, 4)], True),
        (4, [control(0, 127, 4)], False),  # a bank waits for the next program change
        (4, [control(0, 127, 3), program(0, 4)], False),
        (4, [GS, control(0, 127, 4), program(0, 4)], False),  # in GS: the sounds of a CM-64
        (4, [control(0, 127, 4), program(0, 4), control(0, 0, 4), program(0, 4)], False),
        (4, [control(0, 127, 4), program(0, 4), GM], False),
        (4, [XG, XG_PART_5_DRUMS], True),
        (4, [gs(5, 1)], True),
        (4, [GS, gs(5, 2), program(8, 4)], True),
        (4, [GS, gs(5, 1), gs(5, 0)], False),
        (4, [GS, gs(5, 1), GS], False),
        (0, [gs(1, 1)], True),
        (8, [gs(9, 1)], True),
        (10, [gs(10, 1)], True),
        (15, [gs(15, 1)], True),
        (9, [gs(0, 0)], False),
        (9, [GM2, control(0, 121, 9), program(0, 9)], False),
        (9, [XG, control(0, 0, 9), program(0, 9)], False),
        (9, [control(0, 0, 9), program(0, 9)], True),
        (9, [GM_OFF, GM, control(0, 5, 9), program(16, 9)], True),
    ],
)
def test_drums_by_channel_bank_and_message(voices, channel, before, drums):
    notes = quarters(36, channel=channel)
    kind = "drums" if drums else 0
    assert voices(midi(track(*((0, event) for event in before), *notes))) == [(kind, [36])]
    assert voices(midi(track(*((0, event) for event in before)), track(*notes))) == [(kind, [36])]


def test_a_message_in_two_packets_is_obeyed(voices):
    whole = gs(5, 1)[2:]
    packets = [(0, sysex(whole[:4])), (0, sysex(whole[4:], 0xF7))]
    assert voices(midi(track(*packets, *quarters(36, channel=4)))) == [("drums", [36])]
    assert voices(midi(track(packets[0], *quarters(36, channel=4)))) == [(0, [36])]


def test_a_reset_sets_all_programs_back_and_ends_no_note(voices, tmp_path):
    events = [(0, program(40)), (0, on(60)), (QUARTER, GM), (0, on(62)), (QUARTER, off(60)), (0, off(62))]
    assert voices(midi(track(*events))) == [(0, [62]), (40, [60])]
    notes = midi_files.notes(midi_files.read(tmp_path / "a.mid"))
    assert (notes["end_s"] - notes["onset_s"]).tolist() == pytest.approx([1, 0.5])


# ---- pedals and controllers


def test_a_pedal_is_at_every_track_of_its_channel(pedals):
    pedal = [(0, control(64, 127)), (2 * QUARTER, control(64, 0))]
    own, notes, other = track(*pedal), track(*quarters(60, 61)), track(*quarters(72, channel=1))
    down = [(0, 127), (2, 0)]
    assert pedals(midi(notes, own)) == pedals(midi(own, notes)) == [down]
    assert pedals(midi(track(*pedal, *quarters(60)), notes)) == [down, down]
    assert pedals(midi(own, notes, other)) == [down, []]


def test_a_pedal_goes_on_over_a_program_change(pedals):
    events = [(0, control(64, 127)), *quarters(60), (0, program(40)), (0, control(64, 0)), *quarters(62)]
    assert pedals(midi(track(*events))) == [[(0, 127), (1, 0)]] * 2


@pytest.mark.parametrize("up", [control(121, 0), GM, GS, XG])
def test_resets_raise_the_pedal(pedals, up):
    events = [(0, control(64, 127)), *quarters(60), (0, up), *quarters(62)]
    assert pedals(midi(track(*events))) == [[(0, 127), (1, 0)]]
    never_down = [(0, control(64, 0)), *quarters(60), (0, up), *quarters(62)]
    assert pedals(midi(track(*never_down))) == [[(0, 0)]]


def test_a_pedal_without_notes_is_counted(tmp_path):
    events = [(0, control(64, 127, 3)), (QUARTER, control(64, 0, 3)), *quarters(60)]
    (tmp_path / "a.mid").write_bytes(midi(track(*events)))
    assert midi_check.check(tmp_path / "a.mid")["pedals_without_notes"] == 2


def test_controllers_and_bends_are_at_every_track_and_counted_once(tmp_path):
    own = track((0, control(11, 90)), (0, b"\xe0\0\x50"))
    (tmp_path / "a.mid").write_bytes(midi(own, track(*quarters(60)), track(*quarters(72))))
    tracks = midi_files.read(tmp_path / "a.mid").tracks
    assert [[(c.number, c.value) for c in t.controls] for t in tracks] == [[(11, 90)]] * 2
    assert [[b.value for b in t.pitch_bends] for t in tracks] == [[(0x50 << 7) - 8192]] * 2
    report = midi_check.check(tmp_path / "a.mid")
    assert (report["controllers"], report["pitch_bends"]) == (1, 1)


# ---- ports


def test_tracks_that_share_a_channel_survive_a_file(tmp_path):
    note = [(0, QUARTER, 60, 66)]
    score = score_of(
        *[(p, note, [(0, 127), (QUARTER * (1 + p % 3), 0)]) for p in range(40)],
        ("drums", [(0, 2 * QUARTER, 36, 66)]),
        ("drums", [(QUARTER, 2 * QUARTER, 36, 66)]),
    )
    ids = tokens.encode(score)
    midi_files.write(score, tmp_path / "a.mid")
    assert np.array_equal(tokens.encode(midi_files.read(tmp_path / "a.mid")), ids)
    score.dump_midi(tmp_path / "b.mid")  # the negative control: without ports
    assert not np.array_equal(tokens.encode(midi_files.read(tmp_path / "b.mid")), ids)


def test_a_port_holds_to_the_end_of_its_track(voices):
    first = track((0, program(40)), (0, meta(0x21, b"\1")), (0, program(73)), *quarters(60))
    assert voices(midi(first, track(*quarters(72)))) == [(73, [60]), (40, [72])]
