"""Train the two evaluators of a piece's valence and arousal, and measure how accurate they are.

- One sees symbolic features of the notes, the other plain audio features of the rendering. Neither shares
  weights, tokenizer, windows or training rows with the generator. They learn from pieces that people
  labelled, never from what they judge.
- Gradient boosting (Friedman 2001) estimates p, how likely people would call a piece positive in a dimension.
  The judged value is 2 p - 1, in [-1, 1]. Human labels are signs, so its size is certainty, not strength.
- Accuracy is measured on series that an evaluator has not seen. A dimension in which it can't be told from
  chance there (the interval of its AUC reaches 0.5, by series or by piece) is refused: it says nothing of
  generated music.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela.errors import UserError
from kwela.judge.midi import rendering_features, symbolic_features
from kwela.judge.midi.labelled_excerpts import LabelledExcerpts
from kwela.judge.midi.note_table import note_table
from kwela.judge.shared.parallel_map import Failure, map_items
from kwela.music import synth
from kwela.music.emotion import CIRCUMPLEX_NAMES
from kwela.stats import Interval, auc_by_group, mean_by_group

MAX_FOLDS = 8
BOOSTING_SEEDS = (0, 1, 2)  # an evaluator is the mean over them


def read_symbolic_features(scores: Sequence[ScoreTick]) -> np.ndarray:
    """Return the features of the notes, (pieces, features); NaN where a piece doesn't define one."""
    return _read_features(_symbolic_features_of, scores, "Reading notes", 200)


def read_rendering_features(scores: Sequence[ScoreTick]) -> np.ndarray:
    """Return the features of each score as `music.synth` renders it, (pieces, features).

    Raises UserError without the demo extra.
    """
    return _read_features(_rendering_features_of, scores, "Rendering", 8)


def _read_features(
    function: Callable[[bytes], list[float]],
    scores: Sequence[ScoreTick],
    label: str,
    min_items_per_worker: int,
) -> np.ndarray:
    results = map_items(function, [score.dumps_midi() for score in scores], label, min_items_per_worker)
    if failures := [result for result in results if isinstance(result, Failure)]:
        raise UserError(f"{label.lower()}: {failures[0]}")
    return np.array(results, float).reshape(len(scores), -1)


def _symbolic_features_of(midi: bytes) -> list[float]:
    return list(symbolic_features.features(note_table(ScoreTick.from_midi(midi))).values())


def _rendering_features_of(midi: bytes) -> list[float]:
    return list(rendering_features.features(*synth.render(ScoreTick.from_midi(midi))).values())


FEATURE_READERS: dict[str, Callable[[Sequence[ScoreTick]], np.ndarray]] = {
    "symbolic": read_symbolic_features,
    "rendering": read_rendering_features,
}


@dataclass
class Evaluator:
    """Gradient boosting for valence and arousal, the mean over BOOSTING_SEEDS.

    median: (features,) of the training excerpts, which stands in for NaN. ranges: (2, features), their 1st
    and 99th percentile. models: of each dimension; none where all labels were alike.
    """

    median: np.ndarray
    ranges: np.ndarray
    models: list[list[Any]] = field(default_factory=list)

    def judge(self, features: np.ndarray) -> np.ndarray:
        """Return valence and arousal in [-1, 1], (pieces, 2), of features (pieces, features).

        NaN in a dimension without a model.
        """
        filled = self._fill(features)
        if not len(filled):
            return np.zeros((0, 2))
        judged = np.full((len(filled), 2), math.nan)
        for dimension, models in enumerate(self.models):
            if models:
                judged[:, dimension] = np.mean(
                    [2 * model.predict_proba(filled)[:, 1] - 1 for model in models], 0
                )
        return judged

    def out_of_range_share(self, features: np.ndarray) -> np.ndarray:
        """Return the share of features outside the training excerpts' middle 98 %, (pieces,) in [0, 1]."""
        filled = self._fill(features)
        return ((filled < self.ranges[0]) | (filled > self.ranges[1])).mean(1)

    def _fill(self, features: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(features), features, self.median)


