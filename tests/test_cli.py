"""The command line: instant help, one-line errors, JSON alone on stdout, front doors that find their
Python.
"""

import json
import os
import runpy
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import scratch

ROOT = Path(__file__).resolve().parents[1]


def kwela(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kwela", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_help_imports_no_heavy_library() -> None:
    probe = (
        "import sys\ntry:\n    from kwela.cli import main; main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'symusic', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "manifests" in done.stdout


COMMANDS = [
    ["demo-corpus"],
    ["manifests"],
    ["emotion"],
    ["train"],
    ["export"],
    ["demo"],
    ["doctor"],
    ["tokens", "encode"],
    ["tokens", "decode"],
    ["tokens", "check"],
    ["generate", "midi"],
    ["cloud", "predict"],
    ["cloud", "target"],
    ["cloud", "compare"],
    ["cloud", "render"],
]


def test_every_command_has_help_with_an_example() -> None:
    probe = (
        "import sys\nfrom kwela.cli import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    print('==', ' '.join(command))\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit: pass\n"
    )
    printed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout
    pages = {page.split("\n")[0].strip(): page for page in printed.split("== ")[1:]}
    assert set(pages) == {" ".join(command) for command in COMMANDS}
    for name, page in pages.items():
        assert f"kwela {name}" in page, f"{name} shows no example"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["emotion", "zorp"], "'zorp': not an emotion word"),
        (["train", "midi", "--epoch", "3"], "No such option: --epoch"),
        (["train", "opera"], "'opera'"),
        (["train", "midi", "--set", "training.epoch=3"], "did you mean training.epochs?"),
        (["train", "midi", "--config", "nowhere.yaml"], "nowhere.yaml: no such config file"),
        (["train", "midi", "--set", "data.train_manifest=nowhere.jsonl"], "nowhere.jsonl: no such manifest"),
        (["manifests", "--audio-root", "/nowhere", "--midi-root", "/nowhere"], "/nowhere"),
        (["export"], "name a checkpoint"),
        (["export", "--spectocloud", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["generate", "midi", "--emotion", "0:calm;x"], "BAR:EMOTION"),
        (["tokens", "check", "nowhere.mid"], "nowhere.mid"),
        (["tokens", "decode", "README.md", "out.mid"], "README.md: not JSON"),
    ],
)
def test_bad_usage_is_one_line_on_stderr_and_status_2(arguments: list[str], line: str) -> None:
    done = kwela(*arguments)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert "Traceback" not in done.stderr


def test_json_stands_alone_on_stdout() -> None:
    done = kwela("emotion", "grief", "a/happy/b.wav", "--json")
    readings = json.loads(done.stdout)["readings"]
    assert [reading["source"] for reading in readings] == ["word:grief", "directory:happy"]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has no kwela and no libraries."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def test_a_front_door_hands_over_to_the_repositorys_python(bare_python: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("front_door.py", "emotion_helper.py"):
        (checkout / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    door = [bare_python, checkout / "scripts" / "emotion_helper.py", "calm"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    alone = subprocess.run(door, capture_output=True, text=True, env=environment)
    assert alone.returncode == 2  # the negative control: nothing to hand over to
    assert alone.stderr.strip().count("\n") == 0
    assert "run scripts/install.sh first" in alone.stderr

    (checkout / ".venv" / "bin").mkdir(parents=True)
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    handed = subprocess.run(door, capture_output=True, text=True, env=environment)
    assert handed.returncode == 0, handed.stderr
    assert handed.stdout.startswith("calm")


def test_manifests_built_by_their_script_use_worker_processes(tmp_path: Path) -> None:
    audio, midi = scratch.pairs(
        tmp_path, 24
    )  # enough for a pool: a worker imports the script that started it
    arguments = ["--audio-root", audio, "--midi-root", midi, "--out-dir", tmp_path / "out", "--workers", "2"]
    script = [sys.executable, ROOT / "scripts" / "build_manifests.py"]
    done = subprocess.run([*script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "manifest_report.json").read_text())["counts"]["kept"] == 24


DOORS = sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("training/cuda_session/*.py")])


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_a_front_door_runs_nothing_when_it_is_imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    monkeypatch.setattr(sys, "argv", ["imported", "--help"])
    runpy.run_path(
        str(path), run_name="__mp_main__"
    )  # the name a worker gives it; a command would end in SystemExit


# -------------------------------------------------------------------- health


def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kwela", "doctor", "--quick"]
    settings = {name: value for name, value in os.environ.items() if name != "KWELA_NEEDS_GPU"} | environment
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)


def test_doctor_fails_only_where_no_training_could_start(tmp_path: Path) -> None:
    assert doctor(CUDA_VISIBLE_DEVICES="").returncode == 0  # here a CPU will do

    no_gpu = doctor(CUDA_VISIBLE_DEVICES="", KWELA_NEEDS_GPU="1")
    assert no_gpu.returncode == 1
    assert no_gpu.stderr == "error: no training can start here: torch sees no GPU\n"

    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").touch()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.12: no such file')\n")
    broken = doctor(PYTHONPATH=str(tmp_path))
    assert broken.returncode == 1
    assert "torch can't be imported (libcudart.so.12: no such file)" in broken.stderr
    assert "✓ Python" in broken.stdout  # what it found, all the same


def test_doctor_fails_in_a_checkout_it_can_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    done = scratch.kwela(ROOT, "doctor", "--quick", "--json")
    assert done.status == 1
    assert done.err == f"error: no training can start here: {ROOT} is not writable\n"
    assert json.loads(done.out)["checks"]


def test_the_images_health_check_asks_for_a_gpu() -> None:
    lines = (ROOT / "deployment" / "docker" / "Dockerfile.cuda").read_text().splitlines()
    assert "ENV KWELA_NEEDS_GPU=1" in lines
    assert any(line.startswith("HEALTHCHECK") and line.endswith('"doctor", "--quick"]') for line in lines)
