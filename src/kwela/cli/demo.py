"""`kwela demo`: the whole pipeline on real pieces, stage by stage, closing with a table and `demo_report.json`.

Each stage is an ordinary `kwela` command in a process of its own. A stage whose command, inputs and code are those of
an earlier run, and whose outputs still stand, is reused with that run's seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from kwela.cli.output import Json, speaking
from kwela.errors import Interrupted, KwelaError, UserError

EMOTIONS = ("happy", "grief", "calm")
FAMILIES = ("spectocloud", "midi")
SEGMENTS = 8  # rows and clouds a song


def register(app: typer.Typer) -> None:
    app.command("demo", short_help="The whole pipeline on about 120 real pieces, in minutes.")(demo)


@dataclass
class Stage:
    name: str
    commands: list[list[str]]  # arguments of kwela
    inputs: list[Path] = field(default_factory=list)  # files or folders whose change makes the stage run again
    outputs: list[Path] = field(default_factory=list)


def demo(
    pieces: Annotated[int, typer.Option(min=24, help="Pieces in the corpus.")] = 120,
    epochs: Annotated[int | None, typer.Option(min=1, help="For both models; default: the demo preset's.")] = None,
    install_seconds: Annotated[float, typer.Option(hidden=True)] = 0.0,
    as_json: Json = False,
) -> None:
    """Corpus, manifests, both models, exports, samples, pictures and a table. A second run reuses what is there.

    \b
    kwela demo
    """
    from kwela import config
    from kwela.cli import demo_report

    root = config.repo_root()
    with speaking(as_json) as say:
        journal = Journal(root / "data" / "demo" / "stages.json")
        journal.keep("install", install_seconds)
        stages = plan(root, pieces, epochs)
        for number, stage in enumerate(stages, start=1):
            journal.run(stage, f"[{number}/{len(stages) + 1}]", root, quiet=as_json)
        started = time.monotonic()
        report = demo_report.measure(root)
        journal.keep("report", time.monotonic() - started)
        report["seconds"] = journal.seconds()
        report["files"] = [str(f.relative_to(root)) for stage in stages for f in stage.outputs if f.is_file()]
        target = root / "demo_report.json"
        partial = target.with_suffix(".json.part")
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        partial.replace(target)
        say(report, demo_report.table(report))


def plan(root: Path, pieces: int, epochs: int | None) -> list[Stage]:
    """The stages, in order. Folders are the standard ones, so every other command finds the demo's models."""
    corpus, manifests, exports = root / "data/demo", root / "data/manifests", root / "exports"
    samples = root / "data" / "demo" / "results"
    best = {family: root / "checkpoints" / family / "best.pt" for family in ("spectocloud", "midi_generator")}
    lists = {kind: [manifests / f"{kind}_{side}.jsonl" for side in ("train", "val")] for kind in FAMILIES}
    length = ["--epochs", str(epochs)] if epochs else []
    pair = ["manifests", "--audio-root", str(corpus / "audio"), "--midi-root", str(corpus / "midi"), "--demo"]
    clouds = ["--val-split", ".15", "--generate-clouds", "--segments", str(SEGMENTS)]
    compare = ["cloud", "compare", "--out", str(samples / "cloud.png"), "--out", str(samples / "cloud.html")]
    return [
        Stage("corpus", [["demo-corpus", str(corpus), "--pieces", str(pieces)]], outputs=[corpus / "rights.json"]),
        Stage(
            "manifests",
            [[*pair, *clouds]],
            inputs=[corpus / "audio", corpus / "midi"],
            outputs=[*lists["spectocloud"], *lists["midi"], manifests / "manifest_report.json"],
        ),
        Stage(
            "spectocloud",
            [["train", "spectocloud", "--preset", "demo", *length]],
            inputs=lists["spectocloud"],
            outputs=[best["spectocloud"]],
        ),
        Stage(
            "midi_generator",
            [["train", "midi", "--preset", "demo", *length]],
            inputs=lists["midi"],
            outputs=[best["midi_generator"]],
        ),
        Stage(
            "export",
            [["export", "--all"]],
            inputs=list(best.values()),
            outputs=[exports / "spectocloud.onnx", exports / "midi_generator.onnx", exports / "grammar.json"],
        ),
        Stage(
            "samples",
            [*(_sample(emotion, samples / emotion) for emotion in EMOTIONS), compare],
            inputs=[exports / "midi_generator.onnx", best["spectocloud"]],
            outputs=[samples / f"{emotion}.{kind}" for emotion in EMOTIONS for kind in ("mid", "png", "wav")]
            + [samples / "cloud.png", samples / "cloud.html"],
        ),
    ]


def _sample(emotion: str, file: Path) -> list[str]:
    pictures = ["--roll", f"{file}.png", "--render", f"{file}.wav"]
    return ["generate", "midi", "--emotion", emotion, "--bars", "16", "--seed", "1", "--out", f"{file}.mid", *pictures]


class Journal:
    """What each stage was run with and how long it took: `stages.json`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a first run, or a torn file: every stage runs
            self.entries = json.loads(file.read_text(encoding="utf-8"))

    def keep(self, name: str, seconds: float) -> None:
        """Note the seconds of something that is not a command; the first run's figure stays."""
        if name not in self.entries:
            self._write(name, "", seconds)

    def run(self, stage: Stage, label: str, root: Path, *, quiet: bool) -> None:
        key = _key(stage)
        entry = self.entries.get(stage.name, {})
        if entry.get("key") == key and all(output.exists() for output in stage.outputs):
            print(f"{label} {stage.name}: reused ({entry['seconds']:.0f} s the first time)", flush=True)
            return
        print(f"{label} {stage.name}", flush=True)
        started = time.monotonic()
        for command in stage.commands:
            arguments = [sys.executable, "-m", "kwela", *command]
            done = subprocess.run(arguments, cwd=root, stdout=sys.stderr if quiet else None)
            if done.returncode:
                text = f"demo: stage {stage.name} ended with status {done.returncode}"
                kinds = {2: UserError, 75: Interrupted}
                raise kinds.get(done.returncode, KwelaError)(text)
        # Inputs are keyed as the stage found them; the key is only kept when the stage came to its end.
        self._write(stage.name, key, time.monotonic() - started)

    def seconds(self) -> dict[str, float]:
        return {name: round(entry["seconds"], 1) for name, entry in self.entries.items()}

    def _write(self, name: str, key: str, seconds: float) -> None:
        self.entries[name] = {"key": key, "seconds": seconds}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".part")
        partial.write_text(json.dumps(self.entries, indent=1), encoding="utf-8")
        partial.replace(self.file)


def _key(stage: Stage) -> str:
    digest = hashlib.sha256(json.dumps(stage.commands).encode())
    code = Path(__file__).resolve().parents[1]
    for path in _files([code, *stage.inputs]):
        if "__pycache__" not in path.parts:
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders.sort()
                yield from (Path(folder) / name for name in sorted(names))
        elif path.exists():
            yield path
