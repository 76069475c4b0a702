"""From scores to a scorecard: tables with intervals by song, and the verdicts drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kwela import plots
from kwela.judge.clouds.baselines import NAMES
from kwela.judge.clouds.metrics import COARSE, FINE, FLOOR, MODEL, OTHERS, SAME, SHIFTS, Scores, ranked
from kwela.judge.clouds.windows import evenly
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.stats import NOT_MEASURED, Interval, bootstrap, mean_by_group

TITLE = "Spectocloud on held-out songs"
WARNING = (
    "The targets are computed from sound, notes and emotion by kwela's own rule: these figures say how well the model "
    "follows that rule on songs it has not seen, not whether its clouds please anyone."
)
LOWER, HIGHER = -1, 1
DRAWN = 40  # songs in the picture
COLOURS = dict(zip((MODEL, FLOOR, *NAMES), plots.SEVERAL))
DISTANCE, DIFFERENCE = "Chamfer distance, squared cube edges", "mean absolute difference of RGBA"
TABLES = {  # measure: title, unit, which way is better, text
    "chamfer": ("Chamfer distance", "squared cube edges, lower is better", LOWER,
                "The floor, the target drawn again, is no hard limit: a cloud without chance in it can come nearer."),
    "fine": (f"F-score within {FINE}", "0 to 1, higher is better", HIGHER,
             f"Shares of points within {FINE} cube edges (2.4 semitones, 30 ms) of the other cloud's, harmonic mean."),
    "coarse": (f"F-score within {COARSE}", "0 to 1, higher is better", HIGHER,
               f"The same within {COARSE} (6 semitones, 74 ms), where two draws of one target agree almost wholly."),
    "colour": ("Colour of matched points", f"{DIFFERENCE}, lower is better", LOWER,
               "Where a cloud lies wrong, its matches are wrong too: read it after the tables above."),
    "properties": ("Size, glow and depth of matched points", "mean absolute difference, lower is better", LOWER,
                   "As the colours."),
}  # fmt: skip
MOVING = {  # shift: what it shows, text
    "moved_1ms": ("Flicker", "The target with the same draw moves as the music does; drawn anew, it flickers, as a "
                  "model must not. A cloud that never moves is steady and useless: see 372 ms."),
    "moved_23ms": ("Movement", "From one frame of the spectrogram to the next, about as often as a screen draws."),
    "moved_372ms": ("Following", "A quarter of the window is new: who moves much less than the target doesn't follow."),
}  # fmt: skip
FLICKER, FRAME, FOLLOWING = SHIFTS
FLICKERING, FROZEN = (
    1.5,
    0.5,
)  # times the target's movement: of too much after FLICKER, of too little after FOLLOWING


def fill(made: Scorecard, scores: Scores, out: Path) -> None:
    """The tables and verdicts of measured scores, and each song's error drawn in `out`. Intervals resample songs."""
    unbeaten = []
    finite = bool(np.isfinite(scores.measures["chamfer"][MODEL]).all())
    for measure, (title, unit, better, text) in TABLES.items():
        values = scores.measures[measure]
        rows = [_row(MODEL, values[MODEL], scores, made.seed)]
        rows.append(
            _row(FLOOR, values[FLOOR], scores, made.seed, "the floor" if better == LOWER else "the ceiling")
        )
        for name in NAMES:
            lead = mean_by_group(better * (values[MODEL] - values[name]), scores.songs, made.seed)
            if not (
                lead.low > 0 and np.isfinite(values[MODEL]).all()
            ):  # a cloud that isn't one beats nothing
                unbeaten.append(f"{measure}: {name}")
            note = f"model better by {lead.value:.2g} ({lead.low:.2g} .. {lead.high:.2g})"
            rows.append(_row(name, values[name], scores, made.seed, note))
        made.add(measure, title, rows, text, unit)
    by_song = _by_song(scores)
    lines = evenly(by_song, DRAWN)
    rows = [
        ScorecardRow(f"{one['song'][:40]} | {name}", one[name.replace(" ", "_")])
        for one in lines
        for name in COLOURS
    ]
    draw_forest(out / "songs.png", {"": rows}, "Chamfer distance to the target", COLOURS)
    made.sections["chamfer"].picture = "songs.png"
    known = _own_song(made, scores)
    ratios = _moving(made, scores)
    text = "The number is the Chamfer distance."
    made.add("pictures", "Clouds of the best, the median and the worst song", [], text, "", "clouds.png")
    made.verdicts |= {"status": "measured", "beats_every_baseline": not unbeaten, "not_beaten": unbeaten}
    made.verdicts["gap_closed"] = (_gap_closed(scores, made.seed) if finite else NOT_MEASURED).to_dict()
    made.verdicts |= _steady(ratios) if finite else {"steady": False, "follows": False}
    made.verdicts["knows_its_song"] = known
    made.extra_json["moved_to_target"] = {name: one._asdict() for name, one in ratios.items()}
    made.extra_json["by_song"] = by_song


