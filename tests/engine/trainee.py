"""A small real run in a process of its own, for tests that kill it: `python trainee.py OUT [--set a.b=c]...`.

A two-layer network with dropout learns a noisy function of 61 rows (a number that no batch divides); its
augmentation draws from the item's generator.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from kwela.config import Data, SettingsGroup, TrainConfig
from kwela.engine import checkpoint, loop, optim, precision
from kwela.engine.session import Session
from kwela.engine.task import Batch, GeometricMean, Mean, Share
from kwela.errors import KwelaError, UserError

sys.path.append(str(Path(__file__).resolve().parents[1]))
from light_process import lighten

ROWS, WIDTH = 61, 8


class ToyModel(SettingsGroup):
    width: int = 32
    dropout: float = 0.1
    idle: bool = True  # has a head that no loss reaches


class ToyData(Data):
    train_manifest: Path = Path("toy_train")
    val_manifest: Path = Path("toy_val")
    batch_size: int = 8
    num_workers: int = 0
    cache_dir: Path = Path("toy_cache")


class ToyConfig(TrainConfig):
    data: ToyData = ToyData()
    model: ToyModel = ToyModel()


class Rows:
    """`count` rows of a fixed function of 8 numbers, jittered by the item's generator."""

    def __init__(self, count: int, seed: int, task: ToyTask) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(count, WIDTH)).astype(np.float32)
        self.y = np.tanh(self.x @ rng.normal(size=(WIDTH, 2))).astype(np.float32)
        self.task = task

    def __len__(self) -> int:
        return len(self.x)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if index == self.task.bad_row:
            raise UserError(f"toy_train: row {index}: bad on purpose")
        if index == self.task.fatal_row:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = rng.normal(scale=self.task.jitter, size=WIDTH).astype(np.float32)
        y = self.y[index] * np.float32("nan" if index == self.task.nan_row else 1)
        return self.x[index] + noise, y


class ToyNet(nn.Module):
    def __init__(self, width: int, dropout: float, idle: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(WIDTH, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)
        if idle:
            self.idle = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(torch.nn.functional.gelu(self.body(x))))


class ToyTask:
    """Switches: what goes wrong, and when. A call is one of `losses`, from 1."""

    name = "toy"
    jitter = 0.05
    nan_row = bad_row = fatal_row = -1  # of the training rows
    slow = 0.0  # seconds a call
    memory_for = 1 << 30  # the largest batch that fits
    signal_at: tuple[int, ...] = ()  # calls that send us SIGTERM
    rows = ROWS

    def __init__(self, config: ToyConfig, **switches: Any) -> None:
        self.config = config
        self.calls = 0
        for name, value in switches.items():
            setattr(self, name, value)

    def model(self) -> nn.Module:
        return ToyNet(**self.config.model.model_dump())

    def datasets(self) -> tuple[Rows, Rows]:
        return Rows(self.rows, 1, self), Rows(23, 2, ToyTask(self.config))

    def collate(self, items: Any) -> Batch:
        x, y = zip(*items, strict=True)
        return {"x": torch.from_numpy(np.stack(x)), "y": torch.from_numpy(np.stack(y))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        self.calls += 1
        if self.slow:
            time.sleep(self.slow)
        if self.calls in self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(batch["x"]) > self.memory_for:
            torch.empty(1 << 55, dtype=torch.uint8)  # torch's own words for it
        error = (model(batch["x"]) - batch["y"]).square().float()
        count = torch.tensor(float(error.numel()))
        return {
            "loss": Mean(error.sum(), count),
            "first_loss": Mean(error[:, 0].sum(), count / 2),
            "surprise": GeometricMean(error.sum(), count),
            "drums_loss": Mean(error.sum() * 0, count * 0),  # there are none
            "accuracy": Share((error < 0.05).sum(), count),
        }

    def baselines(self) -> dict[str, float]:
        return {"mean": 0.5}

    def preview(self, model: nn.Module, folder: Path) -> None:
        assert not model.training
        (folder / "weights.txt").write_text(f"{sum(p.sum().item() for p in model.parameters())}\n")


def config(overrides: list[str]) -> ToyConfig:
    tree: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        *groups, leaf = key.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = yaml.safe_load(text)
    return ToyConfig.model_validate(tree)


def half_precision_on_cpu() -> None:
    """Give CPUs float16 with a GradScaler: what a GPU would do, and as stateful."""
    precision.choose = lambda training, device: (torch.float16, None)  # type: ignore[assignment]


def dump_gradients(path: Path) -> None:
    """Write the gradients of each step as the optimiser sees them, clipped, to `path`."""
    whole, seen = optim.rescale, []

    def rescale(grads: Any, factor: Any, largest: float) -> torch.Tensor:
        norm = whole(grads, factor, largest)
        seen.append([grad.clone() for grad in grads])
        if int(os.environ.get("RANK", 0)) == 0:
            torch.save(seen, path)
        return norm

    optim.rescale = rescale  # type: ignore[assignment]


def die_while_saving(after: int) -> None:
    """SIGKILL ourselves in the middle of writing the `after`-th checkpoint, with half of it on disk."""
    whole, count = checkpoint._write, [0]

    def write(state: Any, file: Any) -> None:
        whole(state, file)
        count[0] += 1
        if count[0] == after:
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._write = write


def fit(out: Path, *overrides: str, switches: dict[str, Any] | None = None, **more: Any) -> loop.Outcome:
    """Train the toy in this process. more: fields of the Session."""
    settings = config(list(overrides))
    given = {"device": "cpu", "data_hash": "data", "tokenizer_hash": "tokens"} | more
    return loop.fit(ToyTask(settings, **(switches or {})), settings, out, Session(**given))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--float16", action="store_true")
    parser.add_argument("--dump-gradients", type=Path)
    parser.add_argument("--die-while-saving", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if os.environ.get("WORLD_SIZE", "1") == "1":
        lighten()
    if args.float16:
        half_precision_on_cpu()
    if args.dump_gradients:
        dump_gradients(args.dump_gradients)
    if args.die_while_saving:
        die_while_saving(args.die_while_saving)
    try:
        fit(args.out, *args.set, switches={"slow": args.slow})
    except KwelaError as error:
        print(error, file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
