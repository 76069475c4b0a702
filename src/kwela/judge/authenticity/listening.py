"""Write a blind listening sheet for human experts, and summarise their ratings.

- Experts hear clips in the judge's standard form (mono, 16 kHz, equally long and loud, MP3 at 32 kbit/s), so
  that neither length, level nor bandwidth shows where a clip comes from. Real and generated clips are mixed,
  in the order of their names.
- A clip's name is a hash of seed and audio. The sheet needs no key, and only who has the clips' folders can
  turn names back.
- Agreement is Krippendorff's alpha: 1 is agreement, 0 what chance gives. Ratings of people who do not agree
  measure little, so agreement comes before any mean.
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
from kwela.judge.authenticity import standard_form
from kwela.judge.authenticity.standard_form import FULL_FORM, StandardForm
from kwela.judge.shared import clips
from kwela.stats import Interval

COLUMNS = ("clip", "rater", "authenticity_1_to_5", "quality_1_to_5", "comment")
CLIPS_PER_FOLDER = 15  # on a sheet
MIN_RATING, MAX_RATING = 1, 5


def sheet_name(digest: str, seed: int) -> str:
    """Return a clip's name on the sheet of a seed. digest: the hash of its audio."""
    return files.sha256(f"{seed}\0{digest}".encode())[:10]


def write_sheet(
    place: Path,
    folders: dict[str, list[tuple[Path, str]]],
    seed: int = 0,
    form: StandardForm = FULL_FORM,
) -> Path:
    """Write the sheet and its clips, up to 15 of each folder; return the CSV's path.

    place: a CSV, its clips in `<name>_clips` beside it; or a folder for `sheet.csv` and `clips`. folders:
    {name: [(path, digest)]}. form: of the clips. Raises UserError if it can't be written.
    """
    sheet = place if place.suffix.lower() == ".csv" else place / "sheet.csv"
    beside = sheet.with_name(f"{sheet.stem}_clips") if sheet == place else place / "clips"
    chosen: dict[str, Path] = {}
    for listed in folders.values():
        ordered = sorted({sheet_name(digest, seed): path for path, digest in listed}.items())
        chosen.update(ordered[:CLIPS_PER_FOLDER])
    rows: list[Sequence[object]] = [COLUMNS]
    for title, path in sorted(chosen.items()):
        wave = standard_form.load(path, form)
        sound = io.BytesIO()
        soundfile.write(sound, wave / max(1.0, float(np.abs(wave).max())), clips.RATE, "PCM_16", format="WAV")
        files.write(beside / f"{title}.wav", sound.getvalue(), durable=False)
        rows.append([f"{title}.wav", "", "", "", ""])
    files.write(sheet, tables.csv_text(rows))
    return sheet


@dataclass(frozen=True)
class Rating:
    """One expert's rating of a clip. authenticity: 1..5."""

    clip: str  # its name on the sheet
    rater: str
    authenticity: float


def read_ratings(path: Path) -> list[Rating]:
    """Return the ratings of a filled-in sheet, or of a folder of sheets; rows without a rating are skipped.

    A row without a rater has the file's name as rater. Raises UserError naming file and row: a missing
    column, a rating outside 1..5, a clip that one rater rated twice.
    """
    sheets = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    ratings: dict[tuple[str, str], Rating] = {}
    for sheet in sheets:
        for where, row in tables.read(sheet, COLUMNS[:3], "ratings"):
            if not row[COLUMNS[2]]:
                continue
            value = tables.number(row[COLUMNS[2]], MIN_RATING, MAX_RATING, f"{where}: {COLUMNS[2]}")
            rating = Rating(Path(row["clip"]).stem, row["rater"] or sheet.stem, value)
            if ratings.setdefault((rating.clip, rating.rater), rating) is not rating:
                raise UserError(f"{where}: {rating.rater} rated {rating.clip} twice")
    if not ratings:
        raise UserError(f"{path}: no ratings in it; fill in the column {COLUMNS[2]}")
    return list(ratings.values())