def _row(name: str, values: np.ndarray, scores: Scores, seed: int, note: str = "") -> ScorecardRow:
    if np.isinf(values).any():
        return ScorecardRow(name, None, None, len(values), "not finite")
    return ScorecardRow.from_interval(
        name, mean_by_group(values, scores.songs, seed), int(np.isfinite(values).sum()), note
    )


def _own_song(made: Scorecard, scores: Scores) -> bool:
    """The table, and whether the model's clouds surely lie nearer to their own song than chance has it."""
    measured = scores.measures["own_song"]
    known = {name: values for name, values in measured.items() if not np.isnan(values).all()}
    rows = [_row(name, values, scores, made.seed) for name, values in known.items()]
    rivals = min(OTHERS, len(np.unique(scores.songs)) - 1)
    chance = 1 / (rivals + 1)
    text = (
        f"How often a cloud is nearer to its own target than to those of {rivals} other songs. Clouds that "
        "are right but stand under the wrong song, or one cloud for every song, end near chance or below."
    )
    rows.append(ScorecardRow("chance", chance))
    made.add("own_song", "Nearest to its own song", rows, text, "share, higher is better")
    return bool(rows[0].ci and rows[0].ci[0] > chance)


def _moving(made: Scorecard, scores: Scores) -> dict[str, Interval]:
    """A table for each shift, of positions and of colours; the model's movement over the target's."""
    ratios = {}
    for shift, (title, text) in MOVING.items():
        after = shift.removeprefix("moved_").replace("ms", " ms")
        for kind, unit in (("", DISTANCE), ("_colour", DIFFERENCE)):
            measure = f"{shift}{kind}"
            ratio = ratios[measure] = _ratio(scores, measure, made.seed)
            notes = {MODEL: "{:.2f} times the target's ({:.2f} .. {:.2f})".format(*ratio)}
            found = scores.measures[measure].items()
            rows = [_row(name, values, scores, made.seed, notes.get(name, "")) for name, values in found]
            what = f"{title}, {'colours' if kind else 'positions'}: windows {after} apart"
            made.add(measure, what, rows, "Of matched points, as above." if kind else text, unit)
    return ratios


def _gap_closed(scores: Scores, seed: int) -> Interval:
    """(best baseline - model) / (best baseline - floor) of the mean Chamfer distances: 0 no better, 1 at the floor."""
    values = scores.measures["chamfer"]

    def share(index: np.ndarray) -> float:
        best = min(values[name][index].mean() for name in NAMES)
        gap = best - values[FLOOR][index].mean()
        return float((best - values[MODEL][index].mean()) / gap) if gap > 0 else float("nan")

    return bootstrap(scores.songs, share, seed=seed)


def _steady(ratios: dict[str, Interval]) -> dict[str, bool | None]:
    """From the movement as a multiple of the target's with the same draw.

    steady: surely below FLICKERING after FLICKER and after FRAME, of positions and of colours. follows: surely above
    FROZEN after FOLLOWING. None where no target could be drawn again.
    """
    if np.isnan(ratios[FLICKER].value):
        return {"steady": None, "follows": None}
    calm = all(
        ratios[f"{shift}{kind}"].high < FLICKERING for shift in (FLICKER, FRAME) for kind in ("", "_colour")
    )
    return {"steady": calm, "follows": ratios[FOLLOWING].low > FROZEN}


def _ratio(scores: Scores, measure: str, seed: int) -> Interval:
    values = scores.measures[measure]

    def ratio(index: np.ndarray) -> float:
        model, target = values[MODEL][index], values[SAME][index]
        both = ~np.isnan(model) & ~np.isnan(target)
        total = target[both].sum()
        return float(model[both].sum() / total) if total > 0 else float("nan")

    return bootstrap(scores.songs, ratio, seed=seed)


def _by_song(scores: Scores) -> list[dict[str, Any]]:
    found = []
    for song in ranked(scores):
        mine = scores.songs == song
        means = {
            name.replace(" ", "_"): float(v[mine].mean()) for name, v in scores.measures["chamfer"].items()
        }
        found.append({"song": song, "windows": int(mine.sum())} | means)
    return found
