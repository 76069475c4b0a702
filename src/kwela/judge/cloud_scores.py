"""What is measured of each held-out window: distances to its target, whose song it is nearest to, and steadiness.

Steadiness compares a window with its neighbours, SHIFTS later in the same song, by the Chamfer distance and the
colour difference of their clouds. The target moves too, since the music does: "same draw" is that movement alone,
"drawn anew" has the target's fresh random numbers added. After 1 ms the music has hardly changed: what moves is
flicker. After 372 ms a quarter of it is new: what doesn't move is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from kwela.errors import UserError
from kwela.judge.cloud_baselines import NAMES, Baselines
from kwela.judge.cloud_distances import Apart, apart
from kwela.judge.cloud_windows import Heard, Sample, Window, drawn, has_floor, hear
from kwela.music import audio
from kwela.spectocloud.target import Cloud

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
    return sorted(np.unique(scores.songs).tolist(), key=lambda song: float(values[scores.songs == song].mean()))


def score(cloud_of: CloudOf, held_out: Sequence[Sample], baselines: Baselines, seed: int) -> Scores:
    """All measures of every held-out window. cloud_of: the model."""
    found: list[dict[str, dict[str, float]]] = []
    strangers = _strangers(held_out, seed)
    for k, sample in enumerate(track(held_out, "Judging clouds", console=Console(stderr=True), transient=True)):
        clouds = {MODEL: cloud_of(sample.window, sample.heard)} | baselines.of(sample.window, sample.heard)
        if has_floor(sample.window):
            clouds[FLOOR] = drawn(sample.window, sample.heard, redraw=1)
        others = [held_out[j].target for j in strangers[k]]
        found.append(
            _distances(clouds, sample.target, others)
            | _steadiness(cloud_of, sample, baselines, clouds | {SAME: sample.target, ANEW: sample.target})
        )
    songs = np.array([sample.window.song for sample in held_out])
    sources = {measure: MOVING if measure.startswith("moved") else SOURCES for measure in found[0]}
    return Scores(
        songs,
        {
            measure: {name: np.array([one[measure].get(name, np.nan) for one in found]) for name in names}
            for measure, names in sources.items()
        },
    )


def _distances(clouds: dict[str, Cloud], wanted: Cloud, others: Sequence[Cloud]) -> dict[str, dict[str, float]]:
    far = {name: apart(cloud, wanted) for name, cloud in clouds.items()}
    measures = {field: {name: getattr(one, field) for name, one in far.items()} for field in Apart._fields}
    nearest = {
        name: float(all(far[name].chamfer < apart(clouds[name], other).chamfer for other in others))
        for name in (MODEL, FLOOR, "nearest neighbour")
        if name in clouds
    }
    return measures | {"own_song": nearest}


def _strangers(held_out: Sequence[Sample], seed: int) -> list[np.ndarray]:
    """For each window, windows of other songs: of as many different ones as there are, up to OTHERS."""
    songs = np.array([sample.window.song for sample in held_out])
    rng = np.random.default_rng(seed)
    chosen = []
    for song in songs:
        names = rng.permutation([name for name in np.unique(songs) if name != song])[:OTHERS]
        chosen.append(np.array([rng.choice(np.flatnonzero(songs == name)) for name in names]))
    return chosen


def _steadiness(
    cloud_of: CloudOf, sample: Sample, baselines: Baselines, clouds: dict[str, Cloud]
) -> dict[str, dict[str, float]]:
    measures: dict[str, dict[str, float]] = {}
    for name, seconds in SHIFTS.items():
        after = _neighbour(cloud_of, sample, baselines, seconds)
        moved = {source: apart(cloud, clouds[source]) for source, cloud in after.items()}
        measures[name] = {source: one.chamfer for source, one in moved.items()}
        measures[f"{name}_colour"] = {source: one.colour for source, one in moved.items()}
    return measures


def _neighbour(cloud_of: CloudOf, sample: Sample, baselines: Baselines, seconds: float) -> dict[str, Cloud]:
    """What each source gives for the window `seconds` later; nothing where the audio ends before."""
    window = sample.window.later(seconds)
    try:
        heard = hear(window)
    except UserError:
        return {}
    clouds = {MODEL: cloud_of(window, heard)} | baselines.of(window, heard)
    if has_floor(sample.window):
        clouds |= {SAME: drawn(window, heard), ANEW: drawn(window, heard, redraw=1)}
    return clouds
