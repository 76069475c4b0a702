"""How well pieces answer their targets in an evaluator's ears: error, ranks, quadrants, calibration, leak."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from kwela.judge.grid import Answers, Flip
from kwela.judge.stats import Interval, bootstrap, spearman

DIMENSIONS = ("valence", "arousal")


class Judged:
    """An evaluator's judgement of a system's pieces beside their targets, invalid ones already the worst."""

    def __init__(self, targets: np.ndarray, judged: np.ndarray, valid: np.ndarray, groups: Sequence[object]) -> None:
        """targets, judged: (pieces, 2); valid: (pieces,); groups: what is resampled (seeds, or series of real music).

        An invalid piece is judged at the far end from its target: -1 for a target of 0 or more, else 1.
        """
        self.targets = np.asarray(targets, float)[:, :2]
        self.judged = np.where(valid[:, None], judged, np.where(self.targets >= 0, -1.0, 1.0))
        self.groups = list(groups)
        self._ranks: dict[int, Interval] = {}  # tables and verdicts ask for them alike

    def by_group(self, statistic: Callable[[np.ndarray], float]) -> Interval:
        return bootstrap(self.groups, statistic, 500)

    def quadrant(self) -> Interval:
        """Share of pieces on the asked side in both dimensions, among those whose target has a side in both."""
        sided = (self.targets != 0).all(1)
        right = ((self.judged > 0) == (self.targets > 0)).all(1)

        def share(index: np.ndarray) -> float:
            kept = index[sided[index]]
            return float(right[kept].mean()) if len(kept) else math.nan

        return self.by_group(share)

    def error(self, dimension: int) -> Interval:
        """Mean absolute difference of judged and target."""
        off = np.abs(self.judged - self.targets)[:, dimension]
        return self.by_group(lambda index: float(off[index].mean()) if len(index) else math.nan)

    def rank(self, dimension: int) -> Interval:
        """Spearman correlation of target and judged; 0 where the judged are all one value: it follows nothing."""
        target, judged = self.targets[:, dimension], self.judged[:, dimension]

        def rho(index: np.ndarray) -> float:
            if len(index) > 2 and np.ptp(judged[index]) == 0 and np.ptp(target[index]) > 0:
                return 0.0
            return spearman(target[index], judged[index])

        if dimension not in self._ranks:
            self._ranks[dimension] = self.by_group(rho)
        return self._ranks[dimension]

    def slope(self, dimension: int) -> Interval:
        """Judged on target by least squares: 1 is calibrated, 0 deaf, negative contrary."""
        target, judged = self.targets[:, dimension], self.judged[:, dimension]

        def fit(index: np.ndarray) -> float:
            x = target[index] - target[index].mean()
            if (x @ x) < 1e-12:
                return math.nan
            return float(x @ judged[index] / (x @ x)) if np.ptp(judged[index]) else 0.0

        return self.by_group(fit)

    def between_sides(self, asked: int, heard: int) -> Interval:
        """Mean judged in dimension `heard` of targets over 0 in dimension `asked`, less that of targets under 0."""
        side, judged = np.sign(self.targets[:, asked]), self.judged[:, heard]

        def apart(index: np.ndarray) -> float:
            high, low = (judged[index][side[index] == sign] for sign in (1, -1))
            return float(high.mean() - low.mean()) if len(high) and len(low) else math.nan

        return self.by_group(apart)

    def at_levels(self, dimension: int) -> list[tuple[float, float, float]]:
        """(target, mean judged, standard deviation) of each value of the target: the calibration curve."""
        values = np.unique(self.targets[:, dimension])
        parts = [(value, self.judged[self.targets[:, dimension] == value, dimension]) for value in values]
        return [(float(value), float(part.mean()), float(part.std())) for value, part in parts]


def judged_answers(of: Answers, judged: np.ndarray) -> Judged:
    return Judged(of.targets, judged, of.valid, of.seeds.tolist())


MEASURES: dict[str, tuple[str, Callable[[Judged], Interval], int | None]] = {
    "quadrant": ("4-quadrant accuracy", lambda j: j.quadrant(), None),
    "mae_valence": ("mean absolute error, valence", lambda j: j.error(0), 0),
    "mae_arousal": ("mean absolute error, arousal", lambda j: j.error(1), 1),
    "spearman_valence": ("Spearman, valence", lambda j: j.rank(0), 0),
    "spearman_arousal": ("Spearman, arousal", lambda j: j.rank(1), 1),
    "slope_valence": ("calibration slope, valence", lambda j: j.slope(0), 0),
    "slope_arousal": ("calibration slope, arousal", lambda j: j.slope(1), 1),
}


def measured(name: str, of: Judged, usable: tuple[bool, bool]) -> tuple[Interval | None, str]:
    """The figure, or None and why not: an evaluator that is no better than chance in a dimension says nothing there."""
    _, statistic, dimension = MEASURES[name]
    needed = (0, 1) if dimension is None else (dimension,)
    deaf = [DIMENSIONS[one] for one in needed if not usable[one]]
    if deaf:
        return None, f"refused: the evaluator can't tell {' or '.join(deaf)} from chance"
    return statistic(of), ""


def turned(values: np.ndarray, of: Answers, pairs: Sequence[Flip]) -> Interval:
    """Mean change of `values` from the first to the second of each pair, with an interval by seed.

    values: (pieces,); a pair with an invalid piece, or a NaN, is no change. NaN without pairs.
    """
    if not pairs:
        return Interval(math.nan, math.nan, math.nan)
    low, high = np.array([flip.low for flip in pairs]), np.array([flip.high for flip in pairs])
    change = np.where(of.valid[low] & of.valid[high], values[high] - values[low], 0.0)
    change = np.where(np.isfinite(change), change, 0.0)
    return bootstrap(of.seeds[low].tolist(), lambda index: float(change[index].mean()), 500)
