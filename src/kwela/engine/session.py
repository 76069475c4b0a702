"""What one call of `loop.fit` is given beside its task and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela.engine.resume import Resume

Extra = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """Where a session logs, what it goes on from, and who is told of its checkpoints.

    resume: "auto" goes on from the newest checkpoint in the run's folder, or from training.resume_from where that has
        none; a path goes on from that one; None starts afresh. See resume.choose.
    device: see ranks.pick. runs_dir: TensorBoard's folder; None: none. log: a file that the lines are appended to.
    quiet: print nothing.
    bound: the run's folder holds more than the run (a campaign's ledger and lock) and is never set aside.
    extra: asked, on the first rank, for what each checkpoint keeps under "extra". on_resume: given that, on every rank.
    on_best: given best.pt, on the first rank, whenever it was written; returns what to call the best model.
    """

    data_hash: str
    tokenizer_hash: str
    resume: Resume = "auto"
    device: str | None = None
    runs_dir: Path | None = None
    log: Path | None = None
    quiet: bool = False
    bound: bool = False
    extra: Callable[[], Extra] | None = None
    on_resume: Callable[[Extra], None] | None = None
    on_best: Callable[[Path], Path] | None = None
