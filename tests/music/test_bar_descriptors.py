"""Bar descriptors: raw values by hand, and levels by quantile."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_score import score_of

from kwela.errors import UserError
from kwela.music.bar_descriptors import DESCRIPTORS, LEVELS, levels, measure, quantile_edges
from kwela.music.beat_grid import bar_notes

Q = 480


def raw_of(*tracks, **more):
    return measure(bar_notes(score_of(*tracks, **more)))


def test_one_bar_by_hand():
    # C3 held under E4 and G4 together, then G4 off the beat.
    notes = [(0, 4 * Q, 48, 60), (Q, Q, 64, 80), (Q, Q, 67, 100), (2 * Q + Q // 2, Q // 2, 67, 120)]
    raw = {name: values.tolist() for name, values in raw_of((0, notes)).items()}
    assert raw["density"] == [3 / 4]
    assert raw["register"] == [(48 + 64 + 67 + 67) / 4]
    assert raw["bass"] == [48]
    assert raw["dynamics"] == [90]
    # Lengths over the time to the next onset: 4 / 1, 1 / 1.5 twice, .5 / 1.5 to the end of the bar.
    assert raw["articulation"] == pytest.approx([(4 + 2 / 1.5 + 0.5 / 1.5) / 4])
    assert raw["texture"] == pytest.approx([4 / 3])
    assert raw["offbeat"] == pytest.approx([1 / 3])


def test_drums_count_for_density_dynamics_and_offbeat_alone():
    notes = [(0, 4 * Q, 60, 60)]
    drums = [(Q // 2, 10, 36, 120)]
    with_drums, without = raw_of((0, notes), ("drums", drums)), raw_of((0, notes))
    changed = {name for name in DESCRIPTORS if with_drums[name].tolist() != without[name].tolist()}
    assert changed == {"density", "dynamics", "offbeat"}


def test_an_empty_bar_has_a_density_of_0_and_nothing_else():
    raw = raw_of((0, [(0, Q, 60, 80), (8 * Q, Q, 62, 80)]))
    assert raw["density"].tolist() == [1 / 4, 0, 1 / 4]
    assert all(np.isnan(raw[name][1]) for name in DESCRIPTORS if name != "density")


def test_a_meter_change_changes_the_quarters_of_a_bar():
    notes = [(0, Q, 60, 80), (4 * Q, Q, 60, 80), (6 * Q, Q, 60, 80)]
    raw = raw_of((0, notes), meters=[(0, 4, 4), (4 * Q, 2, 4)])
    assert raw["density"].tolist() == [1 / 4, 1 / 2, 1 / 2]


def test_a_score_without_notes_has_no_bars():
    assert all(len(values) == 0 for values in raw_of().values())


def test_octiles_of_a_corpus_give_each_level_an_eighth_of_its_bars():
    rng = np.random.default_rng(0)
    songs = [{name: rng.normal(size=100) for name in DESCRIPTORS} for _ in range(16)]
    edges = json.loads(json.dumps(quantile_edges(songs)))
    every = np.concatenate([levels(song, edges)["register"] for song in songs])
    assert np.bincount(every, minlength=9).tolist() == [0] + [200] * LEVELS


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_levels_rise_with_the_value(corpus, one, other):
    edges = quantile_edges([dict.fromkeys(DESCRIPTORS, np.array(corpus))])
    low, high = levels({"density": np.array(sorted([one, other]))}, edges)["density"]
    assert 1 <= low <= high <= LEVELS


def test_what_is_not_measured_has_level_0():
    edges = quantile_edges([dict.fromkeys(DESCRIPTORS, np.arange(9.0))])
    assert levels({"bass": np.array([np.nan, 0.0, 8.0])}, edges)["bass"].tolist() == [0, 1, 8]


def test_a_corpus_without_a_descriptor_leaves_it_absent():
    edges = quantile_edges([dict.fromkeys(DESCRIPTORS, np.array([np.nan]))])
    assert edges["texture"] == []
    assert levels({"texture": np.array([1.0])}, edges)["texture"].tolist() == [0]


@pytest.mark.parametrize(
    "edges", [{}, {"bass": [1, 2]}, {"bass": [1, 2, 3, 4, 5, 7, 6]}, {"bass": [np.nan] * 7}]
)
def test_edges_that_are_none_are_refused_by_name(edges):
    with pytest.raises(UserError, match="bass"):
        levels({"bass": np.array([1.0])}, edges)
