"""Two evaluators of a piece's valence and arousal, trained on pieces that people labelled, never on what they judge.

- One sees symbolic features of the notes, one plain audio features of the rendering. Neither shares weights, tokenizer,
  windows or training rows with the generator.
- Gradient boosting (Friedman 2001) says how likely people would call a piece positive in a dimension; the judged value
  is 2 p - 1, in [-1, 1]. Human labels are signs, so its size is certainty, not strength.
- Its own accuracy is on series it has not seen, and stands first. A dimension in which it can't be told from chance
  there (the interval of its AUC reaches 0.5, by series or by piece) is refused: it says nothing of generated music.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela.errors import UserError
from kwela.judge.midi import piece, rendering_features, symbolic_features
from kwela.judge.shared.parallel_map import Failure, map_items
from kwela.music import synth
from kwela.stats import Interval, auc_by_group, mean_by_group

DIMENSIONS = ("valence", "arousal")
FOLDS = 8  # at most
SEEDS = (0, 1, 2)  # of the boosting that an evaluator is the mean of
LEAST_SERIES, LEAST_PIECES = 5, 40  # fewer are too thin to train on and to tell whether that worked


@dataclass(frozen=True)
class Clips:
    """What an evaluator is trained on: excerpts as long as the pieces it will judge, and where they come from."""

    scores: list[ScoreTick]
    piece: np.ndarray  # (clips,) index of the labelled piece
    labels: np.ndarray  # (clips, 2) valence and arousal in [-1, 1]; 0 trains nothing in that dimension
    series: np.ndarray  # (clips,) of str


def clips(
    scores: Sequence[ScoreTick],
    labels: np.ndarray,
    series: Sequence[str],
    quarters: float,
    most: int,
    seed: int = 0,
) -> Clips:
    """Up to `most` excerpts of `quarters` of each piece."""
    cut = [piece.excerpts(score, quarters, most, seed + number) for number, score in enumerate(scores)]
    owner = np.repeat(np.arange(len(scores)), [len(one) for one in cut]).astype(int)
    flat = [one for several in cut for one in several]
    return Clips(flat, owner, np.asarray(labels, float)[owner], np.asarray(series, object)[owner].astype(str))


def symbolic(scores: Sequence[ScoreTick]) -> np.ndarray:
    """(pieces, features); NaN where a piece doesn't define one."""
    return _seen(_symbolic, scores, "Reading notes", 200)


def rendering(scores: Sequence[ScoreTick]) -> np.ndarray:
    """(pieces, features) of each score played by `music.synth`. Raises UserError without the demo extra."""
    return _seen(_rendering, scores, "Rendering", 8)


def _seen(
    look: Callable[[bytes], list[float]], scores: Sequence[ScoreTick], label: str, inline: int
) -> np.ndarray:
    found = map_items(look, [score.dumps_midi() for score in scores], label, inline)
    if failed := [one for one in found if isinstance(one, Failure)]:
        raise UserError(f"{label.lower()}: {failed[0]}")
    return np.array(found, float).reshape(len(scores), -1)


def _symbolic(data: bytes) -> list[float]:
    return list(symbolic_features.features(piece.piece(ScoreTick.from_midi(data))).values())


def _rendering(data: bytes) -> list[float]:
    return list(rendering_features.features(*synth.render(ScoreTick.from_midi(data))).values())


SEES: dict[str, Callable[[Sequence[ScoreTick]], np.ndarray]] = {"symbolic": symbolic, "rendering": rendering}


@dataclass
class Evaluator:
    """Gradient boosting for each dimension, the mean over several seeds; NaN features take the training median."""

    median: np.ndarray
    ranges: np.ndarray  # (2, features): the 1st and 99th percentile of the training clips
    models: list[list[Any]] = field(default_factory=list)  # of each dimension

    def judged(self, features: np.ndarray) -> np.ndarray:
        """(pieces, features) -> (pieces, 2) valence and arousal in [-1, 1]."""
        full = np.where(np.isfinite(features), features, self.median)
        if not len(full):
            return np.zeros((0, 2))
        out = np.full((len(full), 2), math.nan)
        for d, models in enumerate(self.models):
            if models:
                out[:, d] = np.mean([2 * model.predict_proba(full)[:, 1] - 1 for model in models], 0)
        return out

    def strangeness(self, features: np.ndarray) -> np.ndarray:
        """(pieces,) the share of features outside the middle 98 % of the training clips: far from home."""
        full = np.where(np.isfinite(features), features, self.median)
        return ((full < self.ranges[0]) | (full > self.ranges[1])).mean(1)


