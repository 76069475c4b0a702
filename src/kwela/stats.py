"""Estimate figures with 95 % intervals, test paired results, and compare samples and rankings.

Conventions: resampling is by group (song, artist, series), because clips of one group are alike, and
resampling clips would make an interval too narrow. Every result is a function of its seed. NaN means "no
answer" throughout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Groups = Sequence[object] | np.ndarray  # (N,) the group of each item
RESAMPLES = 2000
Z95 = 1.959964  # the normal distribution's quantile of a two-sided 95 % interval
Z_POWER = 0.841621  # the quantile of a power of 80 %


class Interval(NamedTuple):
    """A figure and its 95 % interval. `low` and `high` are NaN where there is nothing to resample."""

    value: float
    low: float
    high: float

    @property
    def ci(self) -> list[float] | None:
        """The interval as [low, high]; None where there is none."""
        return None if math.isnan(self.low) else [self.low, self.high]

    def to_dict(self) -> dict[str, Any]:
        """Return {"value", "ci"} for JSON, with None in place of NaN."""
        return {"value": None if math.isnan(self.value) else self.value, "ci": self.ci}


NOT_MEASURED = Interval(math.nan, math.nan, math.nan)


def bootstrap(
    groups: Groups,
    statistic: Callable[[np.ndarray], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Compute `statistic` of all items, with its percentile interval over resamples of whole groups.

    groups: (N,) the group of each item. statistic: takes indexes of items, with repeats, and returns a
    number, or NaN where a resample has no answer; those are left out. Fewer than three groups have no
    interval. Efron and Tibshirani 1993, ch. 13.
    """
    names, group_numbers = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    value = float(statistic(np.arange(len(group_numbers))))
    if len(names) < 3:
        return Interval(value, math.nan, math.nan)
    drawn = _resampled_items(tuple(group_numbers.tolist()), resamples, seed)
    return Interval(value, *percentile_interval(np.array([statistic(items) for items in drawn], float)))


def resample_groups(count: int, resamples: int, seed: int) -> np.ndarray:
    """Draw all groups with replacement, `resamples` times: (resamples, count) numbers of groups, from 0."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


@functools.lru_cache(8)
def _resampled_items(group_numbers: tuple[int, ...], resamples: int, seed: int) -> list[np.ndarray]:
    """Return the items' indexes in each resample of whole groups; kept for other figures of the same items.

    group_numbers: (N,) the number of each item's group, from 0.
    """
    items = [np.flatnonzero(np.array(group_numbers) == group) for group in range(max(group_numbers) + 1)]
    drawn = resample_groups(len(items), resamples, seed)
    return [np.concatenate([items[group] for group in groups]) for groups in drawn]


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 2.5th and the 97.5th percentile of the finite values; NaN, NaN where there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def mean_by_group(values: np.ndarray, groups: Groups | None = None, seed: int = 0) -> Interval:
    """Compute the mean over items, with an interval by group. NaN items are left out.

    groups: None makes each item a group of its own.
    """
    values = np.asarray(values, float)

    def finite_mean(index: np.ndarray) -> float:
        finite = values[index][np.isfinite(values[index])]
        return float(finite.mean()) if len(finite) else math.nan

    return bootstrap(range(len(values)) if groups is None else groups, finite_mean, seed=seed)


@functools.lru_cache(1024)  # a simulation asks for the same few shares thousands of times
def wilson(successes: int, n: int) -> Interval:
    """Compute a share and Wilson's score interval, which stays in [0, 1] and is meaningful at 0 and at 1.

    Wilson 1927. Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n}")
    share = successes / n
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Interval(share, min(share, float(interval.low)), max(share, float(interval.high)))


def share(hits: np.ndarray) -> Interval:
    """Compute the share of `hits` (N,) bool that are true, with Wilson's interval."""
    return wilson(int(hits.sum()), len(hits))


