"""The MIDI generator in ONNX: the same numbers, the same song, its evidence, and nothing at all where they
differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_checkpoints import MIDI_SIZE, save, sixteen_bars

from kwela import files
from kwela.engine import checkpoint
from kwela.errors import KwelaError, UserError
from kwela.export import evidence, run, to_onnx
from kwela.midi_generator import greedy_check
from kwela.midi_generator import model as generator_model
from kwela.midi_generator.export_signature import SIGNATURE
from kwela.midi_generator.generate import OnnxBackend, TorchBackend, generate
from kwela.music import tokens

Export = tuple[Path, str]


def perturb(file: Path) -> None:
    """Add noise of 1 % of its spread to one weight matrix."""
    proto = onnx.load(file)
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = onnx.numpy_helper.to_array(weight).copy()
    array += 0.01 * array.std() * np.random.default_rng(0).standard_normal(array.shape).astype(np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, file)


def test_one_file_with_the_contracts_names_and_free_lengths(midi_export: Export) -> None:
    out, _ = midi_export
    assert sorted(file.name for file in out.iterdir()) == [
        "grammar.json",
        "midi_generator.onnx",
        "midi_generator.onnx.json",
    ]
    session = onnxruntime.InferenceSession(str(out / "midi_generator.onnx"))
    assert {port.name: port.shape for port in session.get_inputs()} == {
        "input_ids": ["batch", "length"],
        "emotion": ["batch", 64],
        "context": ["batch", "length", 4],
        "past_k": [2, "batch", 2, "past", 16],
        "past_v": [2, "batch", 2, "past", 16],
    }
    assert [port.name for port in session.get_outputs()] == ["logits", "present_k", "present_v"]


@pytest.mark.parametrize(
    ("batch", "length", "past"), [(1, 1, 0), (4, 9, 0), (1, 1, 1), (2, 3, 1), (5, 1, 33), (1, 200, 55)]
)
def test_outputs_equal_pytorchs(
    midi_export: Export, midi_model: generator_model.MidiGenerator, batch: int, length: int, past: int
) -> None:
    """At sizes other than those the exporter itself tries, with a past of any numbers."""
    torch.manual_seed(batch + length + past)
    ids, context = torch.randint(0, 388, (batch, length)), torch.randint(0, 13, (batch, length, 4))
    emotion = torch.where(torch.rand(batch, 64) < 0.3, torch.nan, torch.rand(batch, 64) * 2 - 1)
    past_k, past_v = torch.randn(2, 2, batch, 2, past, 16)
    inputs = {"input_ids": ids, "emotion": emotion, "context": context, "past_k": past_k, "past_v": past_v}
    with torch.no_grad():
        wanted = midi_model(**inputs)
    session = onnxruntime.InferenceSession(str(midi_export[0] / "midi_generator.onnx"))
    for array, right in zip(
        session.run(None, {name: x.numpy() for name, x in inputs.items()}), wanted, strict=True
    ):
        np.testing.assert_allclose(array, right.numpy(), rtol=0, atol=2e-5)


def test_sixteen_greedy_bars_through_onnxruntime_are_pytorchs(
    midi_export: Export, midi_model: generator_model.MidiGenerator
) -> None:
    file = midi_export[0] / "midi_generator.onnx"
    with torch.no_grad():
        songs = [
            generate(backend, (0.25, 0.25, 0.25), bars=16, temperature=0)
            for backend in (OnnxBackend(file, 256), TorchBackend(midi_model, 256))
        ]
    assert np.array_equal(*songs)
    assert (songs[0] == tokens.BAR).sum() == 16 and len(songs[0]) > len(sixteen_bars()) // 2
    torch.manual_seed(9)
    stranger = generator_model.build(MIDI_SIZE).eval()
    with pytest.raises(KwelaError, match="greedy generation leaves PyTorch's at id"):
        greedy_check.compare(file, stranger, 256, 1, to_onnx.TOLERANCE)


def test_evidence_is_of_this_very_file_and_checkpoint(midi_export: Export, midi_checkpoint: Path) -> None:
    file = midi_export[0] / "midi_generator.onnx"
    found = json.loads(evidence.path_of(file).read_text())
    assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["bytes"] == file.stat().st_size
    assert found["checkpoint"]["sha256"] == files.sha256(midi_checkpoint)
    assert found["opset"] == {entry.domain: entry.version for entry in onnx.load(file).opset_import}[""]
    assert {"batch": 1, "length": 1, "past": 0} in found["shapes_tested"]
    assert all(0 <= error <= 1e-5 for error in found["max_abs_error"].values())
    assert found["greedy"]["equal_to_pytorch"] and found["greedy"]["bars"] == 16
    assert [row["past"] for row in found["latency_ms"]] == [0, 128, 512]
    assert all(0 < row["p50"] <= row["p95"] for row in found["latency_ms"])
    assert found["quantisation_drift"] is None
    assert found["training_data"] == {
        "sha256": "d" * 64,
        "kind": "unknown",
        "manifests": ["midi_train.jsonl", "midi_val.jsonl"],
    }


def test_the_file_itself_says_what_a_host_must_know(midi_export: Export, midi_checkpoint: Path) -> None:
    file = midi_export[0] / "midi_generator.onnx"
    said = to_onnx.session(file).get_modelmeta().custom_metadata_map
    assert said["family"] == "midi_generator" and said["window"] == "256"
    assert said["tokenizer_hash"] == tokens.tokenizer_hash()
    assert said["checkpoint_sha256"] == files.sha256(midi_checkpoint)
    assert "NaN emotion dimension = absent" in said["emotion"]
    assert str(Path(run.__file__).parents[1]).encode() not in file.read_bytes(), "it tells where it was made"


def test_without_coremltools_one_line_says_so(midi_export: Export) -> None:
    (line,) = [line for line in midi_export[1].splitlines() if "Core ML" in line]
    assert line.startswith("Core ML: coremltools is not installed")


@pytest.mark.usefixtures("no_coreml")
def test_the_same_checkpoint_is_not_exported_twice(
    midi_export: Export, midi_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = midi_export[0] / "midi_generator.onnx"
    before = file.stat().st_mtime_ns
    run.export("midi_generator", midi_checkpoint, midi_export[0])
    assert file.stat().st_mtime_ns == before
    assert f"{file}: up to date" in capsys.readouterr().out
    origin = evidence.describe_origin(midi_checkpoint, checkpoint.load(midi_checkpoint), to_onnx.PACKAGES)
    assert evidence.is_up_to_date(file, origin)
    assert not evidence.is_up_to_date(
        file, origin | {"checkpoint": {**origin["checkpoint"], "sha256": "0" * 64}}
    )


@pytest.mark.usefixtures("no_coreml")
def test_a_perturbed_weight_is_caught_and_nothing_is_left(
    midi_model: generator_model.MidiGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average weights are what is exported: the plain ones here are another model's. An older export
    stays.
    """
    torch.manual_seed(1)
    other = generator_model.build(MIDI_SIZE)
    source = save(tmp_path / "best.pt", "midi_generator", MIDI_SIZE, other, ema=midi_model.state_dict())
    out = tmp_path / "exports"
    file = out / "midi_generator.onnx"
    convert = to_onnx.convert

    def wrong(*arguments: object) -> None:
        convert(*arguments)  # type: ignore[arg-type]
        good.write_bytes(arguments[-1].read_bytes())  # type: ignore[attr-defined]
        perturb(arguments[-1])  # type: ignore[arg-type]

    good = tmp_path / "good.onnx"
    monkeypatch.setattr(to_onnx, "convert", wrong)
    with pytest.raises(KwelaError, match=r"differs from PyTorch's by .* at batch 1, length 1, past 0"):
        run.export("midi_generator", source, out)
    assert list(out.iterdir()) == []
    to_onnx.check(good, midi_model, SIGNATURE)
    file.write_text("older")
    perturb(good)
    monkeypatch.setattr(to_onnx, "convert", lambda *arguments: shutil.copy(good, arguments[-1]))
    with pytest.raises(KwelaError, match="nothing was exported"):
        run.export("midi_generator", source, out)
    assert [path.name for path in out.iterdir()] == [file.name] and file.read_text() == "older"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"heads": 0}, "heads: must be at least 1"),
        ({"heads": 3}, "width 32 must be a multiple of 2 x heads"),
        ({"layers": 10**9}, "layers: must be at most"),
        ({"layers": 3}, "its weights don't fit its settings: .*blocks.2"),
        ({"width": "32"}, "width: must be a whole number"),
        ({"window": 0}, "window: must be at least 16"),
        ({"window": None}, "window: missing"),
    ],
)
def test_settings_of_a_foreign_checkpoint_are_checked_before_a_model_is_built(
    changed: dict[str, Any], said: str, midi_model: generator_model.MidiGenerator, tmp_path: Path
) -> None:
    size = {name: value for name, value in (MIDI_SIZE | changed).items() if value is not None}
    path = save(tmp_path / "best.pt", "midi_generator", size, midi_model)
    with pytest.raises(UserError, match=rf"best\.pt: .*{said}"):
        run.export("midi_generator", path, tmp_path / "exports")


