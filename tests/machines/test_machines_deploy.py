"""The shell front doors, run as they are in a checkout of their own, and the files under deployment/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FIVE_LINES = """\
✓ Prerequisites OK
✓ Directories created
✓ Dependencies installed
✓ Auto-shutdown configured
GPU: Tesla T4 (16.1 GB VRAM)
"""


@dataclass
class Checkout:
    """A copy of what the scripts need; `programs` is first on PATH, `log` holds how they were called."""

    root: Path
    programs: Path
    units: Path

    def program(self, name: str, body: str = "exit 0") -> None:
        file = self.programs / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.root}/log\n{body}\n')
        file.chmod(0o755)

    def log(self) -> list[str]:
        file = self.root / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(self.root), "LC_ALL": "C.UTF-8"}
        settings |= {"SYSTEMD_UNITS": str(self.units), "SYSTEMD_RUN": str(self.root)} | environment
        command = ["bash", str(self.root / "ai-service" / script), *arguments]
        return subprocess.run(command, env=settings, cwd="/", capture_output=True, text=True, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A machine with systemd, a T4 and a new enough Python; install.sh puts this test's Python into .venv."""
    root = tmp_path / "amapiano-ai"
    (root / "ai-service").mkdir(parents=True)
    for script in (ROOT / "ai-service").glob("*.sh"):
        shutil.copy(script, root / "ai-service")
    shutil.copytree(ROOT / "deployment/systemd", root / "deployment/systemd")
    (root / "pyproject.toml").write_text("[project]\n")
    made = Checkout(root, tmp_path / "bin", tmp_path / "units")
    made.programs.mkdir()
    made.units.mkdir()
    (root / "scripts").mkdir()
    install = root / "scripts" / "install.sh"
    install.write_text(
        f'#!/bin/sh\necho "install.sh PYTHON=$PYTHON" >> {root}/log\n'
        f"echo Installing\nmkdir -p {root}/.venv/bin\n"
        f"printf '#!/bin/sh\\nexec {sys.executable} \"$@\"\\n' > {root}/.venv/bin/python\n"
        f"chmod +x {root}/.venv/bin/python\n"
    )
    install.chmod(0o755)
    made.program("systemctl")
    made.program("python3.12", f'exec {sys.executable} "$@"')
    made.program("nvidia-smi", "case $1 in *name,memory.total) echo 'Tesla T4, 15360';; *) exit 1;; esac")
    return made


def test_a_fresh_machine_gives_the_playbooks_five_lines(checkout: Checkout) -> None:
    done = checkout.run("deploy_training.sh")
    assert (done.returncode, done.stdout) == (0, FIVE_LINES), done.stderr
    for folder in ("datasets/magnatagatune", "checkpoints/phase_2_5", "runs", "training_logs"):
        assert (checkout.root / "ai-service" / folder).is_dir()
    calls = checkout.log()
    assert "install.sh PYTHON=python3.12" in calls
    assert "systemctl enable --quiet kwela-idle-watch.timer kwela-tensorboard.service" in calls
    assert "systemctl start kwela-idle-watch.timer" in calls
    assert {file.name for file in checkout.units.iterdir()} == {
        "kwela-idle-watch.service",
        "kwela-idle-watch.timer",
        "kwela-tensorboard.service",
    }
    board = (checkout.units / "kwela-tensorboard.service").read_text()
    assert "--host 127.0.0.1 --port 6006" in board and f"--logdir {checkout.root}/ai-service/runs" in board
    assert "idle-watch --hours 2\n" in (checkout.units / "kwela-idle-watch.service").read_text()


