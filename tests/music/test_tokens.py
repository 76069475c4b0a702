"""Each sentence of the codec's contract as an example that can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_score import score_of
from symusic import ControlChange, Note, PitchBend, Score, TextMeta, Track

from kwela.errors import UserError
from kwela.music import tokens
from kwela.music.tokens import BAR, BEAT, BOS, EOS, PAD

TPQ = 480


def piano(*notes, pedal=(), **more):
    return score_of((0, notes, pedal), **more)


def written(score):
    return Score.from_midi(score.dumps_midi())


def ids(score):
    """Encode; and check on the way that a round trip, also through a file, gives the same ids."""
    found = tokens.encode(score)
    assert found.dtype == np.int16
    decoded = tokens.decode(found)
    assert np.array_equal(tokens.encode(decoded), found)
    assert np.array_equal(tokens.encode(written(decoded)), found)
    return found.tolist()


def sub(n):
    return 176 + n


V64 = 128 + 16  # velocity 64
QUARTER = 223
C = 60


def test_the_empty_song_is_bos_eos():
    assert ids(Score(TPQ)) == [BOS, EOS]
    assert ids(piano(meters=[(0, 3, 4)])) == [BOS, EOS]


def test_one_note():
    assert ids(piano((0, TPQ, C, 64))) == [BOS, BAR, BEAT, C, V64, QUARTER, EOS]


def test_beats_count_quarters_and_sub_is_left_out_at_zero():
    score = piano((TPQ, TPQ, C, 64), (2 * TPQ + TPQ // 4, TPQ, C, 64))
    assert ids(score) == [BOS, BAR, BEAT + 1, C, V64, QUARTER, BEAT + 2, sub(6), C, V64, QUARTER, EOS]
    in_six_eight = piano((5 * TPQ // 2, TPQ, C, 64), meters=[(0, 6, 8)])
    assert ids(in_six_eight) == [BOS, BAR, 327 + 6, 346, BEAT + 2, sub(12), C, V64, QUARTER, EOS]


@pytest.mark.parametrize(("time", "tick"), [(9, 0), (10, 1), (11, 1), (29, 1), (30, 2)])
def test_a_tick_is_the_nearest_with_halves_up(time, tick):
    assert tokens.encode(piano((time, TPQ, C, 64))).tolist()[3] == (sub(tick) if tick else C)


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        (1, [200]),
        (23, [222]),
        (24, [223]),
        (25, [223, 200]),
        (767, [253, 222]),
        (768, [254]),
        (792, [254, 223]),
        (768 * 3 + 25, [254, 254, 254, 223, 200]),
    ],
)
def test_durations_are_coarse_ids_largest_first_then_fine(ticks, expected):
    assert ids(piano((0, ticks, C, 64), tpq=24)) == [BOS, BAR, BEAT, C, V64, *expected, EOS]


def test_long_notes_among_others_repeat_their_own_coarse_id():
    score = piano((0, 2000, C, 64), (0, 24, 62, 64), (0, 800, 64, 64), tpq=24)
    note = [C, V64, 254, 254, 241, 207], [62, V64, 223], [64, V64, 254, 223, 207]
    assert ids(score) == [BOS, BAR, BEAT, *note[0], *note[1], *note[2], EOS]


def test_a_note_of_no_length_sounds_for_one_tick():
    assert ids(piano((0, 0, C, 64)))[5:] == [200, EOS]


@pytest.mark.parametrize(("velocity", "written_as"), [(1, 2), (3, 2), (4, 6), (64, 66), (127, 126)])
def test_velocity_of_bin_b_is_4b_plus_2(velocity, written_as):
    decoded = tokens.decode(tokens.encode(piano((0, TPQ, C, velocity))))
    assert decoded.tracks[0].notes[0].velocity == written_as


def test_program_is_family_and_variant_and_persists():
    score = score_of((0, [(0, TPQ, C, 64)]), (42, [(0, TPQ, C, 64), (TPQ, TPQ, C, 64)]))
    note = [C, V64, QUARTER]
    assert ids(score) == [BOS, BAR, BEAT, *note, 255 + 5, 271 + 2, *note, BEAT + 1, *note, EOS]


def test_drums_come_last_and_are_one_program():
    score = score_of(("drums", [(0, TPQ, 36, 64)]), (127, [(0, TPQ, C, 64)]))
    assert ids(score) == [BOS, BAR, BEAT, 270, 278, C, V64, QUARTER, 279, 36, V64, QUARTER, EOS]
    back = tokens.decode(tokens.encode(score)).tracks
    assert [(track.is_drum, track.program) for track in back] == [(False, 127), (True, 0)]


def test_parts_number_the_tracks_of_a_program_and_survive_a_change_of_program():
    one = [(0, TPQ, C, 64)]
    score = score_of((0, one), (0, []), (0, one), (8, one), (8, one))
    note = [C, V64, QUARTER]
    expected = [BOS, BAR, BEAT, *note, 349, *note, 256, 271, 348, *note, 349, *note, EOS]
    assert ids(score) == expected  # the empty track has no number
    two_bars = score_of((0, one), (0, [(4 * TPQ, TPQ, C, 64)]), (8, one), (8, [(4 * TPQ, TPQ, C, 64)]))
    assert ids(two_bars)[-6:] == [256, 271, *note, EOS]  # part 1 is still in force


def test_a_ninth_track_of_one_program_is_dropped_and_counted():
    score = score_of(*[(0, [(0, TPQ, C, 64)])] * 9, (1, [(0, TPQ, C, 64)]))
    assert len(tokens.decode(ids(score)).tracks) == 9
    report = tokens.loss_report(score)
    assert (report["tracks_over_8"], report["notes_over_8"]) == (1, 1)


def test_more_programs_than_midi_channels_survive_a_file():
    score = score_of(
        *[(program, [(0, TPQ, C, 64)]) for program in range(0, 120, 3)], ("drums", [(0, TPQ, 36, 64)])
    )
    back = written(tokens.decode(ids(score)))
    assert [track.program for track in back.tracks if not track.is_drum] == list(range(0, 120, 3))


def test_a_tempo_is_written_where_it_changes_and_starts_at_120():
    def tempo(step):
        return [280 + step // 16, 312 + step % 16]

    note = [C, V64, QUARTER]
    assert ids(piano((0, TPQ, C, 64), tempos=[(0, 120)])) == [BOS, BAR, BEAT, *note, EOS]
    score = piano((0, TPQ, C, 64), tempos=[(0, 120), (TPQ, 20), (2 * TPQ, 20), (3 * TPQ, 320)])
    assert ids(score) == [BOS, BAR, BEAT, *note, BEAT + 1, *tempo(0), BEAT + 3, *tempo(511), EOS]


def test_the_last_tempo_of_a_tick_wins():
    once = piano((0, TPQ, C, 64), tempos=[(0, 80)])
    twice = piano((0, TPQ, C, 64), tempos=[(0, 60), (0, 200), (4, 80)])
    assert ids(twice) == ids(once)


@pytest.mark.parametrize("bpm", [20, 20.1, 60, 95.3, 119.56, 120, 120.4, 133.7, 200, 319, 320])
def test_tempo_is_within_0_3_percent(bpm):
    decoded = tokens.decode(ids(piano((0, TPQ, C, 64), tempos=[(0, bpm)])))
    assert decoded.tempos[0].qpm == pytest.approx(bpm, rel=0.003)


def test_every_tempo_step_survives_a_file():
    song = [BOS]
    for step in range(512):
        song += [BAR] * (step % 4 == 0) + [BEAT + step % 4, 280 + step // 16, 312 + step % 16]
    song += [C, V64, QUARTER, EOS]
    assert tokens.encode(written(tokens.decode(song))).tolist() == song


def test_tempos_and_meters_without_a_note_survive_a_file():
    score = score_of(tempos=[(0, 60), (8 * TPQ, 90)], meters=[(4 * TPQ, 3, 4)])
    assert ids(score)[-4:] == [BEAT + 1, 280 + 277 // 16, 312 + 277 % 16, EOS]


def test_a_meter_change_inside_a_bar_waits_for_the_bar_line():
    note = [C, V64, QUARTER]
    notes = [(4 * k * TPQ, TPQ, C, 64) for k in range(2)]
    score = piano(*notes, meters=[(0, 4, 4), (TPQ, 3, 4)])
    assert ids(score) == [BOS, BAR, BEAT, *note, BAR, 327 + 3, 345, BEAT, *note, EOS]
    report = tokens.loss_report(score)
    assert report["meters_delayed"] == 1
    assert tokens.loss_report(piano(*notes, meters=[(4 * TPQ, 3, 4)]))["meters_delayed"] == 0


@pytest.mark.parametrize(("numerator", "denominator"), [(4, 1), (4, 32), (17, 16), (9, 2), (0, 4), (255, 8)])
def test_meters_that_have_no_ids_become_four_four_with_onsets_kept(numerator, denominator):
    note = [C, V64, QUARTER]
    notes = [(0, TPQ, C, 64), (5 * TPQ, TPQ, C, 64)]
    score = piano(*notes, meters=[(0, numerator, denominator)])
    assert ids(score) == [BOS, BAR, BEAT, *note, BAR, BEAT + 1, *note, EOS]
    assert tokens.loss_report(score)["meters_unwritable"] == 1


@pytest.mark.parametrize(("numerator", "denominator"), [(8, 2), (16, 4), (1, 16), (16, 16), (5, 8), (1, 4)])
def test_other_meters_keep_their_bar_lines(numerator, denominator):
    length = TPQ * 4 * numerator // denominator
    score = piano((0, TPQ // 8, C, 64), (length, TPQ // 8, C, 64), meters=[(0, numerator, denominator)])
    found = ids(score)
    assert found[:4] == [BOS, BAR, 327 + numerator, 344 + (2, 4, 8, 16).index(denominator)]
    assert found[8:10] == [BAR, BEAT]


def test_empty_bars_between_are_kept_and_trailing_ones_dropped():
    score = piano((8 * TPQ, TPQ, C, 64), meters=[(0, 4, 4), (16 * TPQ, 3, 4)])
    assert ids(score) == [BOS, BAR, BAR, BAR, BEAT, C, V64, QUARTER, EOS]


def test_a_tempo_or_a_pedal_alone_is_not_empty():
    note = [C, V64, QUARTER]
    late_tempo = piano((0, TPQ, C, 64), tempos=[(4 * TPQ, 60)])
    assert len(ids(late_tempo)) > len([BOS, BAR, BEAT, *note, BAR, EOS])
    late_pedal = piano((0, TPQ, C, 64), pedal=[(4 * TPQ, 127)])
    assert ids(late_pedal) == [BOS, BAR, BEAT, *note, BAR, BEAT, 356, EOS]


@pytest.mark.parametrize(
    ("before", "inside", "expected"),
    [
        ([], [127], [356]),
        ([], [63], []),
        ([], [64], [356]),
        ([], [127, 0], []),
        ([], [127, 0, 127], [356]),
        ([100], [90], []),
        ([100], [0], [357]),
        ([100], [0, 127], [357, 356]),
        ([100], [127, 0, 30, 127], [357, 356]),
        ([100], [0, 127, 0], [357]),
    ],
)
def test_pedal_changes_inside_one_tick(before, inside, expected):
    score = piano((0, TPQ, C, 64), pedal=[(0, v) for v in before] + [(TPQ, v) for v in inside])
    first = [356] if before else []
    tail = [BEAT + 1, *expected] if expected else []
    assert ids(score) == [BOS, BAR, BEAT, *first, C, V64, QUARTER, *tail, EOS]


def test_pedals_belong_to_a_program_and_part():
    one = [(0, TPQ, C, 64)]
    score = score_of((0, one, [(0, 127)]), (0, one, [(0, 127), (TPQ, 0)]))
    note = [C, V64, QUARTER]
    assert ids(score) == [BOS, BAR, BEAT, 356, *note, 349, 356, *note, BEAT + 1, 357, EOS]


def test_of_one_onset_the_longest_note_stays():
    score = piano((0, TPQ, C, 64), (3, 2 * TPQ, C, 32), (0, TPQ // 2, C, 100))
    assert ids(score) == [BOS, BAR, BEAT, C, 128 + 8, 224, EOS]
    assert tokens.loss_report(score)["notes_same_onset"] == 2


def test_a_sounding_note_is_cut_at_the_next_onset_of_its_pitch_only():
    score = piano((0, 4 * TPQ, C, 64), (0, 4 * TPQ, 62, 64), (TPQ, TPQ, C, 64))
    assert ids(score) == [BOS, BAR, BEAT, C, V64, 223, 62, V64, 226, BEAT + 1, C, V64, 223, EOS]
    assert tokens.loss_report(score)["notes_cut"] == 1
    apart = score_of((0, [(0, 4 * TPQ, C, 64)]), (0, [(TPQ, TPQ, C, 64)]))
    assert tokens.loss_report(apart)["notes_cut"] == 0


def test_the_loss_report_counts_what_is_left_out():
    score = piano(
        (0, TPQ, C, 64), (7, 13, 62, 3), tempos=[(0, 10), (1, 400), (TPQ, 100)], meters=[(0, 4, 4), (1, 3, 4)]
    )
    track = score.tracks[0]
    track.pitch_bends.append(PitchBend(0, 100))
    track.controls.append(ControlChange(0, 7, 100))
    track.lyrics.append(TextMeta(0, "la"))
    drums = Track("", 25, True)
    drums.notes.append(Note(0, TPQ, 36, 64))
    score.tracks.append(drums)
    empty = Track("", 3, False)
    empty.controls.append(ControlChange(0, 64, 127))
    score.tracks.append(empty)
    report = tokens.loss_report(score)
    assert {name: count for name, count in report.items() if count and not name.endswith("_error")} == {
        "notes": 3,
        "ids": len(tokens.encode(score)),
        "tempos_clamped": 1,
        "tempos_same_tick": 1,
        "meters_same_tick": 1,
        "drum_kits": 1,
        "pitch_bends": 1,
        "controllers": 1,
        "pedals_without_notes": 1,
        "lyrics": 1,
    }
    assert report["onset_error"] == pytest.approx(7 / 480)
    assert report["duration_error"] == pytest.approx(abs(1 / 24 - 13 / 480))
    assert report["velocity_error"] == 2
    assert 0 < report["tempo_error"] <= 0.003


def test_an_exact_score_loses_nothing():
    report = tokens.loss_report(piano((0, 24, C, 66), tpq=24, tempos=[(0, 20)]))
    assert {name for name, count in report.items() if count} == {"notes", "ids"}


def test_decode_takes_broken_sequences():
    note = [C, V64, QUARTER]

    def notes(*broken):
        decoded = tokens.decode(broken)
        return [
            (n.time, n.duration, n.pitch, n.velocity)
            for track in written(decoded).tracks
            for n in track.notes
        ]

    whole = [(0, 24, C, 66)]
    assert notes(BOS, BAR, BEAT, *note, EOS) == whole
    assert notes(BAR, BEAT, *note) == whole  # neither BOS nor EOS
    assert notes(BOS, BAR, BEAT, 61, *note, EOS) == whole  # a pitch without a velocity
    assert notes(BOS, BAR, BEAT, 280, *note, EOS) == whole  # half a tempo
    assert notes(BOS, BAR, 330, BEAT, *note, EOS) == whole  # half a meter
    assert notes(BOS, BAR, BEAT, 255, *note, EOS) == whole  # half a program
    assert notes(BOS, BAR, BEAT, C, -5, 370, 10**9, PAD, V64, 176, QUARTER, EOS) == whole
    assert notes(BOS, BAR, BEAT, *note, EOS, BAR, BEAT, *note) == whole  # after the end
    assert notes(BOS, BAR, BEAT + 3, *note, BEAT + 1, *note) == [(72, 24, C, 66)]  # going back, at one onset
    assert notes(BOS, BAR, BEAT + 5, *note) == []  # outside the bar
    assert notes() == notes(EOS) == notes(*note) == []


def test_a_decoded_file_never_overlaps_a_pitch():
    overlapping = [BOS, BAR, BEAT, C, V64, 230, BEAT + 1, C, V64, 230, C, V64, 231, EOS]
    decoded = tokens.decode(overlapping)
    assert [(n.time, n.duration) for n in decoded.tracks[0].notes] == [(0, 24), (24, 216)]
    assert [(n.time, n.duration) for n in written(decoded).tracks[0].notes] == [(0, 24), (24, 216)]


def test_a_score_that_ids_cannot_hold_is_refused():
    with pytest.raises(UserError, match="ticks per quarter"):
        tokens.encode(Score(0))
    with pytest.raises(UserError, match="negative"):
        tokens.encode(piano((-5, TPQ, C, 64)))
    with pytest.raises(UserError, match="not a length"):
        tokens.encode(piano((2**31 - 1, 0, C, 64), tpq=1))


def test_a_dumped_file_is_the_same_as_bytes(tmp_path: Path):
    decoded = tokens.decode(tokens.encode(piano((0, TPQ, C, 64))))
    decoded.dump_midi(tmp_path / "x.mid")
    assert np.array_equal(tokens.encode(Score(tmp_path / "x.mid")), tokens.encode(decoded))


def test_the_roundtrip_command_names_what_fails(tmp_path: Path):
    piano((0, TPQ, C, 64), (7, 13, 62, 64)).dump_midi(tmp_path / "good.mid")
    command = [sys.executable, Path(__file__).parents[2] / "benchmarks" / "roundtrip.py", tmp_path]
    good = subprocess.run(command, capture_output=True, text=True)
    assert good.returncode == 0
    assert "1 files, 0 failures" in good.stdout
    (tmp_path / "bad.mid").write_bytes(b"MThd")
    bad = subprocess.run(command, capture_output=True, text=True)
    assert bad.returncode == 1
    assert "bad.mid: truncated" in bad.stderr
