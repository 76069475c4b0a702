"""Pictures are drawn from what a run wrote, and from sound of any length."""

import json
from pathlib import Path

import numpy as np
import pytest

from kwela import plots
from kwela.errors import UserError


def test_a_loss_curve_needs_a_validation(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": 1, "split": "train", "loss": 2.0}) + "\n")
    with pytest.raises(UserError, match="no validation yet"):
        plots.draw_run_loss(metrics, tmp_path / "curve.png", "loss", "A run", "nats")
    row = {"step": 1, "split": "val", "val_loss": 2.5, "baselines": {"bigram_ce": 2.2}}
    with metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")
    picture = plots.draw_run_loss(metrics, tmp_path / "curve.png", "loss", "A run", "nats")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("samples", [0, 1, 5_000])
def test_a_spectrogram_is_in_db_below_its_loudest_point_or_below_a_given_level(samples: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 / 16_000 * np.arange(samples))
    _, (first, second) = plots.sheet(1, 2, (4, 2))
    own = plots.draw_spectrogram(first, tone, 16_000).get_array()
    full_scale = plots.draw_spectrogram(second, tone, 16_000, loudest_db=0.0).get_array()
    assert own.shape == full_scale.shape and len(own) == plots.N_FFT // 2 + 1
    if samples > plots.N_FFT:
        row = int(own.max(axis=1).argmax())
        assert own.max() == 0 and row == round(1000 / 8000 * plots.N_FFT / 2)
        assert full_scale.max() == pytest.approx(20 * np.log10(0.5), abs=0.2)
    assert first.get_ylim() == (0, 8)
