"""Spectocloud as the engine's task, and the comparison of a trained model with its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kwela import stats
from kwela.corpus.pairs import rows
from kwela.engine import order
from kwela.engine.row_faults import Fault, Row
from kwela.engine.task import Batch, Mean, Sides
from kwela.spectocloud import baselines, data, render, space
from kwela.spectocloud.chamfer import chamfer_with_matches, gather
from kwela.spectocloud.config import SpectocloudConfig
from kwela.spectocloud.model import build
from kwela.spectocloud.target import NOTE_POINTS, Cloud

# Weights that bring the parts of the loss to a similar size. A trained model has a Chamfer distance of about
# .002, squared errors of .003 (colours) and .015 (properties), and is a nat a point better than a uniform
# density.
POSITION, COLOR, PROPERTIES, DENSITY = 100.0, 8.0, 4.0, 1.0


class SpectocloudTask:
    """The task of training Spectocloud; see kwela.engine.task.Task."""

    name = "spectocloud"

    def __init__(self, config: SpectocloudConfig) -> None:
        self.config = config
        self.left_out: Sides[set[int]] = (set(), set())

    def model(self) -> nn.Module:
        """Return a new model."""
        return build(self.config.model.model_dump())

    @cached_property
    def manifest_rows(self) -> Sides[list[rows.Row]]:
        """The rows of both manifests, also those whose files are missing."""
        where = self.config.data
        return rows.read_sides(where.train_manifest, where.val_manifest, where.row_keys)

    @cached_property
    def rows_and_faults(self) -> Sides[list[rows.Row | Fault]]:
        """Each row, or why it can't be used, as far as the headers of its files show."""
        train, held_out = self.manifest_rows
        faults = iter(data.faults([*train, *held_out]))
        return [next(faults) or row for row in train], [next(faults) or row for row in held_out]

    @cached_property
    def segments(self) -> tuple[data.Segments, data.Segments]:
        """The training and the held-out segments. Raises UserError for a row that can't be used."""
        where = self.config.data
        cache = where.cache_dir if where.cache_features else None
        train, held_out = (
            rows.usable(*side)
            for side in zip(self.manifest_rows, self.rows_and_faults, self.left_out, strict=True)
        )
        return data.Segments(train, cache, self.config.augment), data.Segments(held_out, cache)

    def rows(self) -> Sides[list[Row]]:
        """Return the rows of both manifests; see engine.task.RowTask."""
        train, held_out = self.manifest_rows
        return rows.engine_rows(train), rows.engine_rows(held_out)

    def read_rows(self) -> Sides[list[int | Fault]]:
        """Return 1 for each row that can be read, as far as its files' headers show, or its fault."""
        train, held_out = self.rows_and_faults
        return (
            [row if isinstance(row, Fault) else 1 for row in train],
            [row if isinstance(row, Fault) else 1 for row in held_out],
        )

    def examine(self, row: Row) -> Fault | None:
        """Return why a row's files can't be read; None if they can."""
        return data.examine(row.files)

    def leave_out(self, left_out: Sides[set[int]]) -> None:
        """Use the data from now on without these rows."""
        self.left_out = left_out
        for name in ("segments", "baseline_distances"):
            self.__dict__.pop(name, None)

    def datasets(self) -> tuple[data.Segments, data.Segments]:
        """Return the training and the held-out segments."""
        return self.segments

    def collate(self, items: Sequence[data.Item]) -> Batch:
        """Return the batch of these items."""
        return data.collate(items)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """Return Chamfer distance, squared errors of colours and properties, and density loss in nats.

        Colours and properties are compared between nearest neighbours, both ways. The density loss is the
        negative log-likelihood of the target's points under the predicted densities. Clouds without
        attributes have no errors of colours and properties.
        """
        positions, colors, properties, density = model(
            batch["spectrogram"], batch["emotion"], batch["midi_features"], with_density=True
        )
        target, attributes, known = batch["positions"], batch["attributes"], batch["has_attributes"]
        matched = chamfer_with_matches(positions, target)
        predicted = torch.cat([colors, properties], -1)
        error = (predicted - gather(attributes, matched.to_target)).square().mean(1)
        error = (error + (attributes - gather(predicted, matched.to_pred)).square().mean(1)) / 2  # (B, 7)
        color, other = error[:, :4].mean(1) * known, error[:, 4:].mean(1) * known  # (B,)
        nats = negative_log_likelihood(density, target)
        loss = POSITION * matched.distance + COLOR * color + PROPERTIES * other + DENSITY * nats
        count = torch.full((), float(len(target)), device=loss.device)
        return {
            "loss": Mean(loss.sum(), count),
            "pos_loss": Mean(matched.distance.detach().sum(), count),
            "color_loss": Mean(color.detach().sum(), known.sum()),
            "property_loss": Mean(other.detach().sum(), known.sum()),
            "density_loss": Mean(nats.detach().sum(), count),
        }

    def baselines(self) -> dict[str, float]:
        """Return the mean held-out distance of each baseline and of the target drawn again (the floor)."""
        return {name: float(np.mean(values)) for name, values in self.baseline_distances.items()}

    @cached_property
    def baseline_distances(self) -> dict[str, np.ndarray]:
        """The distances of `baselines` for each held-out row."""
        train, held_out = self.segments
        return baselines.measure(train, held_out, self.config.seed)

    @torch.no_grad()
    def preview(self, model: nn.Module, folder: Path) -> None:
        """Draw the predicted cloud of the first held-out segment beside its target."""
        item = order.held_out_item(self.segments[1], 0, self.config.seed)
        positions, colors, properties = _predict(model, data.collate([item]))
        clouds = {
            "predicted": Cloud(positions[0].numpy(), torch.cat([colors, properties], -1)[0].numpy()),
            "target": Cloud(item["positions"], item["attributes"]),
        }
        render.save_pair(clouds, folder / "cloud.png", Path(self.segments[1].rows[0]["audio_path"]).stem)


