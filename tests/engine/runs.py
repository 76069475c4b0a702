"""What the engine's tests share: runs in processes of their own, and a way to compare two runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from kwela.engine import checkpoint

TRAINEE = Path(__file__).with_name("trainee.py")
STEPS = 24
SETTINGS = (
    "training.epochs=3",
    "training.min_epochs=0",
    "training.log_every=1",
    "training.save_every=1",
    "training.save_every_steps=3",
    "training.eval_every_steps=6",
    "training.evaluate_first=true",
    "training.ema.enabled=true",
    "scheduler.warmup_steps=4",
    "optim.lr=0.003",
)
DTYPES = {
    "fp32": ("training.amp=false",),
    "bf16": ("training.amp_dtype=bfloat16",),
    "fp16": ("training.amp_dtype=float16",),  # with a GradScaler, which the trainee gives CPUs
}
VOLATILE = ("config", "extra", "meta")


def unequal(mine: Any, theirs: Any, where: str = "") -> list[str]:
    """The places in which two states differ by a bit."""
    if isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor):
        same = mine.dtype == theirs.dtype and mine.shape == theirs.shape
        return [] if same and torch.equal(mine, theirs) else [where]
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = list({**mine, **theirs})
        return [p for key in keys for p in unequal(mine.get(key), theirs.get(key), f"{where}.{key}")]
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return [
            p
            for at, (a, b) in enumerate(zip(mine, theirs, strict=True))
            for p in unequal(a, b, f"{where}[{at}]")
        ]
    return [] if type(mine) is type(theirs) and mine == theirs else [where]


def differences(mine: Path, theirs: Path) -> list[str]:
    """Where the folders of two runs differ: every checkpoint but its volatile parts, every metric but the
    speed.
    """
    names = sorted(path.name for path in mine.glob("*.pt"))
    if names != sorted(path.name for path in theirs.glob("*.pt")):
        return ["names of checkpoints"]
    out = []
    for name in names:
        a, b = checkpoint.load(mine / name), checkpoint.load(theirs / name)
        out += unequal(*({k: v for k, v in state.items() if k not in VOLATILE} for state in (a, b)), name)
    return out + unequal(rows(mine), rows(theirs), "metrics")


def rows(out: Path) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "items_per_s"} for line in lines]


def status(out: Path) -> dict[str, Any]:
    return json.loads((out / "status.json").read_text())


def start(out: Path, workers: int, ranks: int, dtype: str, *flags: str) -> list[subprocess.Popen]:
    """8 items a step, whatever the ranks."""
    shape = (f"data.batch_size={4 // ranks}", "training.grad_accum_steps=2", f"data.num_workers={workers}")
    settings = [part for setting in (*SETTINGS, *DTYPES[dtype], *shape) for part in ("--set", setting)]
    command = [sys.executable, str(TRAINEE), str(out), *settings, *flags]
    if dtype == "fp16":
        command.append("--float16")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environments = [team | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    return [
        subprocess.Popen(
            command, env=os.environ | more, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for more in environments
    ]
