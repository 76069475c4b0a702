"""Spectocloud in ONNX: the contract's names, any batch, PyTorch's numbers, and what a host needs to feed
it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from kwela.errors import KwelaError
from kwela.export import evidence, to_onnx
from kwela.music import audio, midi
from kwela.spectocloud import model as spectocloud
from kwela.spectocloud.export_signature import SIGNATURE


def test_names_and_shapes_are_the_contracts(cloud_export: Path) -> None:
    session = onnxruntime.InferenceSession(str(cloud_export / "spectocloud.onnx"))
    assert {port.name: port.shape for port in session.get_inputs()} == {
        "spectrogram": ["batch", 128, 64],
        "emotion": ["batch", 64],
        "midi_features": ["batch", 32],
    }
    assert [port.name for port in session.get_outputs()] == ["positions", "colors", "properties"]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_clouds_equal_pytorchs(cloud_export: Path, cloud_model: spectocloud.Spectocloud, batch: int) -> None:
    torch.manual_seed(batch)
    wave = torch.randn(batch, audio.SEGMENT) * torch.rand(batch, 1) * torch.linspace(1, 0, audio.SEGMENT) ** 8
    emotion = torch.where(torch.rand(batch, 64) < 0.3, torch.nan, torch.rand(batch, 64) * 2 - 1)
    inputs = {"spectrogram": audio.log_mel(wave), "emotion": emotion, "midi_features": torch.rand(batch, 32)}
    with torch.no_grad():
        wanted = cloud_model(**inputs)
    session = onnxruntime.InferenceSession(str(cloud_export / "spectocloud.onnx"))
    found = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    for array, right, width in zip(found, wanted, (3, 4, 3), strict=True):
        assert array.shape == (batch, 1200, width)
        np.testing.assert_allclose(array, right.numpy(), rtol=0, atol=to_onnx.TOLERANCE)


def test_metadata_lets_a_host_make_the_inputs(cloud_export: Path) -> None:
    said = to_onnx.session(cloud_export / "spectocloud.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(said["midi_features"]) == list(midi.FEATURE_NAMES)
    mel = json.loads(said["log_mel"])
    assert (mel["sample_rate"], mel["n_fft"], mel["hop"], mel["mels"]) == (44_100, 2048, 1024, 128)
    assert mel["frames"] == (mel["samples"] + 2 * mel["pad"] - mel["n_fft"]) // mel["hop"] + 1 == 64
    assert "NaN emotion dimension = absent" in said["emotion"]


def test_evidence_says_how_far_it_is_from_pytorch(cloud_export: Path) -> None:
    found = json.loads(evidence.path_of(cloud_export / "spectocloud.onnx").read_text())
    assert found["sha256"] == evidence.digest(cloud_export / "spectocloud.onnx")[0]
    assert set(found["max_abs_error"]) == {"positions", "colors", "properties"}
    assert max(found["max_abs_error"].values()) <= found["tolerance"] == 1e-4
    assert [row["batch"] for row in found["latency_ms"]] == [1]
    assert not (cloud_export / "grammar.json").exists()


def test_a_length_that_became_a_constant_is_caught(tmp_path: Path) -> None:
    """As `len(x)` in a model does: torch.export then drops the dimension's name without a word."""

    class Fixed(torch.nn.Module):
        def forward(
            self, spectrogram: torch.Tensor, emotion: torch.Tensor, midi_features: torch.Tensor
        ) -> torch.Tensor:
            return (spectrogram + emotion.mean() + midi_features.mean()).expand(len(emotion), -1, -1)

    signature = SIGNATURE._replace(outputs=("positions",))
    to_onnx.convert(Fixed(), signature, {}, tmp_path / "fixed.onnx")
    with pytest.raises(KwelaError, match="a length was taken for a constant"):
        to_onnx.check(tmp_path / "fixed.onnx", Fixed(), signature)
