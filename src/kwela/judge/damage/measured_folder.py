"""A folder of clips with what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class MeasuredFolder:
    """The different clips of a folder, as `audio_metrics.describe` found them; paths[k] belongs to found[k]."""

    folder: Path
    paths: list[Path] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)  # file: why

    def values(self, measure: str) -> np.ndarray:
        """(n,) float64, NaN where a clip has no answer."""
        return np.array([one[measure] if one[measure] is not None else np.nan for one in self.found], float)
