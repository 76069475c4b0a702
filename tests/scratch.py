"""A checkout of its own for tests that run commands: its folders, a few seconds of synthetic music, tiny
models.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from kwela.cli import main
from kwela.corpus.demo import smoke
from kwela.corpus.pairs import manifest

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Done:
    status: int
    out: str
    err: str


def make(folder: Path) -> Path:
    """A checkout without its code and its manifests."""
    for name in ("scripts", "training"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def pairs(folder: Path, pieces: int) -> tuple[Path, Path]:
    """Synthetic pairs: the folders of their audio and their MIDI."""
    smoke.make(folder, pieces=pieces)
    return folder / "audio", folder / "midi"


def small_smoke_set(root: Path) -> None:
    """Six pairs where `kwela train` looks for the smoke set, so that it need not make its 24."""
    folder = root / "data" / "smoke"
    manifest.build(*pairs(folder, 6), folder / "manifests", val_split=0.15, quiet=True)


def kwela(root: Path, *arguments: str) -> Done:
    """Run a command in this process, in the folder `root`."""
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    with contextlib.chdir(root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return Done(status, out.getvalue(), err.getvalue())
