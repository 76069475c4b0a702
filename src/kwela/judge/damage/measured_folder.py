"""Hold a folder of clips with the measurements of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class MeasuredFolder:
    """The different clips of a folder; measurements[k], by `audio_metrics.describe`, belong to paths[k]."""

    folder: Path
    paths: list[Path] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)  # file: why

    def values(self, measure: str) -> np.ndarray:
        """Return a measure of all clips, (n,) float64, NaN where a clip has no answer."""
        return np.array(
            [clip[measure] if clip[measure] is not None else np.nan for clip in self.measurements], float
        )
