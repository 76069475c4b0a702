"""The cloud judge tells an honest model from one that always gives one cloud, copies, mixes songs up, or
flickers.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import once
import pytest
import torch
from cloud_songs import save_checkpoint, song_rows

from kwela.judge.clouds import judge as clouds
from kwela.judge.clouds import metrics, windows
from kwela.judge.clouds import page as cloud_card
from kwela.judge.clouds.baselines import Baselines
from kwela.judge.clouds.metrics import MODEL, SAME_DRAW, CloudPredictor, score_windows
from kwela.judge.clouds.windows import Window, WindowInputs, WindowWithTarget
from kwela.judge.shared.scorecard import Scorecard
from kwela.spectocloud import target
from kwela.spectocloud.model import build
from kwela.spectocloud.target import Cloud


class Songs:
    """Six held-out songs and ten for training, read once; baselines made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held_out_rows = song_rows(folder, [f"held{k}" for k in range(6)])
        self.training_rows = song_rows(folder, [f"training{k}" for k in range(10)])
        self.held_out = self.read(self.held_out_rows)
        self.baselines = Baselines(self.read(self.training_rows), seed=0)

    def read(self, given: list[dict[str, Any]]) -> list[WindowWithTarget]:
        left_out: dict[str, str] = {}
        read = windows.read_windows(windows.choose_windows(given, 2, 100), left_out, "reading")
        assert not left_out
        return read

    def judge(self, model: CloudPredictor) -> Scorecard:
        card = Scorecard("clouds")
        cloud_card.add_sections(
            card, score_windows(model, self.held_out, self.baselines, seed=0), self.folder
        )
        return card


@pytest.fixture(scope="module", autouse=True)
def shared_work(module_patch: pytest.MonkeyPatch) -> None:
    once.share(module_patch, windows, "read_inputs")
    once.share(module_patch, metrics, "read_inputs", "draw_target", "cloud_distances")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Songs:
    return Songs(tmp_path_factory.mktemp("songs"))


def honest(window: Window, inputs: WindowInputs) -> Cloud:
    """As good as a model can be: the rule of the target, with numbers of its own that never change."""
    return target.make_cloud(inputs.segment, window.emotion, seed=123)


def figure(card: Scorecard, table: str, row: str) -> float:
    (found,) = [one for one in card.sections[table].rows if one.label == row]
    assert found.value is not None
    return found.value


def test_an_honest_model_passes_every_verdict(songs: Songs) -> None:
    verdicts = songs.judge(honest).verdicts
    assert verdicts["beats_every_baseline"] and not verdicts["not_beaten"]
    assert verdicts["knows_its_song"] and verdicts["steady"] and verdicts["follows"]
    assert verdicts["gap_closed"]["value"] == pytest.approx(1, abs=0.15)


def test_always_the_mean_cloud_is_caught(songs: Songs) -> None:
    card = songs.judge(lambda window, inputs: songs.baselines.mean_cloud)
    assert not card.verdicts["beats_every_baseline"]
    assert "chamfer: mean cloud" in card.verdicts["not_beaten"]
    assert not card.verdicts["knows_its_song"]
    assert not card.verdicts["follows"], "steady, but frozen"
    assert figure(card, "chamfer", MODEL) == figure(card, "chamfer", "mean cloud")


def test_copying_the_nearest_training_cloud_is_caught(songs: Songs) -> None:
    card = songs.judge(lambda window, inputs: songs.baselines.nearest_cloud(inputs))
    assert not card.verdicts["beats_every_baseline"]
    assert "chamfer: nearest neighbour" in card.verdicts["not_beaten"]
    assert card.verdicts["gap_closed"]["value"] <= 0


def test_right_clouds_under_wrong_songs_are_caught(songs: Songs) -> None:
    names = sorted({example.window.song for example in songs.held_out})
    swapped = {name: names[k - 1] for k, name in enumerate(names)}
    of = {example.window.song: example for example in songs.held_out}

    def shuffled(window: Window, inputs: WindowInputs) -> Cloud:
        return of[swapped[window.song]].target

    card = songs.judge(shuffled)
    assert not card.verdicts["knows_its_song"]
    assert figure(card, "own_song", MODEL) <= 1 / 6
    assert not card.verdicts["beats_every_baseline"]


