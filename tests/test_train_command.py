"""`kwela train`: which settings win, what stands in where there is no data, and the scripts that call it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import scratch
from kwela.cli.prepare import smoke_epochs
from kwela.engine import checkpoint, loop
from kwela.midi_generator.config import MidiGeneratorConfig
from scratch import kwela

WARNINGS = [
    "WARNING: Manifest not found: data/manifests/midi_train.jsonl",
    "WARNING: Generating synthetic training data for smoke testing only!",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without manifests, whose smoke set is small."""
    folder = scratch.make(tmp_path_factory.mktemp("train") / "checkout")
    scratch.small_smoke_set(folder)
    return folder


def tiny_but_for_epochs() -> list[str]:
    """The tiny preset as --set arguments, without its number of epochs; and previews are seldom."""
    tree = {group: dict(keys) for group, keys in MidiGeneratorConfig.presets["tiny"].items()}
    del tree["training"]["epochs"], tree["training"]["save_every"]
    return [
        word
        for group, keys in tree.items()
        for key, v in keys.items()
        for word in ("--set", f"{group}.{key}={v}")
    ]


def epochs_of(folder: Path) -> int:
    return json.loads((folder / "run.json").read_text())["config"]["training"]["epochs"]


# ------------------------------------------------------------- the smoke set


def test_without_manifests_a_synthetic_set_stands_in_for_five_epochs_under_its_warning(
    tmp_path: Path,
) -> None:
    root = scratch.make(tmp_path / "checkout")
    done = kwela(root, "train", "midi", *tiny_but_for_epochs())
    assert done.status == 0, done.err
    assert done.out.splitlines()[:2] == WARNINGS
    assert done.out.count("WARNING") == 2
    assert len(list((root / "data" / "smoke" / "midi").rglob("*.mid"))) == 24
    folder = root / "checkpoints" / "midi_generator"
    assert checkpoint.load(folder / "last.pt")["progress"]["epoch"] == 5
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert any((root / "runs" / "midi_generator").iterdir())


def test_the_demos_manifests_are_absent_to_all_but_the_demo(root: Path, tmp_path: Path) -> None:
    folder = root / "data" / "manifests"
    smoke = root / "data" / "smoke" / "manifests"
    arguments = ["train", "midi", "--epochs", "1", "--out", str(tmp_path / "out")]
    folder.mkdir()
    try:
        for file in smoke.glob("*.json*"):
            (folder / file.name).write_bytes(file.read_bytes())
        assert (
            "WARNING" not in kwela(root, *arguments, "--preset", "tiny").out
        )  # the negative control: the user's own
        report = json.loads((smoke / "manifest_report.json").read_text())
        (folder / "manifest_report.json").write_text(json.dumps(report | {"demo": True}))
        assert kwela(root, *arguments, "--preset", "tiny").out.splitlines()[:2] == WARNINGS
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("text", "preset", "overrides", "epochs"),
    [
        (None, None, [], 5),
        (None, "full", [], 5),  # names no number
        (None, "tiny", [], 2),
        ("training: {epochs: 3}", None, [], 3),
        ("training: {epochs: 150}", None, [], 150),  # a choice, even of the default
        ("seed: 1", None, [], 5),
        ("training: {epochs: 3}", "tiny", [], 2),
        ("training: {epochs: 3}", "full", ["seed=2"], 3),
        (None, "tiny", ["training.epochs=4"], 4),
        (None, None, ["training={epochs: 4}"], 4),
    ],
)
def test_five_epochs_are_a_default_below_every_choice(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    preset: str | None,
    overrides: list[str],
    epochs: int,
) -> None:
    monkeypatch.chdir(root)
    file = None
    if text is not None:
        file = Path("own.yaml")
        file.write_text(text)
    assert smoke_epochs(MidiGeneratorConfig, file, preset, overrides) == epochs


@pytest.mark.parametrize("folder", [".", "training/cuda_session"])
def test_the_shipped_config_is_no_choice_even_by_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(root / folder)
    assert smoke_epochs(MidiGeneratorConfig, Path("midi_generator_training_config.yaml"), None, []) == 5


def test_a_chosen_number_of_epochs_reaches_the_smoke_run(root: Path, tmp_path: Path) -> None:
    for name, arguments in {"set": ["--set", "training.epochs=1"], "epochs": ["--epochs", "1"]}.items():
        done = kwela(root, "train", "midi", *tiny_but_for_epochs(), *arguments, "--out", str(tmp_path / name))
        assert done.status == 0, done.err
        assert epochs_of(tmp_path / name) == 1


