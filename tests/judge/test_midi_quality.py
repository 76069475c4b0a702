"""Statistics with known values and a NaN rule; overlap tells music from thrown notes, and NaN doesn't
vanish.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from symusic import Note, Score, Track
from toy_pieces import QUADRANTS, toy_piece

from kwela import stats
from kwela.judge.midi import quality, symbolic_features
from kwela.judge.midi.note_table import note_table


def table_of(*rows: tuple[float, float, int]) -> quality.NoteTable:
    """(onset, length, pitch), in quarters."""
    score, track = Score(480), Track("", 0, False)
    for onset, length, pitch in rows:
        track.notes.append(Note(round(onset * 480), round(length * 480), pitch, 70))
    score.tracks.append(track)
    return note_table(score)


def test_pitch_class_entropy() -> None:
    assert quality.pitch_class_entropy(table_of((0, 1, 60), (1, 1, 72))) == 0
    assert quality.pitch_class_entropy(table_of(*((i, 1, 60 + i) for i in range(12)))) == pytest.approx(
        math.log2(12)
    )


def test_scale_consistency() -> None:
    scale = [(i, 1, 60 + step) for i, step in enumerate((0, 2, 4, 5, 7, 9, 11))]
    assert symbolic_features.scale_consistency(table_of(*scale)) == 1
    assert symbolic_features.scale_consistency(table_of(*scale, (7, 1, 61))) == pytest.approx(7 / 8)


def test_groove_consistency_is_not_one_for_sparse_music() -> None:
    same = table_of((0, 1, 60), (2, 1, 60), (4, 1, 60), (6, 1, 60))
    other = table_of((0, 1, 60), (2, 1, 60), (5, 1, 60), (7, 1, 60))
    assert quality.groove_consistency(same) == 1 and quality.groove_consistency(other) == 0


def table_with_drums(onsets: list[float], *rows: tuple[float, float, int]) -> quality.NoteTable:
    """Notes, and drums at `onsets`."""
    return replace(table_of(*rows), drums=np.array(onsets, float))


def test_groove_consistency_by_hand() -> None:
    # Places in sixteenths of bars 0 to 4: 0 4 8, 0 4, none, none, 3. Shared of all: 2/3, 0/2, left out, 0/1.
    some = table_of((0, 1, 60), (1, 1, 60), (2, 1, 60), (4, 1, 60), (5, 1, 60), (16.75, 1, 60))
    assert quality.groove_consistency(some) == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert quality.groove_consistency(table_with_drums([0, 2, 4, 6], (0, 1, 60), (4, 1, 60))) == 1
    assert quality.groove_consistency(table_with_drums([0, 4, 6])) == 0.5
    assert math.isnan(quality.groove_consistency(table_of((0, 1, 60), (3.5, 1, 60)))), (
        "one bar has no neighbour"
    )
    waltz = replace(table_of((0, 1, 60), (1, 1, 60), (3, 1, 60), (4, 1, 60)), bar_q=3.0)
    assert quality.groove_consistency(waltz) == 1
    assert quality.groove_consistency(table_of((0, 1, 60), (4, 1, 60))) == 1, "one place a bar"


def test_quarters_in_which_nothing_sounds_are_counted_between_the_first_note_and_the_last() -> None:
    assert quality.empty_beat_rate(table_of((2.5, 0.5, 60), (5, 0.25, 60))) == 0.5  # 2 and 5 of 2 to 5
    assert quality.empty_beat_rate(table_of((2, 1, 60), (4, 1, 60))) == pytest.approx(1 / 3), (
        "an end on a beat is before it"
    )
    assert quality.empty_beat_rate(table_of((2, 1.1, 60), (4, 1, 60))) == 0
    assert quality.empty_beat_rate(table_of((1, 0.01, 60))) == 0
    assert math.isnan(quality.empty_beat_rate(table_of()))


def test_thrown_notes_keep_their_number_and_their_drums_and_stand_on_sixteenths_of_the_piece() -> None:
    score = toy_piece(0.8, 0.8, 1, 8)
    drums = Track("", 0, True)
    drums.notes.append(Note(77, 10, 36, 70))
    score.tracks.append(drums)
    thrown = quality.scatter_notes(score, 1)
    pitched = list(thrown.tracks[0].notes)
    assert len(pitched) == len(score.tracks[0].notes) and thrown.tracks[1].notes[0].pitch == 36
    assert {note.pitch for note in pitched} <= set(range(36, 85))
    many = {note.pitch for seed in range(9) for note in quality.scatter_notes(score, seed).tracks[0].notes}
    assert many == set(range(36, 85))
    assert all(note.time % 120 == 0 and note.time < score.end() for note in pitched)
    assert max(note.time for note in pitched) > 0.8 * score.end()
    assert quality.scatter_notes(score, 1) == thrown != quality.scatter_notes(score, 2)
    assert score.tracks[0] == toy_piece(0.8, 0.8, 1, 8).tracks[0], "the piece itself is left as it was"


def test_notes_of_a_piece_of_one_sixteenth_have_one_place_to_go() -> None:
    score, track = Score(480), Track("", 0, False)
    for pitch in range(60, 68):
        track.notes.append(Note(0, 120, pitch, 70))
    score.tracks.append(track)
    assert {note.time for note in quality.scatter_notes(score, 0).tracks[0].notes} == {0}


def test_statistics_stand_in_their_own_columns_and_what_was_not_made_is_nan() -> None:
    score = toy_piece(0.8, 0.8, 1, 4)
    found = quality.measure_pieces([score, None])
    assert found.shape == (2, 6) and np.isnan(found[1]).all()
    assert found[0].tolist() == [statistic(note_table(score)) for statistic in quality.STATISTICS.values()]


def test_overlaps_by_hand() -> None:
    """Constants: what was made shares all of the first statistic, half of it is missing in the second, none
    else.
    """
    held_out = np.tile([1.0, 1, 1, 1, 1, 1], (8, 1))
    made = np.tile([1.0, 1, 2, 2, np.nan, 1], (8, 1))
    made[::2, 1] = np.nan
    found = quality.overlaps_with_held_out(made, held_out, [f"song {k // 2}" for k in range(8)], 40)
    names = list(quality.STATISTICS)
    assert [found[name][1] for name in names] == [(1, 1, 1)] * 6, "held-out with held-out"
    assert found[names[0]][0] == (1, 1, 1) and found[names[2]][0] == found[names[4]][0] == (0, 0, 0)
    half, low, high = found[names[1]][0]
    assert 0.4 < half < 0.6 and low < half < high <= 1
    few = quality.overlaps_with_held_out(made[:2], held_out, [f"song {k}" for k in range(8)], 10)
    assert few[names[0]][0] == (1, 1, 1), "as many are compared as there are"
    assert math.isnan(
        quality.overlaps_with_held_out(made[:0], held_out, list("aabbccdd"), 10)[names[0]][0].value
    )
    assert quality.overlaps_with_held_out(made, held_out, list("aabbccdd"), 10)[names[0]][0].value == 1, (
        "four songs are enough"
    )


def test_a_split_parts_songs_and_not_pieces() -> None:
    """Each song has a value of its own: a piece finds its song's value only if the song is on both sides."""
    songs = [f"song {k // 8}" for k in range(32)]
    values = np.repeat(np.arange(4.0), 8)[:, None] * np.ones(6)
    found = quality.overlaps_with_held_out(values, values, songs, 20)
    assert all(ceiling.value == 0 for _, ceiling in found.values())
    assert all(0.2 < ours.value < 0.8 for ours, _ in found.values())


