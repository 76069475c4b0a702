"""Augmented songs: grammatical, canonical where the original was, and changed in exactly what was asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_songs import a_song, check_grammar
from symusic import Note, Score, Track

from kwela.midi_generator import augment
from kwela.midi_generator.augment import Shift
from kwela.midi_generator.config import MidiGeneratorAugment
from kwela.music import tokens

WIDE = MidiGeneratorAugment(transpose=11, tempo=0.5, velocity=40)


def notes(ids: np.ndarray) -> list[tuple[int, bool, int, int, int, int]]:
    score = tokens.decode(ids)
    return [
        (t.program, t.is_drum, n.time, n.duration, n.pitch, n.velocity) for t in score.tracks for n in t.notes
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 10**9))
def test_a_drawn_shift_keeps_the_grammar_and_the_canon(song: int, seed: int) -> None:
    ids = a_song(song)
    shift = augment.draw(ids, WIDE, np.random.default_rng(seed))
    moved = augment.apply(ids, shift)
    check_grammar(moved)
    if augment.START_TEMPO not in augment._tempos(moved)[1]:  # a first tempo of 120 is canonically left out
        assert np.array_equal(tokens.encode(tokens.decode(moved)), moved)


def test_nothing_drawn_where_augmentation_reaches_nowhere() -> None:
    still = MidiGeneratorAugment(transpose=0, tempo=0.0, velocity=0)
    ids = a_song(1)
    shift = augment.draw(ids, still, np.random.default_rng(0))
    assert shift == (0, 0, 0) and np.array_equal(augment.apply(ids, shift), ids)


@pytest.mark.parametrize("seed", range(6))
def test_transposition_moves_every_pitched_note_and_no_drum(seed: int) -> None:
    ids = a_song(seed)
    before, after = notes(ids), notes(augment.apply(ids, Shift(3, 0, 0)))
    assert any(drum for _, drum, *_ in before) and not all(drum for _, drum, *_ in before)
    assert after == [(p, drum, t, d, pitch + (0 if drum else 3), v) for p, drum, t, d, pitch, v in before]


@pytest.mark.parametrize("seed", range(6))
def test_tempo_shift_scales_every_tempo_and_the_one_that_is_not_written(seed: int) -> None:
    ids = a_song(seed)

    def tempos(ids: np.ndarray) -> dict[int, float]:
        return {0: 120.0} | {t.time: t.qpm for t in tokens.decode(ids).tempos}

    shift = 20  # 11.5 %
    before, after = tempos(ids), tempos(augment.apply(ids, Shift(0, shift, 0)))
    assert before.keys() == after.keys()
    for time, bpm in before.items():
        assert after[time] / bpm == pytest.approx(16 ** (shift / 511), rel=0.006)
    assert notes(augment.apply(ids, Shift(0, shift, 0))) == notes(ids)


def test_a_silent_first_tick_gets_a_position_for_its_tempo() -> None:
    silent, sounding = Score(24), Score(24)
    for score, time in ((silent, 30), (sounding, 0)):
        track = Track("", 0, False)
        track.notes.append(Note(time, 24, 60, 90))
        score.tracks.append(track)
    for score, grown in ((silent, 3), (sounding, 2)):
        ids = tokens.encode(score)
        moved = augment.apply(ids, Shift(0, -7, 0))
        check_grammar(moved)
        assert len(moved) == len(ids) + grown
        assert tokens.decode(moved).tempos[0].time == 0


def test_the_empty_song_survives() -> None:
    empty = np.array([tokens.BOS, tokens.EOS], np.int16)
    shift = augment.draw(empty, WIDE, np.random.default_rng(0))
    assert np.array_equal(augment.apply(empty, Shift(5, 9, 2)), empty)
    assert abs(shift.semitones) <= 11


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_draws_stay_inside_the_settings_and_the_song_s_room(seed: int) -> None:
    score = Score(24)
    track = Track("", 0, False)
    for pitch, velocity in ((2, 3), (126, 120)):
        track.notes.append(Note(0, 24, pitch, velocity))
    score.tracks.append(track)
    ids = tokens.encode(score)
    shift = augment.draw(
        ids, MidiGeneratorAugment(transpose=6, tempo=0.1, velocity=8), np.random.default_rng(seed)
    )
    assert -2 <= shift.semitones <= 1 and 0 <= shift.velocity <= 1 and abs(shift.tempo) <= 17
    check_grammar(augment.apply(ids, shift))


def test_velocity_shift_moves_velocities_by_four_each() -> None:
    ids = a_song(2)
    before, after = notes(ids), notes(augment.apply(ids, Shift(0, 0, 2)))
    assert after == [(*rest, v + 8) for *rest, v in before]


def test_context_moves_with_the_notes() -> None:
    context = np.array([[1, 1, 3, 9], [12, 12, 0, 0], [13, 5, 1, 1], [24, 8, 1, 1], [0, 0, 2, 3]])
    assert augment.transpose_context(context, 1).tolist() == [
        [2, 2, 3, 9], [1, 1, 0, 0], [14, 6, 1, 1], [13, 9, 1, 1], [0, 0, 2, 3]
    ]  # fmt: skip
    assert np.array_equal(augment.transpose_context(augment.transpose_context(context, 5), -5), context)
