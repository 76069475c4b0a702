"""What a training run tells of itself in its checkpoint folder, read while it is being written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_json(path: Path) -> Row:
    """The object in `path`; {} where there is none or it can't be read, as in the moment it is replaced."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_rows(path: Path) -> list[Row]:
    """The whole rows of a JSONL file; a torn line is left out."""
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


@dataclass
class Curve:
    """Losses by step. train, val: (step, nats or None where it wasn't finite); base: of the untuned model."""

    step: int = 0
    epoch: int = 0
    train: list[tuple[int, float | None]] = field(default_factory=list)
    val: list[tuple[int, float | None]] = field(default_factory=list)
    base: float | None = None
    speeds: list[float] = field(default_factory=list)  # items a second

    @property
    def best(self) -> float | None:
        """The lowest validation loss of a trained model: step 0 is the untuned one."""
        return min((loss for step, loss in self.val if loss is not None and step > 0), default=None)

    @property
    def last(self) -> float | None:
        """The last validation loss."""
        return self.val[-1][1] if self.val else None

    @property
    def loss(self) -> float | None:
        """The last training loss."""
        return self.train[-1][1] if self.train else None


def curve(folder: Path) -> Curve:
    """The curve so far of the run in checkpoint folder `folder`; its step is the last one logged or saved."""
    found = Curve(whole(read_json(folder / "status.json").get("step")))
    for row in read_rows(folder / "metrics.jsonl"):
        step = whole(row.get("step"))
        found.step, found.epoch = max(found.step, step), max(found.epoch, whole(row.get("epoch")))
        if row.get("split") == "train":
            found.train.append((step, nats(row.get("loss"))))
            if speed := nats(row.get("items_per_s")):
                found.speeds.append(speed)
        elif row.get("split") == "val":
            found.val.append((step, nats(row.get("val_loss"))))
            if step == 0:
                found.base = found.val[-1][1]
            baselines = row.get("baselines")
            if isinstance(baselines, dict):
                found.base = nats(baselines.get("base_loss", found.base))
    return found


def whole(value: Any) -> int:
    """A count that was written down; 0 for what is none."""
    return value if isinstance(value, int) and value > 0 else 0


def nats(value: Any) -> float | None:
    """A figure that was written down; None for what is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
