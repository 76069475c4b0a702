"""Tell reference clips from contrast clips by a logistic regression in nested cross-validation.

- Clips of one artist are alike, and the question is about new artists: no artist is on both sides of a split.
- Each outer fold standardises, chooses C and calibrates on its own training artists alone. The clips that it
  holds out get their log-odds and distances from it. All figures about reference and contrast come from these
  held-out values.
- Other clips get the mean over the folds' models: the same kind of model that the threshold was fixed on.
- The model is linear on purpose: thirty coefficients can be read, and 60 clips a side do not carry more.

scikit-learn's own LogisticRegressionCV and CalibratedClassifierCV are not used. The first standardises no
fold on its own and chooses C by the mean over folds, where folds of whole artists differ in size. The second
hands out probabilities without the line behind them, and turns a model round that was wrong on held-out
artists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kwela.errors import UserError

OUTER_FOLDS, INNER_FOLDS = 5, 4
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # C of the L2 penalty
FALSE_POSITIVES = 0.05  # the largest share of held-out contrast clips past the threshold
# The limit of a side's distance: half as far again as 99 % of its held-out clips.
LIMIT_QUANTILE, LIMIT_FACTOR = 0.99, 1.5


@dataclass(frozen=True)
class ClipScores:
    """The scores of a set of clips.

    log_odds: (N,) calibrated log-odds of being reference. relative_distances: (N, 2) distance to contrast and
    to reference, over the side's limit; above 1 is far from the side.
    """

    log_odds: np.ndarray
    relative_distances: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """The calibrated probability of being reference, (N,) in 0..1."""
        return 1 / (1 + np.exp(-np.clip(self.log_odds, -50, 50)))

    @property
    def outside(self) -> np.ndarray:
        """Which clips are out of distribution, far from both sides: (N,) bool."""
        return np.asarray((self.relative_distances > 1).all(1))

    def passes(self, threshold: float | np.ndarray) -> np.ndarray:
        """Return which clips are past the threshold and not far from reference, (N,) bool.

        The distance is needed because a linear model's log-odds grow without bound, beyond all music.
        """
        return (self.log_odds > threshold) & (self.relative_distances[:, 1] <= 1)

    def select(self, index: np.ndarray) -> ClipScores:
        """Return the scores of the clips at `index`, which is boolean or of integers."""
        return ClipScores(self.log_odds[index], self.relative_distances[index])


@dataclass(frozen=True)
class Fold:
    """The model of one outer fold: scaler, regression, Platt's line, and both sides' clouds."""

    scaler: Any  # sklearn's StandardScaler
    regression: Any  # sklearn's LogisticRegression
    platt: tuple[float, float]  # log-odds = a * score + b
    centres: np.ndarray  # (2, F) of standardised features, contrast then reference
    precisions: np.ndarray  # (2, F, F)

    @property
    def strength(self) -> float:
        """The C that the inner folds chose."""
        return float(self.regression.C)

    @property
    def weights(self) -> np.ndarray:
        """The change of the log-odds with one standard deviation of each feature, (F,)."""
        return np.asarray(self.platt[0] * self.regression.coef_[0])

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return calibrated log-odds (N,) and Mahalanobis distances to contrast and to reference (N, 2)."""
        standardised = self.scaler.transform(features)
        log_odds = self.platt[0] * self.regression.decision_function(standardised) + self.platt[1]
        offsets = standardised[:, None] - self.centres
        squares = np.einsum("nki,kij,nkj->nk", offsets, self.precisions, offsets)
        return np.asarray(log_odds), np.sqrt(np.maximum(0, squares))


@dataclass(frozen=True)
class CrossValidatedClassifier:
    """The models of all outer folds, and what they say of the clips that they were fitted on.

    distance_limits: (2,), of contrast and of reference. held_out: the scores of the reference and contrast
    clips, each by the fold that did not see its artist. threshold: log-odds that at most 5 % of the held-out
    contrast clips exceed. thresholds_of_other_folds: (N,), for each clip the threshold that the contrast
    clips of the other folds give.
    """

    folds: list[Fold]
    distance_limits: np.ndarray
    held_out: ClipScores
    threshold: float
    thresholds_of_other_folds: np.ndarray

    def score(self, features: np.ndarray) -> ClipScores:
        """Return the mean over folds of the log-odds and of the distances. features: (N, F)."""
        log_odds, distances = zip(*(fold.score(features) for fold in self.folds))
        return ClipScores(np.mean(log_odds, axis=0), np.mean(distances, axis=0) / self.distance_limits)

    def coefficients(self) -> np.ndarray:
        """Return the change of log-odds with one standard deviation of a feature, (folds, F)."""
        return np.array([fold.weights for fold in self.folds])


Split = tuple[np.ndarray, np.ndarray]  # indexes of the training clips and of the held-out clips


class NestedSplit(NamedTuple):
    """An outer split, and the inner splits of its training clips (indexes into these)."""

    train: np.ndarray
    test: np.ndarray
    inner: list[Split]


