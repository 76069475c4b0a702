"""What is measured of each held-out window: distances to its target, whose song it is nearest to, and steadiness.

Steadiness compares a window with its neighbours, SHIFTS later in the same song, by the Chamfer distance and the
colour difference of their clouds. The target moves too, since the music does: "same draw" is that movement alone,
"drawn anew" has the target's fresh random numbers added. After 1 ms the music has hardly changed: what moves is
flicker. After 372 ms a quarter of it is new: what doesn't move is frozen.

A cloud is a set: its points have no order, so each point is compared with the nearest point of the other cloud. The
distances are the judge's own, in float64 and by exact search; training has its own.

Radii of the F-score. Between a target and the same target drawn again, the distance from a point to the other draw's
nearest has a median of .016 and a 95 % point of .050 cube edges (64 segments of the demo's held-out songs). FINE lies
a little above that median, so that two draws of one music share most of it and no cloud can be asked for much more;
COARSE lies at the 95 % point, so that they agree almost wholly. In music: FINE is 2.4 semitones or 30 ms, COARSE
6 semitones or 74 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from kwela.errors import UserError
from kwela.judge.clouds.baselines import NAMES, Baselines
from kwela.judge.clouds.windows import Heard, Sample, Window, drawn, has_floor, hear
from kwela.music import audio
from kwela.spectocloud.target import Cloud
from kwela.terminal import with_progress_bar

FINE, COARSE = 0.02, 0.05  # cube edges
MODEL, FLOOR = "model", "target drawn again"
SAME, ANEW = "target, same draw", "target, drawn anew"
SOURCES = (MODEL, FLOOR, *NAMES)
MOVING = (MODEL, SAME, ANEW, *NAMES)
SHIFTS = {  # seconds: next to nothing, one frame of the log-mel, a quarter of the window
    "moved_1ms": 44 / audio.SAMPLE_RATE,
    "moved_23ms": audio.HOP / audio.SAMPLE_RATE,
    "moved_372ms": audio.SEGMENT / 4 / audio.SAMPLE_RATE,
}
OTHERS = 7  # targets of other songs that a cloud's own target must be nearer than

CloudOf = Callable[[Window, Heard], Cloud]  # what a model gives for a window
Measured = dict[str, dict[str, float]]  # by measure, then by source


class Apart(NamedTuple):
    """chamfer >= 0, squared cube edges; fine, coarse: F-scores in [0, 1], 1 best; colour, properties: in [0, 1]."""

    chamfer: float
    fine: float
    coarse: float
    colour: float
    properties: float


def apart(cloud: Cloud, wanted: Cloud) -> Apart:
    """How far `cloud` is from `wanted`.

    chamfer: the mean squared distance to the nearest point of the other cloud, both ways added (Fan et al. 2017, eq. 1,
    with means for sums). fine, coarse: see `f_score`. colour: the mean absolute difference of red, green, blue and
    opacity between each point and its nearest, both ways averaged; properties: that of size, glow and depth.
    Points that aren't finite, which no honest model gives: chamfer and the differences are infinite, the F-scores 0.
    Raises ValueError if a cloud has no points.
    """
    a, b = (np.asarray(one.positions, np.float64) for one in (cloud, wanted))
    if not len(a) or not len(b):
        raise ValueError(f"clouds of {len(a)} and {len(b)} points: an empty one has no neighbours")
    if not all(np.isfinite(part).all() for one in (cloud, wanted) for part in one):
        return Apart(np.inf, 0.0, 0.0, np.inf, np.inf)
    (there, to_b), (back, to_a) = cKDTree(b).query(a), cKDTree(a).query(b)
    forth = np.abs(cloud.attributes - wanted.attributes[to_b]).mean(0)
    home = np.abs(wanted.attributes - cloud.attributes[to_a]).mean(0)
    differs = (forth + home) / 2
    return Apart(
        float(np.square(there).mean() + np.square(back).mean()),
        f_score(there, back, FINE),
        f_score(there, back, COARSE),
        float(differs[:4].mean()),
        float(differs[4:].mean()),
    )


def f_score(there: np.ndarray, back: np.ndarray, radius: float) -> float:
    """The harmonic mean of precision and recall within `radius`; 0 where both are 0. Tatarchenko et al. 2019, sec. 5.

    there: each predicted point's distance to the nearest wanted one (precision: the share within `radius`); back: each
    wanted point's distance to the nearest predicted one (recall).
    """
    precision, recall = (there <= radius).mean(), (back <= radius).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@dataclass(frozen=True)
class Scores:
    """songs (n,). measures[measure][source]: (n,) float64, NaN where it can't be measured.

    Measures: the fields of `Apart`, "own_song" (1 if nearest to its own target), and the keys of SHIFTS, each also
    with "_colour".
    """

    songs: np.ndarray
    measures: dict[str, dict[str, np.ndarray]]


def ranked(scores: Scores) -> list[str]:
    """Songs by the model's mean Chamfer distance, best first."""
    values = scores.measures["chamfer"][MODEL]
    return sorted(
        np.unique(scores.songs).tolist(), key=lambda song: float(values[scores.songs == song].mean())
    )


