"""How far a run is, and when it is over: functions of what a checkpoint holds and of the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kwela.config import EarlyStopping, Training


@dataclass
class Progress:
    epoch: int = 0  # finished, with their validation
    samples: int = 0  # of the epoch under way
    step: int = 0  # optimiser steps in all


@dataclass
class Stopping:
    best: float | None = None  # value of the monitored figure whose weights are in best.pt
    best_step: int = 0
    best_epoch: int = 0
    reference: float | None = None  # the value that patience counts from
    waited: int = 0  # validations since the reference
    evaluated: int = 0  # the step of the last validation

    def update(
        self, value: float, epoch: int, step: int, early: EarlyStopping, gain: Callable[[float, float], float]
    ) -> bool:
        """Take in a validation; True if it is the best so far. Patience asks for more: a gain of over `min_delta`.

        gain: Mean.gain of the monitored figure.
        """
        self.evaluated = step
        self.waited += 1
        if self.reference is None or gain(value, self.reference) > early.min_delta:
            self.reference, self.waited = value, 0
        improved = self.best is None or gain(value, self.best) > 0
        if improved:
            self.best, self.best_epoch, self.best_step = value, epoch, step
        return improved


def over(at: Progress, stopping: Stopping, training: Training, total: int) -> str | None:
    """Why the run is over, or None if it isn't. total: its optimiser steps. Over includes its last validation."""
    if at.step == 0 or stopping.evaluated != at.step:
        return None
    if at.step >= total or at.epoch >= training.epochs:
        return "ran to its end"
    early = training.early_stopping
    if early.enabled and at.epoch >= training.min_epochs and stopping.waited >= early.patience:
        return f"early stopping: {early.monitor} has not gained {early.min_delta} in {stopping.waited} validations"
    return None