@dataclass(frozen=True)
class ListeningSummary:
    """What the experts' ratings say.

    agreement: Krippendorff's alpha, NaN with fewer than two raters. mean_ratings: {folder: (mean rating in
    1..5, number of clips)}. reference_auc: AUC of reference over contrast clips by mean rating.
    judge_correlation: rank correlation of mean rating with the judge's log-odds. unknown_clips: rated names
    that none of the folders holds.
    """

    rater_count: int
    clip_count: int
    agreement: Interval
    mean_ratings: dict[str, tuple[Interval, int]]
    reference_auc: Interval
    judge_correlation: Interval
    unknown_clips: list[str]


def summarise(
    ratings: Sequence[Rating],
    folders: dict[str, list[str]],
    log_odds: dict[str, float],
    seed: int = 0,
) -> ListeningSummary:
    """Summarise ratings by folder, with intervals that resample clips.

    folders: {name: [digest]}. log_odds: {digest: value}. seed: of the sheet. Raises UserError if no rating is
    of a clip of these folders with this seed.
    """
    origin = {
        sheet_name(digest, seed): (title, digest) for title, digests in folders.items() for digest in digests
    }
    known = [rating for rating in ratings if rating.clip in origin]
    if not known:
        raise UserError(
            "none of the ratings is of a clip in these folders; use the --seed that wrote the sheet"
        )
    names, raters = sorted({rating.clip for rating in known}), sorted({rating.rater for rating in known})
    table = np.full((len(raters), len(names)), math.nan)
    for rating in known:
        table[raters.index(rating.rater), names.index(rating.clip)] = rating.authenticity
    means = np.nanmean(table, axis=0)
    side = np.array([origin[clip][0] for clip in names])
    odds = np.array([log_odds.get(origin[clip][1], math.nan) for clip in names])

    def resampled(statistic: Callable[[np.ndarray], float], index: np.ndarray) -> Interval:
        return stats.bootstrap(index, lambda k: statistic(index[k]), seed=seed)

    def auc(k: np.ndarray) -> float:
        return stats.auc(means[k][side[k] == "reference"], means[k][side[k] == "contrast"])

    every, judged = np.arange(len(names)), np.flatnonzero(np.isfinite(odds))
    mean_ratings = {}
    for title in folders:
        if len(clips_of_side := np.flatnonzero(side == title)):
            mean = resampled(lambda k: float(means[k].mean()), clips_of_side)
            mean_ratings[title] = (mean, len(clips_of_side))
    correlation = stats.NOT_MEASURED
    if len(judged) > 2:
        correlation = resampled(lambda k: stats.spearman(means[k], odds[k]), judged)
    return ListeningSummary(
        rater_count=len(raters),
        clip_count=len(names),
        agreement=resampled(lambda k: krippendorff(table[:, k]), every),
        mean_ratings=mean_ratings,
        reference_auc=resampled(auc, every),
        judge_correlation=correlation,
        unknown_clips=sorted({rating.clip for rating in ratings} - origin.keys()),
    )


def krippendorff(ratings: np.ndarray) -> float:
    """Return Krippendorff's alpha for ordinal ratings: 1 - observed over expected disagreement, at most 1.

    ratings: (raters, clips), NaN where a rater gave none. Returns NaN if no clip has two ratings, or if all
    ratings are equal. Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", ordinal metric.
    """
    rated = ratings[:, np.isfinite(ratings).sum(0) >= 2]
    values = np.unique(rated[np.isfinite(rated)])
    if len(values) < 2:
        return math.nan
    counts = np.array([(rated == value).sum(0) for value in values], float)  # (values, clips)
    raters = counts.sum(0)
    together = (counts / (raters - 1)) @ counts.T - np.diag((counts / (raters - 1)).sum(1))  # coincidences
    total = together.sum(1)
    # The ordinal distance counts the ratings between two values: it is a difference of mid-ranks.
    ranks = np.cumsum(total) - total / 2
    distance = (ranks[:, None] - ranks[None]) ** 2
    expected = (np.outer(total, total) - np.diag(total)) / (total.sum() - 1)
    return float(1 - (together * distance).sum() / (expected * distance).sum())
