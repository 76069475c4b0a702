"""What this machine has, and which commands would fail without what it lacks.

Nothing heavy is imported: torch's build is read from its version file, the driver from /proc or nvidia-smi.
Looking takes under two seconds; `quick` skips what starts other programs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Oldest Linux driver for a CUDA major version (CUDA compatibility guide, table 1; CUDA toolkit release
# notes).
OLDEST_DRIVER = {12: "525.60.13", 13: "580.65.06"}
CUDA_12_TORCH = "https://download.pytorch.org/whl/cu126"  # torch on PyPI is built for CUDA 13
DISK_GB, RAM_GB, SHM_GB = 50, 8, 2
DECODERS = {
    "wav": "pcm_s16le",
    "mp3": "mp3",
    "flac": "flac",
    "ogg": "vorbis",
    "opus": "opus",
    "m4a and aac": "aac",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at. `fix`, for when it is not ok: which command misses it, and what to do."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def examine(quick: bool = False) -> list[Check]:
    """Return every check, in the order a reader needs them. What can't be looked at is a failed check."""
    cuda = _torch_cuda()
    checks = [_python(), _torch(cuda), *_gpu(cuda, quick), _disk(), _memory(), _shared_memory(), _temporary()]
    checks += [_audio(), _demo(), _onnx(), _coreml(), _compiler()]
    return checks if quick else [*checks, *_docker()]


