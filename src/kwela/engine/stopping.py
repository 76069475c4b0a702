"""How far a run is, and when it ends: functions of what a checkpoint holds and of the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kwela.config import EarlyStopping, Training


@dataclass
class Progress:
    """What a run has done.

    epoch: epochs that are finished, with their validation. samples: items used of the epoch under way.
    step: optimiser steps in all.
    """

    epoch: int = 0
    samples: int = 0
    step: int = 0


@dataclass
class Stopping:
    """What early stopping remembers of the monitored figure.

    best: its best value, whose weights are in best.pt, reached at best_step in best_epoch.
    reference: the value that patience counts from. waited: validations since the reference.
    evaluated: the step of the last validation.
    """

    best: float | None = None
    best_step: int = 0
    best_epoch: int = 0
    reference: float | None = None
    waited: int = 0
    evaluated: int = 0

    def update(
        self, value: float, epoch: int, step: int, early: EarlyStopping, gain: Callable[[float, float], float]
    ) -> bool:
        """Take in a validation. Return whether its value is the best so far.

        gain: `Mean.gain` of the monitored figure. The best value may gain by any amount; patience starts
        again only after a gain of more than `min_delta`.
        """
        self.evaluated = step
        self.waited += 1
        if self.reference is None or gain(value, self.reference) > early.min_delta:
            self.reference, self.waited = value, 0
        improved = self.best is None or gain(value, self.best) > 0
        if improved:
            self.best, self.best_epoch, self.best_step = value, epoch, step
        return improved


def reason_to_end(progress: Progress, stopping: Stopping, training: Training, total_steps: int) -> str | None:
    """Return why the run is over, or None if it goes on. A run is over only after its last validation."""
    if progress.step == 0 or stopping.evaluated != progress.step:
        return None
    if progress.step >= total_steps or progress.epoch >= training.epochs:
        return "ran to its end"
    early = training.early_stopping
    if early.enabled and progress.epoch >= training.min_epochs and stopping.waited >= early.patience:
        waited = f"{stopping.waited} validations"
        return f"early stopping: {early.monitor} has not gained {early.min_delta} in {waited}"
    return None