def paired_permutation(
    first: np.ndarray, second: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p of the mean difference of pairs, from random flips of the differences' signs.

    It is never 0: the observed order counts as one of the draws (Phipson and Smyth 2010).
    """
    # scipy.stats.permutation_test draws its signs otherwise, so the p of recorded judgements would change,
    # and it takes three times as long.
    difference = np.asarray(first, float) - np.asarray(second, float)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (resamples, len(difference)))
    drawn = np.abs(signs @ difference)
    return float((1 + (drawn >= abs(difference.sum()) - 1e-12).sum()) / (1 + resamples))


def paired_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Compute the share of `first` minus that of `second`, both of the same items, with its interval.

    first, second: (N,) bool. It is an adjusted Wald interval: one pair is added to each of the two kinds that
    differ, so that a few pairs, or none that differ, still give an interval of some width (Bonett and Price
    2012, eq. 5). Raises ValueError without a pair.
    """
    if not len(first):
        raise ValueError("no pairs")
    gained, lost = ((1 + int((a & ~b).sum())) / (len(a) + 2) for a, b in ((first, second), (second, first)))
    half_width = Z95 * math.sqrt((gained + lost - (gained - lost) ** 2) / (len(first) + 2))
    value = float(first.mean() - second.mean())
    low, high = max(-1.0, gained - lost - half_width), min(1.0, gained - lost + half_width)
    return Interval(value, min(value, low), max(value, high))


def pairs_needed(first: np.ndarray, second: np.ndarray, effect: float) -> int:
    """Return how many pairs find a difference of shares of `effect` with a power of 80 % (two-sided 5 %).

    It assumes that as many pairs differ as in `first` and `second`, and at least the effect (Lachin 1992,
    unconditional).
    """
    differing = max(effect, (2 + int((first ^ second).sum())) / (len(first) + 2))
    width = Z95 * math.sqrt(differing) + Z_POWER * math.sqrt(differing - effect**2)
    return math.ceil((width / effect) ** 2)


def overlap(first: np.ndarray, second: np.ndarray, cells: int = 20) -> float:
    """Return the area that two samples' histograms share: 1 for one distribution, 0 without a common value.

    Cells are quantiles of both together, so a long tail does not squeeze the rest into one. NaN items are
    left out; the result is NaN where a side has no values. After Yang and Lerch 2020 (overlapping area), with
    histograms for kernels.
    """
    first, second = (np.asarray(values, float)[np.isfinite(values)] for values in (first, second))
    if not len(first) or not len(second):
        return math.nan
    both = np.concatenate([first, second])
    cuts = np.quantile(both, np.linspace(0, 1, cells + 1)[1:-1])
    # A value that would fill a cell gets a cell of its own: otherwise it would be counted with its
    # neighbours.
    values, counts = np.unique(both, return_counts=True)
    frequent = values[counts * cells >= len(both)]
    edges = np.unique(np.concatenate([[-np.inf, np.inf], cuts, frequent, np.nextafter(frequent, np.inf)]))
    shares = [np.histogram(sample, edges)[0] / len(sample) for sample in (first, second)]
    return float(np.minimum(*shares).sum())


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, ties counted half; NaN if a side is empty.

    This is Mann-Whitney's U over the number of pairs.
    """
    # scipy.stats.mannwhitneyu gives the same number a hundred times as slowly, with a test that nobody asks
    # for, and an interval takes 2,000 of these.
    if not len(positive) or not len(negative):
        return math.nan
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def auc_by_group(
    scores: np.ndarray, positive: np.ndarray, groups: Groups, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Compute `auc` of the scores, where `positive` against the others, with an interval by group."""

    def resampled_auc(index: np.ndarray) -> float:
        drawn, is_positive = scores[index], positive[index]
        return auc(drawn[is_positive], drawn[~is_positive])

    return bootstrap(groups, resampled_auc, resamples, seed)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation, ties by mean rank; NaN for a constant side or fewer than 3 values."""
    from scipy.stats import (
        rankdata,  # spearmanr adds a test to it, which costs as much again in each resample
    )

    if len(first) < 3:
        return math.nan
    ranks = rankdata([first, second], axis=1)
    if (ranks.std(axis=1) == 0).any():
        return math.nan
    return float(np.corrcoef(ranks)[0, 1])


def entropy(weights: np.ndarray) -> float:
    """Return Shannon's entropy in bits of weights >= 0, which need not add up to 1; NaN where all are 0."""
    from scipy.special import entr

    total = weights.sum()
    return float(entr(weights / total).sum() / math.log(2) + 0.0) if total > 0 else math.nan  # no -0.0