def driver(installed: str, cuda: str | None) -> Check:
    """Check that the NVIDIA driver is new enough for torch's CUDA version.

    installed: the driver's version ("535.104.05"). cuda: "12.6"; None: a CPU build.
    """
    major = int(cuda.split(".")[0]) if cuda else min(OLDEST_DRIVER)
    oldest = OLDEST_DRIVER.get(major, max(OLDEST_DRIVER.values(), key=_numbers))
    needed = f"CUDA {major} needs {oldest} or newer"
    if _numbers(installed) >= _numbers(oldest):
        return Check("NVIDIA driver", True, f"{installed} ({needed})")
    other = (
        f", or install torch from {CUDA_12_TORCH} (driver {OLDEST_DRIVER[12]} will do)" if major > 12 else ""
    )
    return Check(
        "NVIDIA driver", False, f"{installed} is too old: {needed}", f"kwela train: update the driver{other}"
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _python() -> Check:
    version = platform.python_version()
    return Check(
        "Python", sys.version_info >= (3, 11), version, "every command: kwela needs Python 3.11 or newer"
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_cuda() -> str | None:
    """Read the CUDA version of torch from its version file: importing torch takes most of a second."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    built = re.search(r"^cuda\b.*=\s*['\"]([\d.]+)['\"]", text, re.M)
    return built[1] if built else None


def _torch(cuda: str | None) -> Check:
    version = _version("torch")
    if version is None:
        return Check("torch", False, "not installed", "kwela train, export: run scripts/install.sh")
    return Check("torch", True, f"{version}, built for {f'CUDA {cuda}' if cuda else 'the CPU'}")


def _gpu(cuda: str | None, quick: bool) -> list[Check]:
    cards, installed = _nvidia(quick)
    if installed is None:
        return [
            Check(
                "GPU",
                False,
                "no NVIDIA driver answers",
                "kwela train runs on the CPU: the demo fits, a full run doesn't",
            )
        ]
    if not cuda:
        fix = f"kwela train stays on the CPU: install torch from {CUDA_12_TORCH}"
        return [Check("GPU", False, f"{cards}, but torch is built for the CPU", fix), driver(installed, None)]
    return [Check("GPU", True, cards), driver(installed, cuda)]


def _nvidia(quick: bool) -> tuple[str, str | None]:
    """Return (the cards' names, the driver's version), from /proc or, failing that, from nvidia-smi."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
        names = [
            line.split(":", 1)[1].strip()
            for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
            for line in card.read_text(encoding="utf-8").splitlines()
            if line.startswith("Model:")
        ]
        if found and names:
            return ", ".join(names), found[1]
    except OSError:
        pass
    if quick or not shutil.which("nvidia-smi"):
        return "", None
    answer = _ask("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    rows = [
        [cell.strip() for cell in row.split(",")]
        for row in (answer or "").splitlines()
        if row.count(",") == 2
    ]
    return ", ".join(f"{name} ({memory})" for name, memory, _ in rows), rows[0][2] if rows else None


def _ask(*command: str) -> str | None:
    """Return what a program prints, or None if it is missing, fails or takes over five seconds."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    fix = f"kwela train, manifests: the runbook asks for {DISK_GB} GB free here; the demo makes do with 5"
    return Check("disk", free >= DISK_GB, f"{free:.0f} GB free in {Path.cwd()}", fix)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{total:.1f} GB, {cores} cores"
    return Check("memory", total >= RAM_GB, detail, f"kwela train: under {RAM_GB} GB, lower data.batch_size")


def _shared_memory() -> Check:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Check("shared memory", True, "no /dev/shm on this system")
    size = shutil.disk_usage(shm).total / 1e9
    fix = (
        "kwela train with data.num_workers > 0: "
        "docker run --ipc=host or --shm-size=8g, or --set data.num_workers=0"
    )
    return Check("shared memory", size >= SHM_GB, f"{size:.1f} GB in /dev/shm", fix)


def _temporary() -> Check:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"kwela")
        return Check("temporary files", True, tempfile.gettempdir())
    except OSError as error:
        return Check(
            "temporary files", False, str(error), "every command: set TMPDIR to a folder that can be written"
        )


def _audio() -> Check:
    try:
        from av.codec import Codec

        missing = []
        for name, codec in DECODERS.items():
            try:
                Codec(codec, "r")
            except ValueError:  # av's UnknownCodecError
                missing.append(name)
    except ImportError as error:
        return Check("audio", False, str(error), "kwela manifests, train spectocloud: run scripts/install.sh")
    decoded = ", ".join(name for name in DECODERS if name not in missing)
    detail = f"PyAV {_version('av')} decodes {decoded}; no ffmpeg needed"
    return Check(
        "audio", not missing, detail, f"kwela manifests leaves out {', '.join(missing)}: install av from PyPI"
    )


def _demo() -> Check:
    packages = {name: _version(name) for name in ("music21", "midirenderer", "pretty_midi")}
    missing = [name for name, version in packages.items() if version is None]
    if not missing:
        folder = Path(str(importlib.metadata.distribution("pretty_midi").locate_file("pretty_midi")))
        if not (folder / "TimGM6mb.sf2").is_file():
            missing = ["the soundfont TimGM6mb.sf2 of pretty_midi"]
    detail = (
        f"missing: {', '.join(missing)}" if missing else ", ".join(f"{n} {v}" for n, v in packages.items())
    )
    fix = "kwela demo-corpus, generate midi --render: pip install 'kwela[demo]'"
    return Check("music and sounds", not missing, detail, fix)


def _onnx() -> Check:
    packages = {name: _version(name) for name in ("onnx", "onnxscript", "onnxruntime")}
    missing = [name for name, version in packages.items() if version is None]
    detail = (
        f"missing: {', '.join(missing)}" if missing else ", ".join(f"{n} {v}" for n, v in packages.items())
    )
    return Check("ONNX", not missing, detail, "kwela export: run scripts/install.sh")


def _coreml() -> Check:
    version = _version("coremltools")
    if version is None:
        return Check(
            "Core ML",
            False,
            "coremltools is not installed",
            "kwela export leaves out *.mlpackage: pip install 'kwela[coreml]'",
        )
    where = (
        "runs its packages too"
        if sys.platform == "darwin"
        else "converts here; only macOS can run the result"
    )
    return Check("Core ML", True, f"coremltools {version} {where}")


def _compiler() -> Check:
    found = next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    return Check(
        "C compiler",
        found is not None,
        found or "none",
        "kwela train --set training.compile=true: install gcc",
    )


def _docker() -> list[Check]:
    local = "scripts/train_cuda_v2.sh trains without Docker"
    if not shutil.which("docker"):
        return [Check("Docker", False, "not installed", f"{local}; for the image, install Docker")]
    answer = _ask("docker", "info", "--format", "{{.ServerVersion}} {{json .Runtimes}}")
    if answer is None or not answer.split(maxsplit=1)[:1] or answer.startswith((" ", "{")):
        return [
            Check(
                "Docker",
                False,
                "its daemon doesn't answer",
                f"{local}; for the image, start it: systemctl start docker",
            )
        ]
    version, _, runtimes = answer.partition(" ")
    nvidia = "nvidia" in runtimes
    detail = "Docker knows it" if nvidia else "Docker doesn't know it"
    fix = (
        f"{local}; for the image, install nvidia-container-toolkit, "
        "then nvidia-ctk runtime configure --runtime=docker"
    )
    return [Check("Docker", True, version), Check("NVIDIA runtime", nvidia, detail, fix)]
