"""What the engine asks of Spectocloud, and the held-out comparison a finished model is reported by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kwela.config import SpectocloudConfig
from kwela.corpus.pairs import rows
from kwela.engine import order
from kwela.engine.task import Batch, Mean
from kwela.spectocloud import baselines, data, render, space
from kwela.spectocloud.chamfer import chamfer_with_matches, gather
from kwela.spectocloud.model import build
from kwela.spectocloud.target import NOTE_POINTS, Cloud

# What a unit of each part weighs in the loss, so that none drowns the others: a trained model has a Chamfer distance
# of about .002, squared errors of .003 (colours) and .015 (properties), and gains a nat a point on an even density.
POSITION, COLOR, PROPERTIES, DENSITY = 100.0, 8.0, 4.0, 1.0
RESAMPLES = 2_000  # bootstrap


class SpectocloudTask:
    name = "spectocloud"

    def __init__(self, config: SpectocloudConfig) -> None:
        self.config = config

    def model(self) -> nn.Module:
        return build(self.config.model.model_dump())

    @cached_property
    def segments(self) -> tuple[data.Segments, data.Segments]:
        """Train and held-out."""
        where = self.config.data
        cache = where.cache_dir if where.cache_features else None
        train, held_out = (
            rows.read(path, "spectocloud") for path in (where.train_manifest, where.val_manifest)
        )
        data.check([*train, *held_out])
        return data.Segments(train, cache, self.config.augment), data.Segments(held_out, cache)

    def datasets(self) -> tuple[data.Segments, data.Segments]:
        return self.segments

    def collate(self, items: Sequence[data.Item]) -> Batch:
        return data.collate(items)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """Chamfer distance; squared error of colours and of properties between matched points; density in nats.

        Points match their nearest neighbours, both ways. The density's loss is the target points' surprise under the
        densities the cloud was drawn from. Clouds without attributes count for the rest alone.
        """
        positions, colors, properties, density = model(
            batch["spectrogram"], batch["emotion"], batch["midi_features"], with_density=True
        )
        wanted, attributes, known = batch["positions"], batch["attributes"], batch["has_attributes"]
        matched = chamfer_with_matches(positions, wanted)
        given = torch.cat([colors, properties], -1)
        error = (given - gather(attributes, matched.to_target)).square().mean(1)
        error = (error + (attributes - gather(given, matched.to_pred)).square().mean(1)) / 2  # (B, 7)
        color, other = error[:, :4].mean(1) * known, error[:, 4:].mean(1) * known  # (B,)
        nats = surprise(density, wanted)
        loss = POSITION * matched.distance + COLOR * color + PROPERTIES * other + DENSITY * nats
        count = torch.full((), float(len(wanted)), device=loss.device)
        return {
            "loss": Mean(loss.sum(), count),
            "pos_loss": Mean(matched.distance.detach().sum(), count),
            "color_loss": Mean(color.detach().sum(), known.sum()),
            "property_loss": Mean(other.detach().sum(), known.sum()),
            "density_loss": Mean(nats.detach().sum(), count),
        }

    def baselines(self) -> dict[str, float]:
        """Mean held-out Chamfer distance of what needs no model, and of the target drawn again (the floor)."""
        return {name: float(np.mean(values)) for name, values in self.rivals.items()}

    @cached_property
    def rivals(self) -> dict[str, np.ndarray]:
        """The same for each held-out row."""
        train, held_out = self.segments
        return baselines.measure(train, held_out, self.config.seed)

    @torch.no_grad()
    def preview(self, model: nn.Module, folder: Path) -> None:
        """The first held-out segment: the predicted cloud beside its target."""
        item = order.held_out_item(self.segments[1], 0, self.config.seed)
        positions, colors, properties = _seen(model, data.collate([item]))
        clouds = {
            "predicted": Cloud(positions[0].numpy(), torch.cat([colors, properties], -1)[0].numpy()),
            "target": Cloud(item["positions"], item["attributes"]),
        }
        render.save_pair(clouds, folder / "cloud.png", Path(self.segments[1].rows[0]["audio_path"]).stem)


def surprise(density: Tensor, points: Tensor) -> Tensor:
    """(B,) mean negative log-likelihood of points (B, n, 3) by the cell of x and y, in nats; even density: 8.95."""
    share = NOTE_POINTS / space.POINTS
    mixed = (1 - share) * density[:, 0] + share * density[:, 1]  # (B, rows, frames)
    height, width = mixed.shape[1:]
    row = (points[..., 1] * height).long().clamp(0, height - 1)
    frame = (points[..., 0] * width).long().clamp(0, width - 1)
    found = mixed.flatten(1).gather(1, row * width + frame)
    return -(found + 1e-8).log().mean(1)


@torch.no_grad()
def evaluate(model: nn.Module, config: SpectocloudConfig) -> dict[str, Any]:
    """A finished model on the held-out songs, beside its floor and baselines, as mean squared Chamfer distances.

    Returns `val_chamfer`, `floor`, `baselines`; `songs`, each with its group, segments and distances; and `ratio`,
    (model - floor) / (best baseline - floor), with a 95 % interval from resampling songs.
    """
    task = SpectocloudTask(config)
    held_out = task.segments[1]
    model.eval()
    ours = []
    for first in range(0, len(held_out), config.data.batch_size):
        part = range(first, min(first + config.data.batch_size, len(held_out)))
        batch = data.collate([order.held_out_item(held_out, index, config.seed) for index in part])
        ours.append(chamfer_with_matches(_seen(model, batch)[0], batch["positions"]).distance)
    values = {"model": torch.cat(ours).numpy(), **task.rivals}
    groups = sorted({row["group"] for row in held_out.rows})
    member = np.array([groups.index(row["group"]) for row in held_out.rows])
    count = np.bincount(member)
    sums = {name: np.bincount(member, value) for name, value in values.items()}

    rng = np.random.default_rng(config.seed)
    draws = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    draws[0] = np.arange(len(groups))  # the first is no resample but the set itself
    means = {name: total[draws].sum(1) / count[draws].sum(1) for name, total in sums.items()}
    floor = means["floor"]
    best = np.min([means[name] for name in baselines.NAMES], axis=0)
    ratio = (means["model"] - floor) / (best - floor)
    return {
        "val_chamfer": float(means["model"][0]),
        "floor": float(floor[0]),
        "baselines": {name: float(means[name][0]) for name in baselines.NAMES},
        "ratio": {"value": float(ratio[0]), "ci": np.quantile(ratio, [0.025, 0.975]).tolist()},
        "songs": [
            {"song": group, "segments": int(count[k])}
            | {name: float(sums[name][k] / count[k]) for name in sums}
            for k, group in enumerate(groups)
        ],
    }


def _seen(model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    device = next(model.parameters()).device
    inputs = (batch[name].to(device) for name in ("spectrogram", "emotion", "midi_features"))
    return tuple(output.float().cpu() for output in model(*inputs))
