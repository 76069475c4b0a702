"""The bench on which golden records are made: a scratch folder, commands run in it, what subjects share.

Almost everything goes through the command line (`kwela.cli.main`), because modules move and commands do not.
The few other names of kwela are imported in `command_subjects.py`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_inputs
import numpy as np

Record = dict[str, Any]
SUBJECTS: dict[str, Callable[[Bench], Record]] = {}
# Keys of JSON whose values are durations, speeds or hosts: only their presence is recorded.
VOLATILE = {
    *(
        "seconds",
        "items_per_s",
        "wall_seconds",
        "device_seconds",
        "started",
        "commit",
        "host",
        "platform",
        "latency_ms",
    ),
    *(
        "machine",
        "versions",
        "hardware",
        "first_audio_seconds",
        "seconds_per_second",
        "peak_memory_mb",
        "cpus",
    ),
    *("hours", "dollars", "bytes", "silent_seconds", "who"),
}


class Bench:
    """A scratch folder, the commands run in it, and what several subjects share, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def kwela(self, *words: object, cwd: Path | None = None) -> Record:
        """Run a command in this process. Returns its words, exit status and lines of stdout, or its JSON."""
        from kwela.cli import main

        out, status = io.StringIO(), None
        arguments = [str(word) for word in words]
        folder, error = contextlib.chdir(cwd or self.folder), io.StringIO()
        with folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main(arguments)
            except SystemExit as ended:
                status = ended.code
        self.err = error.getvalue()
        said = out.getvalue()
        if "--json" in arguments and status == 0:
            return {"command": arguments, "status": status, "json": json.loads(said)}
        return {"command": arguments, "status": status, "stdout": said.splitlines()}

    def normal(self, value: Any) -> Any:
        """`value` without this run's paths, durations and NaN."""
        if isinstance(value, dict):
            return {self.normal(k): "..." if k in VOLATILE else self.normal(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.normal(item) for item in value]
        if isinstance(value, str):
            value = value.replace(str(self.folder), "SCRATCH").replace(str(made_inputs.ROOT), "REPOSITORY")
            value = re.sub(r"[\d.,]+ (items|pairs|clips|ids)/s", r"N \1/s", value)
            return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", value)
        if isinstance(value, float) and not np.isfinite(value):
            return repr(value)
        return value

    @functools.cached_property
    def corpus(self) -> Path:
        """A checkout with 16 songs and their manifests, clouds included, at the default paths."""
        root = made_inputs.checkout(self.folder / "corpus")
        audio, midi = made_inputs.songs(root / "data" / "songs", 18)
        words = ["--audio-root", audio, "--midi-root", midi, "--val-split", "0.4", "--workers", "1"]
        done = self.kwela("manifests", *words, "--generate-clouds", "--segments", "2", cwd=root)
        assert done["status"] == 0, self.err
        return root

    def trained(self, family: str) -> Path:
        """The folder of a finished tiny run on `corpus`."""
        out = self.corpus / "checkpoints" / {"midi": "midi_generator"}.get(family, family)
        if not out.is_dir():
            done = self.kwela("train", family, "--preset", "tiny", "--device", "cpu", cwd=self.corpus)
            assert done["status"] == 0, self.err
        return out


def subject(run: Callable[[Bench], Record]) -> Callable[[Bench], Record]:
    """Register a function under its own name."""
    SUBJECTS[run.__name__] = run
    return run


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_in(folder: Path) -> list[str]:
    """The files below `folder`; names that are hashes are shown as HASH."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(
        {re.sub(r"[0-9a-f]{16,}", "HASH", re.sub(r"events\.out\S+", "EVENTS", name)) for name in names}
    )


def kind_of(path: Path) -> str:
    """What a file is by its first bytes."""
    head = path.read_bytes()[:16]
    known = {
        b"\x89PNG": "PNG",
        b"GIF8": "GIF",
        b"%PDF": "PDF",
        b"RIFF": "WAV",
        b"fLaC": "FLAC",
        b"MThd": "MIDI",
    }
    known |= {b"<!do": "HTML", b"<!DO": "HTML", b"ply\n": "PLY", b"\x93NUM": "NPY"}
    return known.get(head[:4], "text")
