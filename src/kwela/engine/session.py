"""What one call of `loop.fit` is given beside its task and settings, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela.engine.resume import Resume

Extra = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """Where a session logs, what it resumes, and which functions it calls at its checkpoints.

    resume: "auto" resumes the newest checkpoint in the run's folder, or training.resume_from where the folder
        has none. A path resumes that checkpoint. None starts afresh. See resume.choose.
    device: see ranks.pick. runs_dir: TensorBoard's folder; None: no TensorBoard. log: a file to which the
    printed lines are appended. quiet: print nothing. keeps_folder: the run's folder is never set aside
    for a new run, because it also holds a campaign's ledger and lock. extra: called on the first rank; its
    result is kept in each checkpoint under "extra". on_resume: called on every rank with the "extra" of the
    checkpoint that is resumed. on_best: called on the first rank with best.pt whenever that was written;
    returns what to call the best model.
    """

    data_hash: str
    tokenizer_hash: str
    resume: Resume = "auto"
    device: str | None = None
    runs_dir: Path | None = None
    log: Path | None = None
    quiet: bool = False
    keeps_folder: bool = False
    extra: Callable[[], Extra] | None = None
    on_resume: Callable[[Extra], None] | None = None
    on_best: Callable[[Path], Path] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    step, epoch: what the run reached. best: the best value of `monitor` (training.early_stopping.monitor),
    reached at best_step in best_epoch. Without any validation it is NaN, at step 0.
    val: all figures of the last validation. seconds_per_step: of this session, without validation and without
    its first step, which may compile the model.
    """

    step: int
    epoch: int
    best: float
    val: dict[str, float]
    steps_per_epoch: int
    seconds_per_step: float
    best_step: int
    best_epoch: int
    monitor: str
