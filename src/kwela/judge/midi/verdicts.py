"""Draw the verdicts of `kwela judge midi` from its tables and from the evaluators' results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kwela.judge.midi.emotion_grid import (
    MODEL,
    PERMUTED_TARGETS,
    TWIN,
    SystemPieces,
    have_same_notes,
    opposite_target_pairs,
)
from kwela.judge.midi.emotion_metrics import JUDGED_DIMENSIONS
from kwela.judge.midi.evaluator_results import EvaluatorResult
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.music.emotion import DIMENSION_NAMES


def draw_verdicts(
    card: Scorecard,
    results: Mapping[str, EvaluatorResult],
    pieces: SystemPieces,
    label_derivation: str,
    missing_reason: str,
) -> dict[str, Any]:
    """Return {verdict: what it says}.

    pieces: the model's. label_derivation: how labels are known to come from the MIDI; "" if they don't.
    missing_reason: why there is no evaluator.
    """
    verdicts: dict[str, Any] = {
        "status": "measured",
        "labels": f"derived from the MIDI: {label_derivation}" if label_derivation else "given",
    }
    if "gain" in card.sections:
        rows = {row.label: row for row in card.sections["gain"].rows}
        verdicts["emotion_helps_on_held_out_songs"] = _is_positive(rows["over shuffled emotions"])
        verdicts["dimensions_that_help"] = [
            name for name in DIMENSION_NAMES if _is_positive(rows[f"over shuffled {name} alone"]) is True
        ]
    usable = {
        name: [dimension for dimension, good in zip(JUDGED_DIMENSIONS, result.accuracy.usable) if good]
        for name, result in results.items()
    }
    verdicts["evaluators"] = usable or f"not measured: {missing_reason}"
    followed = {name: followed_dimensions(result) for name, result in results.items()}
    verdicts["heard_as_asked"] = followed or "not measured"
    verdicts["only_tempo_and_velocity"] = follows_only_tempo_and_velocity(results, pieces)
    verdicts["valid_pieces"] = f"{int(pieces.valid.sum())} of {len(pieces.scores)}"
    verdicts["copies"] = len(card.extra_json["copies"])
    return verdicts


def followed_dimensions(result: EvaluatorResult) -> list[str]:
    """Return the dimensions that the model follows.

    The whole interval of the rank correlation must be above 0, above the correlation with permuted targets,
    and above the correlation of the twin, if there is one.
    """
    followed = []
    for index, name in enumerate(JUDGED_DIMENSIONS):
        rivals = [
            result.judged[system].metric(f"spearman_{name}").value
            for system in (PERMUTED_TARGETS, TWIN)
            if system in result.judged
        ]
        correlation = result.judged[MODEL].metric(f"spearman_{name}")
        if result.accuracy.usable[index] and correlation.low > max(0.0, *rivals):
            followed.append(name)
    return followed


def follows_only_tempo_and_velocity(
    results: Mapping[str, EvaluatorResult], pieces: SystemPieces
) -> bool | str:
    """Return whether only tempo and velocity follow the emotion.

    It is true if nothing is followed once they are flattened, or if the notes never change. It is "not
    measured" where the flattened evaluator can't tell a followed dimension from chance: that it finds nothing
    then shows nothing.
    """
    pairs = [*opposite_target_pairs(pieces, 0), *opposite_target_pairs(pieces, 1)]
    if pairs and have_same_notes(pieces, pairs).mean() > 0.5:
        return True
    plain, flat = results.get("symbolic"), results.get("symbolic (flattened)")
    if plain is None or flat is None:
        return "not measured: no evaluator"
    followed = followed_dimensions(plain)
    if not followed:
        return "nothing is followed"
    if set(followed) & set(followed_dimensions(flat)):
        return False
    unusable = [
        name
        for index, name in enumerate(JUDGED_DIMENSIONS)
        if name in followed and not flat.accuracy.usable[index]
    ]
    if unusable:
        return f"not measured: the flattened evaluator can't tell {' or '.join(unusable)} from chance"
    return True


def _is_positive(row: ScorecardRow) -> bool | str:
    return "not measured" if row.value is None or row.ci is None else row.ci[0] > 0