def fit(features: np.ndarray, among: Clips) -> Evaluator:
    """An evaluator of clips; every labelled piece weighs the same. A dimension of one label only has no model."""
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError:
        raise UserError("the evaluators need the judge extra: pip install 'kwela[judge]'") from None
    median = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in features.T])
    full = np.where(np.isfinite(features), features, median)
    made = Evaluator(median, np.quantile(full, [0.01, 0.99], axis=0))
    for dimension in range(2):
        known = among.labels[:, dimension] != 0
        positive = among.labels[known, dimension] > 0
        made.models.append([])
        if positive.all() or not positive.any():
            continue
        _, member, sizes = np.unique(among.piece[known], return_inverse=True, return_counts=True)
        weight = 1 / sizes[member]
        for seed in SEEDS:
            # Shallow, slow and drawing at random: few pieces, many features (Friedman 2002).
            model = GradientBoostingClassifier(
                n_estimators=150,
                max_depth=2,
                learning_rate=0.05,
                subsample=0.5,
                max_features="sqrt",
                min_samples_leaf=5,
                random_state=seed,
            )
            made.models[-1].append(model.fit(full[known], positive, sample_weight=weight / weight.mean()))
    return made


def unseen(features: np.ndarray, among: Clips) -> np.ndarray:
    """(clips, 2) judged by evaluators trained without the clip's series (grouped cross-validation); NaN if none was."""
    from sklearn.model_selection import GroupKFold

    out = np.full((len(among.piece), 2), math.nan)
    folds = min(FOLDS, len(np.unique(among.series)))
    for train, test in GroupKFold(folds).split(features, groups=among.series):
        part = Clips([], among.piece[train], among.labels[train], among.series[train])
        out[test] = fit(features[train], part).judged(features[test])
    return out


@dataclass
class Standing:
    """An evaluator's figures on series it hasn't seen, with intervals by series. Quadrants are of decided pieces.

    Lists are of valence and arousal.
    """

    pieces: int
    series: int
    quadrant: Interval
    quadrant_clip: Interval  # a single excerpt, as long as what it will judge
    majority: float  # share of the commonest quadrant
    correct: list[Interval] = field(default_factory=list)
    majority_sign: list[float] = field(default_factory=list)
    auc: list[Interval] = field(default_factory=list)
    auc_by_piece: list[Interval] = field(
        default_factory=list
    )  # narrow where series are many, honest where they're few

    @property
    def usable(self) -> tuple[bool, ...]:
        """Whether valence and arousal can be told from chance."""
        return tuple(min(pair[0].low, pair[1].low) > 0.5 for pair in zip(self.auc, self.auc_by_piece))


def standing(judged: np.ndarray, among: Clips, seed: int = 0) -> Standing:
    """judged: (clips, 2) from `unseen`. A piece is judged by the mean over its clips."""
    names, first, member = np.unique(among.piece, return_index=True, return_inverse=True)
    mean = np.stack([np.bincount(member, judged[:, d]) / np.bincount(member) for d in range(2)], 1)
    truth, series = among.labels[first], among.series[first]
    decided = (truth != 0).all(1)
    right = ((mean > 0) == (truth > 0)).all(1)
    clip_right = ((judged > 0) == (among.labels > 0)).all(1)
    quadrant = 2 * (truth[decided, 0] > 0) + (truth[decided, 1] > 0)
    found = Standing(
        len(names),
        len(np.unique(series)),
        mean_by_group(right[decided], series[decided], seed),
        mean_by_group(clip_right[decided[member]], among.series[decided[member]], seed),
        float(np.bincount(quadrant).max() / len(quadrant)) if len(quadrant) else math.nan,
    )
    for d in range(2):
        known = truth[:, d] != 0
        sign, guess = truth[known, d] > 0, mean[known, d]
        found.correct.append(mean_by_group((guess > 0) == sign, series[known], seed))
        found.majority_sign.append(float(max(sign.mean(), 1 - sign.mean())) if len(sign) else math.nan)
        found.auc.append(auc_by_group(guess, sign, series[known], seed=seed))
        found.auc_by_piece.append(auc_by_group(guess, sign, range(len(sign)), seed=seed))
    return found
