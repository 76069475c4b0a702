"""The generation grid: pieces for every valence x arousal x intensity, and the rivals that stand in the same tables.

Nothing is discarded: a piece that could not be made, or holds fewer than 8 notes, is judged to be the opposite of what
was asked. The rivals answer the same targets with the same seeds:

- constant: the mean training emotion, whatever the target;
- no emotion: the model, told none;
- shuffled-label twin: another model, trained on the same songs under permuted labels (where one is given);
- permuted targets: the model's own pieces, each held against the target of one drawn at random;
- nearest training piece: an excerpt of a training piece whose label is nearest to the target;
- rule edit: the piece of "no emotion", faster and louder with arousal, nothing else touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi import piece
from kwela.judge.midi.generation import NONE, Job, Maker

Cell = tuple[float, float, float]
MODEL, TWIN, PERMUTED, RULE = "model", "shuffled-label twin", "permuted targets", "rule edit"


class Size(NamedTuple):
    sides: tuple[float, ...]  # values of valence and of arousal
    intensities: tuple[float, ...]
    seeds: int
    bars: int


FULL = Size((-0.8, 0.0, 0.8), (0.2, 0.6, 1.0), 16, 16)
QUICK = Size((-0.8, 0.0, 0.8), (0.2, 1.0), 4, 8)


class Answers(NamedTuple):
    """A system's pieces, one for each (cell, seed)."""

    targets: np.ndarray  # (pieces, 3)
    seeds: np.ndarray  # (pieces,)
    scores: list[ScoreTick | None]
    asked: np.ndarray  # (pieces,) the intensity of the cell, which a shuffled target no longer holds

    @property
    def valid(self) -> np.ndarray:
        return np.array([one is not None and piece.is_valid(one) for one in self.scores], bool)

    def take(self, which: np.ndarray) -> Answers:
        return Answers(
            self.targets[which], self.seeds[which], [self.scores[at] for at in which], self.asked[which]
        )


def answers(
    make: Maker,
    size: Size,
    training: Sequence[Mapping[str, Any]],
    mean: np.ndarray,
    seed: int,
    twin: Maker | None = None,
) -> dict[str, Answers]:
    """The model's pieces and its rivals', by name; the model's first.

    training: rows with "score" and "emotion64"; mean: (64,), their mean emotion.
    """
    seeds = [seed * 10_000 + number for number in range(size.seeds)]
    every = list(product(product(size.sides, size.sides, size.intensities), seeds))
    jobs = [Job(cell, one, size.bars) for cell, one in every]
    deaf = [Job(told, one, size.bars) for told in (tuple(mean.tolist()), NONE) for one in seeds]
    made = make(jobs + deaf)
    model, untold = made[: len(jobs)], made[len(jobs) :]
    constant, plain = dict(zip(seeds, untold)), dict(zip(seeds, untold[len(seeds) :]))
    scores: dict[str, list[ScoreTick | None]] = {
        MODEL: model,
        "constant": [constant[one] for _, one in every],
        "no emotion": [plain[one] for _, one in every],
        PERMUTED: model,
        "nearest training piece": [_nearest(training, *pair, size.bars) for pair in every],
        RULE: [_ruled(plain[one], cell) for cell, one in every],
    }
    if twin:
        scores[TWIN] = twin(jobs)
    targets, which = np.array([cell for cell, _ in every]), np.array([one for _, one in every])
    found = {name: Answers(targets, which, pieces, targets[:, 2]) for name, pieces in scores.items()}
    shuffled = np.random.default_rng(seed).permutation(len(every))
    found[PERMUTED] = found[PERMUTED]._replace(targets=targets[shuffled])
    return found


def _nearest(training: Sequence[Mapping[str, Any]], cell: Cell, seed: int, bars: int) -> ScoreTick | None:
    """An excerpt of one of the training pieces nearest to the cell, drawn by seed among the nearest ones."""
    labels = np.stack([row["emotion64"][:3] for row in training])
    distance = np.linalg.norm(labels - np.array(cell), axis=1)
    rng = np.random.default_rng([seed, *(int(1000 * (1 + x)) for x in cell)])
    near = np.flatnonzero(distance <= distance.min() + 1e-6)
    score = training[int(rng.choice(near))]["score"]
    cut = piece.excerpts(score, bars * piece.piece(score).bar_q, 64, seed)
    return cut[int(rng.integers(len(cut)))] if cut else None


def _ruled(score: ScoreTick | None, cell: Cell) -> ScoreTick | None:
    """Tempo by up to half an octave, velocity by up to 40 % and with intensity."""
    _, arousal, intensity = cell
    return (
        None
        if score is None
        else piece.edited(score, 2 ** (0.5 * arousal), 1 + 0.4 * arousal + 0.2 * intensity)
    )


class Flip(NamedTuple):
    """Two pieces of one seed whose targets differ in one dimension, lowest to highest; or of one target."""

    low: int  # index of the piece
    high: int


def flips(of: Answers, dimension: int) -> list[Flip]:
    """Pairs of one seed in which `dimension` is turned from its lowest target to its highest; none if it has one."""
    place = {(*target, seed): at for at, (target, seed) in enumerate(zip(of.targets, of.seeds))}
    lowest, highest = of.targets[:, dimension].min(), of.targets[:, dimension].max()
    low = [key for key in place if key[dimension] == lowest < highest]
    return [Flip(place[key], place[(*key[:dimension], highest, *key[dimension + 1 :])]) for key in low]


def same_target(of: Answers, seed: int = 0) -> list[Flip]:
    """Pairs of pieces with one target and two seeds, each piece in one pair, in an order drawn for each target: what
    chance alone moves, near 0 in the mean."""
    cells = defaultdict(list)
    for at, target in enumerate(map(tuple, of.targets)):
        cells[target].append(at)
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(mine).tolist() for mine in cells.values()]
    return [Flip(*pair) for mine in drawn for pair in zip(mine[::2], mine[1::2], strict=False)]


def same_notes(of: Answers, found: Sequence[Flip]) -> np.ndarray:
    """(flips,) whether both pieces hold the same pitches at the same places: only tempo and velocity were turned."""
    prints = [None if score is None else _print(score) for score in of.scores]
    return np.array([prints[flip.low] == prints[flip.high] for flip in found], bool)


def _print(score: ScoreTick) -> bytes:
    whole = piece.piece(score)
    return np.stack([whole.onset_q, whole.pitch.astype(float)]).tobytes()
