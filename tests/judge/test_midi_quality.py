"""Statistics with known values and a NaN rule; overlap tells music from thrown notes, and NaN doesn't vanish."""

from __future__ import annotations

import math

import numpy as np
import pytest
from symusic import Note, Score, Track
from toy_pieces import QUADRANTS, a_piece

from kwela.judge import quality, symbolic_features
from kwela.judge.piece import piece


def notes(*rows: tuple[float, float, int]) -> quality.Piece:
    """(onset, length, pitch), in quarters."""
    score, track = Score(480), Track("", 0, False)
    for onset, length, pitch in rows:
        track.notes.append(Note(round(onset * 480), round(length * 480), pitch, 70))
    score.tracks.append(track)
    return piece(score)


def test_pitch_class_entropy() -> None:
    assert quality.pitch_class_entropy(notes((0, 1, 60), (1, 1, 72))) == 0
    assert quality.pitch_class_entropy(notes(*((i, 1, 60 + i) for i in range(12)))) == pytest.approx(math.log2(12))


def test_scale_consistency() -> None:
    scale = [(i, 1, 60 + step) for i, step in enumerate((0, 2, 4, 5, 7, 9, 11))]
    assert symbolic_features.scale_consistency(notes(*scale)) == 1
    assert symbolic_features.scale_consistency(notes(*scale, (7, 1, 61))) == pytest.approx(7 / 8)


def test_groove_consistency_is_not_one_for_sparse_music() -> None:
    same = notes((0, 1, 60), (2, 1, 60), (4, 1, 60), (6, 1, 60))
    other = notes((0, 1, 60), (2, 1, 60), (5, 1, 60), (7, 1, 60))
    assert quality.groove_consistency(same) == 1 and quality.groove_consistency(other) == 0


def test_empty_beat_rate_and_polyphony() -> None:
    one = notes((0, 1, 60), (0, 1, 64), (3, 1, 67))
    assert quality.empty_beat_rate(one) == 0.5  # quarters 1 and 2 of 4
    assert quality.polyphony(one) == pytest.approx(1.5)


def test_the_shortest_notes_count_as_sounding() -> None:
    staccato = notes(*((i / 2, 0.03, 60 + pitch) for i in range(16) for pitch in (0, 4, 7)))
    assert quality.polyphony(staccato) == 3 and quality.polyphony(notes((0.24, 0.01, 60))) == 1
    found = symbolic_features.features(staccato)
    assert found["polyphony"] == 3 and np.isfinite(found["major_share"])


def test_repetition() -> None:
    # Four equal bars have 12 runs of 4 steps, of 4 kinds; a line that keeps growing never repeats.
    again = notes(*((4 * bar + i, 1, 60 + (0, 2, 7, 4)[i]) for bar in range(4) for i in range(4)))
    never = notes(*((i, 1, 30 + i * (i + 1) // 2) for i in range(12)))
    assert symbolic_features.repetition(again) == pytest.approx(1 - 4 / 12)
    assert symbolic_features.repetition(never) == 0


def test_an_empty_piece_is_nan_in_every_statistic_and_so_is_one_that_was_not_made() -> None:
    assert np.isnan(quality.statistics([Score(480), None])).all()


def test_generated_music_of_the_same_kind_reaches_the_ceiling_and_thrown_notes_do_not() -> None:
    held_out = [a_piece(*QUADRANTS[n % 4], n, 8) for n in range(48)]
    alike = [a_piece(*QUADRANTS[n % 4], 500 + n, 8) for n in range(48)]
    thrown = [quality.thrown_about(score, n) for n, score in enumerate(held_out)]
    songs = [str(n) for n in range(48)]
    real = quality.statistics(held_out)
    good = quality.overlaps(quality.statistics(alike), real, songs, 50)
    bad = quality.overlaps(quality.statistics(thrown), real, songs, 50)
    for name in ("pitch-class entropy", "scale consistency", "groove consistency"):
        ours, ceiling = good[name]
        assert ours.value > ceiling.value - 0.15 and bad[name][0].value < ceiling.value - 0.3


def test_empty_pieces_lower_the_overlap_by_their_share() -> None:
    values = np.random.default_rng(0).normal(size=(40,))
    half = np.where(np.arange(40) % 2, values, np.nan)
    assert quality.share_overlap(values, values) == 1
    assert quality.share_overlap(half, values) <= 0.5
    assert quality.share_overlap(np.full(40, np.nan), values) == 0


def test_too_few_held_out_songs_give_no_figure() -> None:
    values = np.zeros((6, 6))
    assert math.isnan(quality.overlaps(values, values, ["a", "b", "c"] * 2)["polyphony"][0].value)
