"""Choose and cut the labelled excerpts that the evaluators learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi.effort import Effort
from kwela.judge.midi.labelled_pieces import LabelledPieces
from kwela.judge.midi.score_edits import cut_excerpts
from kwela.judge.midi.songs import JudgedSongs, step_fingerprint
from kwela.music.emotion import Emotion

MIN_SERIES, MIN_PIECES = 5, 40  # fewer are too few to learn from, and to tell whether that worked


@dataclass(frozen=True)
class LabelledExcerpts:
    """Excerpts as long as the pieces that an evaluator will judge, and where they come from."""

    scores: list[ScoreTick]
    piece_index: np.ndarray  # (excerpts,) of the labelled piece
    labels: np.ndarray  # (excerpts, 2) valence and arousal in [-1, 1]; 0 teaches nothing in that dimension
    series: np.ndarray  # (excerpts,) of str


@dataclass(frozen=True)
class EvaluatorData:
    """What each evaluator learns from, or why there are no evaluators."""

    excerpts: dict[str, LabelledExcerpts] = field(default_factory=dict)  # by evaluator
    source: str = ""  # "human" or "manifest"
    missing_reason: str = ""
    dropped: int = 0  # labelled pieces that are training music of the judged model
    flatten_rendering: bool = False  # judge renderings at one tempo and velocity, too


def cut_labelled_excerpts(
    scores: Sequence[ScoreTick],
    labels: np.ndarray,
    series: Sequence[str],
    quarters: float,
    most: int,
    seed: int = 0,
) -> LabelledExcerpts:
    """Cut up to `most` excerpts of `quarters` from each piece. labels: (pieces, 2)."""
    by_piece = [cut_excerpts(score, quarters, most, seed + number) for number, score in enumerate(scores)]
    piece_index = np.repeat(np.arange(len(scores)), [len(excerpts) for excerpts in by_piece]).astype(int)
    return LabelledExcerpts(
        [excerpt for excerpts in by_piece for excerpt in excerpts],
        piece_index,
        np.asarray(labels, float)[piece_index],
        np.asarray(series, object)[piece_index].astype(str),
    )


def choose_evaluator_data(
    labelled: LabelledPieces | None, songs: JudgedSongs, effort: Effort, seed: int
) -> EvaluatorData:
    """Cut excerpts of the pieces that people labelled; without such pieces, of the held-out rows.

    Held-out rows whose labels were derived from the MIDI teach nothing, and neither do pieces that are
    training music of the judged model. The reason stands in the result.
    """
    if labelled is None and songs.label_derivation:
        return EvaluatorData(
            missing_reason="no human-labelled pieces were given (--human), "
            "and the manifest's labels are derived"
        )
    if labelled:
        candidates = [
            (piece.score, (piece.valence, piece.arousal), piece.series) for piece in labelled.pieces
        ]
    else:
        emotions = [Emotion.from_vector(row["emotion64"]) for row in songs.held_out]
        candidates = [
            (row["score"], (emotion.valence, emotion.arousal), row["group"])
            for row, emotion in zip(songs.held_out, emotions, strict=True)
        ]
    learnt = {step_fingerprint(row["score"]) for row in songs.training}
    kept = [candidate for candidate in candidates if step_fingerprint(candidate[0]) not in learnt]
    scores, labels = [score for score, _, _ in kept], np.array([label for _, label, _ in kept])
    series = [name for _, _, name in kept]
    if len(kept) < MIN_PIECES or len(set(series)) < MIN_SERIES:
        needed = f"{MIN_PIECES} pieces of {MIN_SERIES} series"
        return EvaluatorData(
            missing_reason=f"{len(kept)} labelled pieces of {len(set(series))} series are too few "
            f"({needed} are needed)"
        )
    quarters = 4.0 * effort.grid.bars
    most = {"symbolic": effort.symbolic_excerpts, "rendering": effort.rendered_excerpts}
    excerpts = {
        name: cut_labelled_excerpts(scores, labels, series, quarters, count, seed)
        for name, count in most.items()
        if count
    }
    return EvaluatorData(
        excerpts,
        "human" if labelled else "manifest",
        dropped=len(candidates) - len(kept),
        flatten_rendering=effort.rendered_excerpts > 1,
    )
