"""The task: sums that add up, a loss that learning lowers, baselines in their order, and the held-out
report.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_pairs import write_pair

from kwela import config
from kwela.engine import order
from kwela.spectocloud import baselines, constant_cloud, data, target, task
from kwela.spectocloud.chamfer import chamfer
from kwela.spectocloud.config import SpectocloudConfig, SpectocloudModelSettings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> SpectocloudConfig:
    """Ten short songs in two emotions, seven to learn from, three segments each."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for number in range(10):
        notes = [(0.25 * k, 0.3, int(rng.integers(48, 84)), 90) for k in range(16)]
        audio_path, midi_path = write_pair(folder, f"song{number}", notes, 4.2)
        emotion = [0.7, 0.6, 0.6] if number % 2 else [-0.6, -0.5, 0.6]
        for start in (0.1, 1.2, 2.4):
            row = {
                "audio_path": str(audio_path),
                "midi_path": str(midi_path),
                "emotion": emotion,
                "start": start,
            }
            where = target.write_cloud(
                audio_path, midi_path, np.array(emotion), 0.0, start, folder / "clouds"
            )
            lines["val" if number > 6 else "train"].append(
                json.dumps(row | {"target_pointcloud_path": where})
            )
    for side, rows in lines.items():
        (folder / f"{side}.jsonl").write_text("\n".join(rows) + "\n")
    found = config.load(SpectocloudConfig, preset="tiny")
    found.data.train_manifest, found.data.val_manifest = folder / "train.jsonl", folder / "val.jsonl"
    found.data.cache_dir = folder / "cache"
    return found


def batch_of(subject: task.SpectocloudTask, *indexes: int) -> dict[str, torch.Tensor]:
    return subject.collate([order.held_out_item(subject.segments[1], index, 42) for index in indexes])


def test_losses_are_sums_so_that_batches_add_up(settings: SpectocloudConfig) -> None:
    subject = task.SpectocloudTask(settings)
    torch.manual_seed(0)
    model = subject.model().eval()
    whole = subject.losses(model, batch_of(subject, 0, 1, 2))
    parts = [subject.losses(model, batch_of(subject, *some)) for some in ((0, 1), (2,))]
    assert list(whole) == ["loss", "pos_loss", "color_loss", "property_loss", "density_loss"]
    for name, mean in whole.items():
        torch.testing.assert_close(mean.total, sum(part[name].total for part in parts), rtol=1e-4, atol=1e-4)
        assert mean.weight == sum(part[name].weight for part in parts) == 3
    assert whole["loss"].total.requires_grad and not whole["pos_loss"].total.requires_grad


def test_a_cloud_without_attributes_trains_positions_only(settings: SpectocloudConfig) -> None:
    subject = task.SpectocloudTask(settings)
    torch.manual_seed(0)
    model = subject.model()
    batch = batch_of(subject, 0, 1)
    batch["has_attributes"][:] = torch.tensor([1.0, 0.0])
    before = subject.losses(model, batch)
    assert before["color_loss"].weight == before["property_loss"].weight == 1
    assert before["pos_loss"].weight == 2
    batch["attributes"][1] = 0.77  # whatever stands there must not matter
    after = subject.losses(model, batch)
    torch.testing.assert_close(before["loss"].total, after["loss"].total)
    batch["attributes"][0] = 0.77
    assert (subject.losses(model, batch)["loss"].total - after["loss"].total).abs() > 1e-3


def test_colours_are_compared_with_each_points_match_whatever_the_order(
    settings: SpectocloudConfig,
) -> None:
    subject = task.SpectocloudTask(settings)
    torch.manual_seed(0)
    model = subject.model()
    batch = batch_of(subject, 0)
    before = subject.losses(model, batch)
    order = torch.randperm(1200)
    shuffled = batch | {name: batch[name][:, order] for name in ("positions", "attributes")}
    torch.testing.assert_close(subject.losses(model, shuffled)["loss"].total, before["loss"].total)
    apart = batch | {"attributes": batch["attributes"][:, order]}  # each point with another's colour
    assert (subject.losses(model, apart)["color_loss"].total - before["color_loss"].total).abs() > 1e-5