def score(cloud_of: CloudOf, held_out: Sequence[Sample], baselines: Baselines, seed: int) -> Scores:
    """All measures of every held-out window. cloud_of: the model."""

    def clouds_of(window: Window, heard: Heard) -> dict[str, Cloud]:
        return {MODEL: cloud_of(window, heard)} | baselines.of(window, heard)

    found: list[Measured] = []
    strangers = _strangers(held_out, seed)
    for sample, others in zip(with_progress_bar(held_out, "Judging clouds"), strangers, strict=True):
        clouds = clouds_of(sample.window, sample.heard)
        if has_floor(sample.window):
            clouds[FLOOR] = drawn(sample.window, sample.heard, redraw=1)
        measured = _distances(clouds, sample.target, [held_out[k].target for k in others])
        before = clouds | {SAME: sample.target, ANEW: sample.target}
        for name, seconds in SHIFTS.items():
            moved = {
                one: apart(cloud, before[one]) for one, cloud in _after(sample, seconds, clouds_of).items()
            }
            measured[name] = {one: far.chamfer for one, far in moved.items()}
            measured[f"{name}_colour"] = {one: far.colour for one, far in moved.items()}
        found.append(measured)
    measures = {
        name: {
            source: np.array([one[name].get(source, np.nan) for one in found])
            for source in (MOVING if name.startswith("moved") else SOURCES)
        }
        for name in found[0]
    }
    return Scores(np.array([sample.window.song for sample in held_out]), measures)


def _distances(clouds: dict[str, Cloud], wanted: Cloud, others: Sequence[Cloud]) -> Measured:
    far = {name: apart(cloud, wanted) for name, cloud in clouds.items()}
    measures = {field: {name: getattr(one, field) for name, one in far.items()} for field in Apart._fields}
    measures["own_song"] = {
        name: float(all(far[name].chamfer < apart(clouds[name], other).chamfer for other in others))
        for name in (MODEL, FLOOR, "nearest neighbour")
        if name in clouds
    }
    return measures


def _strangers(held_out: Sequence[Sample], seed: int) -> list[list[int]]:
    """For each window, windows of other songs: of as many different ones as there are, up to OTHERS."""
    songs = np.array([sample.window.song for sample in held_out])
    rng = np.random.default_rng(seed)
    chosen = []
    for song in songs:
        names = rng.permutation([name for name in np.unique(songs) if name != song])[:OTHERS]
        chosen.append([int(rng.choice(np.flatnonzero(songs == name))) for name in names])
    return chosen


def _after(
    sample: Sample, seconds: float, clouds_of: Callable[[Window, Heard], dict[str, Cloud]]
) -> dict[str, Cloud]:
    """What each source gives for the window `seconds` later; nothing where the audio ends before."""
    window = sample.window.later(seconds)
    try:
        heard = hear(window)
    except UserError:
        return {}
    clouds = clouds_of(window, heard)
    if has_floor(sample.window):
        clouds |= {SAME: drawn(window, heard), ANEW: drawn(window, heard, redraw=1)}
    return clouds
