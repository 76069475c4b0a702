"""The tables of `kwela judge midi`, and its pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela import plots
from kwela.judge.midi import piece, symbolic_features
from kwela.judge.midi import quality as statistics
from kwela.judge.midi import teacher_forcing as teacher_forced
from kwela.judge.midi.adherence import DIMENSIONS, MEASURES, refused, turned
from kwela.judge.midi.evaluation import REAL, Ear, Evidence
from kwela.judge.midi.grid import MODEL, PERMUTED, RULE, TWIN, Answers, Size, same_notes, same_target
from kwela.judge.midi.grid import flips as find_flips
from kwela.judge.midi.memorisation import Library
from kwela.judge.shared.forest_plot import draw_forest
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.stats import NOT_MEASURED, Interval, bootstrap, share

PUBLISHED = "EMOPIA (Hung et al. 2021) reports .58 to .68 with other pieces and labels"
TARGETS = ("valence", "arousal", "intensity")
TURNED = (MODEL, TWIN, RULE)  # the systems in the tables of turned dimensions
DESCRIPTORS = {
    "tempo": "tempo",
    "velocity_mean": "velocity",
    "onset_rate": "onsets a second",
    "length_mean": "note length",
    "pitch_mean": "pitch",
    "mode": "major against minor",
}
CHANCE = "same target, other seed (floor)"
COLOURS = {
    MODEL: plots.BLUE,
    TWIN: plots.ORANGE,
    "constant": "#999999",
    "no emotion": plots.SKY,
    PERMUTED: plots.PINK,
    "nearest training piece": plots.GREEN,
    RULE: plots.RED,
    CHANCE: plots.GREY,
    f"{REAL} (ceiling)": plots.BLACK,
}
SOURCES = {
    "generated": plots.BLUE,
    "held-out": plots.BLACK,
    "held-out (ceiling)": plots.BLACK,
    "thrown about (floor)": plots.GREY,
    "planted copies": plots.RED,
}


def evaluators(card: Scorecard, ears: Mapping[str, Ear], known: Evidence) -> None:
    """How good the evaluators are on series they haven't seen: before anything that they say."""
    rows: list[ScorecardRow] = []
    for name, ear in ears.items():
        found = ear.standing
        note = f"majority class {found.majority:.2f}; {PUBLISHED}" if name == "symbolic" else ""
        rows.append(
            ScorecardRow.from_interval(f"{name}: 4 quadrants, piece", found.quadrant, found.pieces, note)
        )
        rows.append(
            ScorecardRow.from_interval(
                f"{name}: 4 quadrants, excerpt", found.quadrant_clip, note="what a generated piece is"
            )
        )
        for d, dimension in enumerate(DIMENSIONS):
            note = f"commonest sign {found.majority_sign[d]:.2f}"
            rows.append(
                ScorecardRow.from_interval(f"{name}: {dimension}, sign", found.correct[d], found.pieces, note)
            )
            note = "" if found.usable[d] else "0.5 is not ruled out, by series or by piece: refused below"
            rows.append(
                ScorecardRow.from_interval(f"{name}: {dimension}, AUC", found.auc[d], found.pieces, note)
            )
        if name == "symbolic":
            rows.append(
                ScorecardRow("majority class: 4 quadrants", found.majority, None, found.pieces, "floor")
            )
    text = (
        "Accuracy on unseen series, intervals by series, of gradient boosting on symbolic features of the notes and on "
        "audio features of the rendering. A flattened evaluator was trained, and judges, at one tempo and one velocity."
    )
    for ear in list(ears.values())[:1]:
        what = "pieces that people labelled" if known.source == "human" else "the manifest's held-out rows"
        text = f"Trained on {ear.standing.pieces} {what}, {ear.standing.series} series. " + text
    if known.dropped:
        text += f" {known.dropped} labelled pieces are training music of the model and were left out."
    rows = rows or [ScorecardRow("4 quadrants", note=known.why)]
    card.add("evaluators", "How good the evaluators are", rows, text, "on unseen series")


