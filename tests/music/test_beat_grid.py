"""Notes on bars and beats: shares of beats by hand, meters, early notes, and the cap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_score import score_of

from kwela.music import beat_grid, tokens
from kwela.music.beat_grid import bar_notes, beats, sounding

Q = 480


def grid_of(*notes, **more):
    read = bar_notes(score_of((0, list(notes)), **more))
    return read, beats(read)


def test_a_note_fills_the_share_of_each_beat_in_which_it_sounds():
    read, grid = grid_of((0, Q + Q // 2, 60, 80), (2 * Q, Q // 4, 60, 80), (2 * Q + Q // 2, Q // 4, 60, 80))
    assert sounding(read, grid)[:, 60].tolist() == [1, 0.5, 0.5, 0]
    assert sounding(read, grid).sum() == 2


@pytest.mark.parametrize(("early", "expected"), [(3, [0, 1]), (4, [pytest.approx(4 / 24), pytest.approx(1)])])
def test_a_note_just_before_a_beat_belongs_to_the_beat(early, expected):
    read, grid = grid_of((Q - early * 20, Q + early * 20, 60, 80))
    assert sounding(read, grid)[:2, 60].tolist() == expected


def test_beats_of_six_eight_are_three_eighths():
    _, grid = grid_of((0, Q, 60, 80), (3 * Q, Q, 60, 80), meters=[(0, 6, 8)])
    assert grid.tick.tolist() == [0, 36, 72, 108, 144]
    assert grid.bar.tolist() == [0, 0, 1, 1]


def test_the_last_beat_of_an_odd_bar_is_short():
    _, grid = grid_of((0, Q, 60, 80), meters=[(0, 7, 8)])
    assert np.diff(grid.tick).tolist() == [24, 24, 24, 12]


def test_half_bars_begin_where_an_even_bar_is_halved():
    _, grid = grid_of((0, Q, 60, 80))
    assert grid.strength.tolist() == [0, 2, 1, 2]
    _, grid = grid_of((0, Q, 60, 80), meters=[(0, 3, 4)])
    assert grid.strength.tolist() == [0, 2, 2]


@given(
    st.lists(
        st.tuples(st.integers(0, 9000), st.integers(1, 4000), st.integers(0, 127)), min_size=1, max_size=12
    ),
    st.sampled_from([[], [(0, 3, 4)], [(0, 6, 8), (1440, 4, 4)], [(0, 1, 4), (480, 4, 4)], [(0, 5, 8)]]),
)
def test_bars_are_those_of_the_ids(notes, meters):
    score = score_of((0, [(*note, 80) for note in notes]), meters=meters)
    read = bar_notes(score)
    assert read.bars == (tokens.encode(score) == tokens.BAR).sum()
    assert (read.tick >= read.bar_tick[read.bar]).all()
    assert (read.tick < read.bar_tick[read.bar + 1]).all()
    grid = beats(read)
    assert (np.diff(grid.tick) > 0).all()
    assert grid.tick[0] == 0
    assert grid.tick[-1] == read.bar_tick[-1]


def test_beats_are_bounded(monkeypatch):
    monkeypatch.setattr(beat_grid, "MAX_BEATS", 10)
    read, grid = grid_of((0, Q, 60, 80), (100 * Q, Q, 60, 80))
    assert len(grid.bar) == 10
    assert grid.tick[-1] == 240
    assert sounding(read, grid).shape == (10, 128)
    assert sounding(read, grid)[:, 60].sum() == 1
