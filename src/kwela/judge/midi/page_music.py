"""Write the sections of `kwela judge midi` on the quality of the music, and on copies of training music."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela import plots
from kwela.judge.midi import quality
from kwela.judge.midi.memorisation import SharedRun, TrainingIndex
from kwela.judge.midi.score_edits import cut_excerpts
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.stats import NOT_MEASURED, Interval, bootstrap

COLOURS = {
    "generated": plots.BLUE,
    "held-out": plots.BLACK,
    "held-out (ceiling)": plots.BLACK,
    "thrown about (floor)": plots.GREY,
    "planted copies": plots.RED,
}
_COPIED_SHARE = 0.5  # of a line, at least
_PLANTED_PIECES = 16  # training pieces of which copies are planted


def add_quality(
    card: Scorecard,
    generated: Sequence[ScoreTick | None],
    references: Sequence[tuple[ScoreTick, str]],
    out: Path,
) -> None:
    """Add how far each statistic's distribution overlaps with that of held-out music.

    references: held-out excerpts, each with its song.
    """
    excerpts, songs = [score for score, _ in references], [song for _, song in references]
    held_out = quality.measure_pieces(excerpts)
    scattered = quality.measure_pieces(
        [quality.scatter_notes(score, card.seed + number) for number, score in enumerate(excerpts)]
    )
    overlaps = quality.overlaps_with_held_out(
        quality.measure_pieces(generated), held_out, songs, seed=card.seed
    )
    floor = quality.overlaps_with_held_out(scattered, held_out, songs, seed=card.seed)
    rows = []
    for name, (of_generated, of_held_out) in overlaps.items():
        rows += [
            ScorecardRow.from_interval(f"{name} | generated", of_generated, len(generated)),
            ScorecardRow.from_interval(f"{name} | held-out (ceiling)", of_held_out),
            ScorecardRow.from_interval(f"{name} | thrown about (floor)", floor[name][0]),
        ]
    text = (
        "Overlap of each statistic's distribution with that of held-out excerpts of as many bars "
        f"({len(references)} of {len(set(songs))} songs), for pieces generated with these songs' emotions. "
        "1: one distribution. Intervals are the middle 95 % of random halvings by song."
    )
    card.add("quality", "Is it music like held-out music", rows, text, "overlap", "quality.png")
    draw_forest(out / "quality.png", {"": rows}, "overlap with held-out music", COLOURS)


def add_memorisation(
    card: Scorecard,
    generated: Sequence[ScoreTick],
    references: Sequence[tuple[ScoreTick, str]],
    training: Sequence[Mapping[str, Any]],
    bars: int,
    out: Path,
) -> None:
    """Add the longest runs that are shared with training pieces, and the pieces that are copies.

    A copy shares more with a training piece than any held-out excerpt does, and half of the line or more.
    """
    index = TrainingIndex([row["score"] for row in training])
    of_generated = index.longest_shared_runs(generated)
    of_held_out = index.longest_shared_runs([score for score, _ in references])
    of_copies = index.longest_shared_runs(_plant_copies(training, bars, card.seed))
    limit = max((run.notes for run in of_held_out), default=0)
    copies = [
        {
            "piece": number,
            "notes": run.notes,
            "share": run.share,
            "training": str(training[run.source]["midi_path"]),
        }
        for number, run in enumerate(of_generated)
        if run.notes > limit and run.share >= _COPIED_SHARE
    ]
    sources: dict[str, tuple[list[SharedRun], Sequence[object]]] = {
        "generated": (of_generated, range(len(of_generated))),
        "held-out": (of_held_out, [song for _, song in references]),
        "planted copies": (of_copies, range(len(of_copies))),
    }
    note_rows, share_rows = [], []
    for name, (runs, groups) in sources.items():
        notes, shares = (np.array([run[field] for run in runs], float) for field in (0, 1))
        longest = float(notes.max()) if len(notes) else None
        note_rows += [
            ScorecardRow.from_interval(f"median | {name}", _quantile(notes, groups, 0.5), len(notes)),
            ScorecardRow.from_interval(
                f"95th percentile | {name}", _quantile(notes, groups, 0.95), len(notes)
            ),
            ScorecardRow(f"longest | {name}", longest, None, len(notes)),
        ]
        label = f"share of the line, median | {name}"
        share_rows.append(ScorecardRow.from_interval(label, _quantile(shares, groups, 0.5), len(shares)))
    note = "beyond any held-out excerpt, and half the line"
    copies_row = ScorecardRow("copies", float(len(copies)), None, len(of_generated), note)
    text = (
        "Notes in the longest run of (interval, onset) steps that a piece, a track of it, or its highest or "
        "lowest voice shares with training music, whatever the key, tempo, velocity or instrument. Held-out "
        "music shares some, too."
    )
    rows = [*note_rows, *share_rows, copies_row]
    card.add("memorisation", "Is it its own", rows, text, "notes", "memorisation.png")
    card.extra_json["copies"] = copies
    draw_forest(out / "memorisation.png", {"": note_rows}, "notes shared with a training piece", COLOURS)


def _plant_copies(training: Sequence[Mapping[str, Any]], bars: int, seed: int) -> list[ScoreTick]:
    """Cut an excerpt of some training pieces, to show what a copy looks like."""
    chosen = np.random.default_rng(seed).permutation(len(training))[:_PLANTED_PIECES]
    return [
        excerpt
        for number in chosen
        for excerpt in cut_excerpts(training[number]["score"], 4.0 * bars, 1, seed)
    ]


def _quantile(values: np.ndarray, groups: Sequence[object], level: float) -> Interval:
    if not len(values):
        return NOT_MEASURED
    return bootstrap(groups, lambda index: float(np.quantile(values[index], level)), 500)
