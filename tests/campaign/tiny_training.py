"""A real run of the engine with a tiny model, as a campaign's child: `python tiny_training.py OUT LEDGER
[options]`.

Its checkpoints carry the ledger; it validates before the first step, as MusicGen's training does.
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
from torch import nn

from kwela import terminal
from kwela.config import Data, SettingsGroup, TrainConfig
from kwela.engine import loop
from kwela.engine.session import Session
from kwela.engine.task import Batch, Mean
from kwela.errors import KwelaError


class TinyData(Data):
    train_manifest: Path = Path("tiny_train")
    val_manifest: Path = Path("tiny_val")
    batch_size: int = 8
    num_workers: int = 0
    cache_dir: Path = Path("tiny_cache")


class TinyModel(SettingsGroup):
    width: int = 4


class TinyConfig(TrainConfig):
    data: TinyData = TinyData()
    model: TinyModel = TinyModel()


class Rows:
    def __init__(self, count: int, nan_at: int = -1) -> None:
        rng = np.random.default_rng(count)
        self.x = rng.normal(size=(count, 4)).astype(np.float32)
        self.y = 3 * self.x.sum(1, keepdims=True)
        if nan_at >= 0:
            self.y[nan_at] = np.nan

    def __len__(self) -> int:
        return len(self.x)

    def item(self, index: int, rng: np.random.Generator) -> Any:
        return self.x[index], self.y[index]


class TinyTask:
    name = "tiny"

    def __init__(self, pace: float, crash_at: int, nan_at: int) -> None:
        self.pace, self.crash_at, self.nan_at, self.calls = pace, crash_at, nan_at, 0

    def model(self) -> nn.Module:
        return nn.Linear(4, 1)

    def datasets(self) -> tuple[Rows, Rows]:
        return Rows(80, self.nan_at), Rows(16)

    def collate(self, items: Any) -> Batch:
        x, y = zip(*items, strict=True)
        return {"x": torch.from_numpy(np.stack(x)), "y": torch.from_numpy(np.stack(y))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        self.calls += 1
        time.sleep(self.pace)
        if self.calls == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        error = (model(batch["x"]) - batch["y"]).abs()
        return {"loss": Mean(error.sum(), torch.tensor(float(error.numel())))}

    def baselines(self) -> dict[str, float]:
        return {}

    def preview(self, model: nn.Module, folder: Path) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pace", type=float, default=0.02, help="seconds a step")
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--crash-at", type=int, default=-1, help="SIGKILL in this step of the first session")
    parser.add_argument("--crash-always", action="store_true", help="in every session")
    parser.add_argument("--data", default="data", help="what names the data")
    parser.add_argument("--nan-at", type=int, default=-1, help="a row whose loss is not finite")
    args = parser.parse_args()
    torch.set_num_threads(1)
    early = {"enabled": False}
    training = {
        "epochs": args.epochs,
        "amp": False,
        "log_every": 2,
        "save_every_steps": 5,
        "early_stopping": early,
    }
    settings = TinyConfig.model_validate(
        {
            "training": {**training, "evaluate_first": True},
            "optim": {"lr": args.lr},
            "scheduler": {"warmup_steps": 1},
        }
    )
    crashed = args.out / ".crashed"
    first = args.crash_always or not crashed.exists()
    crashed.touch()
    task = TinyTask(args.pace, args.crash_at if first else -1, args.nan_at)
    ledger = {"extra": lambda: {"ledger": args.ledger.read_text()}, "keeps_folder": True}
    carried = Session(data_hash=args.data, tokenizer_hash="", device="cpu", **ledger)
    try:
        loop.fit(task, settings, args.out, carried)
    except KwelaError as error:
        terminal.say(str(error), sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from light_process import lighten

    lighten()
    sys.exit(main())
