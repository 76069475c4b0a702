"""Write the sections of `kwela judge midi` on what turning one dimension of the emotion changes.

Two pieces of one seed make a pair. One dimension of their emotion is turned: one piece has its lowest target,
the other its highest. The other dimensions stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi import symbolic_features
from kwela.judge.midi.emotion_grid import (
    MODEL,
    RULE_EDIT,
    TWIN,
    SystemPieces,
    have_same_notes,
    opposite_target_pairs,
    same_target_pairs,
)
from kwela.judge.midi.emotion_metrics import JUDGED_DIMENSIONS, mean_change, refusal_reason
from kwela.judge.midi.evaluator_results import REAL_MUSIC, EvaluatorResult
from kwela.judge.midi.note_table import note_table
from kwela.judge.midi.page import COLOURS, SAME_TARGET
from kwela.judge.midi.score_edits import has_enough_notes
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.music.emotion import DIMENSION_NAMES
from kwela.stats import share

SYSTEMS = (MODEL, TWIN, RULE_EDIT)  # These sections show the pairs of these systems alone.
DESCRIPTORS = {  # a symbolic feature -> its name in the table
    "tempo": "tempo",
    "velocity_mean": "velocity",
    "onset_rate": "onsets a second",
    "length_mean": "note length",
    "pitch_mean": "pitch",
    "mode": "major against minor",
}


def add_turned_dimensions(
    card: Scorecard,
    results: Mapping[str, EvaluatorResult],
    systems: Mapping[str, SystemPieces],
    references: Sequence[ScoreTick],
    out: Path,
) -> None:
    """Add what turning one dimension changes: first as each evaluator judges it, then in the notes."""
    text = (
        "Pairs of one seed, a dimension turned from lowest to highest, the others kept; judged in [-1, 1]. "
        "A change in another dimension is a leak. Floor: pairs of one target and two seeds. Ceiling, and "
        "the scale for a leak: real pieces that people placed high in the dimension less those they placed "
        "low."
    )
    panels: dict[str, list[ScorecardRow]] = {}
    for name, result in results.items():
        panels[name] = [
            row
            for turned in range(len(DIMENSION_NAMES))
            for judged in range(len(JUDGED_DIMENSIONS))
            for row in _judged_change_rows(result, turned, judged, card.seed)
        ]
        key = "flips_" + name.replace(" (flattened)", "_flattened")
        title = f"Turning one dimension, as judged by the {name} evaluator"
        card.add(key, title, panels[name], text, "mean change")
        text = "As above."
    if results:
        draw_forest(out / "flips.png", panels, "mean change (95 % by seed)", COLOURS)
        card.sections["flips_symbolic"].picture = "flips.png"
    pieces_of_system = {name: pieces for name, pieces in systems.items() if name in SYSTEMS}
    _add_changes_of_notes(card, pieces_of_system, references)


def _judged_change_rows(result: EvaluatorResult, turned: int, judged: int, seed: int) -> list[ScorecardRow]:
    """Return the rows that tell how dimension `judged` changes as `turned` is turned; both are indexes."""
    line = f"{DIMENSION_NAMES[turned]} turned: judged {JUDGED_DIMENSIONS[judged]}"
    note = "" if turned == judged else "leak"
    refusal = refusal_reason(judged, result.accuracy.usable)
    if not opposite_target_pairs(result.pieces[MODEL], turned):
        refusal = "the evaluator judged one value of it only"
    if refusal:
        return [ScorecardRow(f"{line} | {MODEL}", note=refusal)]
    values = {
        name: (result.values[name][:, judged], pieces)
        for name, pieces in result.pieces.items()
        if name in SYSTEMS
    }
    rows = _change_rows(line, turned, values, note, seed)
    if turned < len(JUDGED_DIMENSIONS):
        real_music = result.judged[REAL_MUSIC]
        difference = real_music.difference_between_sides(turned, judged)
        label = f"{line} | {REAL_MUSIC} (ceiling)"
        rows.append(ScorecardRow.from_interval(label, difference, len(real_music.groups), note))
    return rows


def _change_rows(
    line: str, turned: int, systems: Mapping[str, tuple[np.ndarray, SystemPieces]], note: str, seed: int
) -> list[ScorecardRow]:
    """Return a row for each system: how its values change on average as dimension `turned` is turned.

    The last row is the floor: the model's change between two seeds when no dimension is turned.
    systems: name -> values (pieces,) and the pieces.
    """
    rows = []
    for name, (values, pieces) in systems.items():
        pairs = opposite_target_pairs(pieces, turned)
        change = mean_change(values, pieces, pairs)
        rows.append(ScorecardRow.from_interval(f"{line} | {name}", change, len(pairs), note))
    values, pieces = systems[MODEL]
    pairs = same_target_pairs(pieces, seed)
    seed_change = mean_change(values, pieces, pairs)
    return [*rows, ScorecardRow.from_interval(f"{line} | {SAME_TARGET}", seed_change, len(pairs))]


def _add_changes_of_notes(
    card: Scorecard, systems: Mapping[str, SystemPieces], references: Sequence[ScoreTick]
) -> None:
    """Add what turning changes in the notes, in standard deviations over the `references`."""
    rows: list[ScorecardRow] = []
    finite = [column[np.isfinite(column)] for column in _descriptors(references).T]
    deviation = [float(column.std()) if len(column) else 0.0 for column in finite]
    values = {name: _descriptors(pieces.scores) for name, pieces in systems.items()}
    for turned, dimension in enumerate(DIMENSION_NAMES):
        for name, pieces in systems.items():
            if pairs := opposite_target_pairs(pieces, turned):
                same_notes = share(have_same_notes(pieces, pairs))
                label = f"{dimension}: pairs whose notes stay | {name}"
                rows.append(
                    ScorecardRow.from_interval(label, same_notes, len(pairs), "only tempo and velocity")
                )
        for column, title in enumerate(DESCRIPTORS.values()):
            line = f"{dimension} turned: {title}"
            if deviation[column] < 1e-9:
                rows.append(ScorecardRow(f"{line} | {MODEL}", note="held-out music has one value"))
                continue
            scaled = {
                name: (values[name][:, column] / deviation[column], pieces)
                for name, pieces in systems.items()
            }
            rows += _change_rows(line, turned, scaled, "", card.seed)
    text = "The same pairs, in standard deviations of held-out music: no evaluator has a part in it."
    card.add("flips", "Turning one dimension, in the notes", rows, text, "mean change")


def _descriptors(scores: Sequence[ScoreTick | None]) -> np.ndarray:
    """Return the DESCRIPTORS of each piece, (pieces, descriptors); NaN where it is missing or too short."""
    values = np.full((len(scores), len(DESCRIPTORS)), math.nan)
    for number, score in enumerate(scores):
        if score is not None and has_enough_notes(score):
            features = symbolic_features.features(note_table(score))
            values[number] = [features[name] for name in DESCRIPTORS]
    return values
