"""What a run tells: lines and bars on the terminal, metrics.jsonl, TensorBoard, run.json and status.json.

Only the first rank tells anything. A progress bar shows on a terminal; elsewhere there are lines alone.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kwela import files, terminal
from kwela.engine.ranks import Ranks

Row = dict[str, Any]
SHOWN = (
    3  # figures of a window beside its loss on the line, and a baseline more; metrics.jsonl has all of them
)
_OWN = {
    "loss",
    "grad_norm",
    "items_per_s",
}  # figures of a window that have their own place in a line, or none


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
    files.write(path, "".join(f"{line}\n" for line in kept))


class Journal:
    """Says lines from the start, writes files once `open` is called, and does neither where `first` is False."""

    def __init__(self, first: bool, quiet: bool, log: Path | None = None) -> None:
        self.first, self.loud = first, first and not quiet
        self.log = log if first else None
        self.bars: Any = None
        self.board: Any = None

    def say(self, line: str) -> None:
        if self.loud:
            terminal.say(line)  # rich moves it above the bars
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open(
                "a", encoding="utf-8"
            ) as file:  # a few lines a minute: no need to keep it open
                file.write(f"{line}\n")

    def open(self, out: Path, board: Path | None, purge_step: int) -> None:
        """Log into `out`, and to TensorBoard in `board`, hiding there what it holds from `purge_step` on."""
        self.out = out
        if not self.first:
            return
        self.metrics = (out / "metrics.jsonl").open("a", encoding="utf-8")
        if board is not None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import

            self.board = SummaryWriter(str(board), purge_step=purge_step)
        if self.loud and sys.stdout.isatty():
            from rich.progress import MofNCompleteColumn, Progress

            self.bars = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), transient=True)
            self.bars.start()
            self.bar = self.bars.add_task("", total=None)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Set the bar to `done` of `total` of `what`."""
        if self.bars:
            self.bars.reset(self.bar, description=what, total=total, completed=done)

    def advance(self) -> None:
        if self.bars:
            self.bars.advance(self.bar)

    def train(self, step: int, epoch: int, epochs: int, lr: float, figures: dict[str, float]) -> None:
        """Log a window of steps. figures: the losses, then `grad_norm` and `items_per_s`."""
        self._record(step, epoch, "train", figures | {"lr": lr})
        line = [f"Epoch {epoch}/{epochs} | Step {step:,} | Loss: {number(figures['loss'])} | LR: {lr:.2e}"]
        line += _parts(figures, _OWN)[:SHOWN]
        self.say(" | ".join([*line, f"{figures['items_per_s']:,.1f} items/s"]))

    def validation(
        self,
        step: int,
        epoch: int,
        epochs: int,
        loss: float | None,
        figures: dict[str, float],
        baselines: dict[str, float],
    ) -> None:
        """Log an epoch's held-out figures (`val_loss` and others) beside what they must beat."""
        self._record(step, epoch, "val", figures, **({"baselines": baselines} if baselines else {}))
        line = [f"Epoch {epoch}/{epochs} | Step {step:,}"]
        if loss is not None:
            line.append(f"Loss: {number(loss)}")
        line.append(f"Val Loss: {number(figures['val_loss'])}")
        line += _parts(figures, {"val_loss"})
        if baselines:
            shown = list(baselines.items())[: SHOWN + 1]
            line.append("baselines: " + ", ".join(f"{name} {number(value)}" for name, value in shown))
        self.say(" | ".join(line))

    def baselines(self, baselines: dict[str, float], step: int) -> None:
        if self.board:
            for name, value in baselines.items():
                self.board.add_scalar(f"baseline/{name}", value, step)

    def status(self, state: str, step: int, epoch: int, exit_status: int | None, why: str) -> None:
        """status.json. state: running, finished, interrupted or failed; exit_status is None while running."""
        row = {"state": state, "step": step, "epoch": epoch, "exit_status": exit_status, "why": why}
        if self.first:
            files.write(self.out / "status.json", json.dumps(row) + "\n")

    def describe(self, run: Row) -> None:
        """run.json."""
        if self.first:
            files.write(self.out / "run.json", json.dumps(run, indent=1) + "\n")

    def close(self) -> None:
        if self.bars:
            self.bars.stop()
        if self.board:
            self.board.close()
        if self.first:
            with contextlib.suppress(OSError):  # of a full disk, which was reported when the row was written
                self.metrics.close()

    def _record(self, step: int, epoch: int, split: str, figures: dict[str, float], **more: Any) -> None:
        if not self.first:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self.metrics.write(
            json.dumps({"step": step, "epoch": epoch, "split": split, **finite, **more}) + "\n"
        )
        self.metrics.flush()
        if self.board:
            for name, value in figures.items():
                self.board.add_scalar(f"{split}/{name.removeprefix('val_')}", value, step)


def _parts(figures: dict[str, float], but: set[str]) -> list[str]:
    # A figure over nothing (no drums in this window) is NaN, and left out.
    return [
        f"{name} {number(value)}"
        for name, value in figures.items()
        if name not in but and not math.isnan(value)
    ]


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:#.4g}"


def facts(
    config: Row, data_hash: str, tokenizer_hash: str, team: Ranks, accumulated: int, state: Row | None
) -> Row:
    """What run.json says of a run's origin. state: the checkpoint it goes on from, whose history is carried on."""
    device = team.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    batch = {"batch_size": config["data"]["batch_size"], "ranks": team.size, "grad_accum_steps": accumulated}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before: Row = state["meta"]["facts"] if state else {"started": now, "resumes": []}
    resumed = (
        [{"step": state["progress"]["step"], "at": now, **batch, "changed": changes(state["config"], config)}]
        if state
        else []
    )
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
        },
        "batch": batch,
        "started": before["started"],
        "resumes": before["resumes"] + resumed,
    }


def changes(old: Row, new: Row, prefix: str = "") -> Row:
    """The settings in which two configs differ: dotted key -> [old, new]."""
    out: Row = {}
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            out |= changes(was, now, f"{prefix}{key}.")
        elif was != now:
            out[f"{prefix}{key}"] = [was, now]
    return out


def _commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
