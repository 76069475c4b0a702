"""What a run tells: lines and bars on the terminal, metrics.jsonl, TensorBoard, run.json and status.json.

Only the first rank tells anything. A progress bar shows on a terminal; elsewhere there are lines alone.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kwela.engine.checkpoint import replace_text

Row = dict[str, Any]


def cut(path: Path, step: int, evaluated: bool) -> None:
    """Cut a metrics.jsonl back to what was known at `step`; its validation there stays only if `evaluated`."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a power cut
        if row["step"] < step or (row["step"] == step and (evaluated or row["split"] == "train")):
            kept.append(line)
    replace_text(path, "".join(f"{line}\n" for line in kept))


class Journal:
    """Opens the folder's files; `tell=False` makes one that writes and prints nothing (the other ranks)."""

    def __init__(self, out: Path, tensorboard: Path | None, purge_step: int, *, tell: bool, quiet: bool) -> None:
        self.out, self.tell = out, tell
        self.bars: Any = None
        self.task: Any = None
        self.board: Any = None
        if not tell:
            return
        self.metrics = (out / "metrics.jsonl").open("a", encoding="utf-8")
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import

            self.board = SummaryWriter(str(tensorboard), purge_step=purge_step)
        self.talk = not quiet
        if self.talk and sys.stdout.isatty():
            from rich import progress

            self.bars = progress.Progress(
                *progress.Progress.get_default_columns(), progress.MofNCompleteColumn(), transient=True
            )
            self.bars.start()
            self.task = self.bars.add_task("", total=None)

    def say(self, line: str) -> None:
        if not self.tell or not self.talk:
            return
        if self.bars:
            self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Set the bar to `done` of `total` of `what`."""
        if self.bars:
            self.bars.reset(self.task, description=what, total=total, completed=done)

    def advance(self) -> None:
        if self.bars:
            self.bars.advance(self.task)

    def record(self, step: int, epoch: int, split: str, figures: dict[str, float], **more: Any) -> None:
        """A row of metrics.jsonl, and its figures to TensorBoard. A figure that is not finite is written as null."""
        if not self.tell:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self.metrics.write(json.dumps({"step": step, "epoch": epoch, "split": split, **finite, **more}) + "\n")
        self.metrics.flush()
        if self.board:
            for name, value in figures.items():
                self.board.add_scalar(f"{split}/{name.removeprefix('val_')}", value, step)

    def baselines(self, baselines: dict[str, float], step: int) -> None:
        if self.tell and self.board:
            for name, value in baselines.items():
                self.board.add_scalar(f"baseline/{name}", value, step)

    def status(self, state: str, step: int, epoch: int, exit_status: int | None, why: str) -> None:
        """status.json. state: running, finished, interrupted or failed; exit_status is None while running."""
        if self.tell:
            row = {"state": state, "step": step, "epoch": epoch, "exit_status": exit_status, "why": why}
            replace_text(self.out / "status.json", json.dumps(row) + "\n")

    def describe(self, run: Row) -> None:
        """run.json."""
        if self.tell:
            replace_text(self.out / "run.json", json.dumps(run, indent=1) + "\n")

    def close(self) -> None:
        if not self.tell:
            return
        if self.bars:
            self.bars.stop()
        if self.board:
            self.board.close()
        self.metrics.close()


def train_line(epoch: int, epochs: int, step: int, figures: dict[str, float], lr: float, items_per_s: float) -> str:
    parts = [f"{name} {number(value)}" for name, value in figures.items() if name != "loss"]
    return " | ".join(
        [
            f"Epoch {epoch}/{epochs} | Step {step:,} | Loss: {number(figures['loss'])} | LR: {lr:.2e}",
            *parts,
            f"{items_per_s:,.1f} items/s",
        ]
    )


def val_line(
    epoch: int, epochs: int, step: int, loss: float | None, figures: dict[str, float], baselines: dict[str, float]
) -> str:
    """figures: val_loss and the other val_ names."""
    parts = [f"{name} {number(value)}" for name, value in figures.items() if name != "val_loss"]
    against = ", ".join(f"{name} {number(value)}" for name, value in baselines.items())
    return " | ".join(
        [
            f"Epoch {epoch}/{epochs} | Step {step:,}",
            *([f"Loss: {number(loss)}"] if loss is not None else []),
            f"Val Loss: {number(figures['val_loss'])}",
            *parts,
            *([f"baselines: {against}"] if against else []),
        ]
    )


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:#.4g}"


def facts(config: Row, data_hash: str, tokenizer_hash: str, device: torch.device, ranks: int) -> Row:
    """What run.json says of a run's origin: settings, versions, commit, hashes, hardware."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "config": config,
        "seed": config["seed"],
        "versions": {
            "kwela": version("kwela"),
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # it is a subclass of str, which checkpoints refuse
            "numpy": version("numpy"),
        },
        "commit": _commit(),
        "manifest_hash": data_hash,
        "tokenizer_hash": tokenizer_hash,
        "hardware": {
            "host": platform.node(),
            "platform": platform.platform(),
            "device": str(device),
            "name": name,
            "cpus": os.cpu_count(),
            "ranks": ranks,
        },
    }


def changes(old: Row, new: Row, prefix: str = "") -> dict[str, Sequence[Any]]:
    """The settings in which two configs differ: dotted key -> (old, new)."""
    out: dict[str, Sequence[Any]] = {}
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            out |= changes(was, now, f"{prefix}{key}.")
        elif was != now:
            out[f"{prefix}{key}"] = [was, now]
    return out


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
