"""What a run prints and logs: terminal, metrics.jsonl, TensorBoard, run.json and status.json.

Only the first rank prints and writes. A terminal shows a progress bar too; other outputs get the lines alone.
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

JsonObject = dict[str, Any]
SHOWN = 3  # figures on a line beside the loss, and one baseline more; metrics.jsonl has all of them
_PLACED = {
    "loss",
    "grad_norm",
    "items_per_s",
}  # figures with a place of their own on the line, or without any


def cut_metrics(path: Path, step: int, evaluated: bool) -> None:
    """Cut a metrics.jsonl back to what was known at `step`.

    evaluated: whether the validation at `step` stays.
    """
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
    """Prints lines from the start and writes files once `open` was called; does neither unless `first`."""

    def __init__(self, first: bool, quiet: bool, log: Path | None = None) -> None:
        self.first, self.loud = first, first and not quiet
        self.log = log if first else None
        self.bars: Any = None
        self.board: Any = None

    def say(self, line: str) -> None:
        """Print a line and append it to the log."""
        if self.loud:
            terminal.say(line)  # rich moves it above the bars
        if self.log:  # it gets a few lines a minute, so it need not stay open
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{line}\n")

    def open(self, out: Path, board: Path | None, purge_step: int) -> None:
        """Log into the folder `out`, and into TensorBoard's folder `board`.

        purge_step: the step from which TensorBoard hides the figures that it has.
        """
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
        """Set the progress bar to `done` of `total` of `what`."""
        if self.bars:
            self.bars.reset(self.bar, description=what, total=total, completed=done)

    def advance(self) -> None:
        """Move the progress bar by one."""
        if self.bars:
            self.bars.advance(self.bar)

    def train(self, step: int, epoch: int, epochs: int, lr: float, figures: dict[str, float]) -> None:
        """Log the steps since the last line. figures: the losses, then `grad_norm` and `items_per_s`."""
        self._record(step, epoch, "train", figures | {"lr": lr})
        line = [
            f"Epoch {epoch}/{epochs} | Step {step:,} | Loss: {format_figure(figures['loss'])} | LR: {lr:.2e}"
        ]
        line += _parts(figures, _PLACED)[:SHOWN]
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
        """Log the figures of a validation (`val_loss` and others) beside the baselines to beat."""
        self._record(step, epoch, "val", figures, **({"baselines": baselines} if baselines else {}))
        line = [f"Epoch {epoch}/{epochs} | Step {step:,}"]
        if loss is not None:
            line.append(f"Loss: {format_figure(loss)}")
        line.append(f"Val Loss: {format_figure(figures['val_loss'])}")
        line += _parts(figures, {"val_loss"})
        if baselines:
            shown = list(baselines.items())[: SHOWN + 1]
            line.append("baselines: " + ", ".join(f"{name} {format_figure(value)}" for name, value in shown))
        self.say(" | ".join(line))

    def baselines(self, baselines: dict[str, float], step: int) -> None:
        """Log the baselines to TensorBoard."""
        if self.board:
            for name, value in baselines.items():
                self.board.add_scalar(f"baseline/{name}", value, step)

    def status(self, state: str, step: int, epoch: int, exit_status: int | None, why: str) -> None:
        """Write status.json.

        state: running, finished, interrupted or failed. exit_status: None while running.
        """
        row = {"state": state, "step": step, "epoch": epoch, "exit_status": exit_status, "why": why}
        if self.first:
            files.write(self.out / "status.json", json.dumps(row) + "\n")

    def describe(self, run: JsonObject) -> None:
        """Write run.json."""
        if self.first:
            files.write(self.out / "run.json", json.dumps(run, indent=1) + "\n")

    def close(self) -> None:
        """Close the bars, TensorBoard and metrics.jsonl."""
        if self.bars:
            self.bars.stop()
        if self.board:
            self.board.close()
        if self.first:
            with contextlib.suppress(OSError):  # a full disk was reported when the row was written
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
    # A figure without any item (drums in a window that has none) is NaN and is left out.
    return [
        f"{name} {format_figure(value)}"
        for name, value in figures.items()
        if name not in but and not math.isnan(value)
    ]


def format_figure(value: float) -> str:
    """Return the value with four significant digits."""
    return f"{value:#.4g}"


def run_facts(
    config: JsonObject,
    data_hash: str,
    tokenizer_hash: str,
    team: Ranks,
    accumulation: int,
    state: JsonObject | None,
) -> JsonObject:
    """Return what run.json says of a run's origin.

    state: the checkpoint that is resumed, or None. Its start and its list of resumes are carried on.
    """
    batch = {
        "batch_size": config["data"]["batch_size"],
        "ranks": team.size,
        "grad_accum_steps": accumulation,
    }
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    started, resumes = now, []
    if state:
        before = state["meta"]["facts"]
        changed = changed_settings(state["config"], config)
        this_resume = {"step": state["progress"]["step"], "at": now, **batch, "changed": changed}
        started, resumes = before["started"], [*before["resumes"], this_resume]
    return {
        "config": config,
        "seed": config["seed"],
        "versions": {
            "kwela": version("kwela"),
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # it is a subclass of str, which a checkpoint may not hold
            "numpy": version("numpy"),
        },
        "commit": _commit(),
        "manifest_hash": data_hash,
        "tokenizer_hash": tokenizer_hash,
        "hardware": _hardware(team.device),
        "batch": batch,
        "started": started,
        "resumes": resumes,
    }


def _hardware(device: torch.device) -> JsonObject:
    processor = platform.processor() or platform.machine()
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "cpus": os.cpu_count(),
    }


def changed_settings(old: JsonObject, new: JsonObject, prefix: str = "") -> JsonObject:
    """Return the settings in which two configs differ: dotted key -> [old, new]."""
    changed: JsonObject = {}
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed |= changed_settings(before, after, f"{prefix}{key}.")
        elif before != after:
            changed[f"{prefix}{key}"] = [before, after]
    return changed


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
