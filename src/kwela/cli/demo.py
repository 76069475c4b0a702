"""`kwela demo`: the whole pipeline on real pieces, stage by stage, closing with a table and `demo_report.json`.

Each stage is an ordinary `kwela` command in a process of its own. A stage is reused, with the seconds of the run that
made it, while its outputs are the ones it made and everything they depend on is the same: the command, the content of
its inputs, kwela's version, its settings, and the versions (integers) of what it makes, which are raised by hand when
the same input gives another result. A change of the source text alone makes nothing again.
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
from kwela import files
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
    inputs: list[Path] = field(
        default_factory=list
    )  # files or folders whose change makes the stage run again
    outputs: list[Path] = field(default_factory=list)
    depends: list[Any] = field(default_factory=list)  # settings and versions, as JSON values
    trains: bool = False  # goes on from what it left, so it has to be told where to begin anew


def demo(
    pieces: Annotated[int, typer.Option(min=24, help="Pieces in the corpus.")] = 120,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="For both models; default: the demo preset's.")
    ] = None,
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
        files.write(root / "demo_report.json", json.dumps(report, indent=1) + "\n")
        say(report, demo_report.table(report))


def plan(root: Path, pieces: int, epochs: int | None) -> list[Stage]:
    """The stages, in order. Folders are the standard ones, so every other command finds the demo's models."""
    corpus, manifests, clouds, exports = (
        root / f for f in ("data/demo", "data/manifests", "data/clouds", "exports")
    )
    samples = root / "data" / "demo" / "results"
    best = {family: root / "checkpoints" / family / "best.pt" for family in ("spectocloud", "midi_generator")}
    lists = {kind: [manifests / f"{kind}_{side}.jsonl" for side in ("train", "val")] for kind in FAMILIES}
    length = ["--epochs", str(epochs)] if epochs else []
    pair = ["manifests", "--audio-root", str(corpus / "audio"), "--midi-root", str(corpus / "midi"), "--demo"]
    targets = ["--val-split", ".15", "--generate-clouds", "--segments", str(SEGMENTS)]
    depends = _settings_and_versions()
    compare = ["cloud", "compare", "--out", str(samples / "cloud.png"), "--out", str(samples / "cloud.html")]
    return [
        Stage(
            "corpus",
            [["demo-corpus", str(corpus), "--pieces", str(pieces)]],
            outputs=[corpus / "rights.json", corpus / "audio", corpus / "midi"],
            depends=depends["corpus"],
        ),
        Stage(
            "manifests",
            [[*pair, *targets]],
            inputs=[corpus / "audio", corpus / "midi"],
            outputs=[*lists["spectocloud"], *lists["midi"], manifests / "manifest_report.json", clouds],
            depends=depends["manifests"],
        ),
        Stage(
            "spectocloud",
            [["train", "spectocloud", "--preset", "demo", *length]],
            inputs=lists["spectocloud"],
            outputs=[best["spectocloud"]],
            depends=depends["spectocloud"],
            trains=True,
        ),
        Stage(
            "midi_generator",
            [["train", "midi", "--preset", "demo", *length]],
            inputs=lists["midi"],
            outputs=[best["midi_generator"]],
            depends=depends["midi_generator"],
            trains=True,
        ),
        Stage(
            "export",
            [["export", "--all"]],
            inputs=list(best.values()),
            outputs=[
                *(exports / f"{name}.onnx{evidence}" for name in best for evidence in ("", ".json")),
                exports / "grammar.json",
            ],
            depends=depends["export"],
        ),
        Stage(
            "samples",
            [*(_sample(emotion, samples / emotion) for emotion in EMOTIONS), compare],
            inputs=[*best.values(), lists["spectocloud"][1]],
            outputs=[samples / f"{emotion}.{kind}" for emotion in EMOTIONS for kind in ("mid", "png", "wav")]
            + [samples / "cloud.png", samples / "cloud.html"],
        ),
    ]


