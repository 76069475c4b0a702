"""A blind listening sheet for human experts: clips without names, a CSV to fill in, and what the ratings say.

- Experts hear the judge's own form (mono, 16 kHz, equally loud, MP3 32 kbit/s), so that neither level nor bandwidth
  says where a clip came from. Real clips, contrast and generated ones stand mixed, in the order of their names.
- A clip's name is a hash of seed and audio: the sheet needs no key, and without the clips' folders nobody can turn
  names back.
- Agreement is Krippendorff's alpha: 1 is agreement, 0 what chance gives. Ratings of people who don't agree measure
  little, so it is said before any mean.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from kwela import files, stats, tables
from kwela.errors import UserError
from kwela.judge.shared import clips
from kwela.stats import Interval

COLUMNS = ("clip", "rater", "authenticity_1_to_5", "quality_1_to_5", "comment")
A_FOLDER = 15  # clips of each folder on a sheet
LOW, HIGH = 1, 5


def name(digest: str, seed: int) -> str:
    """A clip's name on the sheet of a seed."""
    return files.sha256(f"{seed}\0{digest}".encode())[:10]


def write_sheet(place: Path, folders: dict[str, list[tuple[Path, str]]], seed: int = 0) -> Path:
    """Write the sheet and its clips, up to 15 of each folder; the CSV's path.

    place: a CSV, its clips in `<name>_clips` beside it; or a folder for `sheet.csv` and `clips`. folders: {name:
    [(path, digest)]}. Raises UserError if it can't be written.
    """
    sheet = place if place.suffix.lower() == ".csv" else place / "sheet.csv"
    beside = sheet.with_name(f"{sheet.stem}_clips") if sheet == place else place / "clips"
    chosen: dict[str, Path] = {}
    for found in folders.values():
        ordered = sorted({name(digest, seed): path for path, digest in found}.items())
        chosen.update(ordered[:A_FOLDER])
    rows: list[Sequence[object]] = [COLUMNS]
    for title, path in sorted(chosen.items()):
        wave = clips.load_standard(path)
        sound = io.BytesIO()
        soundfile.write(sound, wave / max(1.0, float(np.abs(wave).max())), clips.RATE, "PCM_16", format="WAV")
        files.write(beside / f"{title}.wav", sound.getvalue(), durable=False)
        rows.append([f"{title}.wav", "", "", "", ""])
    files.write(sheet, tables.csv_text(rows))
    return sheet


@dataclass(frozen=True)
class Rating:
    clip: str  # its name on the sheet
    rater: str
    authenticity: float


def read_ratings(path: Path) -> list[Rating]:
    """The ratings of a filled-in sheet, or of a folder of them; rows without a rating are passed over.

    A row without a rater is the file's. Raises UserError naming file and row: a missing column, a rating outside
    1..5, a clip that one rater rated twice.
    """
    sheets = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    found: dict[tuple[str, str], Rating] = {}
    for sheet in sheets:
        for where, row in tables.read(sheet, COLUMNS[:3], "ratings"):
            if not row[COLUMNS[2]]:
                continue
            value = tables.number(row[COLUMNS[2]], LOW, HIGH, f"{where}: {COLUMNS[2]}")
            rating = Rating(Path(row["clip"]).stem, row["rater"] or sheet.stem, value)
            if found.setdefault((rating.clip, rating.rater), rating) is not rating:
                raise UserError(f"{where}: {rating.rater} rated {rating.clip} twice")
    if not found:
        raise UserError(f"{path}: no ratings in it; fill in the column {COLUMNS[2]}")
    return list(found.values())


@dataclass(frozen=True)
class Heard:
    """What experts said. agreement: alpha, NaN with fewer than two raters. folders: mean rating of each, 1..5.
    real: AUC of reference over contrast clips by mean rating. judge: rank correlation of mean rating with the judge's
    log-odds. unknown: rated names that none of the folders holds."""

    raters: int
    clips: int
    agreement: Interval
    folders: dict[str, tuple[Interval, int]]
    real: Interval
    judge: Interval
    unknown: list[str]


def summarise(
    ratings: Sequence[Rating],
    folders: dict[str, list[str]],
    log_odds: dict[str, float],
    seed: int = 0,
) -> Heard:
    """folders: {name: [digest]}; log_odds: {digest: value}. Intervals resample clips. Raises UserError if no rating
    is of a clip of these folders with this seed."""
    place = {name(digest, seed): (title, digest) for title, digests in folders.items() for digest in digests}
    known = [rating for rating in ratings if rating.clip in place]
    if not known:
        raise UserError(
            "none of the ratings is of a clip in these folders; use the --seed that wrote the sheet"
        )
    order, raters = sorted({rating.clip for rating in known}), sorted({rating.rater for rating in known})
    ratings_of = np.full((len(raters), len(order)), math.nan)
    for rating in known:
        ratings_of[raters.index(rating.rater), order.index(rating.clip)] = rating.authenticity
    means = np.nanmean(ratings_of, axis=0)
    side = np.array([place[clip][0] for clip in order])
    odds = np.array([log_odds.get(place[clip][1], math.nan) for clip in order])

    def over(statistic: Callable[[np.ndarray], float], index: np.ndarray) -> Interval:
        return stats.bootstrap(index, lambda k: statistic(index[k]), seed=seed)

    whole = np.arange(len(order))
    told = np.flatnonzero(np.isfinite(odds))
    return Heard(
        raters=len(raters),
        clips=len(order),
        agreement=over(lambda k: krippendorff(ratings_of[:, k]), whole),
        folders={
            title: (
                over(lambda k: float(means[k].mean()), np.flatnonzero(side == title)),
                int((side == title).sum()),
            )
            for title in folders
            if (side == title).any()
        },
        real=over(
            lambda k: stats.auc(means[k][side[k] == "reference"], means[k][side[k] == "contrast"]), whole
        ),
        judge=over(lambda k: stats.spearman(means[k], odds[k]), told)
        if len(told) > 2
        else stats.NOT_MEASURED,
        unknown=sorted({rating.clip for rating in ratings} - place.keys()),
    )


def krippendorff(ratings: np.ndarray) -> float:
    """Krippendorff's alpha for ordinal ratings: 1 - observed over expected disagreement.

    ratings: (raters, clips), NaN where a rater gave none. NaN comes back without a clip that two rated, or if every
    rating is the same. Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", ordinal metric.
    """
    rated = ratings[:, np.isfinite(ratings).sum(0) >= 2]
    values = np.unique(rated[np.isfinite(rated)])
    if len(values) < 2:
        return math.nan
    counts = np.array([(rated == value).sum(0) for value in values], float)  # (values, clips)
    raters = counts.sum(0)
    together = (counts / (raters - 1)) @ counts.T - np.diag((counts / (raters - 1)).sum(1))  # coincidences
    total = together.sum(1)
    below = (
        np.cumsum(total) - total / 2
    )  # mid-ranks: the ordinal distance counts the ratings between two values
    distance = (below[:, None] - below[None]) ** 2
    expected = (np.outer(total, total) - np.diag(total)) / (total.sum() - 1)
    return float(1 - (together * distance).sum() / (expected * distance).sum())