def test_surprise_is_that_of_the_cells_where_points_lie() -> None:
    density = torch.full((1, 2, 120, 64), 1 / 7680)
    points = torch.tensor([[[0.5, 0.5, 0.1], [1.0, 0.0, 0.9]]])
    torch.testing.assert_close(
        task.negative_log_likelihood(density, points), torch.tensor([np.log(7680)]).float(), rtol=1e-3, atol=0
    )
    density[0, :, 60, 32] *= 100
    assert task.negative_log_likelihood(density, points) < np.log(7680) - 2


def test_learning_beats_the_baselines_on_held_out_songs(settings: SpectocloudConfig) -> None:
    subject = task.SpectocloudTask(
        settings.model_copy(update={"model": SpectocloudModelSettings(width=16, depth=1)})
    )
    train, _ = subject.datasets()
    torch.manual_seed(0)
    model = subject.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    untrained = task.evaluate(model, settings)
    rng = np.random.default_rng(0)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 60)
        items = [train.item(int(index), rng) for index in rng.choice(len(train), 6, replace=False)]
        loss = subject.losses(model.train(), subject.collate(items))["loss"]
        optimizer.zero_grad()
        (loss.total / loss.weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    report = task.evaluate(model, settings)
    assert report["val_chamfer"] < 0.1 * untrained["val_chamfer"]
    assert report["val_chamfer"] < min(report["baselines"].values())
    assert report["ratio"]["value"] < 1 < untrained["ratio"]["value"]
    low, high = report["ratio"]["ci"]
    assert low <= report["ratio"]["value"] <= high
    assert len(report["songs"]) == 3 and all(song["segments"] == 3 for song in report["songs"])
    assert np.mean([song["model"] for song in report["songs"]]) == pytest.approx(
        report["val_chamfer"], rel=1e-5
    )
    assert set(report["baselines"]) == {"mean_cloud", "emotion_only", "nearest_neighbour"}
    assert report["floor"] < min(report["baselines"].values())
    json.dumps(report)


def test_baselines_are_the_same_each_time_and_logged_by_name(
    settings: SpectocloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constant_cloud, "STEPS", 3)
    once, again = (task.SpectocloudTask(settings).baselines() for _ in range(2))
    assert once == again and set(once) == {*baselines.NAMES, "floor"}


def test_the_mean_cloud_is_better_than_any_training_cloud(settings: SpectocloudConfig) -> None:
    train = data.Segments(task.SpectocloudTask(settings).segments[0].rows, None)
    clouds = data.collate([train.item(index, np.random.default_rng(0)) for index in range(len(train))])[
        "positions"
    ]

    def mean_distance(cloud: torch.Tensor) -> float:
        return float(chamfer(cloud.expand(len(clouds), -1, -1), clouds))

    best = mean_distance(constant_cloud.fit_constant_cloud(clouds, seed=0))
    medoid = min(mean_distance(cloud) * len(clouds) / (len(clouds) - 1) for cloud in clouds)
    assert best < medoid


def test_the_nearest_neighbour_of_a_training_segment_is_itself(
    settings: SpectocloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constant_cloud, "STEPS", 3)
    train = task.SpectocloudTask(settings).segments[0]
    found = baselines.measure(train, data.Segments(train.rows, None), seed=0)
    assert found["nearest_neighbour"].max() == 0 and found["floor"].min() > 0


def test_a_preview_shows_predicted_beside_target(settings: SpectocloudConfig, tmp_path: Path) -> None:
    subject = task.SpectocloudTask(settings)
    subject.preview(subject.model().eval(), tmp_path)
    assert (tmp_path / "cloud.png").read_bytes()[:4] == b"\x89PNG"
