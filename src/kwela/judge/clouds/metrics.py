"""Measure each held-out window: distances to its target, nearness to its own song, and steadiness.

Distances. A cloud is a set: its points have no order, so each point is compared with the nearest point of the
other cloud. The distances are the judge's own, in float64 and by exact search; training has its own.

Radii of the F-score. Between a target and the same target drawn again, the distance from a point to the
nearest point of the other draw has a median of .016 and a 95 % point of .050 cube edges (64 segments of the
demo's held-out songs). FINE_RADIUS lies a little above that median: two draws of one music share most of it,
and no cloud can be asked for much more. COARSE_RADIUS lies at the 95 % point, so that they agree almost
wholly. In music, FINE_RADIUS is 2.4 semitones or 30 ms, COARSE_RADIUS 6 semitones or 74 ms.

Steadiness compares a window with windows that begin SHIFTS later in the same song, by the Chamfer distance
and the colour difference of their clouds. The target moves too, since the music does: SAME_DRAW is that
movement alone, NEW_DRAW adds the target's fresh random numbers. After 1 ms the music has hardly changed, so
what moves is flicker. After 372 ms a quarter of it is new, so what doesn't move is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from kwela.errors import UserError
from kwela.judge.clouds.baselines import BASELINE_NAMES, Baselines
from kwela.judge.clouds.windows import (
    Window,
    WindowInputs,
    WindowWithTarget,
    can_be_drawn_again,
    draw_target,
    read_inputs,
)
from kwela.music import audio
from kwela.spectocloud.target import Cloud
from kwela.terminal import with_progress_bar

FINE_RADIUS, COARSE_RADIUS = 0.02, 0.05  # cube edges
MODEL, TARGET_AGAIN = "model", "target drawn again"
SAME_DRAW, NEW_DRAW = "target, same draw", "target, drawn anew"
_SOURCES = (MODEL, TARGET_AGAIN, *BASELINE_NAMES)  # of the clouds of a window
_MOVING_SOURCES = (MODEL, SAME_DRAW, NEW_DRAW, *BASELINE_NAMES)  # of the clouds of later windows
SHIFTS = {  # seconds: next to nothing, one frame of the log-mel, a quarter of the window
    "moved_1ms": 44 / audio.SAMPLE_RATE,
    "moved_23ms": audio.HOP / audio.SAMPLE_RATE,
    "moved_372ms": audio.SEGMENT / 4 / audio.SAMPLE_RATE,
}
OTHER_SONGS = 7  # targets of other songs that a cloud's own target must be nearer than

CloudPredictor = Callable[[Window, WindowInputs], Cloud]  # what a model gives for a window
WindowMeasures = dict[str, dict[str, float]]  # of one window, by measure, then by source


class CloudDistances(NamedTuple):
    """How far a cloud is from another.

    chamfer: >= 0, squared cube edges. fine, coarse: F-scores in [0, 1], 1 is best. colour, properties: mean
    absolute differences in [0, 1].
    """

    chamfer: float
    fine: float
    coarse: float
    colour: float
    properties: float


def cloud_distances(cloud: Cloud, target: Cloud) -> CloudDistances:
    """Return how far `cloud` is from `target`.

    chamfer: the mean squared distance to the nearest point of the other cloud, both ways added (Fan et al.
    2017, eq. 1, with means for sums). fine, coarse: see `f_score`. colour: the mean absolute difference of
    red, green, blue and opacity between each point and its nearest, both ways averaged. properties: that of
    size, glow and depth.

    A cloud with values that aren't finite has infinite chamfer and differences, and F-scores of 0. Raises
    ValueError if a cloud has no points.
    """
    points, target_points = (np.asarray(each.positions, np.float64) for each in (cloud, target))
    if not len(points) or not len(target_points):
        counts = f"{len(points)} and {len(target_points)}"
        raise ValueError(f"clouds of {counts} points: an empty one has no neighbours")
    if not all(np.isfinite(values).all() for each in (cloud, target) for values in each):
        return CloudDistances(np.inf, 0.0, 0.0, np.inf, np.inf)
    to_target, nearest_in_target = cKDTree(target_points).query(points)
    to_cloud, nearest_in_cloud = cKDTree(points).query(target_points)
    forward = np.abs(cloud.attributes - target.attributes[nearest_in_target]).mean(0)
    backward = np.abs(target.attributes - cloud.attributes[nearest_in_cloud]).mean(0)
    difference = (forward + backward) / 2
    return CloudDistances(
        float(np.square(to_target).mean() + np.square(to_cloud).mean()),
        f_score(to_target, to_cloud, FINE_RADIUS),
        f_score(to_target, to_cloud, COARSE_RADIUS),
        float(difference[:4].mean()),
        float(difference[4:].mean()),
    )


def f_score(to_target: np.ndarray, to_cloud: np.ndarray, radius: float) -> float:
    """Return the harmonic mean of precision and recall within `radius`, in [0, 1]; 0 where both are 0.

    to_target: each predicted point's distance to the nearest target point (precision: the share within
    `radius`). to_cloud: each target point's distance to the nearest predicted point (recall). Tatarchenko et
    al. 2019, sec. 5.
    """
    precision, recall = (to_target <= radius).mean(), (to_cloud <= radius).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@dataclass(frozen=True)
class CloudScores:
    """The measures of all held-out windows.

    songs: (windows,). measures[measure][source]: (windows,) float64, NaN where it can't be measured. Measures
    are the fields of `CloudDistances`, "own_song" (1 if nearest to its own target), and the keys of SHIFTS,
    each also with "_colour".
    """

    songs: np.ndarray
    measures: dict[str, dict[str, np.ndarray]]


def rank_songs(scores: CloudScores) -> list[str]:
    """Return the songs by the model's mean Chamfer distance, best first."""
    values = scores.measures["chamfer"][MODEL]
    return sorted(
        np.unique(scores.songs).tolist(), key=lambda song: float(values[scores.songs == song].mean())
    )


