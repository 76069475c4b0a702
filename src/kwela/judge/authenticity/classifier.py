"""Reference against contrast: a logistic regression in nested cross-validation, and how far is too far to say.

- An artist is never on both sides of a split: clips of one artist are alike, and the question is about new ones.
- Each outer fold standardises, picks C and calibrates on its own training artists alone; the clips it holds out get
  log-odds and distances from it. All figures about reference and contrast are of these held-out values.
- Other clips get the mean of what the folds' models say: the same kind of model that the threshold was fixed on.
- Linear on purpose: thirty coefficients can be read, and 60 clips a side don't carry more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kwela.errors import UserError

FOLDS, INNER = 5, 4
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # C of the L2 penalty
FALSE_POSITIVES = 0.05  # of held-out contrast clips past the threshold, at most
FAR, SLACK = 0.99, 1.5  # the limit of a side: 99 % of its held-out clips are nearer, and half as far again


@dataclass(frozen=True)
class Judged:
    """What a set of clips got. log_odds: (N,) of being reference, calibrated. far: (N, 2) distance to contrast and to
    reference over the side's limit: above 1 is half as far again as 99 % of the side's own held-out clips."""

    log_odds: np.ndarray
    far: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(self.log_odds, -50, 50)))

    @property
    def outside(self) -> np.ndarray:
        """(N,) bool: out of distribution, far from both sides."""
        return np.asarray((self.far > 1).all(1))

    def passes(self, threshold: float | np.ndarray) -> np.ndarray:
        """(N,) bool: past the threshold, and not far from reference: a line goes on past all music."""
        return (self.log_odds > threshold) & (self.far[:, 1] <= 1)

    def take(self, which: np.ndarray) -> Judged:
        return Judged(self.log_odds[which], self.far[which])


@dataclass(frozen=True)
class Fold:
    """One outer fold: standardisation and logistic regression, Platt's line, the two sides' clouds."""

    model: Any  # sklearn's pipeline of both
    platt: tuple[float, float]  # log-odds = a * score + b
    centres: np.ndarray  # (2, F) of standardised features, contrast then reference
    precisions: np.ndarray  # (2, F, F)

    @property
    def strength(self) -> float:
        return float(self.model[-1].C)

    @property
    def weights(self) -> np.ndarray:
        """(F,): change of the log-odds with one standard deviation of a feature."""
        return np.asarray(self.platt[0] * self.model[-1].coef_[0])

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.platt[0] * self.model.decision_function(features) + self.platt[1])

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(N, 2): Mahalanobis distances to contrast and to reference."""
        away = self.model[0].transform(features)[:, None] - self.centres
        return np.sqrt(np.maximum(0, np.einsum("nki,kij,nkj->nk", away, self.precisions, away)))


@dataclass(frozen=True)
class Evaluator:
    """folds: the outer models. held_out: reference and contrast as their own fold's model sees them. limits: (2,).
    crossed: (N,), for each of those the threshold that contrast clips of the other folds alone would give."""

    folds: list[Fold]
    limits: np.ndarray
    held_out: Judged
    threshold: float
    crossed: np.ndarray

    def judge(self, features: np.ndarray) -> Judged:
        """features: (N, F). The mean over folds of log-odds and of distances."""
        log_odds = np.mean([fold.log_odds(features) for fold in self.folds], axis=0)
        far = np.mean([fold.distances(features) for fold in self.folds], axis=0) / self.limits
        return Judged(log_odds, far)

    def coefficients(self) -> np.ndarray:
        """(folds, F): change of log-odds with one standard deviation of a feature."""
        return np.array([fold.weights for fold in self.folds])


def fit(
    features: np.ndarray,
    reference: np.ndarray,
    artists: Sequence[str],
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
) -> Evaluator:
    """features: (N, F) finite; reference: (N,) bool; artists: (N,). A function of its arguments alone.

    Raises UserError without scikit-learn, ValueError if a side has fewer than FOLDS artists.
    """
    groups = np.unique(np.asarray(artists, str), return_inverse=True)[1]
    for side in (False, True):
        if len(np.unique(groups[reference == side])) < FOLDS:
            raise ValueError(f"a side has fewer than {FOLDS} artists")
    log_odds, distances = np.zeros(len(features)), np.zeros((len(features), 2))
    folds, parts = [], _split(reference, groups, FOLDS, seed)
    for train, test in parts:
        fold = _fold(features[train], reference[train], groups[train], seed, strengths)
        log_odds[test], distances[test] = fold.log_odds(features[test]), fold.distances(features[test])
        folds.append(fold)
    reach = [np.quantile(distances[reference == side, int(side)], FAR) for side in (False, True)]
    limits = SLACK * np.maximum(reach, 1e-9)
    crossed = np.zeros(len(features))
    for train, test in parts:
        crossed[test] = threshold(log_odds[train[~reference[train]]])
    return Evaluator(
        folds, limits, Judged(log_odds, distances / limits), threshold(log_odds[~reference]), crossed
    )


def threshold(contrast: np.ndarray) -> float:
    """The least of the contrast's log-odds that no more than 5 % of them lie above."""
    ordered = np.sort(contrast)
    return float(ordered[len(ordered) - 1 - math.floor(FALSE_POSITIVES * len(ordered))])


def _split(
    reference: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indexes (train, test) of folds with whole artists, each holding both sides."""
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise UserError("judging authenticity needs scikit-learn: pip install 'kwela[judge]'") from None
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [(a, b) for a, b in parts.split(reference, reference, groups) if 0 < reference[a].sum() < len(a)]


def _fold(
    features: np.ndarray, reference: np.ndarray, groups: np.ndarray, seed: int, strengths: Sequence[float]
) -> Fold:
    from sklearn.covariance import ledoit_wolf

    scores = np.full((len(strengths), len(features)), np.nan)  # held out in the inner folds
    for train, test in _split(reference, groups, INNER, seed + 1):
        for k, strength in enumerate(strengths):
            scores[k, test] = (
                _logistic(strength).fit(features[train], reference[train]).decision_function(features[test])
            )
    known = np.isfinite(scores[0])
    losses = [np.logaddexp(0, np.where(reference, -row, row)[known]).mean() for row in scores]
    best = int(np.argmin(losses))
    model = _logistic(strengths[best]).fit(features, reference)
    clouds = [model[0].transform(features[reference == side]) for side in (False, True)]
    precisions = np.array(
        [np.linalg.inv(ledoit_wolf(cloud)[0] + 1e-3 * np.eye(features.shape[1])) for cloud in clouds]
    )
    centres = np.array([cloud.mean(0) for cloud in clouds])
    return Fold(model, _platt(scores[best][known], reference[known]), centres, precisions)


def _logistic(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=strength, class_weight="balanced", solver="newton-cholesky")
    return make_pipeline(StandardScaler(), regression)


def _platt(scores: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(a, b) of the line from scores to calibrated log-odds, towards Platt's smoothed targets (Platt 1999, sec. 2.2).

    a is kept positive: a model that was wrong on held-out artists is not turned round, it is left without a say.
    """
    from scipy.optimize import minimize

    positives = int(reference.sum())
    goal = np.where(reference, (positives + 1) / (positives + 2), 1 / (len(reference) - positives + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        odds = line[0] * scores + line[1]
        error = 1 / (1 + np.exp(-np.clip(odds, -50, 50))) - goal
        return float((np.logaddexp(0, odds) - goal * odds).sum()), np.array([error @ scores, error.sum()])

    a, b = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(1e-6, None), (None, None)]).x
    return float(a), float(b)
