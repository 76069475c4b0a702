"""Reading MIDI that may be anything, musical time, and the features of a window."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_score import score_of
from symusic import Score

from kwela.errors import KwelaError, UserError
from kwela.music import midi, tokens


def song() -> Score:
    return score_of(
        (0, [(480 * i, 400, 60 + i % 12, 80) for i in range(16)], [(0, 127), (960, 0)]),
        ("drums", [(240 * i, 10, 36, 100) for i in range(32)]),
        tempos=[(0, 120), (3840, 60)],
        meters=[(0, 3, 4)],
    )


SONG = song().dumps_midi()


def header(division: int, chunks: bytes = b"MTrk\0\0\0\4\0\xff\x2f\0") -> bytes:
    return b"MThd\0\0\0\6\0\1\0\1" + division.to_bytes(2, "big") + chunks


def error(path: Path, data: bytes | None = None) -> str:
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        midi.read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_file_is_read_as_symusic_reads_it(tmp_path):
    (tmp_path / "a.mid").write_bytes(SONG)
    assert midi.read(tmp_path / "a.mid") == midi.read(str(tmp_path / "a.mid")) == Score.from_midi(SONG)


def test_a_file_without_a_note_is_a_score_without_notes(tmp_path):
    (tmp_path / "a.mid").write_bytes(header(480))
    score = midi.read(tmp_path / "a.mid")
    assert (score.tpq, score.note_num(), tokens.encode(score).tolist()) == (480, 0, [tokens.BOS, tokens.EOS])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not a MIDI file"),
        (b"MThd\0\0", "truncated"),
        (SONG[: len(SONG) // 2], "truncated"),
        (SONG[:-1], "truncated"),
        (header(0xE728), "SMPTE"),
        (header(0), "0 ticks per quarter"),
        (header(480, b""), "without any track"),
        (header(480, b"MTrk\xff\xff\xff\xff\0\xff\x2f\0"), "claims 4294967295 bytes"),
        (header(480, b"MTrk\0\0\0\6\0\xff\1\xff\xff\xff"), ""),
    ],
)
def test_what_is_not_a_midi_file_is_named_with_the_reason(tmp_path, data, reason):
    assert reason in error(tmp_path / "bad.mid", data)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in error(tmp_path / "none.mid")
    assert "not a regular file" in error(tmp_path)


def varlen(number: int) -> bytes:
    data = [number & 127]
    while number := number >> 7:
        data.insert(0, number & 127 | 128)
    return bytes(data)


def one_track(events: bytes, tpq: int = 480) -> bytes:
    events += b"\0\xff\x2f\0"
    return header(tpq, b"MTrk" + len(events).to_bytes(4, "big") + events)


def test_caps_on_size_events_and_length(tmp_path, monkeypatch):
    assert "16 MiB" in error(tmp_path / "big.mid", SONG + bytes(17 << 20))
    assert "over 10 hours" in error(
        tmp_path / "long.mid", one_track(b"\0\x90\x3c\x40" + varlen(2**27) + b"\x80\x3c\x40")
    )
    slow = b"\0\xff\x51\3\xff\xff\xff\0\x90\x3c\x40" + varlen(480 * 3000) + b"\x80\x3c\x40"
    assert "over 10 hours" in error(tmp_path / "slow.mid", one_track(slow))
    wraps = (
        b"\0\x90\x3c\x40" + b"".join(varlen(2**28 - 1) + b"\xb0\7\1" for _ in range(9)) + b"\0\x80\x3c\x40"
    )
    assert error(tmp_path / "wrap.mid", one_track(wraps))
    monkeypatch.setattr(midi, "MAX_EVENTS", 40)
    assert "events, over 40" in error(tmp_path / "many.mid", SONG)


def test_a_small_file_that_unfolds_into_gigabytes_is_refused(tmp_path):
    """Each instrument has the controllers of its channel: 2,048 instruments would have 75,000 each."""
    controls = b"\0\xb0\7\1" + b"\0\7\1" * 1_200_000
    voices = b"".join(
        bytes([0, 0xC0 | channel, program, 0, 0x90 | channel, 60, 64, 1, 0x80 | channel, 60, 64])
        for channel in range(16)
        for program in range(128)
    )
    message = error(tmp_path / "bomb.mid", one_track(controls + voices))
    assert "over 2000000 events in its 2048 instruments" in message
    (tmp_path / "a.mid").write_bytes(SONG)
    assert midi.read(tmp_path / "a.mid") == Score.from_midi(SONG)
    track = one_track(voices)[14:]
    many = SONG[:8] + b"\0\1\0\x0a" + SONG[12:14] + 10 * track
    assert "20480 instruments, over 16384" in error(tmp_path / "many.mid", many)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, len(SONG) - 1), st.integers(0, 255)), max_size=12),
    st.integers(0, len(SONG)),
)
def test_mutated_files_parse_or_are_refused(tmp_path, changes, keep):
    data = bytearray(SONG)
    for at, value in changes:
        data[at] = value
    path = tmp_path / "mutant.mid"
    path.write_bytes(data if keep % 3 else data[:keep])
    try:
        score = midi.read(path)
    except UserError:
        return
    assert np.isfinite(midi.features(score, 0.0, 1.5)).all()
    ids = tokens.encode(score)
    assert np.array_equal(tokens.encode(tokens.decode(ids)), ids)


@pytest.mark.parametrize("tail", [b"\n", b"abc", b"\xff" * 9, b"junk\xff\xff\xff\xff"])
def test_what_follows_the_last_track_is_passed_over(tmp_path, tail):
    (tmp_path / "a.mid").write_bytes(SONG)
    (tmp_path / "b.mid").write_bytes(SONG + tail)
    expected, found = (midi.notes(midi.read(tmp_path / name)) for name in ("a.mid", "b.mid"))
    assert len(expected) and np.array_equal(found, expected)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.mid")
    with pytest.raises(UserError, match=r"p\.mid: not a regular file"):
        midi.read(tmp_path / "p.mid")


def test_what_is_written_reads_back_whole_or_not_at_all(tmp_path):
    (tmp_path / "a.mid").write_bytes(SONG)
    score = midi.read(tmp_path / "a.mid")
    midi.write(score, tmp_path / "new" / "b.mid")
    assert np.array_equal(midi.notes(midi.read(tmp_path / "new" / "b.mid")), midi.notes(score))
    with pytest.raises(UserError, match=r"new: not written: Is a directory"):
        midi.write(score, tmp_path / "new")
    with pytest.raises(UserError, match=r"x\.mid: not written: File exists"):
        midi.write(score, tmp_path / "a.mid" / "x.mid")
    with pytest.raises(KwelaError, match=r"/dev/full: not written: No space left on device"):
        midi.write(score, "/dev/full")


def test_reading_costs_under_a_millisecond_more_than_parsing(tmp_path):
    (tmp_path / "a.mid").write_bytes(SONG)
    midi.read(tmp_path / "a.mid")

    def best(action) -> float:
        times = []
        for _ in range(30):
            began = time.perf_counter()
            action()
            times.append(time.perf_counter() - began)
        return min(times)

    assert best(lambda: midi.read(tmp_path / "a.mid")) - best(lambda: Score(tmp_path / "a.mid")) < 1e-3


# ---- time


def test_seconds_follow_the_tempo_map():
    score = song()
    assert midi.tick_to_seconds(score, np.array([0, 480, 3840, 4320])) == pytest.approx([0, 0.5, 4, 5])


def test_the_tempo_is_120_until_the_first_and_the_last_of_a_tick_wins():
    assert midi.tick_to_seconds(Score(480), np.array(960)) == pytest.approx(1)
    late = score_of(tempos=[(480, 60), (480, 240)])
    assert midi.tick_to_seconds(late, np.array([480, 960])) == pytest.approx([0.5, 0.75])


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(20, 320)), max_size=6), st.integers(1, 2000))
@settings(max_examples=50, deadline=None)
def test_seconds_are_symusics(tempos, tpq):
    ticks = range(0, 6000, 370)
    score = score_of(
        (0, [(tick, 10, 60, 80) for tick in ticks]), tempos=sorted(dict(tempos).items()), tpq=tpq
    )
    theirs = [note.start for note in score.to("second").tracks[0].notes]
    assert midi.tick_to_seconds(score, np.array(ticks)) == pytest.approx(theirs, rel=1e-4)


def test_notes_stand_in_order_of_onset():
    onsets = midi.notes(song())["onset_s"]
    assert len(onsets) == 48
    assert (np.diff(onsets) >= 0).all()
    assert onsets[-1] == pytest.approx(4 + 2 * (31 * 240 - 3840) / 960)


def test_sounding_takes_held_and_begun_notes_of_the_window():
    held, before, inside, after, instant = (
        (0, 960, 60, 80),
        (0, 480, 61, 80),
        (600, 10, 62, 80),
        (960, 9, 63, 80),
        (700, 0, 64, 9),
    )
    score = score_of((0, [held, before, inside, after]), (9, [instant]), ("drums", [(700, 1, 36, 1)]))
    heard = midi.sounding(score, 0.5, 0.5)
    assert heard["pitch"].tolist() == [60, 62, 36, 64]
    assert heard["is_drum"].tolist() == [False, False, True, False]
    assert heard["program"].tolist() == [0, 0, 0, 9]
    assert heard["onset_s"] == pytest.approx([0, 0.625, 700 / 960, 700 / 960])
    assert heard["end_s"] == pytest.approx([1, 610 / 960, 701 / 960, 700 / 960])
    assert heard["onset_quarter"] == pytest.approx([0, 1.25, 700 / 480, 700 / 480])
    assert len(midi.sounding(score, 5, 1)) == 0 == len(midi.sounding(Score(480), 0, 1))


# ---- features


def features(*tracks, start=0.0, seconds=1.0, **more) -> dict[str, float]:
    found = midi.features(score_of(*tracks, **more), start, seconds)
    assert found.dtype == np.float32 and found.shape == (32,)
    assert (found >= 0).all() and (found <= 1).all()
    return dict(zip(midi.FEATURE_NAMES, found.tolist(), strict=True))


def test_there_are_32_named_features():
    assert len(midi.FEATURE_NAMES) == len(set(midi.FEATURE_NAMES)) == 32


def test_an_empty_window_is_zeros_and_one_empty_share():
    found = features((0, [(0, 480, 60, 80)], [(0, 127)]), start=5.0)
    assert found.pop("empty_share") == 1
    assert set(found.values()) == {0}
    assert midi.features(Score(480), 0, 1).sum() == 1


def test_pitch_classes_are_weighed_by_time_in_the_window_and_velocity():
    found = features(
        (0, [(0, 960, 60, 60), (480, 960, 67, 120), (0, 960, 74, 30)]), ("drums", [(0, 960, 61, 127)])
    )
    assert [found[f"pitch_class_{name}"] for name in ("c", "g", "d", "cs")] == pytest.approx(
        [0.4, 0.4, 0.2, 0]
    )


def test_counting_features():
    chord = [(0, 480, pitch, 64) for pitch in (60, 64, 67)]
    found = features((0, [*chord, (480, 240, 72, 64)]), ("drums", [(480, 240, 36, 64)]))
    assert found["note_rate"] == pytest.approx(5 / 20)
    assert found["onset_rate"] == pytest.approx(2 / 10)
    assert found["polyphony_max"] == pytest.approx(3 / 16)
    assert found["polyphony_mean"] == pytest.approx((3 * 0.5 + 2 * 0.25) / 8)
    assert found["empty_share"] == pytest.approx(0.25)
    assert found["drum_share"] == pytest.approx(1 / 5)
    assert found["programs"] == pytest.approx(2 / 8)
    assert found["pitch_range"] == pytest.approx(12 / 88)
    assert found["pitch_mean"] == pytest.approx(np.mean([60, 64, 67, 72]) / 127)
    assert found["velocity_mean"] == pytest.approx(64 / 127)
    assert found["velocity_spread"] == 0
    assert found["duration_mean"] == pytest.approx(0.4 / 1.4)


def test_rhythm_features():
    even = features((0, [(240 * i, 10, 60, 64) for i in range(4)]))
    assert (even["off_beat_share"], even["rhythm_spread"]) == (0.5, 0)
    uneven = features((0, [(at, 10, 60, 64) for at in (0, 100, 200, 700)]))
    assert uneven["rhythm_spread"] > 0.4


@pytest.mark.parametrize(("bpm", "value"), [(20, 0), (80, 0.5), (320, 1), (1000, 1)])
def test_tempo_is_logarithmic(bpm, value):
    assert features((0, [(0, 4800, 60, 64)]), tempos=[(0, bpm)])["tempo"] == pytest.approx(value, abs=1e-6)


def test_pedal_share_counts_any_pedal_once():
    notes = [(0, 960, 60, 64)]
    both = features((0, notes, [(240, 127), (480, 0)]), (1, notes, [(360, 127), (720, 0)]))
    assert both["pedal_share"] == pytest.approx(0.5)
    assert features((0, notes, [(480, 127)]))["pedal_share"] == pytest.approx(0.5)
    assert features((0, notes))["pedal_share"] == 0


def chord(*pitches):
    return features((0, [(0, 960, pitch, 64) for pitch in pitches]))


def test_harmony_features():
    assert chord(60, 64, 67)["mode"] > 0.53 > 0.47 > chord(60, 63, 67)["mode"]
    assert chord(60, 64, 67)["dissonance"] == pytest.approx(0, abs=1e-6)
    assert chord(60, 61, 66)["dissonance"] == pytest.approx(2 / 3, abs=1e-6)
    assert chord(60, 61)["dissonance"] == chord(60, 66)["dissonance"] == pytest.approx(1)
    assert chord(60, 72)["dissonance"] == 0
    assert chord(*range(60, 72))["mode"] == 0.5


def test_drums_alone_leave_the_pitch_features_at_zero():
    found = features(("drums", [(0, 480, 36, 100)]))
    assert found["pitch_mean"] == found["mode"] == found["pitch_class_c"] == 0
    assert found["drum_share"] == 1