def _settings_and_versions() -> dict[str, list[Any]]:
    """What the outputs of each stage depend on besides its command, its inputs and kwela's version."""
    from kwela import config
    from kwela.corpus.demo.build import CORPUS_VERSION
    from kwela.corpus.pairs.manifest import OPENING_VERSION
    from kwela.export.evidence import RECIPE_VERSION
    from kwela.music import tokens
    from kwela.spectocloud.target import TARGET_VERSION

    def settings(family: str) -> Any:
        return config.load(family, preset="demo").model_dump(mode="json")

    return {
        "corpus": [CORPUS_VERSION],
        "manifests": [OPENING_VERSION, TARGET_VERSION],
        "spectocloud": [settings("spectocloud"), TARGET_VERSION],
        "midi_generator": [settings("midi"), tokens.tokenizer_hash()],
        "export": [RECIPE_VERSION, tokens.tokenizer_hash()],
    }


def _sample(emotion: str, file: Path) -> list[str]:
    pictures = ["--roll", f"{file}.png", "--render", f"{file}.wav"]
    return [
        "generate",
        "midi",
        "--emotion",
        emotion,
        "--bars",
        "16",
        "--seed",
        "1",
        "--out",
        f"{file}.mid",
        *pictures,
    ]


class Journal:
    """What each stage was run with, what it made and how long it took: `stages.json`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a first run, or a torn file: every stage runs
            self.entries = json.loads(file.read_text(encoding="utf-8"))

    def keep(self, name: str, seconds: float) -> None:
        """Note the seconds of something that is not a command; the first run's figure stays."""
        if name not in self.entries:
            self._write(name, {"seconds": seconds})

    def run(self, stage: Stage, label: str, root: Path, *, quiet: bool) -> None:
        key, entry = _key(stage), self.entries.get(stage.name, {})
        known = entry.get("key") == key
        if known and entry["made"] and entry["made"] == _prints(stage.outputs):
            print(f"{label} {stage.name}: reused ({entry['seconds']:.0f} s the first time)", flush=True)
            return
        print(f"{label} {stage.name}", flush=True)
        # What was interrupted goes on. Anything else that stands there is not this stage's: another command made it,
        # or other code or inputs did.
        going_on = known and not entry["made"]
        entry = {"key": key, "seconds": entry["seconds"] if going_on else 0.0, "made": None}
        self._write(stage.name, entry)
        started = time.monotonic()
        try:
            for command in stage.commands:
                self._command(
                    stage.name, [*command, *["--fresh"] * (stage.trains and not going_on)], root, quiet
                )
            made = _prints(stage.outputs)
            for path, fingerprint in zip(stage.outputs, made, strict=True):
                if not fingerprint:
                    raise KwelaError(f"demo: stage {stage.name} did not write {path}")
            entry["made"] = made
        finally:
            entry["seconds"] += time.monotonic() - started
            self._write(stage.name, entry)

    def seconds(self) -> dict[str, float]:
        return {name: round(entry["seconds"], 1) for name, entry in self.entries.items()}

    def _command(self, name: str, command: list[str], root: Path, quiet: bool) -> None:
        # Asked to stop, a training saves first: the signal is passed on, and its end waited for.
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
    """A hash of everything that a stage's outputs depend on."""
    text = json.dumps([stage.commands, _prints(stage.inputs), kwela.__version__, stage.depends])
    return files.sha256(text.encode())


def _prints(paths: Iterable[Path]) -> list[str]:
    """A fingerprint each: of a file, its content; of a folder, whose files are many and large, their names and sizes.

    "" stands for what isn't there.
    """
    found = []
    for path in paths:
        if path.is_dir():
            listing = [(str(file.relative_to(path)), file.stat().st_size) for file in _files(path)]
            found.append(files.sha256(json.dumps(listing).encode()))
        elif path.is_file():
            found.append(files.sha256(path))
        else:
            found.append("")
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
