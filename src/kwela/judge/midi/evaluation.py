"""The two evaluators at work on the grid: what they learn from, and what they make of each system's pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi import evaluators, piece
from kwela.judge.midi.adherence import Judged
from kwela.judge.midi.evaluators import Clips, Standing
from kwela.judge.midi.grid import MODEL, PERMUTED, RULE, TWIN, Answers
from kwela.judge.midi.inputs import Effort, Labels, Material, fingerprint

REAL = "real, held-out"
SIDE = 0.8  # what a human label of 1 counts as beside the grid's targets


@dataclass(frozen=True)
class Evidence:
    """Labelled clips for each evaluator, or why there are none."""

    clips: dict[str, Clips] = field(default_factory=dict)  # evaluator -> clips
    source: str = ""  # "human" or "manifest"
    why: str = ""
    dropped: int = 0  # labelled pieces that are training music of the judged model
    thorough: bool = False  # re-score the rendering flattened, too


def evidence(labels: Labels | None, material: Material, effort: Effort, seed: int) -> Evidence:
    """Clips of the human-labelled pieces; without, of the held-out rows, unless their labels come from the MIDI."""
    source = "human" if labels else "manifest"
    if labels:
        found = [(one.score, (one.valence, one.arousal), one.series) for one in labels.pieces]
    elif material.derived:
        return Evidence(
            why="no human-labelled pieces were given (--human), and the manifest's labels are derived"
        )
    else:
        found = [
            (row["score"], tuple(row["emotion64"][:2].tolist()), row["group"]) for row in material.held_out
        ]
    known = {fingerprint(row["score"]) for row in material.training}
    kept = [one for one in found if fingerprint(one[0]) not in known]
    series = {name for _, _, name in kept}
    if len(kept) < evaluators.LEAST_PIECES or len(series) < evaluators.LEAST_SERIES:
        wanted = f"{evaluators.LEAST_PIECES} pieces of {evaluators.LEAST_SERIES} series"
        return Evidence(
            why=f"{len(kept)} labelled pieces of {len(series)} series are too few ({wanted} would do)"
        )
    quarters = 4.0 * effort.size.bars
    scores, values = [one[0] for one in kept], np.array([one[1] for one in kept])
    most = {"symbolic": effort.symbolic_clips, "rendering": effort.rendered_clips}
    cut = {
        name: evaluators.clips(scores, values, [one[2] for one in kept], quarters, many, seed)
        for name, many in most.items()
        if many
    }
    return Evidence(cut, source, "", len(found) - len(kept), effort.rendered_clips > 1)


@dataclass
class Ear:
    """An evaluator, how good it is, and what it made of each system."""

    standing: Standing
    answers: Mapping[str, Answers]  # what it heard of each system
    judged: dict[str, Judged] = field(default_factory=dict)  # by system; REAL is the ceiling
    raw: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # (pieces, 2) what it made of them, NaN where invalid
    strangeness: dict[str, float] = field(
        default_factory=dict
    )  # mean share of features out of the training's range


def listen(known: Evidence, made: Mapping[str, Answers], seed: int) -> dict[str, Ear]:
    """Ears by name: each evaluator, and "<name> (flattened)", trained and judging at one tempo and velocity."""
    out: dict[str, Ear] = {}
    for name, among in known.clips.items():
        plain = known.thorough or name == "symbolic"
        heard = made if plain else {key: _strongest(of) for key, of in made.items()}
        out[name] = _ear(evaluators.SEES[name], among, heard, seed)
        if plain:
            flat = replace(among, scores=[piece.flattened(one) for one in among.scores])
            systems = {key: made[key] for key in (MODEL, TWIN, PERMUTED, RULE) if key in made}
            out[f"{name} (flattened)"] = _ear(evaluators.SEES[name], flat, _flattened(systems), seed)
    return out


def _strongest(of: Answers) -> Answers:
    """The pieces of the largest intensity alone: rendering costs more than all else, and --quick is short of time."""
    return of.take(np.flatnonzero(of.asked == of.asked.max()))


def _flattened(made: Mapping[str, Answers]) -> dict[str, Answers]:
    """One flattened copy of each piece, shared where systems share it."""
    pieces = {id(one): one for of in made.values() for one in of.scores}
    flat = {key: None if one is None else piece.flattened(one) for key, one in pieces.items()}
    return {name: of._replace(scores=[flat[id(one)] for one in of.scores]) for name, of in made.items()}


def _ear(
    see: Callable[[Sequence[ScoreTick]], np.ndarray], among: Clips, made: Mapping[str, Answers], seed: int
) -> Ear:
    features = see(among.scores)
    held = evaluators.unseen(features, among)
    truth = among.labels * SIDE
    judge = evaluators.fit(features, among)
    ear = Ear(evaluators.standing(held, among, seed), made)
    # A piece that systems share is looked at once.
    pieces = {
        id(one): one for of in made.values() for one in of.scores if one is not None and piece.is_valid(one)
    }
    seen = dict(zip(pieces, see(list(pieces.values())), strict=True))
    for name, of in made.items():
        raw = ear.raw[name] = np.full((len(of.scores), 2), math.nan)
        ear.strangeness[name] = math.nan
        if of.valid.any():
            valid = np.stack([seen[id(one)] for one in of.scores if id(one) in seen])
            raw[of.valid] = judge.judged(valid)
            ear.strangeness[name] = float(judge.strangeness(valid).mean())
        ear.judged[name] = Judged(of.targets, raw, of.valid, of.seeds)
    ear.judged[REAL] = Judged(truth, held, np.ones(len(truth), bool), among.series)
    ear.strangeness[REAL] = float(judge.strangeness(features).mean())
    return ear
