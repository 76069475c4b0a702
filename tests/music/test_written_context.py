"""Contexts written by hand: what passes, what is refused and by which name, and how they lie on bars."""

from __future__ import annotations

import pytest

from kwela.errors import UserError
from kwela.music.written_context import by_bar, check, chord_changes

GOOD = {
    "key": [[0, 1], [4, 13]],
    "chords": [[1, 1], [[0, 6, 1], [2.5, 8, 5]], [0, 0], []],
    "style": 3,
    "mode": [1, 2, 0],
    "density": [1, 8],
}


def test_a_whole_context_passes():
    check(GOOD, bars=5)
    check({})
    check({"key": 24})


@pytest.mark.parametrize(
    ("context", "where"),
    [
        ([], "context"),
        ({"desnity": [1]}, "density"),
        ({"tempo": 120}, "context.tempo"),
        ({"key": 25}, "context.key"),
        ({"key": True}, "context.key"),
        ({"key": "C"}, "context.key"),
        ({"key": [1, 2]}, r"context.key\[0\]"),
        ({"key": [[0, 1], [0, 2]]}, r"context.key\[1\]"),
        ({"key": [[5, 1]]}, "5 bars"),
        ({"style": 65}, "context.style"),
        ({"chords": 5}, "context.chords"),
        ({"chords": [5]}, r"context.chords\[0\]"),
        ({"chords": [[13, 1]]}, "root"),
        ({"chords": [[1, 17]]}, "quality"),
        ({"chords": [[1, 0]]}, r"context.chords\[0\]"),
        ({"chords": [[1, 1, 1]]}, r"context.chords\[0\]"),
        ({"chords": [[1, 1], [[0, 1]]]}, r"context.chords\[1\]\[0\]"),
        ({"chords": [[[2, 1, 1], [1, 1, 1]]]}, r"context.chords\[0\]\[1\]"),
        ({"chords": [[[1, 1, 1], [1, 2, 1]]]}, "two chords"),
        ({"chords": [[[float("nan"), 1, 1]]]}, "quarter"),
        ({"chords": [[[16, 1, 1]]]}, "quarter"),
        ({"mode": [3]}, r"context.mode\[0\]"),
        ({"density": [1, 9]}, r"context.density\[1\]"),
        ({"density": [1.5]}, r"context.density\[0\]"),
        ({"texture": [1] * 6}, "6 bars, but the song has 5"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(context, where):
    with pytest.raises(UserError, match=where) as error:
        check(context, bars=5)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_shorter_lists_end_in_absent():
    laid = by_bar(GOOD, 6)
    assert laid["key"].tolist() == [1, 1, 1, 1, 13, 13]
    assert laid["mode"].tolist() == [1, 2, 0, 0, 0, 0]
    assert laid["density"].tolist() == [1, 8, 0, 0, 0, 0]
    assert laid["texture"].tolist() == [0] * 6
    assert laid["style"].tolist() == [3] * 6


def test_bars_before_the_first_key_have_none():
    assert by_bar({"key": [[2, 5]]}, 4)["key"].tolist() == [0, 0, 5, 5]


def test_chords_lie_on_bars_and_ticks():
    assert chord_changes(GOOD, 5).tolist() == [
        [0, 0, 1, 1],
        [1, 0, 6, 1],
        [1, 60, 8, 5],
        [2, 0, 0, 0],
        [3, 0, 0, 0],
        [4, 0, 0, 0],
    ]


def test_a_bar_before_its_first_chord_has_none():
    assert chord_changes({"chords": [[[2, 1, 1]]]}, 1).tolist() == [[0, 0, 0, 0], [0, 48, 1, 1]]


def test_no_bars_give_no_rows():
    assert chord_changes(GOOD, 0).shape == (0, 4)
    assert by_bar({}, 0)["key"].shape == (0,)
