"""Commands that make and inspect corpora: `demo-corpus`, `manifests`, `emotion`."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from kwela.cli.output import Json, speaking
from kwela.errors import UserError

# The help of --group-by, here and in cli/dataset.py.
GROUP_BY = "What a song is: stem, folder, a CSV of file,song, or a regular expression; default: kwela's rule."


_NEGATIVE = re.compile(r"[-\u2212][.,\d]")
_NO_OPTION = "\0"  # it marks a negative number, which would be taken for an option; no argument holds a NUL


class _NegativeNumbers(TyperCommand):
    """A command whose arguments may begin with a minus and a digit, as -0.8,0.5,0.5."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_NO_OPTION * bool(_NEGATIVE.match(arg)) + arg for arg in args])


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        "demo-corpus",
        short_help="Real, free pieces from music21, rendered: a corpus to try things on.",
    )(demo_corpus)
    app.command("manifests", short_help="Pair audio with MIDI, infer emotions, write the manifests.")(
        manifests
    )
    app.command("emotion", short_help="Show the emotion of words or paths in numbers.", cls=_NegativeNumbers)(
        emotion
    )


def demo_corpus(
    out: Path,
    pieces: Annotated[int, typer.Option(min=4, help="How many.")] = 120,
    seed: int = 0,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    as_json: Json = False,
) -> None:
    """Build the demo corpus: real pieces whose encodings permit it, as MIDI and audio, in emotion folders.

    \b
    kwela demo-corpus data/demo
    """
    from kwela.corpus.demo import build as demo

    with speaking(as_json) as say:
        report = demo.build(out, pieces=pieces, seed=seed, workers=workers)
        say(report.to_dict(), report.summary())


def manifests(
    audio_root: Annotated[Path, typer.Option(help="Folder of audio.")],
    midi_root: Annotated[Path, typer.Option(help="Folder of MIDI, matched to the audio by name.")],
    out_dir: Annotated[Path | None, typer.Option(help="Default: data/manifests of the repository.")] = None,
    val_split: Annotated[float, typer.Option(min=0, max=0.9, help="Share of songs held out.")] = 0.05,
    seed: int = 42,
    labels: Annotated[Path | None, typer.Option(help="CSV or JSON: stem -> emotion vector.")] = None,
    align: Annotated[bool, typer.Option("--align", help="Find the offset between audio and MIDI.")] = False,
    generate_clouds: Annotated[
        bool, typer.Option("--generate-clouds", help="Compute Spectocloud targets.")
    ] = False,
    clouds_dir: Annotated[Path | None, typer.Option(help="Default: data/clouds of the repository.")] = None,
    segments: Annotated[int, typer.Option(min=1, help="Rows and clouds a song, with --generate-clouds.")] = 1,
    group_by: Annotated[str | None, typer.Option(help=GROUP_BY)] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: the cores.")] = None,
    demo: Annotated[bool, typer.Option("--demo", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Write spectocloud_{train,val}.jsonl, midi_{train,val}.jsonl and manifest_report.json.

    \b
    kwela manifests --audio-root /data/audio --midi-root /data/midi
    kwela manifests --audio-root a --midi-root m --generate-clouds --segments 8
    kwela manifests --audio-root a --midi-root m --group-by '(.*)_take'
    """
    from kwela import config
    from kwela.corpus.pairs import manifest

    # A target belongs to a model family, which a corpus knows nothing of: it is handed in.
    from kwela.spectocloud.target import TARGET_VERSION, write_cloud

    root = config.repo_root()
    with speaking(as_json) as say:
        report = manifest.build(
            audio_root,
            midi_root,
            out_dir or root / "data" / "manifests",
            val_split=val_split,
            seed=seed,
            labels=labels,
            align=align,
            make_cloud=write_cloud if generate_clouds else None,
            clouds_dir=clouds_dir or root / "data" / "clouds",
            cloud_version=TARGET_VERSION,
            segments=segments,
            rule=group_by,
            workers=workers,
            demo=demo,
        )
        say(asdict(report), "\n".join(manifest.summary(report)))


def emotion(
    arguments: Annotated[list[str], typer.Argument(metavar="WORD_OR_PATH...")],
    as_json: Json = False,
) -> None:
    """Show the emotion of words or paths in numbers, and where each was read.

    \b
    kwela emotion grief calm data/audio/happy/track001.wav
    kwela emotion -0.8,0.5,0.5
    """
    from kwela.music import emotion as emotions

    arguments = [argument.removeprefix(_NO_OPTION) for argument in arguments]
    with speaking(as_json) as say:
        readings = [emotions.read_argument(argument) for argument in arguments]
        width = max(map(len, arguments))
        lines = [
            f"{argument:{width}}  {reading.emotion.text(2, '  ')}  ({reading.source})"
            for argument, reading in zip(arguments, readings, strict=True)
        ]
        described = [emotions.describe(*pair) for pair in zip(arguments, readings, strict=True)]
        say({"readings": described}, "\n".join(lines))


def smoke_set(folder: Path) -> Path:
    """Return the folder of the smoke set's manifests, made in `folder` if they are not there yet."""
    from filelock import FileLock

    from kwela.corpus.demo import smoke
    from kwela.corpus.pairs import manifest, rows
    from kwela.midi_generator.config import MidiGeneratorData

    manifests = folder / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # torchrun's ranks come here together: one makes it
        try:
            rows.read(manifests / "midi_val.jsonl", MidiGeneratorData.row_keys)
        except UserError:  # not made yet, or its paths are those of a checkout that moved
            smoke.make(folder)
            clouds = folder / "clouds"
            roots = folder / "audio", folder / "midi"
            manifest.build(*roots, manifests, val_split=0.15, seed=42, clouds_dir=clouds, quiet=True)
    return manifests
