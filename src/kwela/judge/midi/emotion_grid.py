"""Generate pieces for every valence x arousal x intensity, by the model and by the rivals in the same tables.

Nothing is discarded: a piece that could not be made, or has fewer than 8 notes, is judged to be the opposite
of its target. The rivals answer the same targets with the same seeds:

- constant: the model, always given the mean training emotion;
- no emotion: the model, given none;
- shuffled-label twin: another model, trained on the same songs under permuted labels (where one is given);
- permuted targets: the model's own pieces, each beside the target of one drawn at random;
- nearest training piece: an excerpt of a training piece whose label is nearest to the target;
- rule edit: the piece of "no emotion", made faster and louder with arousal and changed in nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi.generation import NO_EMOTION, GenerationRequest, PieceGenerator
from kwela.judge.midi.note_table import note_table
from kwela.judge.midi.score_edits import cut_excerpts, has_enough_notes, scale_tempo_and_velocity
from kwela.music.emotion import DIMENSION_NAMES, NEUTRAL, Emotion

MODEL, TWIN, PERMUTED_TARGETS, RULE_EDIT = "model", "shuffled-label twin", "permuted targets", "rule edit"


class GridSize(NamedTuple):
    """The targets of the grid, and how many pieces each gets."""

    values: tuple[float, ...]  # of valence and of arousal
    intensities: tuple[float, ...]
    seeds: int  # pieces for each target
    bars: int  # of a piece


FULL_GRID = GridSize((-0.8, 0.0, 0.8), (0.2, 0.6, 1.0), 16, 16)
QUICK_GRID = GridSize((-0.8, 0.0, 0.8), (0.2, 1.0), 4, 8)


class SystemPieces(NamedTuple):
    """The pieces of one system: one for each target and seed."""

    targets: np.ndarray  # (pieces, dimensions)
    seeds: np.ndarray  # (pieces,)
    scores: list[ScoreTick | None]
    intensity: np.ndarray  # (pieces,) that the piece was made for, even where its target was permuted

    @property
    def valid(self) -> np.ndarray:
        """Which pieces were made and can be judged, bool (pieces,)."""
        return np.array([score is not None and has_enough_notes(score) for score in self.scores], bool)

    def take(self, indexes: np.ndarray) -> SystemPieces:
        """Return the pieces at `indexes`."""
        scores = [self.scores[index] for index in indexes]
        return SystemPieces(self.targets[indexes], self.seeds[indexes], scores, self.intensity[indexes])


def generate_grid(
    generate: PieceGenerator,
    size: GridSize,
    training: Sequence[Mapping[str, Any]],
    mean_emotion: np.ndarray,
    seed: int,
    generate_twin: PieceGenerator | None = None,
) -> dict[str, SystemPieces]:
    """Return the pieces of the model and of its rivals by name, the model's first.

    training: rows with "score" and "emotion64". mean_emotion: (64,), of the training rows.
    """
    seeds = [seed * 10_000 + number for number in range(size.seeds)]
    cells = list(product(_targets(size), seeds))
    requests = [GenerationRequest(target, piece_seed, size.bars) for target, piece_seed in cells]
    same_emotion = [
        GenerationRequest(emotion, piece_seed, size.bars)
        for emotion in (tuple(mean_emotion.tolist()), NO_EMOTION)
        for piece_seed in seeds
    ]
    scores = generate(requests + same_emotion)
    of_model, rest = scores[: len(requests)], scores[len(requests) :]
    constant, no_emotion = dict(zip(seeds, rest)), dict(zip(seeds, rest[len(seeds) :]))
    by_system: dict[str, list[ScoreTick | None]] = {
        MODEL: of_model,
        "constant": [constant[piece_seed] for _, piece_seed in cells],
        "no emotion": [no_emotion[piece_seed] for _, piece_seed in cells],
        PERMUTED_TARGETS: of_model,
        "nearest training piece": [_nearest_excerpt(training, *cell, size.bars) for cell in cells],
        RULE_EDIT: [_edit_by_rule(no_emotion[piece_seed], target) for target, piece_seed in cells],
    }
    if generate_twin:
        by_system[TWIN] = generate_twin(requests)
    targets, seed_of = np.array([target for target, _ in cells]), np.array([number for _, number in cells])
    intensity = targets[:, DIMENSION_NAMES.index("intensity")]
    systems = {name: SystemPieces(targets, seed_of, pieces, intensity) for name, pieces in by_system.items()}
    order = np.random.default_rng(seed).permutation(len(cells))
    systems[PERMUTED_TARGETS] = systems[PERMUTED_TARGETS]._replace(targets=targets[order])
    return systems


def _targets(size: GridSize) -> list[Emotion]:
    """List the emotions of the grid; a dimension that the grid does not turn stays neutral."""
    return [
        NEUTRAL._replace(valence=valence, arousal=arousal, intensity=intensity)
        for valence, arousal, intensity in product(size.values, size.values, size.intensities)
    ]


def _nearest_excerpt(
    training: Sequence[Mapping[str, Any]], target: Emotion, seed: int, bars: int
) -> ScoreTick | None:
    """Cut an excerpt of one of the training pieces nearest to the target, drawn by seed among them."""
    labels = np.stack([Emotion.from_vector(row["emotion64"]) for row in training])
    distance = np.linalg.norm(labels - np.array(target), axis=1)
    rng = np.random.default_rng([seed, *(int(1000 * (1 + value)) for value in target)])
    nearest = np.flatnonzero(distance <= distance.min() + 1e-6)
    score = training[int(rng.choice(nearest))]["score"]
    excerpts = cut_excerpts(score, bars * note_table(score).bar_q, 64, seed)
    return excerpts[int(rng.integers(len(excerpts)))] if excerpts else None


def _edit_by_rule(score: ScoreTick | None, target: Emotion) -> ScoreTick | None:
    """Change tempo by up to half an octave with arousal, velocity by up to 40 % and with intensity."""
    if score is None:
        return None
    velocity = 1 + 0.4 * target.arousal + 0.2 * target.intensity
    return scale_tempo_and_velocity(score, 2 ** (0.5 * target.arousal), velocity)


class PiecePair(NamedTuple):
    """Two pieces, by their indexes: of one seed, one dimension turned from low to high; or of one target."""

    low: int
    high: int


def opposite_target_pairs(pieces: SystemPieces, dimension: int) -> list[PiecePair]:
    """Pair the pieces of one seed in which only `dimension` is turned, from its lowest target to its highest.

    There are no pairs if the dimension has one target only.
    """
    place = {(*target, seed): index for index, (target, seed) in enumerate(zip(pieces.targets, pieces.seeds))}
    lowest, highest = pieces.targets[:, dimension].min(), pieces.targets[:, dimension].max()
    low_keys = [key for key in place if key[dimension] == lowest < highest]
    return [
        PiecePair(place[key], place[(*key[:dimension], highest, *key[dimension + 1 :])]) for key in low_keys
    ]


def same_target_pairs(pieces: SystemPieces, seed: int = 0) -> list[PiecePair]:
    """Pair pieces of one target and different seeds, each piece once, in an order drawn for each target.

    What changes within them is what chance alone changes; its mean is near 0.
    """
    by_target = defaultdict(list)
    for index, target in enumerate(map(tuple, pieces.targets)):
        by_target[target].append(index)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(indexes).tolist() for indexes in by_target.values()]
    return [PiecePair(*pair) for order in orders for pair in zip(order[::2], order[1::2], strict=False)]


def have_same_notes(pieces: SystemPieces, pairs: Sequence[PiecePair]) -> np.ndarray:
    """Return which pairs have the same pitches at the same places, bool (pairs,).

    Only tempo and velocity differ within such a pair.
    """
    keys = [None if score is None else _pitches_and_places(score) for score in pieces.scores]
    return np.array([keys[pair.low] == keys[pair.high] for pair in pairs], bool)


def _pitches_and_places(score: ScoreTick) -> bytes:
    notes = note_table(score)
    return np.stack([notes.onset_q, notes.pitch.astype(float)]).tobytes()