def test_overlap_is_counted_in_as_many_cells_as_the_root_of_the_smaller_sample() -> None:
    rng = np.random.default_rng(0)
    for sizes, cells in (((400, 900), 20), ((100, 30), 5), ((4, 500), 3), ((900, 900), 20)):
        made, reference = rng.normal(size=sizes[0]), rng.normal(size=sizes[1])
        assert quality.overlap_of_defined(made, reference) == stats.overlap(made, reference, cells)
    assert quality.overlap_of_defined(np.zeros(0), np.zeros(3)) == 0


def test_empty_beat_rate_and_polyphony() -> None:
    one = table_of((0, 1, 60), (0, 1, 64), (3, 1, 67))
    assert quality.empty_beat_rate(one) == 0.5  # quarters 1 and 2 of 4
    assert quality.polyphony(one) == pytest.approx(1.5)


def test_the_shortest_notes_count_as_sounding() -> None:
    staccato = table_of(*((i / 2, 0.03, 60 + pitch) for i in range(16) for pitch in (0, 4, 7)))
    assert quality.polyphony(staccato) == 3 and quality.polyphony(table_of((0.24, 0.01, 60))) == 1
    found = symbolic_features.features(staccato)
    assert found["polyphony"] == 3 and np.isfinite(found["major_share"])


def test_repetition() -> None:
    # Four equal bars have 12 runs of 4 steps, of 4 kinds; a line that keeps growing never repeats.
    again = table_of(*((4 * bar + i, 1, 60 + (0, 2, 7, 4)[i]) for bar in range(4) for i in range(4)))
    never = table_of(*((i, 1, 30 + i * (i + 1) // 2) for i in range(12)))
    assert symbolic_features.repetition(again) == pytest.approx(1 - 4 / 12)
    assert symbolic_features.repetition(never) == 0


def test_an_empty_piece_is_nan_in_every_statistic_and_so_is_one_that_was_not_made() -> None:
    assert np.isnan(quality.measure_pieces([Score(480), None])).all()


def test_generated_music_of_the_same_kind_reaches_the_ceiling_and_thrown_notes_do_not() -> None:
    held_out = [toy_piece(*QUADRANTS[n % 4], n, 8) for n in range(48)]
    alike = [toy_piece(*QUADRANTS[n % 4], 500 + n, 8) for n in range(48)]
    thrown = [quality.scatter_notes(score, n) for n, score in enumerate(held_out)]
    songs = [str(n) for n in range(48)]
    real = quality.measure_pieces(held_out)
    good = quality.overlaps_with_held_out(quality.measure_pieces(alike), real, songs, 50)
    bad = quality.overlaps_with_held_out(quality.measure_pieces(thrown), real, songs, 50)
    for name in ("pitch-class entropy", "scale consistency", "groove consistency"):
        ours, ceiling = good[name]
        assert ours.value > ceiling.value - 0.15 and bad[name][0].value < ceiling.value - 0.3


def test_empty_pieces_lower_the_overlap_by_their_share() -> None:
    values = np.random.default_rng(0).normal(size=(40,))
    half = np.where(np.arange(40) % 2, values, np.nan)
    assert quality.overlap_of_defined(values, values) == 1
    assert quality.overlap_of_defined(half, values) <= 0.5
    assert quality.overlap_of_defined(np.full(40, np.nan), values) == 0


def test_too_few_held_out_songs_give_no_figure() -> None:
    values = np.zeros((6, 6))
    assert math.isnan(
        quality.overlaps_with_held_out(values, values, ["a", "b", "c"] * 2)["polyphony"][0].value
    )
