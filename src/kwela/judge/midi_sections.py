"""The tables of `kwela judge midi`, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela.judge import gain as teacher_forced
from kwela.judge import midi_pictures as pictures
from kwela.judge import quality as statistics
from kwela.judge.following import DIMENSIONS, MEASURES, measured, row, turned
from kwela.judge.grid import Answers, Size, same_notes
from kwela.judge.grid import flips as find_flips
from kwela.judge.memorisation import Library
from kwela.judge.midi_grid import Ear, Evidence
from kwela.judge.page import Row, Section
from kwela.judge.stats import Interval, bootstrap, wilson

PUBLISHED = "EMOPIA (Hung et al. 2021) reports .58 to .68 with other pieces and labels"
DESCRIPTORS = {
    "tempo": "tempo",
    "velocity_mean": "velocity",
    "onset_rate": "onsets a second",
    "length_mean": "note length",
    "pitch_mean": "pitch",
    "mode": "major against minor",
}


def evaluators(ears: Mapping[str, Ear], known: Evidence) -> dict[str, Section]:
    """How good the evaluators are on series they haven't seen: before anything that they say."""
    rows: list[Row] = []
    for name, ear in ears.items():
        found = ear.standing
        note = f"majority class {found.majority:.2f}; {PUBLISHED}" if name == "symbolic" else ""
        rows.append(Row.of(f"{name}: 4 quadrants, piece", found.quadrant, found.pieces, note))
        rows.append(Row.of(f"{name}: 4 quadrants, excerpt", found.quadrant_clip, note="what a generated piece is"))
        for d, dimension in enumerate(DIMENSIONS):
            note = f"commonest sign {found.majority_sign[d]:.2f}"
            rows.append(Row.of(f"{name}: {dimension}, sign", found.correct[d], found.pieces, note))
            note = "" if found.usable[d] else "0.5 is not ruled out, by series or by piece: refused below"
            rows.append(Row.of(f"{name}: {dimension}, AUC", found.auc[d], found.pieces, note))
        if name == "symbolic":
            rows.append(Row("majority class: 4 quadrants", found.majority, None, found.pieces, "floor"))
    if not rows:
        rows = [Row("4 quadrants", None, note=known.why)]
    some = next(iter(ears.values()), None)
    what = "pieces that people labelled" if known.source == "human" else "the manifest's held-out rows"
    text = (
        "Accuracy on unseen series, intervals by series, of gradient boosting on symbolic features of the notes and on "
        "audio features of the rendering. A flattened evaluator was trained, and judges, at one tempo and one velocity."
    )
    if some:
        text = f"Trained on {some.standing.pieces} {what}, {some.standing.series} series. " + text
    if known.dropped:
        text += f" {known.dropped} labelled pieces are training music of the model and were left out."
    return {"evaluators": Section("How good the evaluators are", rows, text, "on unseen series")}


def gain(levels: list[Row], gained: Mapping[str, Interval], songs: int, out: Path) -> dict[str, Section]:
    rows = teacher_forced.gain_rows(dict(gained), songs)
    text = (
        "How many nats per id the model saves on held-out songs by being told their true emotion, over another "
        "telling; intervals by song. Over 0: the truth helps. One dimension alone: the other two stay true."
    )
    pictures.gain(rows, out / "gain.png")
    return {
        "nll": Section("Held-out surprise", levels, "Nats per id, teacher-forced.", "nats per id"),
        "gain": Section("What the emotion is worth to the model", rows, text, "nats per id saved", "gain.png"),
    }


def grid(ears: Mapping[str, Ear], made: Mapping[str, Answers], size: Size, out: Path) -> dict[str, Section]:
    """A table for each measure, with the rivals and the ceiling in it."""
    model = made["model"]
    good = int(model.valid.sum())
    counts = [Row.of("valid pieces", wilson(good, len(model.scores)), len(model.scores), "the rest is judged worst")]
    for name, ear in ears.items():
        for system in ("model", "real, held-out"):
            note = "judged far from what the evaluator knows" if ear.strangeness[system] > 0.1 else ""
            label = f"{name} | {system}: features out of range"
            counts.append(Row(label, _or_none(ear.strangeness[system]), None, None, note))
    text = (
        f"Valence and arousal {_list(size.sides)}, intensity {_list(size.intensities)}, {size.seeds} seeds each, "
        f"{size.bars} bars; nothing discarded. Intensity has no human labels and is judged by no "
        "evaluator: see the flips."
    )
    if any(len(ear.model.scores) < len(model.scores) for ear in ears.values()):
        text += " Quick: only the pieces of the largest intensity were rendered."
    sections = {"grid": Section("The grid", counts, text, "share")}
    if not ears:
        counts.append(Row("heard as asked", None, note="no evaluator: see the page's first line"))
        return sections
    for key, (title, _, _) in MEASURES.items():
        rows = []
        for name, ear in ears.items():
            for system, judged in ear.judged.items():
                found = measured(key, judged, ear.standing.usable)
                rows.append(row(f"{name} | {_named(system)}", found, len(judged.groups)))
        what = "Lower is better." if key.startswith("mae") else "1 is calibrated." if key.startswith("slope") else ""
        sections[f"grid_{key}"] = Section(f"Grid: {title}", rows, what, title)
    pictures.calibration(ears, out / "calibration.png")
    sections["grid_slope_arousal"].picture = "calibration.png"
    return sections


