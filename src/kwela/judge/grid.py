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

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.judge import piece
from kwela.judge.making import NONE, Job, Maker

Cell = tuple[float, float, float]
LEAST_NOTES = 8
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
        return np.array([one is not None and piece.note_count(one) >= LEAST_NOTES for one in self.scores], bool)


def cells(size: Size) -> list[Cell]:
    return list(product(size.sides, size.sides, size.intensities))


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
    every = [(cell, seed * 10_000 + number) for cell in cells(size) for number in range(size.seeds)]
    seeds = sorted({one for _, one in every})
    jobs = [Job(cell, one, size.bars) for cell, one in every]
    jobs += [Job(tuple(mean.tolist()), one, size.bars) for one in seeds]
    jobs += [Job(NONE, one, size.bars) for one in seeds]
    made = make(jobs)
    targets, which = np.array([cell for cell, _ in every]), np.array([one for _, one in every])
    shuffled = np.random.default_rng(seed).permutation(len(every))
    asked = targets[:, 2]
    constant = dict(zip(seeds, made[len(every) : len(every) + len(seeds)], strict=True))
    plain = dict(zip(seeds, made[len(every) + len(seeds) :], strict=True))
    systems: dict[str, tuple[np.ndarray, list[ScoreTick | None]]] = {
        MODEL: (targets, made[: len(every)]),
        "constant": (targets, [constant[one] for _, one in every]),
        "no emotion": (targets, [plain[one] for _, one in every]),
        PERMUTED: (targets[shuffled], made[: len(every)]),
        "nearest training piece": (targets, [_nearest(training, *pair, size.bars) for pair in every]),
        RULE: (targets, [_ruled(plain[one], cell) for cell, one in every]),
    }
    if twin:
        systems[TWIN] = (targets, twin(jobs[: len(every)]))
    return {name: Answers(held, which, scores, asked) for name, (held, scores) in systems.items()}


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
    return None if score is None else piece.edited(score, 2 ** (0.5 * arousal), 1 + 0.4 * arousal + 0.2 * intensity)


# ---- flips: the same seed, one dimension turned


class Flip(NamedTuple):
    """Two pieces of one seed whose targets differ in one dimension, lowest to highest; or of one target."""

    low: int  # index of the piece
    high: int


def flips(of: Answers, dimension: int) -> list[Flip]:
    """Pairs of one seed in which `dimension` is turned from its lowest target to its highest; none if it has one."""
    place = {(*target, seed): at for at, (target, seed) in enumerate(zip(map(tuple, of.targets), of.seeds))}
    lowest, highest = of.targets[:, dimension].min(), of.targets[:, dimension].max()
    out = []
    for key, at in place.items() if lowest < highest else ():
        if key[dimension] == lowest:
            out.append(Flip(at, place[(*key[:dimension], highest, *key[dimension + 1 :])]))
    return out


def same_target(of: Answers, seed: int = 0) -> list[Flip]:
    """Pairs of pieces with one target and two seeds, each piece in one pair, in an order drawn for each target: what
    chance alone moves, near 0 in the mean."""
    cells: dict[tuple[float, ...], list[int]] = {}
    for at, target in enumerate(map(tuple, of.targets)):
        cells.setdefault(target, []).append(at)
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