def gain(card: Scorecard, nats: Mapping[str, teacher_forced.Nats], songs: Sequence[str], out: Path) -> None:
    """nats: of the model and, where there is one, its twin; songs: the group of each song."""
    levels, rows = [], []
    for system, found in nats.items():
        label = "" if system == MODEL else f" | {system}"
        levels += teacher_forced.levels(found, songs, card.seed, label)
        rows += teacher_forced.gain_rows(teacher_forced.gains(found, songs, card.seed), len(songs), label)
    text = (
        "Nats per id saved on held-out songs by being told their true emotion, over another telling. Over 0: the truth "
        "helps. One dimension alone: the other two stay true. The truth can't help a twin: it is the floor."
    )
    card.add("nll", "Held-out surprise", levels, "Nats per id, teacher-forced.", "nats per id")
    card.add("gain", "What the emotion is worth to the model", rows, text, "nats per id saved", "gain.png")
    draw_forest(out / "gain.png", {"": rows}, "nats per id saved (95 % by song)", COLOURS)


def grid(
    card: Scorecard, ears: Mapping[str, Ear], made: Mapping[str, Answers], size: Size, out: Path
) -> None:
    """A table for each measure, with the rivals and the ceiling in it."""
    pieces = len(made[MODEL].scores)
    counts = [
        ScorecardRow.from_interval(
            "valid pieces", share(made[MODEL].valid), pieces, "the rest is judged worst"
        )
    ]
    for name, ear in ears.items():
        for system in (MODEL, REAL):
            note = "judged far from what the evaluator knows" if ear.strangeness[system] > 0.1 else ""
            strange = NOT_MEASURED._replace(value=ear.strangeness[system])
            counts.append(
                ScorecardRow.from_interval(f"{name} | {system}: features out of range", strange, None, note)
            )
    values, intensities = (
        ", ".join(f"{value:g}" for value in them) for them in (size.sides, size.intensities)
    )
    text = (
        f"Valence and arousal {values}, intensity {intensities}, {size.seeds} seeds each, {size.bars} bars; nothing "
        "discarded. Intensity has no human labels and is judged by no evaluator: see the flips."
    )
    if any(len(ear.answers[MODEL].scores) < pieces for ear in ears.values()):
        text += " Quick: only the pieces of the largest intensity were rendered."
    if TWIN not in made:
        text += " No twin trained on shuffled labels was given (--twin): permuted targets are the only floor of chance."
    if not ears:
        counts.append(ScorecardRow("heard as asked", note="no evaluator: see the page's first line"))
    card.add("grid", "The grid", counts, text, "share")
    for key, (title, _, dimension) in MEASURES.items() if ears else ():
        rows = []
        for name, ear in ears.items():
            why = refused(dimension, ear.standing.usable)
            for system, judged in ear.judged.items():
                label = f"{name} | {system}{' (ceiling)' if system == REAL else ''}"
                rows.append(
                    ScorecardRow(label, note=why)
                    if why
                    else ScorecardRow.from_interval(label, judged.figure(key), len(judged.groups))
                )
        what = (
            "Lower is better."
            if key.startswith("mae")
            else "1 is calibrated."
            if key.startswith("slope")
            else ""
        )
        card.add(f"grid_{key}", f"Grid: {title}", rows, what, title)
    if ears:
        _calibration(ears, out / "calibration.png")
        card.sections["grid_slope_arousal"].picture = "calibration.png"


def _calibration(ears: Mapping[str, Ear], path: Path) -> None:
    """Judged against asked, by evaluator and dimension; the diagonal is perfection."""
    figure, axes = plots.sheet(len(ears), 2, (9, 3.4 * len(ears) + 0.4))
    panels = [(name, ear, dimension) for name, ear in ears.items() for dimension in (0, 1)]
    for axis, (name, ear, dimension) in zip(axes, panels, strict=True):
        axis.plot([-1, 1], [-1, 1], color=plots.GREY, linewidth=1, linestyle="--")
        for system, judged in ear.judged.items():
            target, mean, spread = np.array(judged.at_levels(dimension)).T
            if system == REAL:
                decided = np.abs(target) > 0.79
                axis.plot(target[decided], mean[decided], "D", color=plots.BLACK, label=system, markersize=6)
                continue
            width, order = (2.5, 3) if system == MODEL else (1, 2)
            axis.plot(target, mean, "o-", color=COLOURS[system], label=system, linewidth=width, zorder=order)
            if system == MODEL:
                axis.fill_between(target, mean - spread, mean + spread, color=COLOURS[system], alpha=0.12)
        heard = "" if ear.standing.usable[dimension] else " (refused)"
        axis.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(-0.8, 0, 0.8), yticks=(-1, -0.5, 0, 0.5, 1))
        axis.set(
            xlabel=f"{TARGETS[dimension]} asked",
            ylabel="judged",
            title=f"{name}: {TARGETS[dimension]}{heard}",
        )
    plots.legend(figure, axes[0])
    plots.save(figure, path)