def flips(ears: Mapping[str, Ear], of: Answers, real: Sequence[ScoreTick]) -> dict[str, Section]:
    """What turning one dimension from lowest to highest moves, at the same seed."""
    found = find_flips(of)
    rows: list[Row] = []
    targets = ("valence", "arousal", "intensity")
    same = same_notes(of, found)
    for d, name in enumerate(targets):
        these = np.array([flip.dimension == d for flip in found], bool)
        if these.any():
            share = wilson(int(same[these].sum()), int(these.sum()))
            rows.append(Row.of(f"{name}: pairs whose notes stay", share, int(these.sum()), "only tempo and velocity"))
    for name, ear in ears.items():
        for d, turn in enumerate(targets):
            for heard, dimension in enumerate(DIMENSIONS):
                note = "" if d == heard else "leak"
                label = f"{name} | {turn} turned: judged {dimension}"
                if not ear.standing.usable[heard]:
                    rows.append(Row(label, None, note=f"refused: the evaluator can't tell {dimension} from chance"))
                    continue
                mine = ear.model
                change, pairs = turned(ear.raw[:, heard], mine.valid, find_flips(mine), d, mine.seeds)
                rows.append(Row.of(label, change, pairs, note))
    seen, scale = _descriptors(of.scores, of.valid), _descriptors(real, np.ones(len(real), bool))
    for d, turn in enumerate(targets):
        for column, name in enumerate(DESCRIPTORS.values()):
            known = scale[np.isfinite(scale[:, column]), column]
            spread = float(known.std()) if len(known) else 0.0
            if spread < 1e-9:
                rows.append(Row(f"{turn} turned: {name}", None, note="held-out music has one value"))
                continue
            change, pairs = turned(seen[:, column] / spread, of.valid, found, d, of.seeds)
            rows.append(Row.of(f"{turn} turned: {name}", change, pairs, "held-out standard deviations"))
    text = (
        "Pairs of pieces with one seed, one dimension turned from its lowest to its highest value, the others kept. "
        "What is judged lies in [-1, 1]; a change in another dimension than the one that was turned is a leak."
    )
    return {"flips": Section("Turning one dimension", rows, text, "mean change")}


def _descriptors(scores: Sequence[ScoreTick | None], valid: np.ndarray) -> np.ndarray:
    """(pieces, descriptors), NaN where invalid."""
    from kwela.judge import piece, symbolic_features

    out = np.full((len(scores), len(DESCRIPTORS)), math.nan)
    for at, score in enumerate(scores):
        if score is not None and valid[at]:
            found = symbolic_features.features(piece.piece(score))
            out[at] = [found[name] for name in DESCRIPTORS]
    return out


def quality(
    made: Sequence[ScoreTick | None], songs: Sequence[tuple[ScoreTick, str]], seed: int, out: Path
) -> dict[str, Section]:
    held_out = statistics.statistics([score for score, _ in songs])
    groups = [name for _, name in songs]
    ours = statistics.statistics(made)
    noise = statistics.statistics([statistics.thrown_about(score, seed + n) for n, (score, _) in enumerate(songs)])
    rows = statistics.rows(
        statistics.overlaps(ours, held_out, groups, seed=seed),
        statistics.overlaps(noise, held_out, groups, seed=seed),
        len(ours),
    )
    pictures.quality(ours, held_out, noise, out / "quality.png")
    text = (
        f"Overlap of each statistic's distribution with held-out excerpts of as many bars ({len(songs)} of "
        f"{len(set(groups))} songs), for pieces generated with the held-out songs' emotions. 1: one distribution. The "
        "ceiling is held-out music against other held-out music, in samples of the same size; intervals are the middle "
        "95 % of random halvings by song."
    )
    return {"quality": Section("Is it music like held-out music", rows, text, "overlap", "quality.png")}


