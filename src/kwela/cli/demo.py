"""`kwela demo`: the whole pipeline on real pieces, stage by stage, with a table and `demo_report.json`.

Each stage is an ordinary `kwela` command in a process of its own. A stage is reused, with the seconds of its
first run, while its outputs are the ones that it made and everything that they depend on is the same: the
command, the content of its inputs, kwela's version, its settings, and the versions (integers) of what it
makes. Those are raised by hand when the same input gives another result.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

import kwela
from kwela import files, terminal
from kwela.cli.output import Json, speaking
from kwela.errors import Interrupted, KwelaError, UserError

EMOTIONS = ("happy", "grief", "calm")
SEGMENTS = 8  # rows and clouds a song


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("demo", short_help="The whole pipeline on about 120 real pieces, in minutes.")(demo)


@dataclass
class Stage:
    """A step of the demo: commands of kwela, what they read and what they write."""

    name: str
    commands: list[list[str]]  # arguments of kwela
    inputs: list[Path] = field(default_factory=list)  # files or folders: a change makes the stage run again
    outputs: list[Path] = field(default_factory=list)
    depends: list[Any] = field(default_factory=list)  # settings and versions, as JSON values
    trains: bool = False  # a training goes on from the checkpoints it left, unless it gets --fresh


def demo(
    pieces: Annotated[int, typer.Option(min=24, help="Pieces in the corpus.")] = 120,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="For both models; default: the demo preset's.")
    ] = None,
    install_seconds: Annotated[float, typer.Option(hidden=True)] = 0.0,
    as_json: Json = False,
) -> None:
    """Make a corpus, manifests, both models, exports, samples and a table. A second run reuses them.

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
        files.write(root / "demo_report.json", json.dumps(report, indent=1) + "\n")
        say(report, demo_report.table(report))


def plan(root: Path, pieces: int, epochs: int | None) -> list[Stage]:
    """List the stages, in order. Folders are the standard ones, so other commands find the demo's models."""
    places = Places(root)
    length = ["--epochs", str(epochs)] if epochs else []
    depends = _settings_and_versions()
    return [
        Stage(
            "corpus",
            [["demo-corpus", str(places.corpus), "--pieces", str(pieces)]],
            outputs=[places.corpus / "rights.json", places.audio, places.midi],
            depends=depends["corpus"],
        ),
        _manifests(places, depends["manifests"]),
        Stage(
            "spectocloud",
            [["train", "spectocloud", "--preset", "demo", *length]],
            inputs=places.cloud_rows,
            outputs=[places.best_cloud],
            depends=depends["spectocloud"],
            trains=True,
        ),
        Stage(
            "midi_generator",
            [["train", "midi", "--preset", "demo", *length]],
            inputs=places.midi_rows,
            outputs=[places.best_midi],
            depends=depends["midi_generator"],
            trains=True,
        ),
        _export(places, depends["export"]),
        _samples(places),
    ]


def _settings_and_versions() -> dict[str, list[Any]]:
    """Return what the outputs of each stage depend on besides its command, its inputs and kwela's version."""
    from kwela import config
    from kwela.corpus.demo.build import CORPUS_VERSION
    from kwela.corpus.pairs.manifest import OPENING_VERSION
    from kwela.export.evidence import RECIPE_VERSION
    from kwela.midi_generator.config import MidiGeneratorConfig
    from kwela.music import tokens
    from kwela.spectocloud.config import SpectocloudConfig
    from kwela.spectocloud.target import TARGET_VERSION

    clouds, midi = (
        config.load(schema, preset="demo").model_dump(mode="json")
        for schema in (SpectocloudConfig, MidiGeneratorConfig)
    )
    return {
        "corpus": [CORPUS_VERSION],
        "manifests": [OPENING_VERSION, TARGET_VERSION],
        "spectocloud": [clouds, TARGET_VERSION],
        "midi_generator": [midi, tokens.tokenizer_hash()],
        "export": [RECIPE_VERSION, tokens.tokenizer_hash()],
    }


class Places:
    """Where the demo's files are."""

    def __init__(self, root: Path) -> None:
        self.corpus, self.results = root / "data" / "demo", root / "data" / "demo" / "results"
        self.audio, self.midi = self.corpus / "audio", self.corpus / "midi"
        self.manifests, self.clouds = root / "data" / "manifests", root / "data" / "clouds"
        self.exports = root / "exports"
        self.best_cloud, self.best_midi = (
            root / "checkpoints" / family / "best.pt" for family in ("spectocloud", "midi_generator")
        )
        self.cloud_rows, self.midi_rows = (
            [self.manifests / f"{kind}_{side}.jsonl" for side in ("train", "val")]
            for kind in ("spectocloud", "midi")
        )


def _manifests(places: Places, depends: list[Any]) -> Stage:
    roots = ["--audio-root", str(places.audio), "--midi-root", str(places.midi)]
    rows = ["--val-split", ".15", "--generate-clouds", "--segments", str(SEGMENTS)]
    report = places.manifests / "manifest_report.json"
    return Stage(
        "manifests",
        [["manifests", *roots, "--demo", *rows]],
        inputs=[places.audio, places.midi],
        outputs=[*places.cloud_rows, *places.midi_rows, report, places.clouds],
        depends=depends,
    )


