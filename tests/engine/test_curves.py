"""The loss curve is drawn from what the journal wrote."""

import json
from pathlib import Path

import pytest

from kwela.engine import curves
from kwela.errors import UserError


def test_a_curve_needs_a_validation(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": 1, "split": "train", "loss": 2.0}) + "\n")
    with pytest.raises(UserError, match="no validation yet"):
        curves.draw(metrics, tmp_path / "curve.png")
    with metrics.open("a") as file:
        file.write(
            json.dumps({"step": 1, "split": "val", "val_loss": 2.5, "baselines": {"bigram_ce": 2.2}}) + "\n"
        )
    assert curves.draw(metrics, tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