def test_the_second_run_says_the_same_and_disturbs_nothing(checkout: Checkout) -> None:
    checkout.run("deploy_training.sh")
    before = {file.name: file.stat().st_mtime_ns for file in checkout.units.iterdir()}
    assert "systemctl restart kwela-tensorboard.service" in checkout.log()
    again = checkout.run("deploy_training.sh")
    assert (again.returncode, again.stdout) == (0, FIVE_LINES)
    assert {file.name: file.stat().st_mtime_ns for file in checkout.units.iterdir()} == before
    calls = checkout.log()
    assert "systemctl start kwela-tensorboard.service" in calls and not any(
        "restart" in call for call in calls
    )
    checkout.run("deploy_training.sh", "--tensorboard-host", "0.0.0.0", "--idle-hours", "4")
    assert (
        "systemctl restart kwela-tensorboard.service" in checkout.log()
    )  # the control: what changed is started anew
    assert "--host 0.0.0.0" in (checkout.units / "kwela-tensorboard.service").read_text()
    assert "--hours 4\n" in (checkout.units / "kwela-idle-watch.service").read_text()


def test_the_units_are_what_systemd_reads(checkout: Checkout) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    checkout.run("deploy_training.sh", "--resume-at-boot")
    (checkout.root / "ai-service/training_orchestrator.py").touch()
    units = sorted(map(str, checkout.units.iterdir()))
    assert len(units) == 4 and "@" not in "".join(Path(unit).read_text() for unit in units)
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    (checkout.units / "kwela-idle-watch.service").write_text("[Service]\nType=never\n")  # the control
    assert subprocess.run(["systemd-analyze", "verify", *units], capture_output=True).returncode != 0


def test_a_dry_run_prints_what_would_be_done_and_does_nothing(checkout: Checkout) -> None:
    done = checkout.run("deploy_training.sh", "--dry-run", "--resume-at-boot")
    assert done.returncode == 0, done.stderr
    place = {str(checkout.root): "/home/ubuntu/amapiano-ai", str(checkout.units): "/etc/systemd/system"}
    text = done.stdout
    for mine, usual in place.items():
        text = text.replace(mine, usual)
    assert text == (ROOT / "tests/golden/deploy_training.txt").read_text()
    assert not (checkout.root / ".venv").exists() and not list(checkout.units.iterdir())
    assert [call for call in checkout.log() if not call.startswith("python3")] == []


def test_without_a_gpu_it_says_none(checkout: Checkout) -> None:
    (checkout.programs / "nvidia-smi").unlink()
    assert checkout.run("deploy_training.sh").stdout.splitlines()[-1] == "GPU: none"


def test_without_systemd_or_root_it_says_what_was_left_out(checkout: Checkout) -> None:
    done = checkout.run("deploy_training.sh", SYSTEMD_RUN="/nonexistent")
    assert done.returncode == 0
    assert "✗ Auto-shutdown left out: systemd doesn't run this machine" in done.stdout
    assert "kwela idle-watch --every 60" in done.stdout and "✗ TensorBoard service left out" in done.stdout
    assert "✓ Auto-shutdown" not in done.stdout and not list(checkout.units.iterdir())
    checkout.program("id", "[ $1 = -u ] && echo 1000 || echo ubuntu")
    checkout.program("sudo", "exit 1")
    checkout.units.rmdir()
    done = checkout.run("deploy_training.sh")
    assert done.returncode == 0 and "left out: no root and no sudo without a password" in done.stdout


def test_with_sudo_it_installs_services_for_the_one_who_called(checkout: Checkout) -> None:
    checkout.program("id", "[ $1 = -u ] && echo 1000 || echo ubuntu")
    checkout.program("sudo", f'shift\nmkdir -p {checkout.units}\nexec "$@"')
    checkout.units.rmdir()
    done = checkout.run("deploy_training.sh")
    assert (done.returncode, done.stdout) == (0, FIVE_LINES), done.stderr
    assert "User=ubuntu" in (checkout.units / "kwela-tensorboard.service").read_text()


