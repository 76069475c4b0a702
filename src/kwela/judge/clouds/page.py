"""Write the sections of `kwela judge clouds`: tables with intervals by song, and verdicts drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kwela import plots
from kwela.judge.clouds.baselines import BASELINE_NAMES
from kwela.judge.clouds.metrics import (
    COARSE_RADIUS,
    FINE_RADIUS,
    MODEL,
    OTHER_SONGS,
    SAME_DRAW,
    SHIFTS,
    TARGET_AGAIN,
    CloudScores,
    rank_songs,
)
from kwela.judge.clouds.windows import evenly_spaced
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.stats import NOT_MEASURED, Interval, bootstrap, mean_by_group

TITLE = "Spectocloud on held-out songs"
WARNING = (
    "The targets are computed from sound, notes and emotion by kwela's own rule: these figures say how well "
    "the model follows that rule on songs it has not seen, not whether its clouds please anyone."
)
SONGS_DRAWN = 40
COLOURS = dict(zip((MODEL, TARGET_AGAIN, *BASELINE_NAMES), plots.SEVERAL))
DISTANCE, DIFFERENCE = "Chamfer distance, squared cube edges", "mean absolute difference of RGBA"
FLICKER, FRAME, FOLLOWING = SHIFTS
MAX_MOVEMENT = 1.5  # times the target's, after FLICKER and FRAME: more is flicker
MIN_MOVEMENT = 0.5  # times the target's, after FOLLOWING: less is frozen


class Measure(NamedTuple):
    """How a measure of `CloudDistances` is shown."""

    title: str
    unit: str
    better: int  # 1: higher is better, -1: lower
    text: str


MEASURES = {
    "chamfer": Measure(
        "Chamfer distance",
        "squared cube edges, lower is better",
        -1,
        "The floor, the target drawn again, is no hard limit: a cloud without chance in it can come nearer.",
    ),
    "fine": Measure(
        f"F-score within {FINE_RADIUS}",
        "0 to 1, higher is better",
        1,
        f"The harmonic mean of the shares of points within {FINE_RADIUS} cube edges (2.4 semitones, 30 ms) "
        "of the other cloud's points, both ways.",
    ),
    "coarse": Measure(
        f"F-score within {COARSE_RADIUS}",
        "0 to 1, higher is better",
        1,
        f"The same within {COARSE_RADIUS} (6 semitones, 74 ms). There, two draws of one target agree almost "
        "wholly.",
    ),
    "colour": Measure(
        "Colour of matched points",
        f"{DIFFERENCE}, lower is better",
        -1,
        "Where a cloud lies wrong, its matches are wrong too: read it after the tables above.",
    ),
    "properties": Measure(
        "Size, glow and depth of matched points",
        "mean absolute difference, lower is better",
        -1,
        "As the colours.",
    ),
}
MOVEMENTS = {  # shift: title, text
    FLICKER: (
        "Flicker",
        "The target with the same draw moves as the music does. Drawn anew, it flickers, as a model must "
        "not. A "
        "cloud that never moves is steady and useless: see 372 ms.",
    ),
    FRAME: ("Movement", "From one frame of the spectrogram to the next, about as often as a screen draws."),
    FOLLOWING: (
        "Following",
        "A quarter of the window is new: a model that moves much less than the target doesn't follow.",
    ),
}


def add_sections(card: Scorecard, scores: CloudScores, out: Path) -> None:
    """Add the tables and verdicts to `card`, and draw each song's error in `out`."""
    not_beaten = [
        f"{measure}: {name}" for measure in MEASURES for name in _add_measure(card, scores, measure)
    ]
    by_song = _means_by_song(scores)
    songs = evenly_spaced(by_song, SONGS_DRAWN)
    rows = [
        ScorecardRow(f"{song['song'][:40]} | {name}", song[name.replace(" ", "_")])
        for song in songs
        for name in COLOURS
    ]
    draw_forest(out / "songs.png", {"": rows}, "Chamfer distance to the target", COLOURS)
    card.sections["chamfer"].picture = "songs.png"
    knows_its_song = _add_own_song(card, scores)
    ratios = _add_movements(card, scores)
    text = "The number is the Chamfer distance."
    card.add("pictures", "Clouds of the best, the median and the worst song", [], text, "", "clouds.png")
    finite = bool(np.isfinite(scores.measures["chamfer"][MODEL]).all())
    card.verdicts |= {"status": "measured", "beats_every_baseline": not not_beaten, "not_beaten": not_beaten}
    card.verdicts["gap_closed"] = (_gap_closed(scores, card.seed) if finite else NOT_MEASURED).to_dict()
    card.verdicts |= _steadiness_verdicts(ratios) if finite else {"steady": False, "follows": False}
    card.verdicts["knows_its_song"] = knows_its_song
    card.extra_json["moved_to_target"] = {name: ratio._asdict() for name, ratio in ratios.items()}
    card.extra_json["by_song"] = by_song


