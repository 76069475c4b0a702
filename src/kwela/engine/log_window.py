"""The figures of the optimiser steps since the last line of the log.

They stay on the device until they are logged, saved or checked, so that no step waits for the device.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from kwela.engine import failures
from kwela.engine.learner import Learner


class LogWindow:
    """Sums of losses over the steps of one line of the log.

    sums: [total, weight] of each loss, fetched from the device; saved in every checkpoint.
    """

    def __init__(self, learner: Learner, manifest: str) -> None:
        self.learner, self.manifest = learner, manifest
        self.pending: list[tuple[int, int, np.ndarray, Tensor, Tensor]] = []
        self.sums: list[list[float]] = []
        self.grad_norm = math.nan  # of the last step that was fetched
        self.item_count = 0
        self.clock_start = time.monotonic()

    def add(self, step: int, epoch: int, items: np.ndarray, sums: Tensor, norm: Tensor) -> None:
        """Add a step: the indexes of its items, and what `Learner.step` returned for it."""
        self.pending.append((step, epoch, items, sums, norm))
        self.item_count += len(items)

    def fetch(self) -> None:
        """Bring pending figures to the host. Raises KwelaError at the first that is not finite."""
        if not self.pending:
            return
        rows = [torch.cat((sums.flatten(), norm[None])) for *_, sums, norm in self.pending]
        table = torch.stack(rows).tolist()
        for (step, epoch, items, _, _), (*flat, norm) in zip(self.pending, table, strict=True):
            new_sums = [flat[start : start + 2] for start in range(0, len(flat), 2)]
            not_finite = None if math.isfinite(norm) or self._overflow_allowed() else "gradient"
            if not math.isfinite(new_sums[self.learner.loss_row][0]):
                not_finite = "loss"
            if not_finite:
                raise failures.not_finite(not_finite, step, epoch, items, self.manifest)
            before = self.sums if len(self.sums) == len(new_sums) else [[0.0, 0.0] for _ in new_sums]
            pairs = zip(before, new_sums, strict=True)
            self.sums = [[t + total, w + weight] for (t, w), (total, weight) in pairs]
            self.grad_norm = norm
        self.pending.clear()

    def close(self) -> dict[str, float]:
        """Return the window's mean losses, gradient norm and items per second; begin a new window."""
        self.fetch()
        figures = self.learner.means(torch.tensor(self.sums, dtype=torch.float64))
        speed = self.item_count / max(time.monotonic() - self.clock_start, 1e-9)
        self.sums = []
        self.restart_clock()
        return figures | {"grad_norm": self.grad_norm, "items_per_s": speed}

    def restart_clock(self) -> None:
        """Measure items per second from now on, without the validation or the start that went before."""
        self.item_count, self.clock_start = 0, time.monotonic()

    def _overflow_allowed(self) -> bool:
        """Return whether a gradient may overflow: a float16 scaler then skips the step, down to a limit."""
        scaler = self.learner.scaler
        return scaler.is_enabled() and scaler.get_scale() > 2**-10
