"""Judge a Spectocloud on held-out segments, beside the target drawn again and three baselines."""

from __future__ import annotations

from pathlib import Path

from kwela.errors import UserError
from kwela.judge.page import Scorecard


def judge(
    model: Path | None,
    manifest: Path | None,
    training: Path | None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    raise UserError("kwela judge clouds: not there yet")