def _add_measure(card: Scorecard, scores: CloudScores, measure: str) -> list[str]:
    """Add the table of a measure, and return the baselines that the model doesn't surely beat in it."""
    title, unit, better, text = MEASURES[measure]
    values = scores.measures[measure]
    finite = bool(np.isfinite(values[MODEL]).all())
    limit = "the floor" if better == -1 else "the ceiling"
    rows = [
        _row(MODEL, values[MODEL], scores, card.seed),
        _row(TARGET_AGAIN, values[TARGET_AGAIN], scores, card.seed, limit),
    ]
    not_beaten = []
    for name in BASELINE_NAMES:
        lead = mean_by_group(better * (values[MODEL] - values[name]), scores.songs, card.seed)
        if not (lead.low > 0 and finite):  # a cloud that isn't finite beats nothing
            not_beaten.append(name)
        note = f"model better by {lead.value:.2g} ({lead.low:.2g} .. {lead.high:.2g})"
        rows.append(_row(name, values[name], scores, card.seed, note))
    card.add(measure, title, rows, text, unit)
    return not_beaten


def _row(name: str, values: np.ndarray, scores: CloudScores, seed: int, note: str = "") -> ScorecardRow:
    if np.isinf(values).any():
        return ScorecardRow(name, None, None, len(values), "not finite")
    interval = mean_by_group(values, scores.songs, seed)
    return ScorecardRow.from_interval(name, interval, int(np.isfinite(values).sum()), note)


def _add_own_song(card: Scorecard, scores: CloudScores) -> bool:
    """Add the table; return whether the model's clouds know their song: surely more often than by chance."""
    measured = {
        name: values for name, values in scores.measures["own_song"].items() if not np.isnan(values).all()
    }
    rows = [_row(name, values, scores, card.seed) for name, values in measured.items()]
    other_songs = min(OTHER_SONGS, len(np.unique(scores.songs)) - 1)
    chance = 1 / (other_songs + 1)
    text = (
        f"How often a cloud is nearer to its own target than to those of {other_songs} other songs. Clouds "
        "that are right but stand under the wrong song, or one cloud for every song, end near chance or "
        "below."
    )
    rows.append(ScorecardRow("chance", chance))
    card.add("own_song", "Nearest to its own song", rows, text, "share, higher is better")
    return bool(rows[0].ci and rows[0].ci[0] > chance)


def _add_movements(card: Scorecard, scores: CloudScores) -> dict[str, Interval]:
    """Add tables for each shift; return the model's movement over the target's, of positions and colours."""
    ratios = {}
    for shift, (title, text) in MOVEMENTS.items():
        after = shift.removeprefix("moved_").replace("ms", " ms")
        for suffix, of, unit in (("", "positions", DISTANCE), ("_colour", "colours", DIFFERENCE)):
            measure = f"{shift}{suffix}"
            ratio = ratios[measure] = _ratio_to_target(scores, measure, card.seed)
            notes = {MODEL: "{:.2f} times the target's ({:.2f} .. {:.2f})".format(*ratio)}
            rows = [
                _row(name, values, scores, card.seed, notes.get(name, ""))
                for name, values in scores.measures[measure].items()
            ]
            section_text = "Of matched points, as above." if suffix else text
            card.add(measure, f"{title}, {of}: windows {after} apart", rows, section_text, unit)
    return ratios


def _gap_closed(scores: CloudScores, seed: int) -> Interval:
    """Return (best baseline - model) / (best baseline - floor) of the mean Chamfer distances.

    0 is no better than a baseline, 1 is at the floor.
    """
    values = scores.measures["chamfer"]

    def closed(index: np.ndarray) -> float:
        best_baseline = min(values[name][index].mean() for name in BASELINE_NAMES)
        gap = best_baseline - values[TARGET_AGAIN][index].mean()
        return float((best_baseline - values[MODEL][index].mean()) / gap) if gap > 0 else float("nan")

    return bootstrap(scores.songs, closed, seed=seed)


def _steadiness_verdicts(ratios: dict[str, Interval]) -> dict[str, bool | None]:
    """Draw the verdicts from the model's movement over the target's with the same draw.

    steady: surely below MAX_MOVEMENT after FLICKER and after FRAME, of positions and of colours. follows:
    surely above MIN_MOVEMENT after FOLLOWING. None where no target could be drawn again.
    """
    if np.isnan(ratios[FLICKER].value):
        return {"steady": None, "follows": None}
    calm = (ratios[f"{shift}{suffix}"] for shift in (FLICKER, FRAME) for suffix in ("", "_colour"))
    steady = all(ratio.high < MAX_MOVEMENT for ratio in calm)
    return {"steady": steady, "follows": ratios[FOLLOWING].low > MIN_MOVEMENT}


def _ratio_to_target(scores: CloudScores, measure: str, seed: int) -> Interval:
    """Return the model's total movement over the target's, of windows that have both."""
    values = scores.measures[measure]

    def ratio(index: np.ndarray) -> float:
        model, target = values[MODEL][index], values[SAME_DRAW][index]
        measured = ~np.isnan(model) & ~np.isnan(target)
        total = target[measured].sum()
        return float(model[measured].sum() / total) if total > 0 else float("nan")

    return bootstrap(scores.songs, ratio, seed=seed)


def _means_by_song(scores: CloudScores) -> list[dict[str, Any]]:
    """Return each song's mean Chamfer distances, the model's best song first."""
    by_song = []
    for song in rank_songs(scores):
        of_song = scores.songs == song
        means = {
            name.replace(" ", "_"): float(values[of_song].mean())
            for name, values in scores.measures["chamfer"].items()
        }
        by_song.append({"song": song, "windows": int(of_song.sum())} | means)
    return by_song
