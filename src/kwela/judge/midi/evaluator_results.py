"""Let the evaluators judge every system's pieces on the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi import evaluators
from kwela.judge.midi.emotion_grid import MODEL, PERMUTED_TARGETS, RULE_EDIT, TWIN, SystemPieces
from kwela.judge.midi.emotion_metrics import JudgedPieces
from kwela.judge.midi.evaluators import EvaluatorAccuracy
from kwela.judge.midi.labelled_excerpts import EvaluatorData, LabelledExcerpts
from kwela.judge.midi.score_edits import flatten_tempo_and_velocity, has_enough_notes

REAL_MUSIC = "real, held-out"
_HUMAN_LABEL_SIZE = 0.8  # what a human label of 1 counts as, beside the grid's targets


@dataclass
class EvaluatorResult:
    """An evaluator's accuracy, and its judgement of each system; dicts are by system."""

    accuracy: EvaluatorAccuracy
    pieces: Mapping[str, SystemPieces]  # what it judged
    judged: dict[str, JudgedPieces] = field(default_factory=dict)  # also of REAL_MUSIC, which is the ceiling
    values: dict[str, np.ndarray] = field(default_factory=dict)  # (pieces, 2) as judged, NaN where invalid
    out_of_range: dict[str, float] = field(default_factory=dict)  # mean `Evaluator.out_of_range_share`


def evaluate_systems(
    data: EvaluatorData, systems: Mapping[str, SystemPieces], seed: int
) -> dict[str, EvaluatorResult]:
    """Return the result of each evaluator by its name, and as "<name> (flattened)".

    A flattened evaluator was trained, and judges, at one tempo and one velocity.
    """
    results: dict[str, EvaluatorResult] = {}
    for name, excerpts in data.excerpts.items():
        read_features = evaluators.FEATURE_READERS[name]
        complete = data.flatten_rendering or name == "symbolic"
        # --quick renders less: rendering costs more than all else.
        judged = (
            systems
            if complete
            else {system: _of_largest_intensity(pieces) for system, pieces in systems.items()}
        )
        results[name] = _evaluate(read_features, excerpts, judged, seed)
        if complete:
            flat = replace(excerpts, scores=[flatten_tempo_and_velocity(score) for score in excerpts.scores])
            names = [key for key in (MODEL, TWIN, PERMUTED_TARGETS, RULE_EDIT) if key in systems]
            flat_systems = _flatten({key: systems[key] for key in names})
            results[f"{name} (flattened)"] = _evaluate(read_features, flat, flat_systems, seed)
    return results


def _of_largest_intensity(pieces: SystemPieces) -> SystemPieces:
    return pieces.take(np.flatnonzero(pieces.intensity == pieces.intensity.max()))


def _flatten(systems: Mapping[str, SystemPieces]) -> dict[str, SystemPieces]:
    """Flatten all pieces; systems that share a piece share its flattened copy."""
    scores = {id(score): score for pieces in systems.values() for score in pieces.scores}
    flat = {
        key: None if score is None else flatten_tempo_and_velocity(score) for key, score in scores.items()
    }
    return {
        name: pieces._replace(scores=[flat[id(score)] for score in pieces.scores])
        for name, pieces in systems.items()
    }


def _evaluate(
    read_features: Callable[[Sequence[ScoreTick]], np.ndarray],
    excerpts: LabelledExcerpts,
    systems: Mapping[str, SystemPieces],
    seed: int,
) -> EvaluatorResult:
    """Train an evaluator, measure its accuracy, and let it judge the systems."""
    features = read_features(excerpts.scores)
    unseen = evaluators.cross_validate(features, excerpts)
    evaluator = evaluators.fit_evaluator(features, excerpts)
    result = EvaluatorResult(evaluators.measure_accuracy(unseen, excerpts, seed), systems)
    # Features of a piece that systems share are read once.
    scores = {
        id(score): score
        for pieces in systems.values()
        for score in pieces.scores
        if score is not None and has_enough_notes(score)
    }
    features_of = dict(zip(scores, read_features(list(scores.values())), strict=True))
    for name, pieces in systems.items():
        values = result.values[name] = np.full((len(pieces.scores), 2), math.nan)
        result.out_of_range[name] = math.nan
        if pieces.valid.any():
            valid = np.stack([features_of[id(score)] for score in pieces.scores if id(score) in features_of])
            values[pieces.valid] = evaluator.judge(valid)
            result.out_of_range[name] = float(evaluator.out_of_range_share(valid).mean())
        result.judged[name] = JudgedPieces(pieces.targets, values, pieces.valid, pieces.seeds)
    labels = excerpts.labels * _HUMAN_LABEL_SIZE
    result.judged[REAL_MUSIC] = JudgedPieces(labels, unseen, np.ones(len(labels), bool), excerpts.series)
    result.out_of_range[REAL_MUSIC] = float(evaluator.out_of_range_share(features).mean())
    return result