def memorised(
    library: Library,
    made: Sequence[ScoreTick],
    songs: Sequence[tuple[ScoreTick, str]],
    training: Sequence[Mapping[str, Any]],
    bars: int,
    seed: int,
    out: Path,
) -> tuple[dict[str, Section], list[dict[str, Any]]]:
    """The table, and the pieces that share more with a training piece than any held-out excerpt does, half or more."""
    ours, real = library.longest(made), library.longest([score for score, _ in songs])
    planted = library.longest(planted_copies(training, bars, seed))
    limit = max((one.notes for one in real), default=0)
    copies = [
        {"piece": at, "notes": one.notes, "share": one.share, "training": str(training[one.source]["midi_path"])}
        for at, one in enumerate(ours)
        if one.notes > limit and one.share >= 0.5
    ]
    rows = []
    for name, matches, groups in (
        ("generated", ours, list(range(len(ours)))),
        ("held-out real music, reference", real, [song for _, song in songs]),
        ("training excerpts, planted copies", planted, list(range(len(planted)))),
    ):
        notes, share = (np.array([one[field] for one in matches], float) for field in (0, 1))
        for statistic, what in ((0.5, "median"), (0.95, "95th percentile")):
            rows.append(Row.of(f"{name}: {what}", _quantile(notes, groups, statistic), len(notes)))
        rows.append(Row(f"{name}: longest", float(notes.max()) if len(notes) else None, None, len(notes)))
        rows.append(Row.of(f"{name}: share of the piece, median", _quantile(share, groups, 0.5), len(share)))
    rows.append(Row("copies", float(len(copies)), None, len(ours), "beyond any held-out excerpt, and half the piece"))
    text = (
        "Notes in the longest run of (interval, onset) steps that a piece shares with any training piece, whatever the "
        "key, tempo, velocity or instrument. Held-out music shares runs with training music, too: idioms and scales."
    )
    pictures.memorisation(ours, real, out / "memorisation.png")
    return {"memorisation": Section("Is it its own", rows, text, "notes", "memorisation.png")}, copies


def planted_copies(training: Sequence[Mapping[str, Any]], bars: int, seed: int, most: int = 16) -> list[ScoreTick]:
    from kwela.judge import piece

    chosen = np.random.default_rng(seed).permutation(len(training))[:most]
    cut = [piece.excerpts(training[at]["score"], 4.0 * bars, 1, seed) for at in chosen]
    return [one for several in cut for one in several]


def verdicts(
    tables: Mapping[str, Section],
    ears: Mapping[str, Ear],
    of: Answers,
    derived: str,
    known: Evidence,
    copies: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    out: dict[str, Any] = {"labels": f"derived from the MIDI: {derived}" if derived else "given"}
    if "gain" in tables:
        rows = {one.row: one for one in tables["gain"].rows}
        out["emotion_helps_on_held_out_songs"] = _positive(rows["over shuffled emotions"])
        out["dimensions_that_help"] = [
            name for name in teacher_forced.DIMENSIONS if _positive(rows[f"over shuffled {name} alone"]) is True
        ]
    usable = {name: [d for d, good in zip(DIMENSIONS, ear.standing.usable) if good] for name, ear in ears.items()}
    out["evaluators"] = usable or f"not measured: {known.why}"
    out["heard_as_asked"] = {name: _followed(ear) for name, ear in ears.items()} or "not measured"
    out["only_tempo_and_velocity"] = only_tempo_and_velocity(ears, of)
    out["valid_pieces"] = f"{int(of.valid.sum())} of {len(of.scores)}"
    out["copies"] = len(copies)
    return out


def only_tempo_and_velocity(ears: Mapping[str, Ear], of: Answers) -> bool | str:
    """Whether what is followed vanishes once tempo and velocity are flattened, or the notes never change at all."""
    found = [flip for flip in find_flips(of) if flip.dimension < 2]
    if found and same_notes(of, found).mean() > 0.5:
        return True
    plain, flat = ears.get("symbolic"), ears.get("symbolic (flattened)")
    if plain is None or flat is None:
        return "not measured" if not found else False
    followed = _followed(plain)
    return not set(followed) & set(_followed(flat)) if followed else "nothing is followed"


def _followed(ear: Ear) -> list[str]:
    """The dimensions whose rank correlation is surely over 0 and over that of the model's shuffled targets."""
    out = []
    for d, name in enumerate(DIMENSIONS):
        if not ear.standing.usable[d]:
            continue
        mine, chance = ear.judged["model"].rank(d), ear.judged["shuffled labels"].rank(d)
        if mine.low > 0 and mine.low > chance.value:
            out.append(name)
    return out


def _positive(row: Row) -> bool | str:
    return "not measured" if row.value is None or row.ci is None else row.ci[0] > 0


def _quantile(values: np.ndarray, groups: Sequence[object], at: float) -> Interval:
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    return bootstrap(groups, lambda index: float(np.quantile(values[index], at)), 500)


def _named(system: str) -> str:
    return {"real, held-out": "real, held-out (ceiling)"}.get(system, system)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
