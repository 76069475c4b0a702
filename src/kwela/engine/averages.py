"""Figures of the steps since the last line of the log. They stay on the device until somebody needs them."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from kwela.engine import failures
from kwela.engine.learner import Learner


class Tally:
    def __init__(self, learner: Learner, manifest: str) -> None:
        self.learner, self.manifest = learner, manifest
        self.pending: list[tuple[int, int, np.ndarray, Tensor, Tensor]] = []
        self.window: list[list[float]] = []  # (total, weight) of each loss, fetched
        self.norm = math.nan  # of the last gradient fetched
        self.items = 0
        self.clock = time.monotonic()

    def add(self, step: int, epoch: int, indexes: np.ndarray, sums: Tensor, norm: Tensor) -> None:
        self.pending.append((step, epoch, indexes, sums, norm))
        self.items += len(indexes)

    def fetch(self) -> None:
        """Bring pending figures to the host. Raises KwelaError at the first loss or gradient that isn't finite."""
        if not self.pending:
            return
        table = torch.stack(
            [torch.cat((sums.flatten(), norm[None])) for *_, sums, norm in self.pending]
        ).tolist()
        for (step, epoch, indexes, _, _), (*flat, norm) in zip(self.pending, table, strict=True):
            rows = [flat[at : at + 2] for at in range(0, len(flat), 2)]
            wrong = None if math.isfinite(norm) or self._rescuable() else "gradient"
            if not math.isfinite(rows[self.learner.loss_row][0]):
                wrong = "loss"
            if wrong:
                raise failures.not_finite(wrong, step, epoch, indexes, self.manifest)
            before = self.window if len(self.window) == len(rows) else [[0.0, 0.0] for _ in rows]
            self.window = [[t + a, w + b] for (t, w), (a, b) in zip(before, rows, strict=True)]
            self.norm = norm
        self.pending.clear()

    def close(self) -> dict[str, float]:
        """The figures of the window, its gradient norm and its speed; a new window begins."""
        self.fetch()
        figures = self.learner.means(torch.tensor(self.window, dtype=torch.float64))
        speed = self.items / max(time.monotonic() - self.clock, 1e-9)
        self.window = []
        self.start_clock()
        return figures | {"grad_norm": self.norm, "items_per_s": speed}

    def start_clock(self) -> None:
        """Count items a second from now: what went before was validation, or starting."""
        self.items, self.clock = 0, time.monotonic()

    def _rescuable(self) -> bool:
        """Whether a gradient may overflow: a float16 scaler skips the step and halves its scale, down to a limit."""
        scaler = self.learner.scaler
        return scaler.is_enabled() and scaler.get_scale() > 2**-10
