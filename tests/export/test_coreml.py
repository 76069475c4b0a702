"""Core ML packages, where coremltools is installed: off a Mac they can be read, not run, and their evidence
says so.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import MIDI_SIZE, save

from kwela.errors import KwelaError
from kwela.export import evidence, run, to_coreml, to_onnx
from kwela.midi_generator import greedy_check
from kwela.midi_generator import model as generator_model
from kwela.spectocloud import model as spectocloud
from kwela.spectocloud.export_signature import SIGNATURE

pytestmark = pytest.mark.skipif(not to_coreml.available(), reason="coremltools is not installed")


def test_the_midi_package_primes_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {**MIDI_SIZE, "layers": 1}
    source = save(tmp_path / "best.pt", "midi_generator", size, generator_model.build(size))
    monkeypatch.setattr(to_onnx, "convert", lambda *arguments: arguments[-1].write_bytes(b"-"))
    monkeypatch.setattr(to_onnx, "check", lambda *arguments: {"max_abs_error": {"logits": 0.0}})
    monkeypatch.setattr(to_onnx, "latency", lambda *arguments: [{"p50": 1.0}])
    monkeypatch.setattr(greedy_check, "compare", lambda *arguments: {})
    files = run.export("midi_generator", source, tmp_path / "exports")
    package = tmp_path / "exports" / "midi_generator.mlpackage"
    assert package in files and package.is_dir()
    found = json.loads(evidence.path_of(package).read_text())
    assert found["sha256"] == evidence.digest(package)[0]
    assert found["max_abs_error"] is None and "Apple's systems only" in found["not_checked"][0]
    past = "float32 (1, 1, 2, 1..1024, 16)"
    first = {
        "input_ids": "int32 (1, 1..1024)",
        "emotion": "float32 (1, 64)",
        "context": "int32 (1, 1..1024, 4)",
    }
    assert found["functions"]["prime"]["inputs"] == first
    assert found["functions"]["main"]["inputs"] == {**first, "past_k": past, "past_v": past}
    for function in ("prime", "main"):
        assert set(found["functions"][function]["outputs"]) == {"logits", "present_k", "present_v"}


def test_the_cloud_package_has_the_contracts_names(
    cloud_model: spectocloud.Spectocloud, tmp_path: Path
) -> None:
    found = to_coreml.convert(cloud_model, SIGNATURE, {"family": "x"}, tmp_path / "spectocloud.mlpackage")
    assert found["functions"]["main"]["inputs"] == {
        "spectrogram": "float32 (1, 128, 64)",
        "emotion": "float32 (1, 64)",
        "midi_features": "float32 (1, 32)",
    }
    assert set(found["functions"]["main"]["outputs"]) == {"positions", "colors", "properties"}


def test_what_coremltools_lacks_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(torch.nn.Module):
        def forward(
            self, spectrogram: torch.Tensor, emotion: torch.Tensor, midi_features: torch.Tensor
        ) -> torch.Tensor:
            return torch.special.i0(spectrogram)

    with pytest.raises(KwelaError, match=r"^Core ML: coremltools can't convert the model: .*i0"):
        to_coreml.convert(Odd(), SIGNATURE, {}, tmp_path / "odd.mlpackage")
    assert list(tmp_path.iterdir()) == []
