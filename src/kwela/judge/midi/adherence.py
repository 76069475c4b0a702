"""How well pieces answer their targets in an evaluator's ears: error, ranks, quadrants, calibration, leak."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from kwela.judge.midi.grid import Answers, Flip
from kwela.stats import NOT_MEASURED, Groups, Interval, bootstrap, spearman

DIMENSIONS = ("valence", "arousal")


def quadrant(targets: np.ndarray, judged: np.ndarray) -> float:
    """Share of pieces (n, 2) on the asked side in both dimensions, among those whose target has a side in both."""
    sided = (targets != 0).all(1)
    right = ((judged > 0) == (targets > 0)).all(1)
    return float(right[sided].mean()) if sided.any() else math.nan


def error(target: np.ndarray, judged: np.ndarray) -> float:
    """Mean absolute difference of judged and target, (n,)."""
    return float(np.abs(judged - target).mean())


def rank(target: np.ndarray, judged: np.ndarray) -> float:
    """Spearman correlation of target and judged; 0 where the judged are all one value: it follows nothing."""
    if len(target) > 2 and np.ptp(judged) == 0 and np.ptp(target) > 0:
        return 0.0
    return spearman(target, judged)


def slope(target: np.ndarray, judged: np.ndarray) -> float:
    """Judged on target by least squares: 1 is calibrated, 0 deaf, negative contrary; NaN for one target."""
    x = target - target.mean()
    if (x @ x) < 1e-12:
        return math.nan
    return float(x @ judged / (x @ x)) if np.ptp(judged) else 0.0


# name: title, statistic, the dimension that it is of (None: both)
MEASURES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], float], int | None]] = {
    "quadrant": ("4-quadrant accuracy", quadrant, None),
    "mae_valence": ("mean absolute error, valence", error, 0),
    "mae_arousal": ("mean absolute error, arousal", error, 1),
    "spearman_valence": ("Spearman, valence", rank, 0),
    "spearman_arousal": ("Spearman, arousal", rank, 1),
    "slope_valence": ("calibration slope, valence", slope, 0),
    "slope_arousal": ("calibration slope, arousal", slope, 1),
}


class Judged:
    """An evaluator's judgement of a system's pieces beside their targets, invalid ones already the worst."""

    def __init__(self, targets: np.ndarray, judged: np.ndarray, valid: np.ndarray, groups: Groups) -> None:
        """targets, judged: (pieces, 2); valid: (pieces,); groups: what is resampled (seeds, or series of real music).

        An invalid piece is judged at the far end from its target: -1 for a target of 0 or more, else 1.
        """
        self.targets = np.asarray(targets, float)[:, :2]
        self.judged = np.where(valid[:, None], judged, np.where(self.targets >= 0, -1.0, 1.0))
        self.groups = groups
        self._known: dict[str, Interval] = {}  # tables and verdicts ask for ranks alike

    def figure(self, name: str) -> Interval:
        """One of MEASURES, with its interval."""
        if name not in self._known:
            _, statistic, dimension = MEASURES[name]
            column = slice(None) if dimension is None else dimension
            target, judged = self.targets[:, column], self.judged[:, column]
            self._known[name] = bootstrap(
                self.groups, lambda index: statistic(target[index], judged[index]), 500
            )
        return self._known[name]

    def between_sides(self, asked: int, heard: int) -> Interval:
        """Mean judged in dimension `heard` of targets over 0 in dimension `asked`, less that of targets under 0."""
        side, judged = np.sign(self.targets[:, asked]), self.judged[:, heard]

        def apart(index: np.ndarray) -> float:
            high, low = (judged[index][side[index] == sign] for sign in (1, -1))
            return float(high.mean() - low.mean()) if len(high) and len(low) else math.nan

        return bootstrap(self.groups, apart, 500)

    def at_levels(self, dimension: int) -> list[tuple[float, float, float]]:
        """(target, mean judged, standard deviation) of each value of the target: the calibration curve."""
        targets, judged = self.targets[:, dimension], self.judged[:, dimension]
        parts = [(value, judged[targets == value]) for value in np.unique(targets)]
        return [(float(value), float(part.mean()), float(part.std())) for value, part in parts]


def refused(dimension: int | None, usable: Sequence[bool]) -> str:
    """Why there is no figure of a dimension (None: of both): the evaluator is no better than chance in it; "" if it is.

    usable: (2,), as `evaluators.Standing.usable`.
    """
    needed = (0, 1) if dimension is None else (dimension,)
    deaf = [DIMENSIONS[one] for one in needed if not usable[one]]
    return f"refused: the evaluator can't tell {' or '.join(deaf)} from chance" if deaf else ""


def turned(values: np.ndarray, of: Answers, pairs: Sequence[Flip]) -> Interval:
    """Mean change of `values` from the first to the second of each pair, with an interval by seed.

    values: (pieces,); a pair with an invalid piece, or a NaN, is no change. NaN without pairs.
    """
    if not pairs:
        return NOT_MEASURED
    low, high = np.array(pairs).T
    change = np.where(of.valid[low] & of.valid[high], values[high] - values[low], 0.0)
    change = np.where(np.isfinite(change), change, 0.0)
    return bootstrap(of.seeds[low], lambda index: float(change[index].mean()), 500)
