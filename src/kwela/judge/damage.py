"""Judge what fine-tuning broke: dull highs, silence, loops, clipping, copies of training clips."""

from __future__ import annotations

from pathlib import Path

from kwela.errors import UserError
from kwela.judge.page import Scorecard


def judge(
    base: Path,
    tuned: Path,
    training: Path | None = None,
    unseen: Path | None = None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    raise UserError("kwela judge damage: not there yet")
