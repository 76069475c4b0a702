from __future__ import annotations

import csv
import math
from pathlib import Path

import made_music
import numpy as np
import pytest

from kwela.errors import UserError
from kwela.judge.authenticity import listening
from kwela.judge.authenticity.listening import Rating
from kwela.judge.shared import clips
from kwela.music.loudness import loudness

NAN = math.nan
# Krippendorff 2011, example C: four observers, twelve units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


def test_alpha_is_the_published_one() -> None:
    assert listening.krippendorff(PUBLISHED) == pytest.approx(0.815, abs=0.001)


def test_alpha_is_one_for_agreement_nothing_for_chance_and_unknown_for_one_rater() -> None:
    rng = np.random.default_rng(0)
    assert listening.krippendorff(np.tile(rng.integers(1, 6, 30), (3, 1)).astype(float)) == pytest.approx(1)
    assert abs(listening.krippendorff(rng.integers(1, 6, (4, 400)).astype(float))) < 0.06
    assert math.isnan(listening.krippendorff(PUBLISHED[:1]))
    assert math.isnan(listening.krippendorff(np.full((3, 8), 4.0)))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, list[tuple[Path, str]]]:
    found: dict[str, list[tuple[Path, str]]] = {}
    for name, style in (("reference", "log_drum"), ("contrast", "house"), ("samples", "hip_hop")):
        place = made_music.folder(tmp_path / name, (style,), 3, 1)
        found[name] = [
            (path, clips.audio_hash(clips.load_middle(path))) for path in clips.find_audio_files(place)
        ]
    return found


def test_the_sheet_says_nothing_of_where_a_clip_is_from(
    tmp_path: Path, folders: dict[str, list[tuple[Path, str]]]
) -> None:
    sheet = listening.write_sheet(tmp_path / "sheet", folders, seed=1)
    heard = clips.find_audio_files(tmp_path / "sheet" / "clips")
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == [path.name for path in heard] and len(rows) == 9
    assert not any(
        word in sheet.read_text() for word in ("log_drum", "house", "reference", "contrast", "samples-")
    )
    levels = [loudness(clips.load_middle(path), clips.RATE) for path in heard]
    assert max(levels) - min(levels) < 0.7 and len({path.stat().st_size for path in heard}) == 1
    again = listening.write_sheet(tmp_path / "again.csv", folders, seed=1)
    assert again.read_text() == sheet.read_text() and (tmp_path / "again_clips").is_dir()
    other = listening.write_sheet(tmp_path / "other", folders, seed=2)
    assert other.read_text() != sheet.read_text()


def told(folders: dict[str, list[str]], rate: dict[str, float], raters: int, noise: float) -> list[Rating]:
    rng = np.random.default_rng(0)
    return [
        Rating(
            listening.sheet_name(d, 0),
            f"r{k}",
            float(np.clip(round(rate[name] + noise * rng.normal()), 1, 5)),
        )
        for name, digests in folders.items()
        for d in digests
        for k in range(raters)
    ]


def test_ratings_come_back_by_folder_with_agreement_and_intervals() -> None:
    folders = {name: [f"{name}{k}" for k in range(12)] for name in ("reference", "contrast", "samples")}
    odds = {
        d: {"r": 2.0, "c": -2.0, "s": 0.0}[d[0]] + 0.01 * k
        for ds in folders.values()
        for k, d in enumerate(ds)
    }
    ratings = told(folders, {"reference": 4.5, "samples": 3, "contrast": 1.5}, 3, 0.5)
    summary = listening.summarise([*ratings, Rating("nobody", "r0", 3)], folders, odds)
    assert summary.rater_count == 3 and summary.clip_count == 36 and summary.unknown_clips == ["nobody"]
    mean = {name: interval for name, (interval, _) in summary.mean_ratings.items()}
    assert mean["contrast"].high < mean["samples"].low < mean["samples"].high < mean["reference"].low
    assert (
        summary.agreement.low > 0.6
        and summary.agreement.low <= summary.agreement.value <= summary.agreement.high
    )
    assert summary.reference_auc.value == pytest.approx(1) and summary.judge_correlation.value > 0.7


def test_raters_who_do_not_agree_are_told_so() -> None:
    folders = {"reference": [f"a{k}" for k in range(20)], "contrast": [f"b{k}" for k in range(20)]}
    summary = listening.summarise(told(folders, {"reference": 3, "contrast": 3}, 3, 3.0), folders, {})
    assert summary.agreement.value < 0.3 and summary.reference_auc.low < 0.5 < summary.reference_auc.high
    assert math.isnan(summary.judge_correlation.value)


def test_a_filled_in_sheet_is_read_and_blanks_are_passed_over(tmp_path: Path) -> None:
    head = ",".join(listening.COLUMNS)
    (tmp_path / "thandi.csv").write_text(f"{head}\na.wav,,4,,good\nb.wav,,,,\n")
    (tmp_path / "sipho.csv").write_text(f"{head}\na.wav,S,2.5,1,\n")
    assert listening.read_ratings(tmp_path) == [Rating("a", "S", 2.5), Rating("a", "thandi", 4.0)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clip,rater,authenticity_1_to_5\na,x,6\n", "row 2: .*'6'"),
        ("clip,rater,authenticity_1_to_5\na,x,good\n", "row 2"),
        ("clip,rater,authenticity_1_to_5\na,x,3\na,x,4\n", "row 3: x rated a twice"),
        ("clip,rater,authenticity_1_to_5\na,x,\n", "no ratings"),
        ("clip,rater,score\na,x,3\n", "no column authenticity_1_to_5"),
    ],
)
def test_a_bad_rating_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        listening.read_ratings(tmp_path / "r.csv")


def test_ratings_of_another_seed_are_refused() -> None:
    with pytest.raises(UserError, match="--seed"):
        listening.summarise([Rating(listening.sheet_name("a", 1), "x", 3)], {"reference": ["a"]}, {}, seed=0)