def flips(
    card: Scorecard,
    ears: Mapping[str, Ear],
    made: Mapping[str, Answers],
    real: Sequence[ScoreTick],
    out: Path,
) -> None:
    """What turning one dimension from lowest to highest moves, at the same seed: as heard, and of the notes."""
    text = (
        "Pairs of one seed, a dimension turned from lowest to highest, the others kept; judged in [-1, 1]. A change in "
        "another dimension is a leak. Floor: pairs of one target, two seeds. Ceiling, and the scale for a leak: real "
        "pieces that people placed high in the dimension less those they placed low."
    )
    drawn: dict[str, list[ScorecardRow]] = {}
    for name, ear in ears.items():
        rows = drawn[name] = []
        for d, turn in enumerate(TARGETS):
            for heard, dimension in enumerate(DIMENSIONS):
                line = f"{turn} turned: judged {dimension}"
                note = "" if d == heard else "leak"
                why = refused(heard, ear.standing.usable)
                if not find_flips(ear.answers[MODEL], d):
                    why = "it heard one value of it alone"
                if why:
                    rows.append(ScorecardRow(f"{line} | {MODEL}", note=why))
                    continue
                heard_as = {
                    name: (ear.raw[name][:, heard], of) for name, of in ear.answers.items() if name in TURNED
                }
                rows += _turned(line, d, heard_as, note, card.seed)
                if d < 2:
                    apart = ear.judged[REAL].between_sides(d, heard)
                    rows.append(
                        ScorecardRow.from_interval(
                            f"{line} | {REAL} (ceiling)", apart, len(ear.judged[REAL].groups), note
                        )
                    )
        key = "flips_" + name.replace(" (flattened)", "_flattened")
        card.add(key, f"Turning one dimension, as heard by the {name} evaluator", rows, text, "mean change")
        text = "As above."
    if ears:
        draw_forest(out / "flips.png", drawn, "mean change (95 % by seed)", COLOURS)
        card.sections["flips_symbolic"].picture = "flips.png"
    _descriptor_flips(card, {name: of for name, of in made.items() if name in TURNED}, real)


def _turned(
    line: str, d: int, systems: Mapping[str, tuple[np.ndarray, Answers]], note: str, seed: int
) -> list[ScorecardRow]:
    """The mean change of each system's values, (pieces,), as dimension d is turned; and the model's where none is."""
    rows = []
    for name, (values, of) in systems.items():
        pairs = find_flips(of, d)
        rows.append(
            ScorecardRow.from_interval(f"{line} | {name}", turned(values, of, pairs), len(pairs), note)
        )
    values, of = systems[MODEL]
    pairs = same_target(of, seed)
    return [*rows, ScorecardRow.from_interval(f"{line} | {CHANCE}", turned(values, of, pairs), len(pairs))]


def _descriptor_flips(card: Scorecard, made: Mapping[str, Answers], real: Sequence[ScoreTick]) -> None:
    rows: list[ScorecardRow] = []
    known = [column[np.isfinite(column)] for column in _descriptors(real).T]
    spread = [float(column.std()) if len(column) else 0.0 for column in known]
    seen = {name: _descriptors(of.scores) for name, of in made.items()}
    for d, turn in enumerate(TARGETS):
        for name, of in made.items():
            if pairs := find_flips(of, d):
                line, note = f"{turn}: pairs whose notes stay | {name}", "only tempo and velocity"
                rows.append(ScorecardRow.from_interval(line, share(same_notes(of, pairs)), len(pairs), note))
        for column, title in enumerate(DESCRIPTORS.values()):
            line = f"{turn} turned: {title}"
            if spread[column] < 1e-9:
                rows.append(ScorecardRow(f"{line} | {MODEL}", note="held-out music has one value"))
                continue
            moved = {name: (seen[name][:, column] / spread[column], of) for name, of in made.items()}
            rows += _turned(line, d, moved, "", card.seed)
    text = "The same pairs, in standard deviations of held-out music: no evaluator has a part in it."
    card.add("flips", "Turning one dimension, in the notes", rows, text, "mean change")


def _descriptors(scores: Sequence[ScoreTick | None]) -> np.ndarray:
    """(pieces, descriptors), NaN where invalid."""
    out = np.full((len(scores), len(DESCRIPTORS)), math.nan)
    for at, score in enumerate(scores):
        if score is not None and piece.is_valid(score):
            found = symbolic_features.features(piece.piece(score))
            out[at] = [found[name] for name in DESCRIPTORS]
    return out


