"""The task behind the engine's wall: its figures, a real run through the loop, and the closing comparison."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from midi_songs import a_score

import validation
from kwela import config
from kwela.engine import checkpoint, loop
from kwela.engine.session import Session
from kwela.midi_generator import windows
from kwela.midi_generator.config import MidiGeneratorConfig
from kwela.midi_generator.model import build
from kwela.midi_generator.task import KINDS, MidiGeneratorTask, evaluate, scores
from kwela.music import midi, tokens


@pytest.fixture
def settings(tmp_path: Path) -> MidiGeneratorConfig:
    """Six songs to train on and three held out, as manifests; the `tiny` preset."""
    overrides = [f"data.cache_dir={tmp_path / 'cache'}", "training.max_steps=6"]
    for side, seeds in (("train", range(6)), ("val", range(6, 9))):
        rows = []
        for seed in seeds:
            path = tmp_path / f"song{seed}.mid"
            a_score(seed, 5).dump_midi(path)
            rows.append(
                {"midi_path": path.name, "emotion": [0.1 * seed, -0.5, 0.5], "context": {"key": 1 + seed}}
            )
        manifest = tmp_path / f"midi_{side}.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        overrides.append(f"data.{side}_manifest={manifest}")
    return config.load(MidiGeneratorConfig, preset="tiny", overrides=overrides)


def test_figures_are_the_same_however_songs_are_batched(settings: MidiGeneratorConfig) -> None:
    task = MidiGeneratorTask(settings)
    model = task.model().eval()
    one, five = validation.figures(task, model, 1), validation.figures(task, model, 5)
    for name in one:
        assert one[name] == pytest.approx(five[name], rel=1e-5, nan_ok=True), name


def test_figures_by_kind_add_up_to_the_loss_and_perplexity_is_its_exponential(
    settings: MidiGeneratorConfig,
) -> None:
    task = MidiGeneratorTask(settings)
    batch = task.collate(validation.items(task))
    with torch.no_grad():
        found = task.losses(task.model().eval(), batch)
    parts = [found[f"ce_{kind}"] for kind in KINDS]
    assert (
        float(sum(part.weight for part in parts))
        == float(found["loss"].weight)
        == (batch["targets"] != 384).sum()
    )
    assert float(sum(part.total for part in parts)) == pytest.approx(float(found["loss"].total), rel=1e-5)
    values = {name: mean.value(float(mean.total), float(mean.weight)) for name, mean in found.items()}
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    assert 0 <= values["accuracy"] <= 1
    assert found.keys() == task.losses(task.model().train(), batch).keys()


def test_padding_counts_for_nothing(settings: MidiGeneratorConfig) -> None:
    task = MidiGeneratorTask(settings)
    model = task.model().eval()
    items = task.datasets()[1]
    drawn = [items.item(index, np.random.default_rng(0)) for index in range(2)]
    wide = task.collate(drawn)
    for name, value in (("input_ids", tokens.PAD), ("targets", tokens.PAD)):
        wide[name] = torch.nn.functional.pad(wide[name], (0, 9), value=value)
    wide["context"] = torch.nn.functional.pad(wide["context"], (0, 0, 0, 9))
    with torch.no_grad():
        narrow, padded = (task.losses(model, batch)["loss"] for batch in (task.collate(drawn), wide))
    for a, b in zip(narrow, padded, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-6)


def test_a_run_through_the_engine_beats_its_start_and_logs_the_runbook_s_names(
    settings: MidiGeneratorConfig, tmp_path: Path
) -> None:
    settings.training.max_steps, settings.optim.lr, settings.scheduler.warmup_steps = 30, 1e-2, 3
    settings.training.epochs, settings.training.log_every, settings.training.save_every = 20, 5, 100
    task = MidiGeneratorTask(settings)
    start = validation.figures(task, task.model().eval(), 4)["loss"]
    out = tmp_path / "checkpoints"
    outcome = loop.fit(task, settings, out, Session("d", "t", resume=None, device="cpu", quiet=True))
    assert outcome.val["val_loss"] < start - 1
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "accuracy", "perplexity"} <= rows[0].keys() and rows[0]["split"] == "train"
    held_out = next(row for row in rows if row["split"] == "val")
    assert {"val_loss", "val_accuracy", "val_perplexity", "val_ce_pitch", "val_ce_bar"} <= held_out.keys()
    assert set(held_out["baselines"]) == {"unigram_ce", "bigram_ce", "fourgram_ce"}
    state = checkpoint.load(out / "best.pt")
    model = build(state["config"]["model"])
    model.load_state_dict(state["model"])
    report = evaluate(model, settings)
    assert report["val_ce"] == pytest.approx(outcome.best, rel=1e-4)
    assert report["baselines"] == pytest.approx(held_out["baselines"])


def test_without_cache_features_nothing_is_cached(settings: MidiGeneratorConfig) -> None:
    settings.data.cache_features = False
    ids = [song.ids for song in MidiGeneratorTask(settings).songs[0]]
    assert not settings.data.cache_dir.exists()
    settings.data.cache_features = True
    assert all(
        np.array_equal(a, song.ids) for a, song in zip(ids, MidiGeneratorTask(settings).songs[0], strict=True)
    )
    assert settings.data.cache_dir.exists()


def test_the_more_accurate_model_is_the_better_one(settings: MidiGeneratorConfig) -> None:
    task = MidiGeneratorTask(settings)
    batch = task.collate([task.datasets()[0].item(0, np.random.default_rng(0))])
    gains = {name: type(mean).gain(2.0, 1.0) for name, mean in task.losses(task.model(), batch).items()}
    assert [name for name, gain in gains.items() if gain > 0] == ["accuracy"]


def test_a_preview_is_a_song_and_its_picture(settings: MidiGeneratorConfig, tmp_path: Path) -> None:
    task = MidiGeneratorTask(settings)
    task.preview(task.model().eval(), tmp_path)
    assert (tmp_path / "sample.png").stat().st_size > 5_000
    assert tokens.encode(midi.read(tmp_path / "sample.mid")).size > 16


def test_the_comparison_s_parts_agree_with_each_other(settings: MidiGeneratorConfig) -> None:
    report = evaluate(MidiGeneratorTask(settings).model(), settings)
    songs = report["songs"]
    assert [song["song"] for song in songs] == ["song6", "song7", "song8"]
    count = sum(song["ids"] for song in songs)
    for own, whole in (("ce", report["val_ce"]), *report["baselines"].items()):
        assert sum(song[own] * song["ids"] for song in songs) / count == pytest.approx(whole)
    ratio, less = report["ratio_to_bigram"], report["less_than_fourgram"]
    assert ratio["value"] == pytest.approx(report["val_ce"] / report["baselines"]["bigram_ce"])
    assert less["value"] == pytest.approx(report["baselines"]["fourgram_ce"] - report["val_ce"])
    for figure in (ratio, less):
        assert figure["ci"][0] <= figure["value"] <= figure["ci"][1] and figure["ci"][0] < figure["ci"][1]


def test_long_songs_score_the_same_ids_with_any_window(settings: MidiGeneratorConfig) -> None:
    """A model blind to context (only the last id matters) gives one figure however songs are cut into
    windows.
    """

    class LastIdOnly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table = torch.nn.Parameter(torch.randn(tokens.VOCAB, tokens.VOCAB))

        def forward(
            self, ids: torch.Tensor, emotion: torch.Tensor, context: torch.Tensor
        ) -> tuple[torch.Tensor]:
            return (self.table[ids],)

    figures = []
    for window in (64, 100, 1024):
        settings.model.window = window
        figures.append(evaluate(LastIdOnly(), settings)["val_ce"])
    assert figures[0] == pytest.approx(figures[1]) == pytest.approx(figures[2])


def test_scores_know_which_ids_count(settings: MidiGeneratorConfig) -> None:
    task = MidiGeneratorTask(settings)
    train, _ = task.datasets()
    batch = windows.collate(
        [train.item(0, np.random.default_rng(0)), train.item(1, np.random.default_rng(1))]
    )
    surprise, right, known = scores(task.model().eval(), batch)
    assert torch.equal(known, batch["targets"] != tokens.PAD)
    assert (surprise[~known] == 0).all() and (surprise[known] > 0).all() and not right[~known].any()