def fit_evaluator(features: np.ndarray, excerpts: LabelledExcerpts) -> Evaluator:
    """Train an evaluator; every labelled piece weighs the same, however many excerpts it has.

    features: (excerpts, features). Raises UserError without the judge extra.
    """
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError:
        raise UserError("the evaluators need the judge extra: pip install 'kwela[judge]'") from None
    finite = [column[np.isfinite(column)] for column in features.T]
    median = np.array([np.median(column) if len(column) else 0.0 for column in finite])
    filled = np.where(np.isfinite(features), features, median)
    evaluator = Evaluator(median, np.quantile(filled, [0.01, 0.99], axis=0))
    for dimension in range(len(CIRCUMPLEX_NAMES)):
        labelled = excerpts.labels[:, dimension] != 0
        positive = excerpts.labels[labelled, dimension] > 0
        evaluator.models.append([])
        if positive.all() or not positive.any():
            continue
        _, piece, counts = np.unique(excerpts.piece_index[labelled], return_inverse=True, return_counts=True)
        weight = 1 / counts[piece]
        for seed in BOOSTING_SEEDS:
            # Few pieces and many features: shallow trees, slow learning, random draws (Friedman 2002).
            model = GradientBoostingClassifier(
                n_estimators=150,
                max_depth=2,
                learning_rate=0.05,
                subsample=0.5,
                max_features="sqrt",
                min_samples_leaf=5,
                random_state=seed,
            )
            model.fit(filled[labelled], positive, sample_weight=weight / weight.mean())
            evaluator.models[-1].append(model)
    return evaluator


def cross_validate(features: np.ndarray, excerpts: LabelledExcerpts) -> np.ndarray:
    """Judge each excerpt by an evaluator that was trained without its series, (excerpts, 2).

    NaN where there is no such evaluator. scikit-learn's `cross_val_predict` is not used: medians and weights
    are fitted anew in each fold, and a fold may have no model in a dimension.
    """
    from sklearn.model_selection import GroupKFold

    judged = np.full((len(excerpts.piece_index), 2), math.nan)
    folds = min(MAX_FOLDS, len(np.unique(excerpts.series)))
    for train, test in GroupKFold(folds).split(features, groups=excerpts.series):
        part = LabelledExcerpts(
            [], excerpts.piece_index[train], excerpts.labels[train], excerpts.series[train]
        )
        judged[test] = fit_evaluator(features[train], part).judge(features[test])
    return judged


@dataclass
class EvaluatorAccuracy:
    """How accurate an evaluator is on series that it hasn't seen; intervals by series unless said.

    Lists are of valence and arousal. Quadrants are of pieces with a label in both dimensions.
    """

    pieces: int
    series: int
    quadrant: Interval  # accuracy of pieces
    quadrant_excerpt: Interval  # of single excerpts, which are as long as what will be judged
    majority_quadrant: float  # share of the commonest quadrant
    sign: list[Interval] = field(default_factory=list)  # accuracy
    majority_sign: list[float] = field(default_factory=list)  # share of the commonest sign
    auc: list[Interval] = field(default_factory=list)
    auc_by_piece: list[Interval] = field(
        default_factory=list
    )  # the interval by piece, wider where series are few

    @property
    def usable(self) -> tuple[bool, ...]:
        """Whether the evaluator can be told from chance, in valence and in arousal."""
        return tuple(
            min(by_series.low, by_piece.low) > 0.5 for by_series, by_piece in zip(self.auc, self.auc_by_piece)
        )


def measure_accuracy(judged: np.ndarray, excerpts: LabelledExcerpts, seed: int = 0) -> EvaluatorAccuracy:
    """Measure the accuracy of `cross_validate`'s judgement, (excerpts, 2).

    A piece is judged by the mean over its excerpts.
    """
    names, first, piece = np.unique(excerpts.piece_index, return_index=True, return_inverse=True)
    mean = np.stack(
        [np.bincount(piece, judged[:, d]) / np.bincount(piece) for d in range(len(CIRCUMPLEX_NAMES))], 1
    )
    labels, series = excerpts.labels[first], excerpts.series[first]
    has_quadrant = (labels != 0).all(1)
    right = ((mean > 0) == (labels > 0)).all(1)
    excerpt_right = ((judged > 0) == (excerpts.labels > 0)).all(1)
    quadrant = 2 * (labels[has_quadrant, 0] > 0) + (labels[has_quadrant, 1] > 0)
    accuracy = EvaluatorAccuracy(
        len(names),
        len(np.unique(series)),
        mean_by_group(right[has_quadrant], series[has_quadrant], seed),
        mean_by_group(excerpt_right[has_quadrant[piece]], excerpts.series[has_quadrant[piece]], seed),
        float(np.bincount(quadrant).max() / len(quadrant)) if len(quadrant) else math.nan,
    )
    for dimension in range(len(CIRCUMPLEX_NAMES)):
        labelled = labels[:, dimension] != 0
        positive, value = labels[labelled, dimension] > 0, mean[labelled, dimension]
        share = positive.mean() if len(positive) else math.nan
        accuracy.sign.append(mean_by_group((value > 0) == positive, series[labelled], seed))
        accuracy.majority_sign.append(float(max(share, 1 - share)))
        accuracy.auc.append(auc_by_group(value, positive, series[labelled], seed=seed))
        accuracy.auc_by_piece.append(auc_by_group(value, positive, range(len(positive)), seed=seed))
    return accuracy
