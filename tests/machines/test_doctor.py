"""`kwela doctor`: honest about what is there, and one line on what would fail without what is not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from kwela.machines import doctor


def named(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as PATH, to put programs on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("installed", "cuda", "ok"),
    [
        ("525.60.13", "12.6", True),
        ("525.60.11", "12.6", False),
        ("515.105.01", "12.6", False),
        ("1000.1", "12.6", True),  # numbers, not letters
        ("570.86.15", "13.0", False),
        ("580.65.06", "13.0", True),
        ("510.1", None, False),
    ],
)
def test_a_driver_is_old_or_new_enough_for_the_cuda_of_torch(
    installed: str, cuda: str | None, ok: bool
) -> None:
    check = doctor.driver(installed, cuda)
    assert check.ok is ok
    assert installed in check.detail
    assert ok or ("too old" in check.detail and "kwela train" in check.fix)


def test_a_card_behind_an_old_driver_is_named_with_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a driver of its own")
    program(programs, "nvidia-smi", "echo 'NVIDIA GeForce RTX 3090, 24576 MiB, 470.42.01'")
    monkeypatch.setattr(doctor, "_torch_cuda", lambda: "12.6")
    checks = named(doctor.examine())
    assert checks["GPU"].ok and "RTX 3090 (24576 MiB)" in checks["GPU"].detail
    assert not checks["NVIDIA driver"].ok and "470.42.01 is too old" in checks["NVIDIA driver"].detail


def test_a_cpu_build_of_torch_beside_a_card_is_pointed_out(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a driver of its own")
    program(programs, "nvidia-smi", "echo 'NVIDIA L4, 23034 MiB, 535.104.05'")
    monkeypatch.setattr(doctor, "_torch_cuda", lambda: None)
    checks = named(doctor.examine())
    assert not checks["GPU"].ok and "built for the CPU" in checks["GPU"].detail
    assert checks["NVIDIA driver"].ok


def test_docker_is_missing_or_silent_or_lacks_the_nvidia_runtime_or_is_ready(programs: Path) -> None:
    assert named(doctor.examine())["Docker"].detail == "not installed"
    program(programs, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    assert "daemon" in named(doctor.examine())["Docker"].detail
    program(programs, "docker", "echo '28.1 {\"runc\":{}}'")
    checks = named(doctor.examine())
    assert checks["Docker"].ok and not checks["NVIDIA runtime"].ok
    assert "nvidia-container-toolkit" in checks["NVIDIA runtime"].fix
    program(programs, "docker", 'echo \'28.1 {"nvidia":{},"runc":{}}\'')
    assert named(doctor.examine())["NVIDIA runtime"].ok


def test_a_missing_extra_names_the_commands_and_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda package: None if package == "midirenderer" else real(package)
    )
    check = named(doctor.examine(quick=True))["music and sounds"]
    assert not check.ok and "midirenderer" in check.detail and "music21" not in check.detail
    assert "demo-corpus" in check.fix and "kwela[demo]" in check.fix


def test_what_this_machine_has_is_reported_as_there() -> None:
    checks = named(doctor.examine(quick=True))
    for name in ("Python", "torch", "audio", "music and sounds", "ONNX", "temporary files"):
        assert checks[name].ok, checks[name]
    assert "Docker" not in checks  # quick starts no other program


def test_every_failing_check_says_what_to_do() -> None:
    for check in doctor.examine():
        assert check.detail and "\n" not in check.detail + check.fix
        assert check.ok or check.fix


def test_it_is_quick_and_imports_neither_torch_nor_music() -> None:
    code = (
        "import sys; from kwela.machines import doctor; doctor.examine(quick=True); "
        "print([m for m in ('torch', 'music21', 'kwela.music') if m in sys.modules])"
    )
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - before < 5  # two seconds on an idle machine
