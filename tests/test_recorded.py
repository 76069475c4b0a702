"""Checkpoints, exports and a campaign of older code load and go on: see recorded/README.md."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

import scratch
from recorded import make
from scratch import kwela

RECORDED = Path(make.__file__).parent
EXPECTED: dict[str, Any] = json.loads((RECORDED / "expected.json").read_text())
EPOCHS = 35  # at which the campaign ends, of two steps each: fewer than recorded, which a resume may set
CONFIG = ["--config", "campaign/config.json", "--rehearsal"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded files, unpacked. Not to be changed."""
    folder = tmp_path_factory.mktemp("recorded")
    with tarfile.open(make.PACKED) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def root(files: Path, tmp_path: Path) -> Path:
    """A checkout with the recorded files at the places where the older code wrote them."""
    folder = scratch.make(tmp_path / "checkout")
    shutil.copytree(files, folder, dirs_exist_ok=True)
    return folder


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_recorded_files_are_small_and_name_no_machine(files: Path) -> None:
    assert make.PACKED.stat().st_size < 2_500_000
    machine_paths = (b"/tmp/", b"/home/", b"/root/", f"{scratch.ROOT.parent}/".encode())
    for path in files.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [name for name in machine_paths if name in content], path


@pytest.mark.parametrize("family", EXPECTED["runs"])
def test_an_older_run_goes_on_and_reaches_the_same_losses_and_weights(root: Path, family: str) -> None:
    run = EXPECTED["runs"][family]
    done = kwela(root, *run["command"], "--out", run["folder"])
    assert done.status == 0, done.err
    assert f"Resuming from {run['folder']}/last.pt at step {run['stopped']}" in done.out
    assert not (root / f"{run['folder']}.1").exists()
    reached = make.losses(root / run["folder"])
    # The segments that Spectocloud reads are exact since: in the third digit, it learns something else.
    same_input = family != "spectocloud"
    for split, losses in run["losses"].items():
        assert reached[split] == pytest.approx(losses, abs=1e-4 if same_input else 0.03), split
    assert str(run["finished"]) in reached["train"] and str(run["finished"]) in reached["val"]
    if same_input and (make.cpu(), torch.__version__) == (EXPECTED["cpu"], EXPECTED["torch"]):
        assert make.model_hash(root / run["folder"] / "last.pt") == run["model"]


@pytest.mark.parametrize("family", EXPECTED["runs"])
def test_an_older_checkpoint_with_one_changed_byte_is_refused(root: Path, family: str) -> None:
    run = EXPECTED["runs"][family]
    last = f"{run['folder']}/last.pt"
    change_a_byte(root / last)
    done = kwela(root, *run["command"], "--out", run["folder"], "--resume", last)
    assert done.status == 2 and f"{last}: damaged" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("name", EXPECTED["exports"])
def test_an_older_export_computes_what_it_did_and_its_evidence_holds(root: Path, name: str) -> None:
    artefact = root / "exports" / name
    evidence = json.loads(artefact.with_name(f"{name}.json").read_text())
    assert (evidence["sha256"], evidence["bytes"]) == (sha256(artefact), artefact.stat().st_size)
    source = root / "checkpoints" / artefact.stem / "last.pt"
    assert evidence["checkpoint"]["sha256"] == sha256(source)
    computed = make.outputs(artefact)
    for output, figures in EXPECTED["exports"][name].items():
        assert computed[output] == pytest.approx(figures, abs=1e-4), output


def test_an_older_export_plays(root: Path) -> None:
    done = kwela(
        root, "generate", "midi", "--backend", "onnx", "--emotion", "grief", "--bars", "2", "--out", "a.mid"
    )
    assert done.status == 0, done.err
    assert (root / "a.mid").read_bytes().startswith(b"MThd")


@pytest.mark.parametrize("family", ["midi_generator", pytest.param("spectocloud", marks=pytest.mark.full)])
def test_an_older_checkpoint_exports_to_what_it_did_before(root: Path, family: str) -> None:
    """An artefact that its evidence does not prove is made anew; what the evidence proves is left as it
    is.
    """
    artefact, grammar = root / "exports" / f"{family}.onnx", (root / "exports" / "grammar.json").read_bytes()
    option = f"--{family.replace('_', '-')}"
    command = ["export", option, f"checkpoints/{family}/last.pt", "--out", "exports"]
    change_a_byte(artefact)
    done = kwela(root, *command)
    assert done.status == 0 and "up to date" not in done.out, done.err
    assert (root / "exports" / "grammar.json").read_bytes() == grammar
    evidence = json.loads(artefact.with_name(f"{artefact.name}.json").read_text())
    assert evidence["sha256"] == sha256(artefact)
    computed = make.outputs(artefact)
    for output, figures in EXPECTED["exports"][artefact.name].items():
        assert computed[output] == pytest.approx(figures, abs=1e-4), output
    assert f"exports/{artefact.name}: up to date" in kwela(root, *command).out


def test_an_older_campaign_is_read_and_goes_on_to_its_end(root: Path) -> None:
    campaign = EXPECTED["campaign"]
    folder = root / campaign["folder"]
    status = kwela(root, "campaign", "status", *CONFIG, "--json")
    assert status.status == 0, status.err
    facts = json.loads(status.out)
    assert (facts["step"], facts["gate"]) == (campaign["stopped"], "HOLD")
    assert "disk_filling" in json.dumps(facts["flags"])
    assert kwela(root, "campaign", "status", *CONFIG).status == 0
    report = kwela(root, "campaign", "report", *CONFIG)
    assert report.status == 0, report.err

    command = [*campaign["command"], "--resume", "--set", f"training.epochs={EPOCHS}"]
    held = kwela(root, *command)
    assert held.status == 5 and "the gate has decided HOLD" in held.err, held.err
    done = run(root, *command, "--override", "the panel listened")
    assert done.returncode == 0, done.stderr
    assert "Ledger restored" not in done.stdout and "damaged" not in done.stdout
    assert f"last.pt at step {campaign['stopped']}\n" in done.stdout
    assert done.stdout.index("Resuming from") < done.stdout.index("Training complete!")
    state = json.loads((folder / "orchestrator_state.json").read_text())
    assert (state["step"], state["gate"]) == (2 * EPOCHS, "GO")
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own: a campaign's training writes to the process's output."""
    command = [sys.executable, "-m", "kwela", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
