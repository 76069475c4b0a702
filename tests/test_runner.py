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
    "docker_full": [
        "--docker",
        "--audio-root",
        "/d/a",
        "--midi-root",
        "/d/m",
        "--data-mount",
        "/mnt/datasets",
    ],
}


def runner(
    arguments: list[str],
    path: str | None = None,
    cwd: Path = ROOT,
    root: Path = ROOT,
    visible: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the script of the checkout `root`. visible: CUDA_VISIBLE_DEVICES; None leaves it unset."""
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    script = root / "scripts" / "train_cuda_v2.sh"
    return subprocess.run(
        [script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


def checkout(folder: Path, python: str) -> Path:
    """A checkout that holds the runner and a .venv whose python is a shell script."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "train_cuda_v2.sh", folder / "scripts")
    fake = folder / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.write_text(f"#!/bin/bash\n{python}\n")
    fake.chmod(0o755)
    return folder


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
    ("visible", "ranks"),
    [
        ("1,3", 2),
        ("GPU-8a,GPU-9b,GPU-1c", 3),
        ("2", 1),
        ("", 1),
        ("-1", 1),
        ("0,1,2,3,4,5", 4),  # more than there are
        (None, 4),
    ],
)
def test_only_gpus_that_cuda_shows_are_trained_on(tmp_path: Path, visible: str | None, ranks: int) -> None:
    path = fake_tools(
        tmp_path, smi="for i in 0 1 2 3; do echo \"GPU $i: A\"; echo '  MIG 1g.5gb Device 0:'; done"
    )
    printed = runner(["--local", "--dry-run"], path, visible=visible).stdout
    if ranks > 1:
        assert f"--nproc_per_node={ranks} " in printed
    else:
        assert "torch.distributed" not in printed
    in_docker = runner(["--docker", "--dry-run"], path, visible=visible).stdout
    assert ("-e CUDA_VISIBLE_DEVICES" in in_docker) == (visible is not None)


WRITES_75 = """mkdir -p checkpoints/midi_generator; echo '{"exit_status": 75}' > checkpoints/midi_generator/status.json"""


@pytest.mark.parametrize(("writes", "status"), [(WRITES_75, 75), ("", 1)])
def test_of_torchruns_failures_only_this_runs_own_75_is_relayed(
    tmp_path: Path, writes: str, status: int
) -> None:
    path = fake_tools(tmp_path, smi="echo 'GPU 0: A'; echo 'GPU 1: B'")
    root = checkout(
        tmp_path / "checkout", f"{writes}\nexit 1"
    )  # torchrun's exit status, whatever its ranks' was
    earlier = root / "checkpoints" / "midi_generator" / "status.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text('{"exit_status": 75}')  # of an earlier run, that was interrupted
    command = ["--local", "--skip-build", "--skip-spectocloud"]
    assert runner([*command, "--dry-run"], path, root=root).returncode == 0
    assert earlier.is_file()  # a dry run touches nothing
    assert runner(command, path, root=root).returncode == status


def test_a_moved_checkout_installs_again(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    checkout(here, "echo installed >> log.txt")
    for name in ("scripts/install.sh", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, here / name)
    installs = []
    for root in (here, here, there):
        if not root.exists():
            here.rename(there)
        subprocess.run([root / "scripts" / "install.sh"], check=True, capture_output=True)
        installs.append(len((root / "log.txt").read_text().split()))
    assert installs == [2, 2, 4]  # the lock's packages and kwela itself: at first, and again once moved


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
def test_a_signal_reaches_the_training_and_its_status_comes_back(
    tmp_path: Path, asked: signal.Signals
) -> None:
    # Like a training: it saves when it is asked to stop, which takes a moment, and exits with 75.
    root = checkout(
        tmp_path / "checkout", 'trap "sleep .3; echo saved; exit 75" TERM\necho training\nsleep 20 & wait'
    )
    command = [root / "scripts" / "train_cuda_v2.sh", "--local", "--skip-build", "--skip-spectocloud"]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell can't heed what was ignored when it began
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "training\n"
        running.send_signal(asked)
        assert running.stdout.readline() == "saved\n"
        assert running.wait(10) == 75


def test_relative_roots_are_the_callers(tmp_path: Path, no_gpus: str) -> None:
    done = runner(["--local", "--dry-run", "--audio-root", "a", "--midi-root", "m"], no_gpus, cwd=tmp_path)
    assert f"--audio-root {tmp_path}/a --midi-root {tmp_path}/m" in done.stdout
