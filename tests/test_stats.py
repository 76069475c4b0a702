"""Intervals that cover, tests that stay quiet on chance, and figures that are known by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as peer

from kwela import stats


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


def test_the_middle_of_what_was_drawn_is_known_by_counting():
    drawn = np.arange(1001.0)
    assert stats.percentile_interval(drawn) == pytest.approx((25, 975))
    assert stats.percentile_interval(np.r_[drawn, np.nan, np.inf]) == pytest.approx((25, 975))
    assert all(math.isnan(end) for end in stats.percentile_interval(np.array([np.nan])))


def test_wilson_at_its_ends_and_what_it_refuses():
    half = 1.959964**2 / 20  # at 0 of 20 and 20 of 20 the interval is z^2 / n over 1 + z^2 / n
    assert stats.wilson(0, 20) == pytest.approx((0, 0, half / (1 + half)))
    assert stats.wilson(20, 20) == pytest.approx((1, 1 / (1 + half), 1))
    assert stats.share(np.array([True, False, True])) == stats.wilson(2, 3)
    for case in ((-1, 3), (0, 0), (4, 3)):
        with pytest.raises(ValueError, match=f"{case[0]} of {case[1]}"):
            stats.wilson(*case)


def test_three_groups_have_an_interval_and_two_have_none():
    values = np.array([1.0, 2.0, 3.0])
    three = stats.mean_by_group(values)
    assert three.value == 2 and three.ci == [1, 3]  # one draw in 27 is all of one group
    two = stats.mean_by_group(values[:2])
    assert two.value == 1.5 and math.isnan(two.low) and math.isnan(two.high)
    assert two.to_dict() == {"value": 1.5, "ci": None}
    assert stats.NOT_MEASURED.to_dict() == {"value": None, "ci": None}


def test_items_that_are_not_finite_are_left_out_of_a_mean_and_groups_are_drawn_whole():
    values = np.array([1.0, np.nan, 3.0, np.inf])
    assert stats.mean_by_group(values).value == 2
    assert math.isnan(stats.mean_by_group(values[1:2]).value)
    sizes = set()
    groups = ["a", "a", "b", "c", "c", "c"]
    stats.bootstrap(groups, lambda index: sizes.add(tuple(np.bincount(index, minlength=6))) or 0.0, 200)
    assert all(a == b and d == e == f for a, b, _, d, e, f in sizes) and (3, 3, 0, 0, 0, 0) in sizes
    assert {a + c + d for a, _, c, d, _, _ in sizes} == {3}, "three groups a draw, with repeats"


def test_a_bootstrap_is_a_function_of_its_seed():
    values = np.random.default_rng(0).normal(size=9)
    first, same, other = (stats.mean_by_group(values, seed=seed) for seed in (0, 0, 1))
    assert first == same and first.value == other.value and first.low != other.low


def test_a_statistic_without_an_answer_in_a_draw_is_left_out_of_the_interval():
    """Of three groups a draw holds the first in 19 of 27; where it does not, the statistic has no answer."""
    found = stats.bootstrap(list("abc"), lambda index: 5.0 if 0 in index else math.nan, 500)
    assert found == (5, 5, 5)


def test_a_permutation_test_by_counting():
    ones, zeros = np.ones(3), np.zeros(3)
    assert stats.paired_permutation(ones, zeros) == pytest.approx(2 / 8, abs=0.02)  # all signs alike
    assert stats.paired_permutation(zeros, ones) == stats.paired_permutation(ones, zeros)
    assert stats.paired_permutation(zeros, zeros) == 1
    assert stats.paired_permutation(np.array([3.0, 1, 1]), zeros) == pytest.approx(2 / 8, abs=0.02)
    assert stats.paired_permutation(np.array([3.0, 1, -1]), zeros) == pytest.approx(6 / 8, abs=0.02)
    assert stats.paired_permutation(np.ones(40), np.zeros(40)) == 1 / 10_001, "never 0"
    assert stats.paired_permutation(np.ones(40), np.zeros(40), 99) == 1 / 100
    a, b = np.random.default_rng(0).normal(size=(2, 20))
    assert stats.paired_permutation(a, b, seed=1) != stats.paired_permutation(a, b, seed=2)


def test_pairs_needed_by_hand():
    same = np.zeros(98, bool)
    assert (
        stats.pairs_needed(same, same, 0.2) == 37
    )  # ((1.95996 sqrt(.2) + .84162 sqrt(.2 - .04)) / .2)^2 = 36.8
    differ = np.arange(98) < 30
    assert stats.pairs_needed(same, differ, 0.2) == 61  # sqrt(.32) and sqrt(.28) for those: 60.4
    assert stats.pairs_needed(differ, differ, 0.2) == 37


def test_overlap_by_hand():
    assert stats.overlap(np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 1, 1])) == pytest.approx(0.25 + 0.5)
    assert stats.overlap(np.array([0.0, 0, np.nan, 1]), np.array([0.0, 1, 1])) == pytest.approx(2 / 3)
    assert math.isnan(stats.overlap(np.ones(3), np.array([np.nan])))
    low, high = np.arange(100.0), np.arange(50.0, 150.0)
    assert stats.overlap(low, high) == pytest.approx(0.5, abs=0.08)
    assert stats.overlap(low, high, 3) == pytest.approx(0.5, abs=0.08)
    assert stats.overlap(low[:50], low[:50] + 0.5, 1) == 1, "one cell holds all"


def test_auc_by_hand_and_by_group():
    assert stats.auc(np.array([1, 2]), np.array([0, 1])) == 3.5 / 4
    assert math.isnan(stats.auc(np.array([]), np.array([1.0])))
    scores, positive = np.array([1.0, 2, 0, 1]), np.array([True, True, False, False])
    found = stats.auc_by_group(scores, positive, list("abcd"))
    assert found.value == 3.5 / 4 and found.low < found.value < found.high <= 1


def test_rank_correlation_needs_three_values_and_two_sides_that_move():
    assert stats.spearman(np.array([1, 5, 9]), np.array([2, 3, 7])) == pytest.approx(1)
    assert stats.spearman(np.array([1, 5, 9]), np.array([7, 3, 2])) == pytest.approx(-1)
    assert math.isnan(stats.spearman(np.array([1, 2]), np.array([1, 2])))
    assert math.isnan(stats.spearman(np.ones(5), np.arange(5)))


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
    assert (
        stats.paired_difference(same, same).high
        > 0.4
        > 0.1
        > stats.paired_difference(*np.ones((2, 60), bool)).high
    )
    with pytest.raises(ValueError, match="no pairs"):
        stats.paired_difference(same[:0], same[:0])


def test_pairs_needed_find_the_difference_as_often_as_is_said():
    rng = np.random.default_rng(0)
    pilot = rng.random((2, 100_000)) < [[0.4], [0.2]]
    needed = stats.pairs_needed(*pilot, 0.2)
    assert 75 < needed < 95
    found = [
        stats.paired_permutation(*(rng.random((2, needed)) < [[0.4], [0.2]]), 500) < 0.05 for _ in range(300)
    ]
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


def test_spearman_is_scipys_with_ties_and_entropy_is_known_by_hand():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 5, 40), rng.normal(size=40)
    assert stats.spearman(first, second) == pytest.approx(peer.spearmanr(first, second).statistic)
    assert stats.entropy(np.array([2, 1, 1, 0])) == pytest.approx(1.5)
    assert str(stats.entropy(np.array([3.0]))) == "0.0"
    assert math.isnan(stats.entropy(np.zeros(3)))


def test_resamples_of_groups_are_a_function_of_their_seed():
    drawn = stats.resample_groups(5, 300, 7)
    assert drawn.shape == (300, 5) and set(drawn.flat) == set(range(5))
    assert np.array_equal(drawn, stats.resample_groups(5, 300, 7))
    assert not np.array_equal(drawn, stats.resample_groups(5, 300, 8))
