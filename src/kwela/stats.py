"""The few statistics that every judge shares: intervals, a test, and how much two distributions overlap.

Resampling is by group (song, artist, series), because clips of one group are alike: resampled one by one, they would
make an interval too narrow. Everything is a function of its seed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Groups = Sequence[object] | np.ndarray  # (N,) what each item belongs to
RESAMPLES = 2000
Z95 = 1.959964
Z_POWER = 0.841621  # of 80 %


class Interval(NamedTuple):
    """A figure and its 95 % interval; `low` and `high` are NaN where there is nothing to resample."""

    value: float
    low: float
    high: float

    @property
    def ci(self) -> list[float] | None:
        return None if math.isnan(self.low) else [self.low, self.high]

    def to_dict(self) -> dict[str, Any]:
        return {"value": None if math.isnan(self.value) else self.value, "ci": self.ci}


NOTHING = Interval(math.nan, math.nan, math.nan)  # not measured


def bootstrap(
    groups: Groups,
    statistic: Callable[[np.ndarray], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`statistic` of all items, with the percentile interval of resampling whole groups with replacement.

    groups: (N,) the group of each item. statistic: takes indexes (with repeats) of items and returns a number; NaN
    where the resample has no answer, which is then left out. Efron and Tibshirani 1993, ch. 13. Fewer than three
    groups have no interval.
    """
    names, member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    value = float(statistic(np.arange(len(member))))
    if len(names) < 3:
        return Interval(value, math.nan, math.nan)
    found = np.array([statistic(draw) for draw in _resamples(tuple(member.tolist()), resamples, seed)], float)
    return Interval(value, *middle(found))


@functools.lru_cache(8)
def _resamples(member: tuple[int, ...], resamples: int, seed: int) -> list[np.ndarray]:
    """Indexes of items, of whole groups drawn with replacement. Kept, since many figures are of the same items.

    member: (N,) the number of each item's group, from 0.
    """
    items = [np.flatnonzero(np.array(member) == group) for group in range(max(member) + 1)]
    drawn = np.random.default_rng(seed).integers(len(items), size=(resamples, len(items)))
    return [np.concatenate([items[group] for group in groups]) for groups in drawn]


def middle(drawn: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of what was drawn; NaN is left out, and comes back where nothing else is there."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def mean_by_group(values: np.ndarray, groups: Groups | None = None, seed: int = 0) -> Interval:
    """The mean over items, with an interval by group (None: each item is one). NaN items are left out."""
    values = np.asarray(values, float)

    def of(index: np.ndarray) -> float:
        known = values[index][np.isfinite(values[index])]
        return float(known.mean()) if len(known) else math.nan

    return bootstrap(range(len(values)) if groups is None else groups, of, seed=seed)


def wilson(successes: int, n: int) -> Interval:
    """A share and Wilson's score interval (Wilson 1927), which stays in [0, 1] and is honest at 0 and at 1.

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n}")
    share, z = successes / n, Z95
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def share(hits: np.ndarray) -> Interval:
    """The share of `hits` (N,) bool that are true, with Wilson's interval."""
    return wilson(int(hits.sum()), len(hits))


def paired_permutation(
    first: np.ndarray, second: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> float:
    """p of a mean difference at least as large either way, were each pair's order chance (two-sided sign flips).

    Never 0: the observed order counts as one of the draws (Phipson and Smyth 2010).
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (resamples, len(difference)))
    drawn = np.abs(signs @ difference)
    return float((1 + (drawn >= abs(difference.sum()) - 1e-12).sum()) / (1 + resamples))


def paired_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Share of `first` less share of `second`, both of the same items, with an adjusted Wald interval.

    first, second: (N,) bool. A half-seen pair is added to each kind that differs, so that a few pairs, or none that
    differ, don't make an interval of nothing (Bonett and Price 2012, eq. 5). Raises ValueError without a pair.
    """
    if not len(first):
        raise ValueError("no pairs")
    gained, lost = ((1 + int((a & ~b).sum())) / (len(a) + 2) for a, b in ((first, second), (second, first)))
    half = Z95 * math.sqrt((gained + lost - (gained - lost) ** 2) / (len(first) + 2))
    value = float(first.mean() - second.mean())
    return Interval(
        value, min(value, max(-1.0, gained - lost - half)), max(value, min(1.0, gained - lost + half))
    )


def pairs_needed(first: np.ndarray, second: np.ndarray, effect: float) -> int:
    """Pairs that find a difference of shares of `effect` with a power of 80 % (two-sided 5 %), if as many pairs
    differ as here, and at least the effect (Lachin 1992, unconditional)."""
    differ = max(effect, (2 + int((first ^ second).sum())) / (len(first) + 2))
    wide = Z95 * math.sqrt(differ) + Z_POWER * math.sqrt(differ - effect**2)
    return math.ceil((wide / effect) ** 2)


def overlap(first: np.ndarray, second: np.ndarray, cells: int = 20) -> float:
    """The area that two samples' histograms share, in [0, 1]: 1 is one distribution, 0 no value in common.

    Cells are quantiles of both together, so a long tail doesn't squeeze the rest into one. NaN is left out; NaN comes
    back where a side has no values. After Yang and Lerch 2020 (overlapping area), with histograms for kernels.
    """
    first, second = (np.asarray(values, float)[np.isfinite(values)] for values in (first, second))
    if not len(first) or not len(second):
        return math.nan
    both = np.concatenate([first, second])
    cuts = np.quantile(both, np.linspace(0, 1, cells + 1)[1:-1])
    # A value that would fill a cell has one of its own: else it would be lumped with what lies beside it.
    values, times = np.unique(both, return_counts=True)
    alone = values[times * cells >= len(both)]
    edges = np.unique(np.concatenate([[-np.inf, np.inf], cuts, alone, np.nextafter(alone, np.inf)]))
    shares = [np.histogram(values, edges)[0] / len(values) for values in (first, second)]
    return float(np.minimum(*shares).sum())


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties half (Mann-Whitney U / nm); NaN if a side is empty."""
    if not len(positive) or not len(negative):
        return math.nan
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def auc_by_group(
    scores: np.ndarray, positive: np.ndarray, groups: Groups, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """`auc` of the scores where `positive` (N,) bool over those where not, with an interval by group."""

    def of(index: np.ndarray) -> float:
        drawn, real = scores[index], positive[index]
        return auc(drawn[real], drawn[~real])

    return bootstrap(groups, of, resamples, seed)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation, ties by mean rank; NaN where one side is constant or fewer than 3 values are given."""
    if len(first) < 3:
        return math.nan
    a, b = _ranks(first), _ranks(second)
    if a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