def negative_log_likelihood(density: Tensor, points: Tensor) -> Tensor:
    """Return the mean negative log-likelihood (B,) of points (B, n, 3) under a density, in nats.

    density: (B, 2, rows, frames), of sound and of notes. A point is looked up by the cell of its x and y. A
    uniform density gives 8.95.
    """
    share = NOTE_POINTS / space.POINTS
    mixed = (1 - share) * density[:, 0] + share * density[:, 1]  # (B, rows, frames)
    height, width = mixed.shape[1:]
    row = (points[..., 1] * height).long().clamp(0, height - 1)
    frame = (points[..., 0] * width).long().clamp(0, width - 1)
    likelihood = mixed.flatten(1).gather(1, row * width + frame)
    return -(likelihood + 1e-8).log().mean(1)


@torch.no_grad()
def evaluate(model: nn.Module, config: SpectocloudConfig) -> dict[str, Any]:
    """Compare a trained model on the held-out songs with its floor and baselines.

    All figures are mean squared Chamfer distances. Returns `val_chamfer`, `floor`, `baselines`, `songs` (each
    with its group, segments and distances), and `ratio`: (model - floor) / (best baseline - floor), with a 95
    % interval from resampling songs.
    """
    task = SpectocloudTask(config)
    held_out = task.segments[1]
    model.eval()
    distances = []
    for first in range(0, len(held_out), config.data.batch_size):
        part = range(first, min(first + config.data.batch_size, len(held_out)))
        batch = data.collate([order.held_out_item(held_out, index, config.seed) for index in part])
        distances.append(chamfer_with_matches(_predict(model, batch)[0], batch["positions"]).distance)
    values = {"model": torch.cat(distances).numpy(), **task.baseline_distances}
    groups = sorted({row["group"] for row in held_out.rows})
    member = np.array([groups.index(row["group"]) for row in held_out.rows])
    count = np.bincount(member)
    sums = {name: np.bincount(member, value) for name, value in values.items()}

    draws = stats.resample_groups(len(groups), stats.RESAMPLES, config.seed)
    draws[0] = np.arange(len(groups))  # the first is the set itself
    means = {name: total[draws].sum(1) / count[draws].sum(1) for name, total in sums.items()}
    floor = means["floor"]
    best = np.min([means[name] for name in baselines.NAMES], axis=0)
    ratio = (means["model"] - floor) / (best - floor)
    return {
        "val_chamfer": float(means["model"][0]),
        "floor": float(floor[0]),
        "baselines": {name: float(means[name][0]) for name in baselines.NAMES},
        "ratio": stats.Interval(float(ratio[0]), *stats.percentile_interval(ratio)).to_dict(),
        "songs": [
            {"song": group, "segments": int(count[k])}
            | {name: float(sums[name][k] / count[k]) for name in sums}
            for k, group in enumerate(groups)
        ],
    }


def _predict(model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    device = next(model.parameters()).device
    inputs = (batch[name].to(device) for name in ("spectrogram", "emotion", "midi_features"))
    return tuple(output.float().cpu() for output in model(*inputs))