def split_by_artist(reference: np.ndarray, artists: Sequence[str], seed: int = 0) -> list[NestedSplit]:
    """Split clips into nested folds that hold whole artists and both sides.

    reference: (N,) bool; artists: (N,). Raises UserError without scikit-learn, ValueError if a side has fewer
    than OUTER_FOLDS artists.
    """
    groups = np.unique(np.asarray(artists, str), return_inverse=True)[1]
    for side in (False, True):
        if len(np.unique(groups[reference == side])) < OUTER_FOLDS:
            raise ValueError(f"a side has fewer than {OUTER_FOLDS} artists")
    return [
        NestedSplit(train, test, _split(reference[train], groups[train], INNER_FOLDS, seed + 1))
        for train, test in _split(reference, groups, OUTER_FOLDS, seed)
    ]


def fit(
    features: np.ndarray,
    reference: np.ndarray,
    splits: list[NestedSplit],
    strengths: Sequence[float] = STRENGTHS,
) -> CrossValidatedClassifier:
    """Fit the classifier: a function of its arguments alone.

    features: (N, F) finite; reference: (N,) bool; splits: of these clips, from `split_by_artist`. strengths:
    the values of C to choose from.
    """
    log_odds, distances = np.zeros(len(features)), np.zeros((len(features), 2))
    folds = []
    for split in splits:
        fold = _fit_fold(features[split.train], reference[split.train], split.inner, strengths)
        log_odds[split.test], distances[split.test] = fold.score(features[split.test])
        folds.append(fold)
    reach = [np.quantile(distances[reference == side, int(side)], LIMIT_QUANTILE) for side in (False, True)]
    limits = LIMIT_FACTOR * np.maximum(reach, 1e-9)
    thresholds = np.zeros(len(features))
    for split in splits:
        thresholds[split.test] = pass_threshold(log_odds[split.train[~reference[split.train]]])
    held_out = ClipScores(log_odds, distances / limits)
    return CrossValidatedClassifier(folds, limits, held_out, pass_threshold(log_odds[~reference]), thresholds)


def pass_threshold(contrast: np.ndarray) -> float:
    """Return the least of the contrast clips' log-odds (N,) that at most 5 % of them exceed."""
    ordered = np.sort(contrast)
    return float(ordered[len(ordered) - 1 - math.floor(FALSE_POSITIVES * len(ordered))])


def _split(reference: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[Split]:
    """Return the splits into whole groups; one with a single side among its training clips is left out."""
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise UserError("judging authenticity needs scikit-learn: pip install 'kwela[judge]'") from None
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(reference, reference, groups)
    return [(train, test) for train, test in splits if 0 < reference[train].sum() < len(train)]


def _fit_fold(
    features: np.ndarray, reference: np.ndarray, inner: list[Split], strengths: Sequence[float]
) -> Fold:
    from sklearn.covariance import ledoit_wolf
    from sklearn.preprocessing import StandardScaler

    scores = np.full((len(strengths), len(features)), np.nan)  # held out in the inner folds
    for train, test in inner:
        scaler = StandardScaler().fit(features[train])
        known, unknown = scaler.transform(features[train]), scaler.transform(features[test])
        for k, strength in enumerate(strengths):
            scores[k, test] = _logistic(strength).fit(known, reference[train]).decision_function(unknown)
    scored = np.isfinite(scores[0])
    losses = [np.logaddexp(0, np.where(reference, -row, row)[scored]).mean() for row in scores]
    best = int(np.argmin(losses))
    scaler = StandardScaler().fit(features)
    standardised = scaler.transform(features)
    regression = _logistic(strengths[best]).fit(standardised, reference)
    clouds = [standardised[reference == side] for side in (False, True)]
    ridge = 1e-3 * np.eye(features.shape[1])
    precisions = np.array([np.linalg.inv(ledoit_wolf(cloud)[0] + ridge) for cloud in clouds])
    centres = np.array([cloud.mean(0) for cloud in clouds])
    return Fold(scaler, regression, _fit_platt(scores[best][scored], reference[scored]), centres, precisions)


def _logistic(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", solver="newton-cholesky")


def _fit_platt(scores: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return (a, b) of the line from scores to calibrated log-odds, fitted to Platt's smoothed targets.

    Platt 1999, sec. 2.2. a is kept positive: a model that was wrong on held-out artists is not turned round,
    its scores lose their weight.
    """
    from scipy.optimize import minimize

    positives = int(reference.sum())
    target = np.where(reference, (positives + 1) / (positives + 2), 1 / (len(reference) - positives + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        odds = line[0] * scores + line[1]
        error = 1 / (1 + np.exp(-np.clip(odds, -50, 50))) - target
        return float((np.logaddexp(0, odds) - target * odds).sum()), np.array([error @ scores, error.sum()])

    a, b = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(1e-6, None), (None, None)]).x
    return float(a), float(b)