def quality(
    card: Scorecard, made: Sequence[ScoreTick | None], songs: Sequence[tuple[ScoreTick, str]], out: Path
) -> None:
    real, groups = [score for score, _ in songs], [name for _, name in songs]
    held_out = statistics.statistics(real)
    noise = statistics.statistics(
        [statistics.thrown_about(score, card.seed + n) for n, score in enumerate(real)]
    )
    ours = statistics.overlaps(statistics.statistics(made), held_out, groups, seed=card.seed)
    floor = statistics.overlaps(noise, held_out, groups, seed=card.seed)
    rows = []
    for name, (mine, ceiling) in ours.items():
        rows.append(ScorecardRow.from_interval(f"{name} | generated", mine, len(made)))
        rows.append(ScorecardRow.from_interval(f"{name} | held-out (ceiling)", ceiling))
        rows.append(ScorecardRow.from_interval(f"{name} | thrown about (floor)", floor[name][0]))
    text = (
        f"Overlap of each statistic's distribution with held-out excerpts of as many bars ({len(songs)} of "
        f"{len(set(groups))} songs), for pieces generated with these songs' emotions. 1: one distribution. Intervals "
        "are the middle 95 % of random halvings by song."
    )
    card.add("quality", "Is it music like held-out music", rows, text, "overlap", "quality.png")
    draw_forest(out / "quality.png", {"": rows}, "overlap with held-out music", SOURCES)


def memorised(
    card: Scorecard,
    made: Sequence[ScoreTick],
    songs: Sequence[tuple[ScoreTick, str]],
    training: Sequence[Mapping[str, Any]],
    bars: int,
    out: Path,
) -> None:
    """The table, and the pieces that share more with a training piece than any held-out excerpt does, half or more."""
    library = Library([row["score"] for row in training])
    ours, real = library.longest(made), library.longest([score for score, _ in songs])
    planted = library.longest(_planted_copies(training, bars, card.seed))
    limit = max((one.notes for one in real), default=0)
    copies = [
        {
            "piece": at,
            "notes": one.notes,
            "share": one.share,
            "training": str(training[one.source]["midi_path"]),
        }
        for at, one in enumerate(ours)
        if one.notes > limit and one.share >= 0.5
    ]
    sources = {
        "generated": (ours, range(len(ours))),
        "held-out": (real, [song for _, song in songs]),
        "planted copies": (planted, range(len(planted))),
    }
    rows, shares = [], []
    for name, (matches, groups) in sources.items():
        notes, part = (np.array([one[field] for one in matches], float) for field in (0, 1))
        rows.append(ScorecardRow.from_interval(f"median | {name}", _quantile(notes, groups, 0.5), len(notes)))
        rows.append(
            ScorecardRow.from_interval(
                f"95th percentile | {name}", _quantile(notes, groups, 0.95), len(notes)
            )
        )
        rows.append(
            ScorecardRow(f"longest | {name}", float(notes.max()) if len(notes) else None, None, len(notes))
        )
        shares.append(
            ScorecardRow.from_interval(
                f"share of the line, median | {name}", _quantile(part, groups, 0.5), len(part)
            )
        )
    last = ScorecardRow(
        "copies", float(len(copies)), None, len(ours), "beyond any held-out excerpt, and half the line"
    )
    text = (
        "Notes in the longest run of (interval, onset) steps that a piece, a track of it, or its highest or lowest "
        "voice shares with training music, whatever the key, tempo, velocity or instrument. Held-out music does, too."
    )
    card.add("memorisation", "Is it its own", [*rows, *shares, last], text, "notes", "memorisation.png")
    card.extra_json["copies"] = copies
    draw_forest(out / "memorisation.png", {"": rows}, "notes shared with a training piece", SOURCES)


def _planted_copies(training: Sequence[Mapping[str, Any]], bars: int, seed: int) -> list[ScoreTick]:
    chosen = np.random.default_rng(seed).permutation(len(training))[:16]
    return [one for at in chosen for one in piece.excerpts(training[at]["score"], 4.0 * bars, 1, seed)]


def _quantile(values: np.ndarray, groups: Sequence[object], at: float) -> Interval:
    return (
        bootstrap(groups, lambda index: float(np.quantile(values[index], at)), 500)
        if len(values)
        else NOT_MEASURED
    )
