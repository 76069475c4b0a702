"""Intervals that cover, tests that stay quiet on chance, and figures that are known by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as peer

from kwela.judge import stats


def test_wilson_is_the_textbooks():
    share, low, high = stats.wilson(8, 30)
    assert (share, low, high) == pytest.approx((0.2667, 0.1418, 0.4445), abs=1e-4)  # as statsmodels gives it
    assert stats.wilson(0, 20).low == 0 and stats.wilson(0, 20).high > 0.1
    with pytest.raises(ValueError, match="3 of 2"):
        stats.wilson(3, 2)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share_inside_0_and_1(case):
    share, low, high = stats.wilson(*case)
    assert 0 <= low <= share <= high <= 1


def test_an_interval_by_group_is_wider_than_one_by_item_where_groups_differ():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=20), 30) + 0.1 * rng.normal(size=600)
    by_group = stats.mean_by_group(values, np.repeat(np.arange(20), 30))
    by_item = stats.mean_by_group(values, np.arange(600))
    assert by_group.high - by_group.low > 3 * (by_item.high - by_item.low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        values = rng.normal(loc=3.0, size=40)
        found = stats.bootstrap(range(40), lambda index, values=values: values[index].mean(), 300, seed=trial)
        hits += found.low <= 3.0 <= found.high
    assert 178 <= hits <= 199


def test_one_group_has_no_interval():
    found = stats.mean_by_group(np.array([1.0, 2.0]), ["a", "a"])
    assert found.value == 1.5 and found.ci is None


def test_a_permutation_test_is_quiet_on_chance_and_loud_on_a_difference():
    rng = np.random.default_rng(2)
    chance = [stats.paired_permutation(*rng.normal(size=(2, 30)), 500, seed=k) for k in range(200)]
    assert 0.01 < np.mean(np.array(chance) < 0.05) < 0.11
    base = rng.normal(size=30)
    assert stats.paired_permutation(base + 1, base) < 0.001


def test_an_interval_of_paired_shares_is_the_textbooks_and_no_difference_in_a_few_is_no_certainty():
    first = np.arange(40) < 30
    second = np.arange(40) < 20
    found = stats.paired_difference(first, second)
    # Bonett and Price: p12 = 11/42, p21 = 1/42.
    half = 1.959964 * math.sqrt((12 / 42 - (10 / 42) ** 2) / 42)
    assert found.value == 0.25 and found.ci == pytest.approx([10 / 42 - half, 10 / 42 + half])
    same = np.ones(4, bool)
    assert stats.paired_difference(same, same).high > 0.4 > 0.1 > stats.paired_difference(*np.ones((2, 60), bool)).high
    with pytest.raises(ValueError, match="no pairs"):
        stats.paired_difference(same[:0], same[:0])


def test_pairs_needed_find_the_difference_as_often_as_is_said():
    rng = np.random.default_rng(0)
    pilot = rng.random((2, 100_000)) < [[0.4], [0.2]]
    needed = stats.pairs_needed(*pilot, 0.2)
    assert 75 < needed < 95
    found = [stats.paired_permutation(*(rng.random((2, needed)) < [[0.4], [0.2]]), 500) < 0.05 for _ in range(300)]
    assert 0.72 < np.mean(found) < 0.88


def test_overlap_is_1_for_the_same_0_for_apart_and_between_for_shifted():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 2000))
    assert stats.overlap(a, b) > 0.93 and stats.overlap(a, a + 100) == 0
    assert 0.5 < stats.overlap(a, b + 1) < 0.75  # of normals one apart: 0.617
    assert stats.overlap(np.ones(5), np.ones(9)) == 1 and math.isnan(stats.overlap(np.array([math.nan]), a))


@pytest.mark.parametrize("count", [(10, 10), (12, 12), (16, 16), (20, 40), (49, 49), (50, 100)])
@pytest.mark.parametrize("cells", [3, 4, 5, 7, 20])
def test_constants_that_differ_share_nothing_and_equal_ones_everything(count, cells):
    assert stats.overlap(np.zeros(count[0]), np.ones(count[1]), cells) == 0
    assert stats.overlap(np.ones(count[0]), np.ones(count[1]), cells) == 1
    many_ones = np.r_[np.ones(30), np.linspace(0, 0.99, 10)]
    assert stats.overlap(many_ones, np.linspace(1.01, 2, 40), cells) == 0


def test_auc_and_spearman_agree_with_scipy():
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 8, 40), rng.integers(2, 10, 60)
    assert stats.auc(b, a) == pytest.approx(peer.mannwhitneyu(b, a).statistic / (40 * 60))
    x, y = rng.integers(0, 5, (2, 50))
    assert stats.spearman(x, y) == pytest.approx(peer.spearmanr(x, y).statistic)
    assert math.isnan(stats.spearman(x, np.ones(50))) and math.isnan(stats.auc(a, np.array([])))