def _export(places: Places, depends: list[Any]) -> Stage:
    models = [places.exports / f"{name}.onnx" for name in ("spectocloud", "midi_generator")]
    written = [file for model in models for file in (model, model.with_name(f"{model.name}.json"))]
    return Stage(
        "export",
        [["export", "--all"]],
        inputs=[places.best_cloud, places.best_midi],
        outputs=[*written, places.exports / "grammar.json"],
        depends=depends,
    )


def _samples(places: Places) -> Stage:
    """Make one song for each emotion, with a picture and a rendering, and a cloud beside its target."""
    songs = [places.results / emotion for emotion in EMOTIONS]
    pictures = [places.results / "cloud.png", places.results / "cloud.html"]
    compare = ["cloud", "compare", *(word for file in pictures for word in ("--out", str(file)))]
    return Stage(
        "samples",
        [*(_song(emotion, song) for emotion, song in zip(EMOTIONS, songs, strict=True)), compare],
        inputs=[places.best_cloud, places.best_midi, places.cloud_rows[1]],
        outputs=[Path(f"{song}.{kind}") for song in songs for kind in ("mid", "png", "wav")] + pictures,
    )


def _song(emotion: str, file: Path) -> list[str]:
    command = ["generate", "midi", "--emotion", emotion, "--bars", "16", "--seed", "1"]
    return [*command, "--out", f"{file}.mid", "--roll", f"{file}.png", "--render", f"{file}.wav"]


class Journal:
    """The record of what each stage was run with, what it made and how long it took: `stages.json`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a first run, or a torn file: every stage runs
            self.entries = json.loads(file.read_text(encoding="utf-8"))

    def keep(self, name: str, seconds: float) -> None:
        """Note the seconds of something that is not a command. The first run's figure stays."""
        if name not in self.entries:
            self._write(name, {"seconds": seconds})

    def run(self, stage: Stage, label: str, root: Path, *, quiet: bool) -> None:
        """Run a stage's commands, or reuse what they made before. quiet: their output goes to stderr.

        Raises KwelaError or UserError for a command that fails, Interrupted if the user stops it.
        """
        key, entry = _key(stage), self.entries.get(stage.name, {})
        known = entry.get("key") == key
        if known and entry["made"] and entry["made"] == _fingerprints(stage.outputs):
            terminal.say(f"{label} {stage.name}: reused ({entry['seconds']:.0f} s the first time)")
            return
        terminal.say(f"{label} {stage.name}")
        # What was interrupted goes on. Any other checkpoint at its place is not this stage's: it comes from
        # another command, or from other inputs.
        going_on = known and not entry["made"]
        fresh = ["--fresh"] if stage.trains and not going_on else []
        entry = {"key": key, "seconds": entry["seconds"] if going_on else 0.0, "made": None}
        self._write(stage.name, entry)
        started = time.monotonic()
        try:
            for command in stage.commands:
                self._command(stage.name, [*command, *fresh], root, quiet)
            made = _fingerprints(stage.outputs)
            for path, fingerprint in zip(stage.outputs, made, strict=True):
                if not fingerprint:
                    raise KwelaError(f"demo: stage {stage.name} did not write {path}")
            entry["made"] = made
        finally:
            entry["seconds"] += time.monotonic() - started
            self._write(stage.name, entry)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, by its name."""
        return {name: round(entry["seconds"], 1) for name, entry in self.entries.items()}

    def _command(self, name: str, command: list[str], root: Path, quiet: bool) -> None:
        # A training that is asked to stop saves first. So the signal is passed on, and the process awaited.
        child: subprocess.Popen[bytes] | None = None
        asked = False

        def pass_on(*_: Any) -> None:
            nonlocal asked
            asked = True
            if child:
                child.terminate()

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            arguments = [sys.executable, "-m", "kwela", *command]
            child = subprocess.Popen(arguments, cwd=root, stdout=sys.stderr if quiet else None)
            if asked:  # while it was being started
                child.terminate()
            status = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if asked or status == 75:
            raise Interrupted(f"demo: stopped in stage {name}; run it again to go on")
        if status:
            raise (UserError if status == 2 else KwelaError)(f"demo: stage {name} ended with status {status}")

    def _write(self, name: str, entry: dict[str, Any]) -> None:
        self.entries[name] = entry
        files.write(self.file, json.dumps(self.entries, indent=1))


def _key(stage: Stage) -> str:
    """Return a hash of everything that a stage's outputs depend on."""
    text = json.dumps([stage.commands, _fingerprints(stage.inputs), kwela.__version__, stage.depends])
    return files.sha256(text.encode())


def _fingerprints(paths: Iterable[Path]) -> list[str]:
    """Return a fingerprint of each path: of a file its content; of a folder its files' names and sizes.

    Folders hold many and large files, so those are not read. "" stands for a path that does not exist.
    """
    return [_fingerprint(path) for path in paths]


def _fingerprint(path: Path) -> str:
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [(str(file.relative_to(path)), file.stat().st_size) for file in inside]
        return files.sha256(json.dumps(listing).encode())
    return files.sha256(path) if path.is_file() else ""
