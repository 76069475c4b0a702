"""A family from outside the package: registered, trained, interrupted, resumed and exported by the ordinary
commands.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import scratch
from kwela import families
from kwela.config import Data, SettingsGroup, TrainConfig
from kwela.engine import checkpoint
from kwela.engine.task import Batch, Mean
from kwela.errors import UserError
from kwela.export import to_coreml
from kwela.families import Family
from kwela.signature import Signature, Sizes
from scratch import kwela

INPUTS = 3
ROWS = {"train": 21, "val": 8}


class ToyData(Data):
    train_manifest: Path = Path("data/toy_train.json")
    val_manifest: Path = Path("data/toy_val.json")
    batch_size: int = 4
    num_workers: int = 0
    cache_dir: Path = Path("cache/toy")


class ToyModelSettings(SettingsGroup):
    width: int = 8


class ToyConfig(TrainConfig):
    presets: ClassVar[dict[str, dict[str, Any]]] = {"brief": {"training": {"epochs": 3, "min_epochs": 0}}}
    data: ToyData = ToyData()
    model: ToyModelSettings = ToyModelSettings()


class ToyItems:
    def __init__(self, manifest: Path) -> None:
        rows = json.loads(manifest.read_text())
        self.x, self.y = (np.array([row[key] for row in rows], np.float32) for key in ("x", "y"))

    def __len__(self) -> int:
        return len(self.x)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self.x[index] + rng.normal(scale=0.01, size=INPUTS).astype(np.float32), self.y[index]


class ToyNetwork(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(INPUTS, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


class ToyTask:
    name = "toy"
    interrupted_at = 0  # the call of `losses` that sends this process SIGTERM; 0: none

    def __init__(self, config: ToyConfig) -> None:
        self.config, self.calls = config, 0

    def model(self) -> nn.Module:
        return build(self.config.model.model_dump())

    def datasets(self) -> tuple[ToyItems, ToyItems]:
        return ToyItems(self.config.data.train_manifest), ToyItems(self.config.data.val_manifest)

    def collate(self, items: Any) -> Batch:
        x, y = zip(*items, strict=True)
        return {"x": torch.from_numpy(np.stack(x)), "y": torch.from_numpy(np.stack(y))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        self.calls += 1
        if self.calls == self.interrupted_at:
            os.kill(os.getpid(), signal.SIGTERM)
        error = (model(batch["x"])[0][:, 0] - batch["y"]).square()
        return {"loss": Mean(error.sum(), torch.tensor(float(len(error))))}

    def baselines(self) -> dict[str, float]:
        return {}

    def preview(self, model: nn.Module, folder: Path) -> None:
        pass


def build(settings: dict[str, Any]) -> ToyNetwork:
    return ToyNetwork(**settings)


def example(model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    return {"x": torch.rand(sizes["batch"], INPUTS, generator=torch.Generator().manual_seed(1))}


SIGNATURE = Signature(
    lengths={"x": {0: "batch"}},
    outputs=("y",),
    example=example,
    traced={"batch": 2},
    tested=({"batch": 1}, {"batch": 5}),
    timed=({"batch": 1},),
    meaning={"x": f"(batch, {INPUTS}) float32"},
)

TOY = Family(
    name="toy",
    command="toy",
    config_at=f"{__name__}:ToyConfig",
    task_at=f"{__name__}:ToyTask",
    build_at=f"{__name__}:build",
    signature_at=f"{__name__}:SIGNATURE",
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Family:
    """The toy family, registered for one test."""
    monkeypatch.setattr(families, "_FAMILIES", families.registered())
    families.register(TOY)
    return TOY


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the toy's rows at their default places."""
    folder = scratch.make(tmp_path / "checkout")
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for side, count in ROWS.items():
        inputs = rng.normal(size=(count, INPUTS))
        rows = [{"x": x.tolist(), "y": float(np.sin(x).sum())} for x in inputs]
        (folder / "data" / f"toy_{side}.json").write_text(json.dumps(rows))
    return folder


def train(root: Path, out: str, *more: str) -> scratch.Done:
    return kwela(root, "train", "toy", "--preset", "brief", "--device", "cpu", "--out", out, *more)