def test_under_sudo_all_that_is_made_belongs_to_the_one_who_called(checkout: Checkout) -> None:
    checkout.program("id", "[ $1 = -u ] && echo 0 || echo root")
    checkout.program("getent", f"echo 'ubuntu:x:1000:1000::{checkout.root}/home:/bin/bash'")
    checkout.program("sudo", '[ "$1 $2" = "-u ubuntu" ] || exit 1\nshift 2\nBY=ubuntu exec "$@"')
    checkout.program("mkdir", f'echo "mkdir by ${{BY:-root}}" >> {checkout.root}/log\nexec /bin/mkdir "$@"')
    install = checkout.root / "scripts" / "install.sh"
    install.write_text(install.read_text().replace("PYTHON=$PYTHON", "by ${BY:-root} in $HOME"))
    done = checkout.run("deploy_training.sh", SUDO_USER="ubuntu", HOME="/root")
    assert (done.returncode, done.stdout) == (0, FIVE_LINES), done.stderr
    calls = checkout.log()
    assert f"install.sh by ubuntu in {checkout.root}/home" in calls
    assert "mkdir by ubuntu" in calls and "mkdir by root" not in [c for c in calls if "install" not in c][:4]
    assert "User=ubuntu" in (checkout.units / "kwela-tensorboard.service").read_text()
    checkout.run("deploy_training.sh")  # the control: root itself, such as cloud-init
    assert "mkdir by root" in checkout.log()


def test_without_home_as_cloud_init_has_it_nothing_fails(checkout: Checkout) -> None:
    for old in ("python3.12", "python3.11", "python3"):
        checkout.program(old, 'case "$*" in "-m pip install"*) ;; *) exit 1 ;; esac')
    checkout.program("uv", f'[ "$2" = find ] && echo {sys.executable}\nexit 0')
    command = ["bash", str(checkout.root / "ai-service/deploy_training.sh")]
    bare = {"PATH": f"{checkout.programs}:/usr/bin:/bin", "SYSTEMD_RUN": "/nonexistent", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, env=bare, cwd="/", capture_output=True, text=True, timeout=60
    )  # as cloud-init has it
    assert done.returncode == 0 and "unbound" not in done.stderr, done.stderr


def test_an_old_python_is_joined_by_a_new_one(checkout: Checkout) -> None:
    for old in ("python3.12", "python3.11", "python3"):
        checkout.program(old, 'case "$*" in "-m pip install"*) ;; *) exit 1 ;; esac')  # as Ubuntu 20.04's 3.8
    checkout.program("uv", f'[ "$2" = find ] && echo {sys.executable}\nexit 0')
    done = checkout.run("deploy_training.sh")
    assert (done.returncode, done.stdout) == (0, FIVE_LINES), done.stderr
    calls = checkout.log()
    assert "uv python install 3.12" in calls and f"install.sh PYTHON={sys.executable}" in calls
    (checkout.programs / "uv").unlink()
    shutil.rmtree(checkout.root / ".venv")
    checkout.program("python3", "exit 1")
    checkout.program("curl", "exit 1")
    done = checkout.run("deploy_training.sh")
    assert (
        done.returncode == 2
        and "uv brings no Python 3.12: install Python 3.11" in done.stderr.splitlines()[-1]
    )
    assert [call for call in checkout.log() if call.startswith(("python3 -m", "curl"))] == [
        "python3 -m pip install --quiet --user uv",
        "curl -LsSf https://astral.sh/uv/install.sh",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--idle-hours", "0"], "--idle-hours 0: not a positive number"),
        (["--idle-hours", "two"], "--idle-hours two: not a positive number"),
        (["--idle-hours"], "--idle-hours needs a value"),
        (["--tensorboard-host", "a; reboot"], "--tensorboard-host a; reboot: not an address"),
        (["--fast"], "--fast: unknown option"),
    ],
)
def test_a_bad_option_is_one_line(checkout: Checkout, arguments: list[str], says: str) -> None:
    done = checkout.run("deploy_training.sh", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"deploy_training.sh: {says}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["start-gpu.sh", "stop-gpu.sh"])
def test_the_gpu_scripts_are_the_aws_commands(checkout: Checkout, script: str) -> None:
    missing = checkout.run(script)
    assert missing.returncode == 2 and "run scripts/install.sh first" in missing.stderr
    (checkout.root / ".venv/bin").mkdir(parents=True)
    checkout.program("recorder")
    (checkout.root / ".venv/bin/python").symlink_to(checkout.programs / "recorder")
    assert checkout.run(script, "--name", "two words").returncode == 0
    assert checkout.log() == [f"recorder -m kwela aws {script.split('-')[0]} --name two words"]
    assert os.access(ROOT / "ai-service" / script, os.X_OK)


def test_shellcheck_finds_nothing() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    scripts = sorted(map(str, (ROOT / "ai-service").glob("*.sh")))
    assert subprocess.run(["shellcheck", *scripts], capture_output=True, text=True).stdout == ""


def sky_task() -> dict[str, Any]:
    task: dict[str, Any] = yaml.safe_load((ROOT / "deployment/sky/phase_2_5.yaml").read_text())
    return task


def test_the_spot_job_runs_the_campaign_and_goes_on_only_where_it_should() -> None:
    task = sky_task()
    assert task["resources"]["use_spot"] is True and task["resources"]["disk_size"] == 500
    assert task["resources"]["autostop"] == {"idle_minutes": 120, "down": True}
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]  # not NO-GO, budget spent, HOLD
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    config = json.loads((ROOT / "ai-service/config.json").read_text())
    for folder in ("dataset_dir", "checkpoint_dir", "tensorboard_dir"):  # all of them in the bucket
        assert f"/campaign/{config[folder].split('/')[0]}" in task["setup"]
    assert f"{config['checkpoint_dir']}/orchestrator_state.json" in task["run"]


