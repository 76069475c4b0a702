"""The image, as far as it can be checked without a Docker daemon: its sources, its context, and its entry
point run.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "deployment/docker/Dockerfile.cuda"
ENTRYPOINT = ROOT / "deployment/docker/entrypoint.sh"


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, its arguments on one line), comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def copied() -> list[str]:
    sources = []
    for name, arguments in instructions():
        if name == "COPY":
            sources += [word for word in shlex.split(arguments)[:-1] if not word.startswith("--")]
    return sources


def ignored(path: str, patterns: list[str]) -> bool:
    """Docker's rule: the last pattern that matches the path or a folder above it decides; ! lets it in."""
    verdict = False
    parts = path.split("/")
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        forms = [bare, bare.removeprefix("**/")] if bare.startswith("**/") else [bare]
        if any(_matches(candidate, form) for candidate in above for form in forms):
            verdict = not pattern.startswith("!")
    return verdict


def _matches(path: str, pattern: str) -> bool:
    """`*` stays within one level; `**/x` is x at any depth."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_the_base_is_cuda_12_by_a_pinned_tag() -> None:
    bases = [arguments for name, arguments in instructions() if name == "FROM"]
    assert len(bases) == 1
    assert re.fullmatch(r"nvidia/cuda:12\.\d+\.\d+-\w+-ubuntu\d\d\.\d\d", bases[0])


def test_the_lock_file_is_what_gets_installed_and_torch_is_built_for_cuda_12() -> None:
    runs = " ".join(arguments for name, arguments in instructions() if name == "RUN")
    assert "requirements.lock" in runs
    assert "whl/cu12" in runs
    assert re.search(r"(?m)^torch==\d+\.\d+\.\d+$", (ROOT / "requirements.lock").read_text())


def test_every_copied_file_exists_and_travels_to_the_daemon() -> None:
    assert len(copied()) >= 5
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not ignored(source, patterns()), source
    assert not ignored("src/kwela/corpus/demo_pieces.json", patterns())


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "data/demo/audio/happy/x.wav",
        "checkpoints/spectocloud/best.pt",
        "runs/midi/events",
        "cache/midi_tokens/x",
        "exports/spectocloud.onnx",
        "src/kwela/__pycache__/cli.pyc",
        "src/kwela.egg-info/PKG-INFO",
        "a-folder-of-next-year/big.bin",
    ],
)
def test_what_the_image_does_not_need_stays_behind(path: str) -> None:
    assert ignored(path, patterns())
    assert not ignored(path, [])  # negative control


def test_the_entry_point_and_health_check_are_wired() -> None:
    found = dict(instructions())
    assert found["ENTRYPOINT"] == '["entrypoint.sh"]'
    assert "doctor" in found["HEALTHCHECK"]
    assert found["WORKDIR"] == "/workspace"
    assert os.access(ENTRYPOINT, os.X_OK)
    assert subprocess.run(["bash", "-n", str(ENTRYPOINT)]).returncode == 0


def enter(workspace: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "KWELA_WORKSPACE": str(workspace), **environment}
    return subprocess.run(
        [str(ENTRYPOINT), *command], env=settings, cwd=workspace, text=True, capture_output=True
    )


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A folder other users may reach: pytest's own temporary folders are closed to them."""
    folder = Path("/tmp") / f"kwela-entry-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="changing users takes root and setpriv"
)


@needs_root
def test_what_training_writes_belongs_to_the_owner_of_the_workspace(workspace: Path) -> None:
    os.chown(workspace, 12345, 23456)
    script = 'id -u; id -g; echo made > made.txt; test -w "$HOME" && echo "$USER" "$@"'
    done = enter(workspace, "bash", "-c", script, "-", "an argument", TMPDIR="/tmp")
    assert done.stdout.splitlines() == ["12345", "23456", "kwela an argument"], done.stderr
    made = (workspace / "made.txt").stat()
    assert (made.st_uid, made.st_gid) == (12345, 23456)
    shutil.rmtree("/tmp/kwela-home-12345")


@needs_root
def test_the_owner_can_not_write_where_only_root_may(workspace: Path) -> None:
    os.chown(workspace, 12345, 23456)
    assert enter(workspace, "bash", "-c", "echo x > /etc/kwela-was-here", TMPDIR="/tmp").returncode != 0
    assert not Path("/etc/kwela-was-here").exists()


@needs_root
def test_a_workspace_of_root_runs_as_root(workspace: Path) -> None:
    done = enter(workspace, "id", "-u")
    assert done.stdout.strip() == "0" and done.returncode == 0


def test_the_exit_status_of_the_command_comes_through(workspace: Path) -> None:
    assert enter(workspace, "bash", "-c", "exit 75").returncode == 75
