"""How much samples sound like reference music rather than like contrast music, with everything needed to doubt it."""

from __future__ import annotations

from pathlib import Path

from kwela.judge.page import Scorecard


def judge(
    reference: Path | None,
    contrast: Path,
    samples: Path,
    base: Path | None = None,
    *,
    artists: Path | None = None,
    sheet: Path | None = None,
    ratings: Path | None = None,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard, also written to `out`."""
    raise NotImplementedError