@pytest.mark.parametrize("part", ["positions", "attributes"])
def test_flicker_loses_on_steadiness_and_on_nothing_else(songs: Songs, part: str) -> None:
    def flickering(window: Window, inputs: WindowInputs) -> Cloud:
        cloud = honest(window, inputs)
        rng = np.random.default_rng(zlib.crc32(inputs.log_mel.tobytes()))
        plain = getattr(cloud, part)
        moved = np.clip(plain + rng.normal(0, 0.02, plain.shape), 0, 1).astype(np.float32)
        return cloud._replace(**{part: moved})

    card = songs.judge(flickering)
    assert not card.verdicts["steady"]
    assert (
        card.verdicts["beats_every_baseline"] and card.verdicts["knows_its_song"] and card.verdicts["follows"]
    )
    table = "moved_1ms" if part == "positions" else "moved_1ms_colour"
    assert figure(card, table, MODEL) > 1.5 * figure(card, table, SAME_DRAW)


def test_a_model_whose_points_are_not_finite_gets_no_number(songs: Songs) -> None:
    def broken(window: Window, inputs: WindowInputs) -> Cloud:
        cloud = honest(window, inputs)
        return cloud._replace(positions=cloud.positions * np.nan)

    card = songs.judge(broken)
    assert not card.verdicts["beats_every_baseline"]
    row = card.sections["chamfer"].rows[0]
    assert row.value is None and row.note == "not finite"
    assert "NaN" not in str(card.to_dict()) and "Infinity" not in str(card.to_dict())


def test_one_cloud_that_is_none_is_enough(songs: Songs) -> None:
    seen = []

    def mostly(window: Window, inputs: WindowInputs) -> Cloud:
        seen.append(window)
        cloud = honest(window, inputs)
        return cloud._replace(positions=cloud.positions * np.nan) if len(seen) == 1 else cloud

    card = songs.judge(mostly)
    assert not card.verdicts["beats_every_baseline"] and not card.verdicts["steady"]
    assert card.verdicts["gap_closed"] == {"value": None, "ci": None}


@pytest.mark.usefixtures("real_pictures")
def test_a_checkpoint_is_judged_from_its_manifests_and_its_page_written(songs: Songs, tmp_path: Path) -> None:
    paths = {side: tmp_path / f"{side}.jsonl" for side in ("held", "training")}
    for side, given in (("held", songs.held_out_rows), ("training", songs.training_rows)):
        lines = [
            json.dumps(row | {"emotion": row["emotion64"][:3].tolist(), "emotion64": None}) for row in given
        ]
        paths[side].write_text("\n".join(lines))
    torch.manual_seed(0)
    model = save_checkpoint(tmp_path / "tiny.pt", build({"width": 16, "depth": 1}))
    card = clouds.judge(model, paths["held"], paths["training"], out=tmp_path / "out", quick=True)
    assert card.verdicts["status"] == "measured" and not card.verdicts["beats_every_baseline"]
    assert card.extra_json["songs"] == 6
    page = (tmp_path / "out" / "clouds.md").read_text()
    assert page.startswith("The checkpoint was trained with other manifests")
    assert json.loads((tmp_path / "out" / "clouds.json").read_text()) == card.to_dict()
    for picture in ("songs.png", "clouds.png"):
        assert f"({picture})" in page and (tmp_path / "out" / picture).stat().st_size > 10_000


def test_fewer_than_five_songs_are_refused(songs: Songs, tmp_path: Path) -> None:
    card = clouds.judge_clouds(honest, songs.held_out_rows[:4], songs.training_rows, out=tmp_path)
    assert card.verdicts["status"] == "refused" and "4 held-out songs" in card.verdicts["why"]
    assert not card.sections


def test_songs_that_training_has_seen_do_not_count(songs: Songs, tmp_path: Path) -> None:
    renamed = [
        dict(row, group=f"new{k}") for k, row in enumerate(songs.training_rows[:2])
    ]  # the same audio under new names
    card = clouds.judge_clouds(
        honest,
        songs.held_out_rows[:4] + renamed + songs.training_rows[2:4],
        songs.training_rows,
        out=tmp_path,
    )
    assert card.verdicts["status"] == "refused"
    assert len(card.extra_json["left_out"]) == 4