@pytest.mark.parametrize("name", ["out", "out/below"])
def test_a_file_where_the_folder_should_be_is_bad_usage(
    name: str, midi_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"midi_generator\.onnx: .*(File exists|Not a directory)"):
        run.export("midi_generator", midi_checkpoint, tmp_path / name)
    assert (tmp_path / "out").read_text() == "a file"


def test_onnx_files_that_are_no_midi_generator_are_refused(
    midi_export: Export, cloud_export: Path, tmp_path: Path
) -> None:
    good = midi_export[0] / "midi_generator.onnx"
    assert OnnxBackend(good).window == MIDI_SIZE["window"]
    odd = tmp_path / "odd.onnx"
    odd.write_text("no model")
    with pytest.raises(UserError, match=r"odd\.onnx: onnxruntime can't read it"):
        OnnxBackend(odd)
    with pytest.raises(UserError, match="can't read it"):
        OnnxBackend(tmp_path / "none.onnx")
    with pytest.raises(
        UserError, match=r"spectocloud\.onnx: not a MIDI generator \(its inputs: spectrogram, "
    ):
        OnnxBackend(cloud_export / "spectocloud.onnx")
    model = onnx.load(good)
    onnx.helper.set_model_props(model, {"window": "256", "tokenizer_hash": "another"})
    onnx.save_model(model, odd)
    with pytest.raises(UserError, match=r"odd\.onnx: made for another tokenizer"):
        OnnxBackend(odd)
    onnx.helper.set_model_props(model, {"window": "none"})
    onnx.save_model(model, odd)
    with pytest.raises(UserError, match=r"odd\.onnx: .*window"):
        OnnxBackend(odd)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch went-off",)


@pytest.mark.parametrize("kind", ["bomb", "family", "tokenizer", "settings", "torn", "missing"])
def test_a_checkpoint_that_is_not_ours_is_refused(
    kind: str,
    midi_model: generator_model.MidiGenerator,
    midi_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path, out = tmp_path / "best.pt", tmp_path / "exports"
    if kind == "bomb":
        path.write_bytes(pickle.dumps({"format": 1, "model": Bomb()}))
    elif kind == "family":
        save(path, "spectocloud", {}, midi_model)
    elif kind == "tokenizer":
        save(path, "midi_generator", MIDI_SIZE, midi_model, tokenizer_hash="0" * 64)
    elif kind == "settings":
        save(path, "midi_generator", {**MIDI_SIZE, "layers": 3}, midi_model)
    elif kind == "torn":
        path.write_bytes(midi_checkpoint.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"best\.pt"):
        run.export("midi_generator", path, out)
    assert not out.exists() and not (tmp_path / "went-off").exists()
