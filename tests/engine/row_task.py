"""The toy of `trainee` with a manifest: rows that give one, two or three items, and may fail."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trainee import WIDTH, ToyTask, config

from kwela.engine import loop
from kwela.engine.row_faults import Fault, Row
from kwela.engine.session import Session
from kwela.errors import KwelaError, UserError

ROWS = {"train": 25, "val": 11}
Item = tuple[int, int, int]  # row, which of its items, a draw of its generator


class RowItems:
    """The items of some rows. An item is a function of its row, of its place in the row, and of its draws."""

    def __init__(self, side: str, rows: list[int], task: RowTask) -> None:
        self.side, self.task = side, task
        self.items = [(row, part) for row in rows for part in range(item_count(row))]
        self.places = [f"{side}:row {row}" for row, _ in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row, part = self.items[index]
        draw = int(rng.integers(1 << 30))
        if (self.side, row) in self.task.failing and draw % self.task.spared != 0:
            raise UserError(f"{row}.wav: damaged")
        if (self.side, row) in self.task.flaky:
            self.task.tries += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), f"{row}.wav")
        self.task.seen.append((row, part, draw))
        x = np.random.default_rng((row, part)).normal(size=WIDTH).astype(np.float32)
        return x + np.float32(draw % 7 / 100), np.tanh(x[:2])


class RowTask(ToyTask):
    """listed: the rows of the manifest. gone: rows that can't be read, as shows at once.

    failing: rows whose items fail when they are read, but for one in `spared` draws. flaky: rows that fail
    for a reason that may pass. seen: the items that were read.
    """

    listed: tuple[list[int], list[int]] = (list(range(ROWS["train"])), list(range(ROWS["val"])))
    gone: frozenset[tuple[str, int]] = frozenset()
    failing: frozenset[tuple[str, int]] = frozenset()
    flaky: frozenset[tuple[str, int]] = frozenset()
    spared = 1 << 40
    tries = 0

    def __init__(self, config: Any, **switches: Any) -> None:
        super().__init__(config, **switches)
        self.seen: list[Item] = []
        self.left_out: tuple[set[int], set[int]] = (set(), set())

    def rows(self) -> Any:
        return [
            [Row(f"key {side} {row}", f"{side}:row {row}", {"audio": f"{row}.wav"}) for row in rows]
            for side, rows in zip(ROWS, self.listed, strict=True)
        ]

    def read_rows(self) -> Any:
        return [
            [Fault(f"{row}.wav: gone") if (side, row) in self.gone else item_count(row) for row in rows]
            for side, rows in zip(ROWS, self.listed, strict=True)
        ]

    def examine(self, row: Row) -> Fault | None:
        side, number = row.key.split()[1:]
        return Fault("gone") if (side, int(number)) in self.gone | self.failing else None

    def leave_out(self, left_out: tuple[set[int], set[int]]) -> None:
        self.left_out = left_out

    def datasets(self) -> Any:
        sides = []
        for side, rows, left_out in zip(ROWS, self.listed, self.left_out, strict=True):
            used = [row for index, row in enumerate(rows) if index not in left_out]
            for row in used:
                if (side, row) in self.gone:
                    raise UserError(f"{side}:row {row}: {row}.wav: gone")
            sides.append(RowItems(side, used, self))
        return sides


def item_count(row: int) -> int:
    return 1 + row % 3


def without(side: str, *rows: int) -> tuple[list[int], list[int]]:
    """The manifest without these rows of a side."""
    train, val = (
        [row for row in range(count) if name != side or row not in rows] for name, count in ROWS.items()
    )
    return train, val


def fit(out: Path, *settings: str, switches: dict[str, Any] | None = None, **more: Any) -> RowTask:
    """Train in this process; return the task, which knows what it read. more: fields of the Session."""
    made = config(list(settings))
    task = RowTask(made, **(switches or {}))
    given = {"device": "cpu", "data_hash": "data", "tokenizer_hash": "tokens", "quiet": True} | more
    try:
        loop.fit(task, made, out, Session(**given))
    finally:
        fit.last = task  # type: ignore[attr-defined]
    return task


if __name__ == "__main__":  # OUT, a training row that fails, settings
    torch.set_num_threads(1)
    try:
        fit(Path(sys.argv[1]), *sys.argv[3:], switches={"failing": frozenset({("train", int(sys.argv[2]))})})
    except KwelaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
