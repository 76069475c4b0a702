"""The task behind the engine's wall: it learns real music, counts what it should, and survives being
killed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import fine_tune
import musicgen_set
import numpy as np
import pytest
import soundfile
import torch

import validation
from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.musicgen import base_model, baselines, data, tiny
from kwela.musicgen.delay import IGNORED
from kwela.musicgen.task import MusicgenTask, count_table

TUNING = Path(fine_tune.__file__)


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    """The engine's own way to compare two runs."""
    sys.path.append(str(Path(__file__).parents[1] / "engine"))
    import runs

    return runs


def the_task(settings, **more) -> MusicgenTask:
    return MusicgenTask(settings, workers=1, device="cpu", **{"say": str, **more})


# ---------------------------------------------------------------------- figures


def test_it_learns_music_it_has_not_heard_better_than_constant_and_bigram(settings, tmp_path):
    settings.training.max_steps, settings.training.epochs = 120, 100
    settings.training.early_stopping.enabled = False
    outcome = fine_tune.fit(settings, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    held_out = [row for row in rows if row["split"] == "val"]
    floor, last = held_out[-1]["baselines"], held_out[-1]["val_loss"]
    assert floor["bigram_ce"] < floor["constant_ce"]
    assert outcome.best <= last < floor["bigram_ce"] - 0.15
    assert last < floor["base_loss"] - 0.2
    assert held_out[0]["val_loss"] > floor["bigram_ce"] - 0.1  # the control: untrained, it does no better
    for book in range(1, 5):
        assert held_out[-1][f"val_ce_{book}"] < floor[f"bigram_ce_{book}"]


def test_figures_are_the_same_however_clips_are_batched_and_books_add_up(settings):
    task = the_task(settings)
    model = task.model().eval()
    one, five = validation.figures(task, model, 1), validation.figures(task, model, 5)
    for name in one:
        assert one[name] == pytest.approx(five[name], rel=1e-5), name
    assert np.mean([one[f"ce_{book}"] for book in range(1, 5)]) == pytest.approx(one["loss"], rel=1e-5)


def test_a_loss_counts_every_code_once_and_no_padding(settings):
    task = the_task(settings)
    items = task.datasets()[1]
    drawn = [items.item(index, np.random.default_rng(0)) for index in range(2)]
    drawn[1] = data.Crop(drawn[1].codes[:, :40], drawn[1].states, drawn[1].text_width)
    batch = task.collate(drawn)
    with torch.no_grad():
        found = task.losses(task.model().eval(), batch)
    assert (
        float(found["loss"].weight)
        == 4 * (drawn[0].codes.shape[1] + 40)
        == (batch["targets"] != IGNORED).sum()
    )
    assert 0 <= found["accuracy"].value(*map(float, found["accuracy"])) <= 1


def test_baselines_are_judged_on_the_very_crops_that_validation_hears(settings, monkeypatch):
    task = the_task(settings)
    heard: list[np.ndarray] = []
    whole = baselines.measure
    monkeypatch.setattr(baselines, "measure", lambda train, held_out, size: heard.extend(held_out) or whole(
        train, held_out, size))  # fmt: skip
    found = task.baselines()
    assert list(found)[:2] == ["constant_ce", "bigram_ce"] and len(found) == 10
    shown = [item.codes for item in validation.items(task, settings.seed)]
    assert len(heard) == len(shown) > 3
    assert all(np.array_equal(a, b) for a, b in zip(heard, shown, strict=True))


def test_silent_and_broken_clips_are_left_out_and_said(settings, table, tmp_path):
    soundfile.write(tmp_path / "silence.flac", np.zeros(160_000), 16_000)
    (tmp_path / "broken.mp3").write_bytes(b"not sound" * 99)
    known = data.read_table(table)
    rows = [
        [c.clip_id, c.path, 3, ",".join(c.tags), 10, c.split, c.artist] for c in known
    ]  # absolute paths will do
    extra = [[name, name, 3, "slow", 10, "train", "x"] for name in ("silence.flac", "broken.mp3")]
    settings.data.train_manifest = musicgen_set.write(tmp_path / "training_metadata.csv", [*rows, *extra])
    said: list[str] = []
    task = the_task(settings, say=said.append)
    train, held_out, *_ = task.cached_clips
    assert len(train) + len(held_out) == len(known)
    assert count_table(task)["rows"] == len(known) + 2  # as the playbook counts: the table's
    assert [line for line in said if "silence.flac: silence" in line]
    assert [line for line in said if "broken.mp3: not readable as audio" in line]
    assert all(line.startswith(("left out: ", "Resampled")) for line in said)
    assert count_table(task)["tags"] == len({tag for clip in known for tag in clip.tags})


def test_crops_shorter_than_a_frame_are_refused(settings):
    settings.data.seconds = 0.001
    with pytest.raises(UserError, match=r"data\.seconds: 0\.001 is shorter than one frame"):
        the_task(settings)


def test_a_preview_is_a_sample_and_its_picture(settings, tmp_path):
    settings.data.seconds = 1.0
    task = the_task(settings)
    task.preview(task.model().eval(), tmp_path)
    wave, rate = soundfile.read(tmp_path / "sample.wav")
    assert (len(wave), rate) == (32_000, 32_000)
    assert (tmp_path / "sample.png").stat().st_size > 5_000


# ------------------------------------------------------------------- one and the same run


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_checkpointing_and_workers_change_nothing(table, place, stand_in, cached, tmp_path, runs):
    def run(name: str, *overrides: str) -> Path:
        fine_tune.fit(
            fine_tune.settings(
                table,
                place,
                stand_in,
                *fine_tune.SETTINGS,
                *fine_tune.LORA,
                "training.max_steps=4",
                *overrides,
            ),
            tmp_path / name,
        )
        return tmp_path / name

    plain = run("plain")
    assert runs.differences(plain, run("workers", "data.num_workers=2")) == []
    assert runs.differences(plain, run("checkpointed", "training.gradient_checkpointing=true")) == []
    assert runs.differences(plain, run("other", "augment.condition_dropout=0.9")) != []  # the control


def test_the_base_models_loss_stands_beside_every_figure_also_after_a_resume(
    table, place, stand_in, cached, tmp_path
):
    made = fine_tune.settings(table, place, stand_in, *fine_tune.SETTINGS, "training.max_steps=5")
    fine_tune.fit(made, tmp_path)
    made.training.max_steps = 10
    fine_tune.fit(made, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    held_out = [row for row in rows if row["split"] == "val"]
    assert held_out[0]["step"] == 0
    assert [row["step"] for row in held_out].count(0) == 1
    later = [row["baselines"]["base_loss"] for row in held_out[1:]]
    assert later == [held_out[0]["val_loss"]] * len(later) and len(later) >= 3
    assert json.loads((tmp_path / "run.json").read_text())["baselines"]["base_loss"] == later[0]
    task = the_task(made)
    assert validation.figures(task, task.model().eval(), 8)["loss"] == pytest.approx(later[0], abs=0.03)


def test_another_base_is_another_run(table, place, stand_in, cached, tmp_path, capsys):
    made = fine_tune.settings(table, place, stand_in, *fine_tune.SETTINGS, "training.max_steps=2")
    fine_tune.fit(made, tmp_path / "out")
    fine_tune.fit(made, tmp_path / "out", quiet=False, tokenizer_hash="another base")
    assert "Not resuming" in (said := capsys.readouterr().out) and "tokenizer" in said
    assert (tmp_path / "out.1").is_dir()


# ----------------------------------------------------------------------- killed


def step_of(out: Path) -> int:
    try:
        return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (FileNotFoundError, IndexError, json.JSONDecodeError):
        return 0


def survives(
    data_set: tuple[Path, Path, Path], tmp_path: Path, runs: ModuleType, kills: int, *overrides: str
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    settings = (*fine_tune.SETTINGS, *overrides)
    fine_tune.fit(fine_tune.settings(*data_set, *settings), whole)
    dice = random.Random(str(overrides))
    command = [sys.executable, str(TUNING), *map(str, data_set), str(part), *settings]
    for _ in range(kills):
        run = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        goal = step_of(part) + dice.randint(2, 4)
        while step_of(part) < goal:
            assert run.poll() is None, run.communicate()[1]
            time.sleep(0.005)
        time.sleep(dice.random() * 0.1)
        run.kill()
        run.communicate()
    assert 0 < checkpoint.load(part / "last.pt")["progress"]["step"] < fine_tune.STEPS
    fine_tune.fit(fine_tune.settings(*data_set, *settings), part)
    assert checkpoint.load(part / "last.pt")["progress"]["step"] == fine_tune.STEPS
    assert runs.differences(whole, part) == []


def test_a_killed_run_ends_in_the_same_bits(table, place, stand_in, cached, tmp_path, runs):
    survives((table, place, stand_in), tmp_path, runs, 1, *fine_tune.LORA)


@pytest.mark.full
@pytest.mark.parametrize(
    "cell",
    [
        ("model.tuning=full",),
        (*fine_tune.LORA, "data.num_workers=2", "training.gradient_checkpointing=true"),
        (
            *fine_tune.LORA,
            "training.amp=true",
            "training.ema={enabled: true}",
            "training.amp_dtype=bfloat16",
            "data.batch_size=4",
            "training.grad_accum_steps=2",
        ),
    ],
)
def test_kills_change_nothing_in_any_cell(table, place, stand_in, cached, tmp_path, runs, cell):
    survives((table, place, stand_in), tmp_path, runs, 3, *cell)


@pytest.mark.full
def test_two_ranks_fill_one_cache_and_are_one_run(table, stand_in, tmp_path, runs):
    """Both ranks want the codes at once; with the same global batch, one rank ends in nearly the same
    weights.
    """
    settings = (*fine_tune.SETTINGS, "training.max_steps=4", "data.batch_size=4")
    (place := tmp_path / "cache").mkdir()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(TUNING),
    ]
    command += [*map(str, (table, place, stand_in, tmp_path / "two")), *settings]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    held = [path.name for path in place.glob("*/codes/*.safetensors")]
    one = fine_tune.settings(table, place, stand_in, *settings, "data.batch_size=8")
    fine_tune.fit(one, tmp_path / "one")
    assert [path.name for path in place.glob("*/codes/*.safetensors")] == held
    for a, b in zip(runs.rows(tmp_path / "two"), runs.rows(tmp_path / "one"), strict=True):
        name = "val_loss" if a["split"] == "val" else "loss"
        assert (a["step"], a["split"], a[name]) == (b["step"], b["split"], pytest.approx(b[name], rel=1e-4))


def test_the_stand_in_and_its_table_are_what_other_tests_think(folder, table):
    assert base_model.codec_shape(folder) == base_model.CodecShape(tiny.CODEBOOKS, tiny.SIZE, tiny.RATE, 640)
    clips = data.read_table(table)
    artists = {side: {clip.artist for clip in clips if clip.split == side} for side in ("train", "val")}
    assert len(artists["val"]) == musicgen_set.HELD_OUT and not artists["train"] & artists["val"]