def score_windows(
    predict: CloudPredictor, held_out: Sequence[WindowWithTarget], baselines: Baselines, seed: int
) -> CloudScores:
    """Return all measures of every held-out window. predict: the model."""

    def clouds_for(window: Window, inputs: WindowInputs) -> dict[str, Cloud]:
        return {MODEL: predict(window, inputs)} | baselines.clouds_for(window, inputs)

    by_window: list[WindowMeasures] = []
    others = _windows_of_other_songs(held_out, seed)
    for example, other_indexes in zip(with_progress_bar(held_out, "Judging clouds"), others, strict=True):
        clouds = clouds_for(example.window, example.inputs)
        if can_be_drawn_again(example.window):
            clouds[TARGET_AGAIN] = draw_target(example.window, example.inputs, redraw=1)
        other_targets = [held_out[index].target for index in other_indexes]
        measures = _measure_clouds(clouds, example.target, other_targets)
        before = clouds | {SAME_DRAW: example.target, NEW_DRAW: example.target}
        for name, seconds in SHIFTS.items():
            later = _clouds_later(example, seconds, clouds_for)
            moved = {source: cloud_distances(cloud, before[source]) for source, cloud in later.items()}
            measures[name] = {source: distances.chamfer for source, distances in moved.items()}
            measures[f"{name}_colour"] = {source: distances.colour for source, distances in moved.items()}
        by_window.append(measures)
    arrays = {
        name: {
            source: np.array([measures[name].get(source, np.nan) for measures in by_window])
            for source in (_MOVING_SOURCES if name.startswith("moved") else _SOURCES)
        }
        for name in by_window[0]
    }
    return CloudScores(np.array([example.window.song for example in held_out]), arrays)


def _measure_clouds(
    clouds: dict[str, Cloud], target: Cloud, other_targets: Sequence[Cloud]
) -> WindowMeasures:
    distances = {source: cloud_distances(cloud, target) for source, cloud in clouds.items()}
    measures = {
        field: {source: getattr(distance, field) for source, distance in distances.items()}
        for field in CloudDistances._fields
    }
    measures["own_song"] = {
        source: float(
            all(
                distances[source].chamfer < cloud_distances(clouds[source], other).chamfer
                for other in other_targets
            )
        )
        for source in (MODEL, TARGET_AGAIN, "nearest neighbour")
        if source in clouds
    }
    return measures


def _windows_of_other_songs(held_out: Sequence[WindowWithTarget], seed: int) -> list[list[int]]:
    """Draw for each window the indexes of windows of up to OTHER_SONGS other songs, one of each."""
    songs = np.array([example.window.song for example in held_out])
    rng = np.random.default_rng(seed)
    drawn = []
    for song in songs:
        others = rng.permutation([other for other in np.unique(songs) if other != song])[:OTHER_SONGS]
        drawn.append([int(rng.choice(np.flatnonzero(songs == other))) for other in others])
    return drawn


def _clouds_later(
    example: WindowWithTarget,
    seconds: float,
    clouds_for: Callable[[Window, WindowInputs], dict[str, Cloud]],
) -> dict[str, Cloud]:
    """Return each source's cloud for the window `seconds` later; none where the audio ends before."""
    later = example.window.later(seconds)
    try:
        inputs = read_inputs(later)
    except UserError:
        return {}
    clouds = clouds_for(later, inputs)
    if can_be_drawn_again(example.window):
        clouds |= {
            SAME_DRAW: draw_target(later, inputs),
            NEW_DRAW: draw_target(later, inputs, redraw=1),
        }
    return clouds
