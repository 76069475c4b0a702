"""The two evaluators at work on the grid: what they learn from, and what they make of each system's pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela.judge import evaluators, human, piece
from kwela.judge.evaluators import Clips, Evaluator, Standing
from kwela.judge.following import Judged, judged_answers
from kwela.judge.grid import MODEL, PERMUTED, RULE, TWIN, Answers
from kwela.judge.material import Effort, Material, fingerprint

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


def evidence(labels: human.Labels | None, material: Material, effort: Effort, seed: int) -> Evidence:
    """Clips of the human-labelled pieces; without, of the held-out rows, unless their labels come from the MIDI."""
    source = "human" if labels else "manifest"
    if labels:
        found = [(one.score, (one.valence, one.arousal), one.series) for one in labels.pieces]
    elif material.derived:
        return Evidence(why="no human-labelled pieces were given (--human), and the manifest's labels are derived")
    else:
        found = [(row["score"], tuple(row["emotion64"][:2].tolist()), row["group"]) for row in material.held_out]
    known = {fingerprint(row["score"]) for row in material.training}
    kept = [one for one in found if fingerprint(one[0]) not in known]
    series = {name for _, _, name in kept}
    if len(kept) < evaluators.LEAST_PIECES or len(series) < evaluators.LEAST_SERIES:
        wanted = f"{evaluators.LEAST_PIECES} pieces of {evaluators.LEAST_SERIES} series"
        return Evidence(why=f"{len(kept)} labelled pieces of {len(series)} series are too few ({wanted} would do)")
    quarters = 4.0 * effort.size.bars
    scores, values = [one[0] for one in kept], np.array([one[1] for one in kept])
    cut: dict[str, Clips] = {}
    for name, most in (("symbolic", effort.symbolic_clips), ("rendering", effort.rendered_clips)):
        if most:
            cut[name] = evaluators.clips(scores, values, [one[2] for one in kept], quarters, most, seed)
    return Evidence(cut, source, "", len(found) - len(kept), effort.rendered_clips > 1)


@dataclass
class Ear:
    """An evaluator, how good it is, and what it made of each system."""

    standing: Standing
    judged: dict[str, Judged]  # by system; REAL is the ceiling
    answers: Mapping[str, Answers]  # what it heard of each system
    raw: dict[str, np.ndarray]  # (pieces, 2) what it made of them, NaN where invalid
    strangeness: dict[str, float]  # mean share of features out of the training clips' range


def listen(known: Evidence, made: Mapping[str, Answers], seed: int) -> dict[str, Ear]:
    """Ears by name: each evaluator, and "<name> (flattened)", trained and judging at one tempo and velocity."""
    out: dict[str, Ear] = {}
    for name, among in known.clips.items():
        heard = made if known.thorough or name == "symbolic" else {key: _strongest(of) for key, of in made.items()}
        out[name] = _ear(evaluators.SEES[name], among, heard, seed)
        if name == "symbolic" or known.thorough:
            flat = Clips([piece.flattened(one) for one in among.scores], among.piece, among.labels, among.series)
            systems = {key: made[key] for key in (MODEL, TWIN, PERMUTED, RULE) if key in made}
            out[f"{name} (flattened)"] = _ear(evaluators.SEES[name], flat, _flattened(systems), seed)
    return out


def _strongest(of: Answers) -> Answers:
    """The pieces of the largest intensity alone: rendering costs more than all else, and --quick is short of time."""
    kept = np.flatnonzero(of.asked == of.asked.max())
    return Answers(of.targets[kept], of.seeds[kept], [of.scores[at] for at in kept], of.asked[kept])


def _flattened(made: Mapping[str, Answers]) -> dict[str, Answers]:
    """One flattened copy of each piece, shared where systems share it."""
    copies: dict[int, ScoreTick] = {}
    out = {}
    for name, of in made.items():
        for one in of.scores:
            if one is not None and id(one) not in copies:
                copies[id(one)] = piece.flattened(one)
        scores = [None if one is None else copies[id(one)] for one in of.scores]
        out[name] = Answers(of.targets, of.seeds, scores, of.asked)
    return out


def _ear(see: Callable[[Sequence[ScoreTick]], np.ndarray], among: Clips, made: Mapping[str, Answers], seed: int) -> Ear:
    features = see(among.scores)
    held = evaluators.unseen(features, among)
    ear = evaluators.fit(features, among)
    pieces = {
        id(one): one
        for of in made.values()
        for one, valid in zip(of.scores, of.valid, strict=True)
        if valid and one is not None
    }
    seen = dict(zip(pieces, see(list(pieces.values())), strict=True))
    judged, raw, strange = {}, {}, {}
    for name, of in made.items():
        raw[name], strange[name] = _heard(ear, of, seen)
        judged[name] = judged_answers(of, raw[name])
    truth = among.labels * SIDE
    judged[REAL] = Judged(truth, held, np.ones(len(truth), bool), among.series.tolist())
    strange[REAL] = float(ear.strangeness(features).mean())
    return Ear(evaluators.standing(held, among, seed), judged, made, raw, strange)


def _heard(ear: Evaluator, of: Answers, seen: Mapping[int, Any]) -> tuple[np.ndarray, float]:
    """(pieces, 2) judged, NaN where invalid, and the mean strangeness of the valid ones."""
    out = np.full((len(of.scores), 2), np.nan)
    there = np.array([id(one) in seen for one in of.scores], bool)
    if not there.any():
        return out, float("nan")
    features = np.stack([seen[id(one)] for one in of.scores if id(one) in seen])
    out[there] = ear.judged(features)
    return out, float(ear.strangeness(features).mean())
