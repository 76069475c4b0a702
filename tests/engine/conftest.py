"""What the engine's tests share: a way to compare two runs, and one to lose part of a state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kwela.engine import checkpoint

VOLATILE = ("config", "extra", "meta")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unequal(mine: Any, theirs: Any, where: str = "") -> list[str]:
    """The places in which two states differ by a bit."""
    if isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor):
        same = mine.dtype == theirs.dtype and mine.shape == theirs.shape
        return [] if same and torch.equal(mine, theirs) else [where]
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = list({**mine, **theirs})
        return [p for key in keys for p in unequal(mine.get(key), theirs.get(key), f"{where}.{key}")]
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return [p for at, (a, b) in enumerate(zip(mine, theirs, strict=True)) for p in unequal(a, b, f"{where}[{at}]")]
    return [] if type(mine) is type(theirs) and mine == theirs else [where]


def differences(mine: Path, theirs: Path) -> list[str]:
    """Where the folders of two runs differ: every checkpoint but its volatile parts, every metric but the speed."""
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
