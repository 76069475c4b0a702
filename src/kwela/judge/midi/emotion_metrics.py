"""Score how well judged emotions answer their targets: quadrant, error, rank correlation, calibration, leak.

Valence and arousal are in [-1, 1], of the target as of the judgement. Arrays have one row for each piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from kwela.judge.midi.emotion_grid import PiecePair, SystemPieces
from kwela.music.emotion import CIRCUMPLEX_NAMES, DIMENSION_NAMES
from kwela.stats import NOT_MEASURED, Groups, Interval, bootstrap, spearman

# Only these have human labels, so evaluators judge only these.
JUDGED_DIMENSIONS = CIRCUMPLEX_NAMES
JUDGED_COLUMNS = [DIMENSION_NAMES.index(name) for name in JUDGED_DIMENSIONS]  # in targets of all dimensions
_RESAMPLES = 500


def quadrant_accuracy(targets: np.ndarray, judged: np.ndarray) -> float:
    """Return the share of pieces that are judged on the target's side in both dimensions, in [0, 1].

    targets, judged: (pieces, 2). Targets of 0 in either dimension have no side and don't count; NaN if all
    have none.
    """
    has_sides = (targets != 0).all(1)
    right = ((judged > 0) == (targets > 0)).all(1)
    return float(right[has_sides].mean()) if has_sides.any() else math.nan


def mean_absolute_error(target: np.ndarray, judged: np.ndarray) -> float:
    """Return the mean absolute difference of judged and target, in [0, 2]. target, judged: (pieces,)."""
    return float(np.abs(judged - target).mean())


def rank_correlation(target: np.ndarray, judged: np.ndarray) -> float:
    """Return Spearman's correlation of target and judged, in [-1, 1]. target, judged: (pieces,).

    It is 0 where all pieces are judged alike, since they follow nothing; NaN for one target or fewer than 3
    pieces.
    """
    if len(target) > 2 and np.ptp(judged) == 0 and np.ptp(target) > 0:
        return 0.0
    return spearman(target, judged)


def calibration_slope(target: np.ndarray, judged: np.ndarray) -> float:
    """Return the slope of judged on target by least squares. target, judged: (pieces,).

    1 is calibrated, 0 follows nothing, a negative slope does the opposite; NaN for one target only.
    """
    centred = target - target.mean()
    if (centred @ centred) < 1e-12:
        return math.nan
    return float(centred @ judged / (centred @ centred)) if np.ptp(judged) else 0.0


# name: title, function of (targets, judged), the dimension that it is of (None: both)
EMOTION_METRICS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], float], int | None]] = {
    "quadrant": ("4-quadrant accuracy", quadrant_accuracy, None),
    "mae_valence": ("mean absolute error, valence", mean_absolute_error, 0),
    "mae_arousal": ("mean absolute error, arousal", mean_absolute_error, 1),
    "spearman_valence": ("Spearman, valence", rank_correlation, 0),
    "spearman_arousal": ("Spearman, arousal", rank_correlation, 1),
    "slope_valence": ("calibration slope, valence", calibration_slope, 0),
    "slope_arousal": ("calibration slope, arousal", calibration_slope, 1),
}


class JudgedPieces:
    """An evaluator's judgement of one system's pieces beside their targets.

    Invalid pieces count as the worst.
    """

    def __init__(self, targets: np.ndarray, judged: np.ndarray, valid: np.ndarray, groups: Groups) -> None:
        """Keep targets and judged, (pieces, 2 or more) and (pieces, 2), with invalid pieces at their worst.

        valid: (pieces,). groups: what is resampled (seeds, or the series of real music). An invalid piece is
        judged at the far end from its target: -1 for a target of 0 or more, else 1.
        """
        self.targets = np.asarray(targets, float)[:, JUDGED_COLUMNS]
        self.judged = np.where(valid[:, None], judged, np.where(self.targets >= 0, -1.0, 1.0))
        self.groups = groups
        self._metrics: dict[str, Interval] = {}  # tables and verdicts ask for the same ones

    def metric(self, name: str) -> Interval:
        """Return one of EMOTION_METRICS with its interval."""
        if name not in self._metrics:
            _, function, dimension = EMOTION_METRICS[name]
            column = slice(None) if dimension is None else dimension
            target, judged = self.targets[:, column], self.judged[:, column]
            self._metrics[name] = bootstrap(
                self.groups, lambda index: function(target[index], judged[index]), _RESAMPLES
            )
        return self._metrics[name]

    def difference_between_sides(self, target_dimension: int, judged_dimension: int) -> Interval:
        """Return the mean judged value of targets over 0 less that of targets under 0."""
        side, judged = np.sign(self.targets[:, target_dimension]), self.judged[:, judged_dimension]

        def difference(index: np.ndarray) -> float:
            high, low = (judged[index][side[index] == sign] for sign in (1, -1))
            return float(high.mean() - low.mean()) if len(high) and len(low) else math.nan

        return bootstrap(self.groups, difference, _RESAMPLES)

    def calibration_curve(self, dimension: int) -> list[tuple[float, float, float]]:
        """Return (target, mean judged, standard deviation) of each value of the target, in order."""
        targets, judged = self.targets[:, dimension], self.judged[:, dimension]
        by_target = [(value, judged[targets == value]) for value in np.unique(targets)]
        return [(float(value), float(part.mean()), float(part.std())) for value, part in by_target]


def refusal_reason(dimension: int | None, usable: Sequence[bool]) -> str:
    """Return why a dimension (None: both) has no figure; "" if it has.

    The reason is that the evaluator is no better than chance in it. usable: (2,), as
    `EvaluatorAccuracy.usable`.
    """
    needed = range(len(JUDGED_DIMENSIONS)) if dimension is None else (dimension,)
    unusable = [JUDGED_DIMENSIONS[index] for index in needed if not usable[index]]
    return f"refused: the evaluator can't tell {' or '.join(unusable)} from chance" if unusable else ""


def mean_change(values: np.ndarray, pieces: SystemPieces, pairs: Sequence[PiecePair]) -> Interval:
    """Return the mean change of `values` from the first to the second of each pair, with an interval by seed.

    values: (pieces,). A pair with an invalid piece, or with a NaN, counts as no change. NaN without pairs.
    """
    if not pairs:
        return NOT_MEASURED
    low, high = np.array(pairs).T
    change = np.where(pieces.valid[low] & pieces.valid[high], values[high] - values[low], 0.0)
    change = np.where(np.isfinite(change), change, 0.0)
    return bootstrap(pieces.seeds[low], lambda index: float(change[index].mean()), _RESAMPLES)
