"""The longest shared run is found whatever the key, tempo and touch, and only where it is."""

from __future__ import annotations

import time

import numpy as np
from symusic import Note, Score, Track
from toy_pieces import toy_piece

from kwela.judge.midi import score_edits
from kwela.judge.midi.memorisation import SharedRun, TrainingIndex, outer_voice, step_lines
from kwela.judge.midi.note_table import note_table


def score_of_line(pitches: list[int], gaps: list[int], tpq: int = 480) -> Score:
    score, track, at = Score(tpq), Track("", 0, False), 0
    for pitch, gap in zip(pitches, gaps, strict=True):
        track.notes.append(Note(at * tpq // 12, tpq // 4, pitch, 70))
        at += gap
    score.tracks.append(track)
    return score


def longest_common_run(query: np.ndarray, library: list[np.ndarray]) -> int:
    """Steps of the longest common run, by the textbook table."""
    best = 0
    for line in library:
        above = np.zeros(len(line) + 1, int)
        for step in query:
            here = np.zeros(len(line) + 1, int)
            here[1:] = np.where(line == step, above[:-1] + 1, 0)
            best, above = max(best, int(here.max(initial=0))), here
    return best


def score_of_notes(*notes: tuple[float, float, int]) -> Score:
    """(onset, length, pitch), in quarters."""
    score, track = Score(480), Track("", 0, False)
    for onset, length, pitch in notes:
        track.notes.append(Note(round(onset * 480), round(length * 480), pitch, 70))
    score.tracks.append(track)
    return score


def steps_of(line: np.ndarray) -> list[tuple[int, int]]:
    """(interval, gap in twelfths of a quarter)."""
    return [(int(step >> 20) - 128, int(step & ((1 << 20) - 1))) for step in line]


def test_a_piece_is_read_as_steps_of_all_notes_and_of_its_outer_voices() -> None:
    score = score_of_notes((0, 1, 72), (0, 1.5, 48), (1, 1, 74), (1.5, 0.5, 50), (2, 1, 71))
    whole, upper, lower = step_lines(score)
    assert steps_of(whole) == [(24, 0), (2, 12), (-24, 6), (21, 6)]  # 48 72 74 50 71
    assert steps_of(upper) == [(2, 12), (-3, 12)] and steps_of(lower) == [(2, 18), (21, 6)]
    assert [steps_of(line) for line in step_lines(score_of_notes((0, 1, 60), (1, 1, 62)))] == [[(2, 12)]], (
        "one voice is one line"
    )


def test_tracks_are_lines_where_there_are_several() -> None:
    score = score_of_notes((0, 1, 60), (2, 1, 62), (4, 1, 64))
    score.tracks.append(score_of_notes((1, 1, 40), (3, 1, 43)).tracks[0])
    assert [steps_of(line) for line in step_lines(score)[1:3]] == [[(2, 24), (2, 24)], [(3, 24)]]


def test_an_outer_voice_is_what_is_highest_or_lowest_where_it_begins() -> None:
    held = score_of_notes((0, 4, 60), (1, 1, 64), (1, 1, 62), (2.1, 1, 55), (3, 1, 60), (3.5, 1, 50))
    found = note_table(held)
    pitches = {side: found.pitch[outer_voice(found, side)].tolist() for side in (1, -1)}
    assert pitches == {1: [60, 64, 60], -1: [60, 55, 60, 50]}


def test_two_notes_of_one_pitch_and_onset_are_one_in_an_outer_voice() -> None:
    found = note_table(score_of_notes((0, 1, 60), (0, 1, 60), (1, 1, 62)))
    assert found.pitch[outer_voice(found, 1)].tolist() == [60, 62]


def test_a_note_that_ends_within_a_sixth_of_a_quarter_is_over() -> None:
    for bound, voice in ((0.15, [72, 60]), (0.2, [72])):
        found = note_table(score_of_notes((0, 1 + bound, 72), (1, 1, 60)))
        assert found.pitch[outer_voice(found, 1)].tolist() == voice


def test_the_longest_match_says_its_share_of_the_line_and_its_source() -> None:
    other = score_of_line([60, 61, 60, 61, 60], [3, 3, 3, 3, 3])
    known = score_of_line([50, 52, 55, 50, 49, 43], [6, 6, 3, 6, 3, 6])
    asked = score_of_line([70, 72, 75, 70, 60, 61, 73, 40, 41, 30], [6, 6, 3, 6, 6, 9, 6, 2, 6, 6])
    assert TrainingIndex([other, known]).longest_shared_runs([asked, other]) == [
        SharedRun(4, 0.4, 1),
        SharedRun(5, 1.0, 0),
    ]
    nothing = TrainingIndex([known]).longest_shared_runs([score_of_line([60, 80], [1, 1])])
    assert nothing == [SharedRun(1, 0.0, -1)]
    assert TrainingIndex([known]).longest_shared_runs([score_of_line([60, 62], [6, 1])]) == [
        SharedRun(2, 1.0, 0)
    ]


def test_a_run_does_not_go_on_from_one_line_into_the_next() -> None:
    first, second = score_of_line([60, 62, 65], [6, 3, 3]), score_of_line([65, 60, 58], [3, 9, 6])
    joined = score_of_line([60, 62, 65, 60, 58], [6, 3, 3, 9, 6])
    assert TrainingIndex([first, second]).longest_shared_runs([joined])[0].notes == 3


def test_the_longest_run_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    songs = [
        score_of_line((60 + rng.integers(0, 3, 60)).tolist(), rng.choice([3, 6], 60).tolist())
        for _ in range(12)
    ]
    found = TrainingIndex(songs[:8]).longest_shared_runs(songs[8:])
    known = [step_lines(song)[0] for song in songs[:8]]
    wanted = [longest_common_run(step_lines(song)[0], known) + 1 for song in songs[8:]]
    assert [one.notes for one in found] == wanted and max(wanted) > 5


def test_a_passage_in_another_key_tempo_touch_and_resolution_is_found_with_its_source() -> None:
    known = [toy_piece(0.8, 0.8, seed, 8) for seed in range(6)]
    stolen = score_edits.scale_tempo_and_velocity(
        score_edits.cut_excerpt(known[4], 8, 16), 1.4, 0.6
    ).resample(960)
    for track in stolen.tracks:
        for note in track.notes:
            note.pitch -= 3
            note.duration = max(1, note.duration // 2)
    found = TrainingIndex(known).longest_shared_runs([stolen])[0]
    assert found == SharedRun(score_edits.count_pitched_notes(stolen), 1.0, 4)


def test_other_music_of_the_same_kind_shares_little() -> None:
    known = [toy_piece(0.8, 0.8, seed, 8) for seed in range(20)]
    other = [toy_piece(0.8, 0.8, 100 + seed, 4) for seed in range(10)]
    assert max(one.share for one in TrainingIndex(known).longest_shared_runs(other)) < 0.4


def test_a_stolen_voice_is_found_under_new_ones() -> None:
    known = toy_piece(0.8, 0.8, 1, 8)
    mixed = score_edits.cut_excerpt(known, 0, 16)
    mixed.tracks.append(toy_piece(-0.8, -0.8, 55, 4).tracks[0])
    found = TrainingIndex([known]).longest_shared_runs([mixed])[0]
    assert found.share == 1 and found.notes == score_edits.count_pitched_notes(
        score_edits.cut_excerpt(known, 0, 16)
    )


def test_a_stolen_melody_is_found_over_a_new_accompaniment_in_its_own_track_and_a_bass_line_under_one() -> (
    None
):
    rng = np.random.default_rng(3)
    tune_of, bass_of = [(72 + rng.integers(0, 13, 60)).tolist()], [(36 + rng.integers(0, 13, 60)).tolist()]
    lengths = rng.choice([6, 12], 60).tolist()

    def under(pitches: list[int], accompaniment: list[int], gap: int) -> Score:
        score, at = Score(480), 0
        track = Track("", 0, False)
        for pitch, length in zip(pitches, lengths, strict=True):
            track.notes.append(Note(at, length * 40 + 40, pitch, 70))  # bound to the next
            at += length * 40
        for place in range(0, at, gap * 40):
            track.notes.append(Note(place, gap * 40, accompaniment[place // 40 % len(accompaniment)], 60))
        score.tracks.append(track)
        return score

    for pitches in (*tune_of, *bass_of):
        middle = [55, 59, 62, 57]
        known, stolen = under(pitches, middle, 6), under(pitches, middle[::-1], 4)
        assert TrainingIndex([known]).longest_shared_runs([stolen])[0] == SharedRun(60, 1.0, 0)
        whole = [step_lines(score)[0] for score in (stolen, known)]
        assert longest_common_run(whole[0], whole[1:]) < 12  # all notes together share no such run


def test_a_changed_note_ends_the_run() -> None:
    pitches = [60, 62, 64, 65, 67, 69, 71, 72, 74, 76]
    gaps = [6, 3, 3, 6, 6, 3, 6, 3, 6, 6]
    changed = [*pitches[:5], 70, *pitches[6:]]
    assert (
        TrainingIndex([score_of_line(pitches, gaps)])
        .longest_shared_runs([score_of_line(changed, gaps)])[0]
        .notes
        == 5
    )


def test_empty_pieces_and_an_empty_library_share_nothing() -> None:
    some = toy_piece(0.8, 0.8, 0)
    assert TrainingIndex([]).longest_shared_runs([some]) == [SharedRun(1, 0.0, -1)]
    assert TrainingIndex([some]).longest_shared_runs([Score(480)]) == [SharedRun(1, 0.0, -1)]


def test_half_a_million_steps_are_searched_in_seconds() -> None:
    rng = np.random.default_rng(1)
    long = [
        score_of_line((40 + rng.integers(0, 40, 5000)).tolist(), rng.choice([3, 6, 12], 5000).tolist())
        for _ in range(50)
    ]
    began = time.process_time()
    found = TrainingIndex(long).longest_shared_runs(
        [score_edits.cut_excerpt(long[7], 100, 32), score_edits.cut_excerpt(long[20], 50, 64)]
    )
    assert [one.source for one in found] == [7, 20] and time.process_time() - began < 10