def sky_setup(folder: Path) -> subprocess.CompletedProcess[str]:
    """The job's setup in `folder`, with the bucket at `folder`/campaign."""
    (folder / "scripts").mkdir(parents=True, exist_ok=True)
    (folder / "scripts/install.sh").write_text("#!/bin/sh\n")
    (folder / "scripts/install.sh").chmod(0o755)
    setup = sky_task()["setup"].replace("/campaign/", f"{folder}/campaign/")
    environment = {"BUCKET": "mine", "PATH": "/usr/bin:/bin"}
    return subprocess.run(["bash", "-c", setup], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_spot_jobs_checkpoints_are_in_the_bucket_whatever_came_along(tmp_path: Path) -> None:
    (tmp_path / "ai-service/checkpoints/phase_2_5").mkdir(parents=True)  # as deploy_training.sh makes it
    for _ in range(2):  # again on the next machine, or on the same
        done = sky_setup(tmp_path)
        assert done.returncode == 0, done.stderr
        for folder in ("datasets", "checkpoints", "runs", "training_logs"):
            link = tmp_path / "ai-service" / folder
            assert link.is_symlink() and link.resolve() == tmp_path / "campaign" / folder
            assert list((tmp_path / "campaign" / folder).iterdir()) == []


def test_the_spot_job_refuses_a_folder_with_files_and_deletes_none(tmp_path: Path) -> None:
    mine = tmp_path / "ai-service/checkpoints/phase_2_5/best.pt"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"weights")
    done = sky_setup(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "ai-service/checkpoints has files of its own: move them into s3://mine/checkpoints" in done.stderr
    assert mine.read_bytes() == b"weights"


def test_skypilot_reads_the_spot_job() -> None:
    sky = pytest.importorskip("sky")
    from sky.utils import common_utils, schemas  # type: ignore[import-not-found]

    task = sky_task()
    common_utils.validate_schema(task, schemas.get_task_schema(), "")
    common_utils.validate_schema(task["resources"], schemas.get_resources_schema(), "")
    assert len(sky.Task.from_yaml_config(task, {"BUCKET": "b"}).resources) == 3