# ------------------------------------------------------------------- options


def test_a_folder_of_ones_own_has_curves_of_its_own(root: Path) -> None:
    done = kwela(
        root, "train", "midi", "--preset", "tiny", "--epochs", "1", "--out", "checkpoints/second_try"
    )
    assert done.status == 0, done.err
    assert (root / "checkpoints" / "second_try" / "best.pt").is_file()
    assert any((root / "runs" / "second_try").iterdir())
    assert not (root / "runs" / "midi_generator").exists()


def test_an_estimate_says_hours_and_dollars_and_leaves_nothing(root: Path) -> None:
    def left() -> list[Path]:
        return sorted([*root.glob("checkpoints/*"), *root.glob("runs/*")])

    before = left()
    command = ["train", "midi", "--preset", "tiny", "--epochs", "40", "--estimate", "--dollars-per-hour", "2"]
    done = kwela(root, *command, "--json")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    assert set(figures) == {"hours", "dollars", "steps"}
    assert figures["hours"] > 0
    assert figures["dollars"] == pytest.approx(2 * figures["hours"])
    assert figures["steps"] % 40 == 0

    said = kwela(root, *command, "--set", "training.max_steps=30").out.splitlines()
    assert said[:2] == WARNINGS
    assert len(said) == 3  # no word of the models that it trained and threw away
    assert said[2].startswith("30 steps (40 epochs of ")
    assert said[2].endswith("at $2.00/h (early stopping may end it sooner)")
    assert left() == before


@pytest.mark.parametrize(
    ("monitor", "line"),
    [
        ("val_loss", "Best validation loss: 0.2500 (step 60, epoch 6)"),
        ("val_accuracy", "Best val_accuracy: 0.2500 (step 60, epoch 6)"),
    ],
)
def test_it_closes_with_the_best_figure_and_where_it_was_reached(
    root: Path, monkeypatch: pytest.MonkeyPatch, monitor: str, line: str
) -> None:
    ended = loop.Outcome(
        step=80,
        epoch=8,
        best=0.25,
        val={"val_loss": 0.5, "val_ce_pedal": math.nan},
        steps_per_epoch=10,
        seconds_per_step=0.1,
        best_step=60,
        best_epoch=6,
        monitor=monitor,
    )
    monkeypatch.setattr(loop, "fit", lambda *_, **__: ended)
    assert kwela(root, "train", "midi", "--preset", "tiny").out.splitlines()[-1] == line
    assert json.loads(kwela(root, "train", "midi", "--preset", "tiny", "--json").out) == {
        "step": 80,
        "epoch": 8,
        "monitor": monitor,
        "best": 0.25,
        "best_step": 60,
        "best_epoch": 6,
        "val": {"val_loss": 0.5, "val_ce_pedal": None},
    }


@pytest.mark.parametrize("other", ["--fresh", "--estimate"])
def test_a_checkpoint_to_resume_from_is_never_dropped_in_silence(root: Path, other: str) -> None:
    done = kwela(root, "train", "midi", other, "--resume", "checkpoints/midi_generator/last.pt")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert f"--resume checkpoints/midi_generator/last.pt with {other}" in done.err


# ------------------------------------------------------------------- scripts


def run(command: list[str], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("folder", "family", "configured", "ranks"),
    [
        (".", "midi_generator", True, 2),
        ("training/cuda_session", "midi_generator", False, 1),
        (".", "spectocloud", False, 1),
        ("training/cuda_session", "spectocloud", True, 1),
    ],
)
def test_training_scripts_train_from_either_folder_with_and_without_a_config_and_under_torchrun(
    root: Path, tmp_path: Path, folder: str, family: str, configured: bool, ranks: int
) -> None:
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    )
    script = os.path.relpath(root / "training" / "cuda_session" / f"train_{family}.py", root / folder)
    named = ["--config", f"{family}_training_config.yaml"] if configured else []
    out = tmp_path / "out"
    tiny = ["--preset", "tiny", "--epochs", "1", "--out", str(out)]
    said = run([sys.executable, *torchrun, script, *named, *tiny], root / folder)
    assert said.count(f"Best model saved: {out / 'best.pt'}") == 1  # one rank speaks
    written = json.loads((out / "run.json").read_text())
    assert written["batch"]["ranks"] == ranks
    assert written["config"]["data"]["train_manifest"].startswith(
        str(root / "data")
    )  # not the working folder's