def lasting(file: Path) -> dict[str, Any]:
    """What of a checkpoint must be the same in two equal runs, each tensor by its bytes."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    state = checkpoint.load(file)
    return {key: plain(value) for key, value in state.items() if key not in ("config", "extra", "meta")}


def test_a_family_from_outside_trains_and_resumes_in_the_same_bits(
    toy: Family, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(root, "whole")
    assert whole.status == 0, whole.err
    assert "Best validation loss: " in whole.out

    monkeypatch.setattr(ToyTask, "interrupted_at", 8)
    assert train(root, "cut").status == 75
    monkeypatch.setattr(ToyTask, "interrupted_at", 0)
    stopped = lasting(root / "cut" / "last.pt")
    assert 0 < stopped["progress"]["step"] < lasting(root / "whole" / "last.pt")["progress"]["step"]
    assert stopped["model"] != lasting(root / "whole" / "last.pt")["model"]  # the negative control

    resumed = train(root, "cut")
    assert resumed.status == 0, resumed.err
    assert f"Resuming from cut/last.pt at step {stopped['progress']['step']}" in resumed.out
    assert lasting(root / "cut" / "last.pt") == lasting(root / "whole" / "last.pt")
    assert checkpoint.load(root / "cut" / "last.pt")["family"] == "toy"


def test_a_family_from_outside_exports_with_evidence(
    toy: Family, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_coreml, "available", lambda: False)
    assert train(root, "checkpoints/toy").status == 0
    done = kwela(root, "export", "--all", "--json")
    assert done.status == 0, done.err
    artefact, evidence = root / "exports" / "toy.onnx", root / "exports" / "toy.onnx.json"
    assert json.loads(done.out) == {"files": [str(artefact), str(evidence)]}
    findings = json.loads(evidence.read_text())
    assert findings["checkpoint"]["family"] == "toy"
    assert findings["max_abs_error"]["y"] <= findings["tolerance"]
    best = root / "checkpoints" / "toy" / "best.pt"
    inputs = example(nn.Identity(), {"batch": 4})
    with torch.no_grad():
        (expected,) = toy.rebuild(best, checkpoint.load(best))(**inputs)
    (computed,) = onnxruntime.InferenceSession(artefact).run(None, {"x": inputs["x"].numpy()})
    np.testing.assert_allclose(computed, expected.numpy(), atol=1e-6)


def test_a_family_without_a_smoke_set_says_which_manifest_is_missing(toy: Family, root: Path) -> None:
    (root / "data" / "toy_val.json").unlink()
    done = train(root, "out")
    assert (done.status, done.err) == (2, f"error: {root}/data/toy_val.json: no such manifest\n")


def test_an_unknown_family_or_preset_is_one_line_that_lists_the_known_ones(toy: Family, root: Path) -> None:
    done = kwela(root, "train", "opera")
    assert done.status == 2
    assert done.err == "error: 'opera': unknown family (known: spectocloud, midi, musicgen, toy)\n"
    done = kwela(root, "train", "toy", "--preset", "demo")
    assert (done.status, done.err) == (2, "error: --preset demo: unknown preset (known: brief)\n")


def test_a_name_or_a_command_can_be_taken_only_once(toy: Family) -> None:
    with pytest.raises(ValueError, match="toy is there already"):
        families.register(TOY)
    with pytest.raises(ValueError, match="midi_generator is there already"):
        families.register(Family(name="other", command="midi", config_at="", task_at=""))


def test_a_family_without_a_signature_cannot_be_exported() -> None:
    with pytest.raises(UserError, match="musicgen: models of this family cannot be exported"):
        _ = families.named("musicgen").signature


@pytest.mark.parametrize("family", families.registered(), ids=lambda family: family.name)
def test_every_part_that_a_family_names_is_there(family: Family) -> None:
    assert family.config.model_fields["model"].annotation is not None
    assert "full" in family.config.presets and "tiny" in family.config.presets
    shipped = family.config.shipped_file
    assert shipped is None or (scratch.ROOT / shipped).is_file()


def test_exporting_and_judging_import_no_training() -> None:
    """What import-linter cannot see, because a registry's parts are imported by their names."""
    probe = (
        "import sys\n"
        "from kwela import families\n"
        "from kwela.export import run\n"
        "import kwela.judge.midi.judge, kwela.judge.clouds.judge\n"
        "for family in families.registered():\n"
        "    family.config, family.tokenizer_hash\n"
        "    family.signature_at and family.signature\n"
        "training = [name for name in sys.modules if name.endswith(('.task', '.engine.loop', '.learner'))]\n"
        "sys.exit(f'imported {training}' if training else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
