"""scripts/train_cuda_v2.sh: what it would run, against golden files, and how it refuses.

To accept an intended change: KWELA_GOLDEN=write scripts/test.sh tests/test_runner.py, then read the diff.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden"

CASES = {
    "local_bare": ["--local"],
    "local_demo": ["--local", "--demo"],
    "local_data": ["--local", "--audio-root", "/data/audio", "--midi-root", "/data/midi", "--epochs", "20"],
    "local_skip_manifests": ["--local", "--skip-manifests"],
    "local_only_spectocloud": ["--local", "--skip-midi", "--skip-export"],
    "local_only_midi": ["--local", "--skip-spectocloud", "--skip-manifests"],
    "docker_bare": ["--docker"],
    "docker_demo": ["--docker", "--demo", "--skip-build"],
    "docker_data": ["--docker", "--audio-root", "/data/my audio", "--midi-root", "/data/midi"],
    "docker_full": ["--docker", "--audio-root", "/d/a", "--midi-root", "/d/m", "--data-mount", "/mnt/datasets"],
}


def runner(arguments: list[str], path: str | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    script = ROOT / "scripts" / "train_cuda_v2.sh"
    return subprocess.run([script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def no_gpus(tmp_path: Path) -> str:
    """A PATH whose nvidia-smi finds nothing, as on a machine without a GPU."""
    return fake_tools(tmp_path, smi="exit 9")


def fake_tools(folder: Path, *, smi: str, docker: str = "exit 1") -> str:
    for name, body in (("nvidia-smi", smi), ("docker", docker)):
        tool = folder / name
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("name", CASES)
def test_dry_run_prints_the_golden_commands(name: str, no_gpus: str) -> None:
    done = runner([*CASES[name], "--dry-run"], no_gpus)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.replace(str(ROOT), "$PWD")
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("KWELA_GOLDEN") == "write":
        golden.write_text(printed)
    assert printed == golden.read_text()


def test_docker_is_chosen_only_where_its_nvidia_runtime_answers(tmp_path: Path) -> None:
    with_runtime = fake_tools(tmp_path, smi="exit 9", docker="""echo '{"nvidia":{},"runc":{}}'""")
    assert "docker run" in runner(["--dry-run"], with_runtime).stdout
    without = fake_tools(tmp_path, smi="exit 9", docker="""echo '{"runc":{}}'""")
    chosen = runner(["--dry-run"], without).stdout
    assert "docker run" not in chosen
    assert chosen.startswith("Training on this machine, without Docker")


def test_several_gpus_train_under_torchrun(tmp_path: Path) -> None:
    path = fake_tools(tmp_path, smi="echo 'GPU 0: A'; echo 'GPU 1: B'")
    assert "torch.distributed.run --standalone --nproc_per_node=2 -m kwela train midi" in (
        runner(["--local", "--dry-run"], path).stdout
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--audio-root", "/tmp"], "--audio-root needs --midi-root"),
        (["--midi-root", "/tmp"], "--midi-root needs --audio-root"),
        (["--audio-root"], "--audio-root needs a value"),
        (["--epochs", "some"], "--epochs some: not a positive whole number"),
        (["--wheels"], "--wheels: unknown option (see --help)"),
        (["--demo", "--audio-root", "/tmp", "--midi-root", "/tmp"], "--demo brings its own music"),
        (["--audio-root", "/nowhere", "--midi-root", "/tmp"], "/nowhere: no such folder"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    done = runner(arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("train_cuda_v2.sh: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_training_and_its_status_comes_back(tmp_path: Path, asked: signal.Signals) -> None:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "train_cuda_v2.sh", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # Like a training: it saves when it is asked to stop, which takes a moment, and exits with 75.
    python.write_text('#!/bin/bash\ntrap "sleep .3; echo saved; exit 75" TERM\necho training\nsleep 20 & wait\n')
    python.chmod(0o755)
    command = [script, "--local", "--skip-build", "--skip-spectocloud"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "training\n"
        running.send_signal(asked)
        assert running.stdout.readline() == "saved\n"
        assert running.wait(10) == 75


def test_relative_roots_are_the_callers(tmp_path: Path, no_gpus: str) -> None:
    done = runner(["--local", "--dry-run", "--audio-root", "a", "--midi-root", "m"], no_gpus, cwd=tmp_path)
    assert f"--audio-root {tmp_path}/a --midi-root {tmp_path}/m" in done.stdout
