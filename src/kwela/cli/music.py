"""Define the commands that make and show music: `tokens`, `generate`, `cloud`."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kwela import terminal
from kwela.cli.musicgen import generate_audio
from kwela.cli.output import Json, speaking
from kwela.errors import UserError

if TYPE_CHECKING:
    from symusic.core import ScoreTick

    from kwela.midi_generator.generate import Backend as GeneratorBackend
    from kwela.spectocloud.model import Spectocloud

tokens_app = typer.Typer(help="The 388-id MIDI codec.", no_args_is_help=True, rich_markup_mode=None)
generate_app = typer.Typer(
    help="Make music from a trained model.", no_args_is_help=True, rich_markup_mode=None
)
cloud_app = typer.Typer(
    help="Spectoclouds: predict, compute, draw.", no_args_is_help=True, rich_markup_mode=None
)


class Backend(StrEnum):
    """The library that runs a MIDI generator."""

    torch = "torch"
    onnx = "onnx"


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.add_typer(tokens_app, name="tokens")
    generate_app.command("audio")(generate_audio)
    app.add_typer(generate_app, name="generate")
    app.add_typer(cloud_app, name="cloud")


# --------------------------------------------------------------------- tokens


@tokens_app.command()
def encode(
    file: Path,
    out: Annotated[Path | None, typer.Option(help="Default: stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Turn MIDI into ids, as JSON.

    \b
    kwela tokens encode song.mid > song.json
    """
    from kwela import files
    from kwela.music import midi, tokens

    ids = tokens.encode(midi.read(file)).tolist()
    text = json.dumps({"tokenizer": tokens.tokenizer_hash(), "ids": ids})
    with speaking(as_json) as say:
        if out is None:
            say(json.loads(text), text)
        else:
            files.write(out, text + "\n")
            say({"files": [str(out)], "ids": len(ids)}, f"wrote {out} ({len(ids)} ids)")


@tokens_app.command()
def decode(file: Path, out: Path, as_json: Json = False) -> None:
    """Turn ids (a JSON list, or the output of `encode`) into MIDI; any ids give a valid file.

    \b
    kwela tokens decode song.json song.mid
    """
    import numpy as np

    from kwela import files, tables
    from kwela.music import midi, tokens

    with speaking(as_json) as say:
        value = tables.parse_json(files.read_text(file, "ids"), str(file))
        if isinstance(value, dict):
            if value.get("tokenizer") != tokens.tokenizer_hash():
                raise UserError(f"{file}: ids of another tokenizer, {str(value.get('tokenizer'))[:12]}")
            value = value.get("ids")
        if not isinstance(value, list) or not all(
            type(number) is int and abs(number) < 1 << 31 for number in value
        ):
            raise UserError(f"{file}: not a JSON list of ids (whole numbers)")
        midi.write(tokens.decode(np.asarray(value, dtype=np.int64)), out)
        say({"files": [str(out)]}, f"wrote {out}")


@tokens_app.command()
def check(files: Annotated[list[Path], typer.Argument(metavar="F.mid...")], as_json: Json = False) -> None:
    """Count the notes in a file's bytes, those that the codec keeps and those it loses, and say why.

    Of a folder, every MIDI file below it is checked. The exit status is 1 if a note is not accounted for.

    \b
    kwela tokens check song.mid
    kwela tokens check data/midi --json
    """
    from kwela import terminal
    from kwela.errors import KwelaError, UserError
    from kwela.music import midi_check

    reports, refused = {}, {}
    with speaking(as_json) as say:
        found = midi_check.find(files)
        label = "Checking MIDI" if len(found) >= 50 else ""
        for file in terminal.with_progress_bar(found, label, len(found)):
            try:
                reports[str(file)] = midi_check.check(file)
            except UserError as error:
                refused[str(file)] = str(error)
        if reports:
            say({"files": reports, "refused": refused}, midi_check.to_text(reports, refused))
    if any(report["notes_unaccounted"] for report in reports.values()):
        raise KwelaError("some notes are not accounted for; this is a defect of kwela, please report it")
    if refused:
        more = f" (and {len(refused) - 1} more files)" if len(refused) > 1 else ""
        raise UserError(f"{next(iter(refused.values()))}{more}")


# ------------------------------------------------------------------- generate


@generate_app.command("midi")
def generate_midi(
    emotion: Annotated[str, typer.Option(help='A word, numbers, or a curve over bars: "0:grief;8:calm".')],
    model: Annotated[Path | None, typer.Option(help="Default: checkpoints/midi_generator/best.pt.")] = None,
    bars: Annotated[int, typer.Option(min=1, max=512)] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    variations: Annotated[int, typer.Option(min=1, help="Several, from seeds S, S+1, ...")] = 1,
    prompt: Annotated[Path | None, typer.Option(help="A MIDI file to go on from.")] = None,
    keep_bars: Annotated[int | None, typer.Option(min=1, help="Of the prompt; default: all of it.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: greedy.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="0: off.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 0.95,
    min_p: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(min=1)] = 1.0,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance; 1: off.")] = 1.0,
    backend: Backend = Backend.torch,
    out: Annotated[Path, typer.Option(help="With --variations: out_1.mid, out_2.mid, ...")] = Path(
        "generated.mid"
    ),
    render: Annotated[Path | None, typer.Option(help="Also as audio.")] = None,
    roll: Annotated[Path | None, typer.Option(help="Also as a piano roll, PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Generate MIDI for an emotion. Only ids that the grammar allows are sampled, so the file is complete.

    \b
    kwela generate midi --emotion grief --bars 16 --out grief.mid --roll grief.png --render grief.wav
    kwela generate midi --emotion "0:grief;8:calm" --guidance 2 --variations 4
    """
    from kwela.midi_generator import generate
    from kwela.music import midi, tokens

    sample = partial(
        generate.generate,
        emotion=generate.parse_emotion(emotion),
        model=_load_generator(backend, model),
        bars=bars,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        guidance=guidance,
        prompt=None if prompt is None else generate.first_bars(tokens.encode(midi.read(prompt)), keep_bars),
    )
    made = []
    with speaking(as_json) as say:
        for number in range(variations):
            ids = sample(seed=seed + number)
            paths = (numbered(path, number, variations) if path else None for path in (out, render, roll))
            files = _write_song(tokens.decode(ids), f"{emotion}, seed {seed + number}", *paths)
            made.append({"seed": seed + number, "ids": len(ids), "files": files})
            terminal.say(f"wrote {', '.join(files)} ({len(ids)} ids, seed {seed + number})")
        if as_json:
            say({"made": made}, "")


def _write_song(
    score: ScoreTick, title: str, mid: Path | None, wav: Path | None, png: Path | None
) -> list[str]:
    """Write a song as MIDI, as audio and as a piano roll, each where a path is given. Returns the paths."""
    from kwela.music import midi

    files = [file for file in (mid, wav, png) if file]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    if mid:
        midi.write(score, mid)
    if wav:
        from kwela.music import synth

        synth.write(wav, synth.render(score)[0])
    if png:
        from kwela.midi_generator.piano_roll import draw

        draw(score, png, title=title)
    return [str(file) for file in files]


def _load_generator(backend: Backend, model: Path | None) -> GeneratorBackend:
    """Load the model of `generate midi`, with the window it was trained at."""
    from kwela import config
    from kwela.midi_generator import generate

    root = config.repo_root()
    if backend == Backend.onnx:
        file = model or root / "exports" / "midi_generator.onnx"
        if not file.is_file():
            raise UserError(f"{file}: no such model (kwela export makes it)")
        return generate.OnnxBackend(file)
    from kwela import families
    from kwela.engine import checkpoint
    from kwela.midi_generator.model import MidiGenerator

    file = model or root / "checkpoints" / "midi_generator" / "best.pt"
    state = checkpoint.load(file)
    network = families.named("midi_generator").rebuild(file, state)
    assert isinstance(network, MidiGenerator)
    return generate.TorchBackend(network, state["config"]["model"]["window"])


def numbered(path: Path, index: int, count: int) -> Path:
    """Return `path` for one file, else the path of file `index` of several: x_1.mid, x_2.mid."""
    return path if count == 1 else path.with_stem(f"{path.stem}_{index + 1}")


# ---------------------------------------------------------------------- cloud

Start = Annotated[float, typer.Option(min=0, max=1e6, help="Seconds into the audio.")]
Offset = Annotated[float, typer.Option(min=-1e6, max=1e6, help="MIDI time = audio time - offset, seconds.")]
Model = Annotated[Path | None, typer.Option(help="Default: checkpoints/spectocloud/best.pt.")]
Emotion = Annotated[str, typer.Option(help="A word or numbers; default: what the path says.")]
Out = Annotated[list[Path], typer.Option(help=".npy .ply .png .gif .html; may be repeated.")]


@cloud_app.command("predict")
def predict(
    audio: Path,
    midi_file: Annotated[Path | None, typer.Option("--midi", help="Its MIDI; without: no notes.")] = None,
    out: Out = [Path("cloud.png")],  # noqa: B006
    emotion: Emotion = "",
    start: Start = 0.0,
    offset: Offset = 0.0,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Predict the cloud of 1.5 seconds of audio with a trained model.

    \b
    kwela cloud predict song.wav --midi song.mid --emotion calm --start 12 --out cloud.png --out cloud.html
    """
    from kwela.spectocloud import predict as prediction
    from kwela.spectocloud import render

    cloud = prediction.predict(
        _load_spectocloud(model), audio, midi_file, _emotion_numbers(emotion, audio), offset, start
    )
    _write(out, as_json, lambda file: render.write(cloud, file))


@cloud_app.command("target")
def target(
    audio: Path,
    midi_file: Annotated[Path, typer.Option("--midi", help="Its MIDI.")],
    out: Out = [Path("cloud.png")],  # noqa: B006
    emotion: Emotion = "",
    start: Start = 0.0,
    offset: Offset = 0.0,
    as_json: Json = False,
) -> None:
    """Compute the cloud from the music itself: the target that the model learns.

    \b
    kwela cloud target song.wav --midi song.mid --start 12 --out target.html
    """
    import numpy as np

    from kwela.spectocloud import render
    from kwela.spectocloud import target as targets

    cloud = targets.compute(audio, midi_file, np.asarray(_emotion_numbers(emotion, audio)), offset, start)
    _write(out, as_json, lambda file: render.write(cloud, file))


@cloud_app.command("compare")
def compare(
    manifest: Annotated[
        Path | None, typer.Option(help="Default: data/manifests/spectocloud_val.jsonl.")
    ] = None,
    row: Annotated[int, typer.Option(min=1, help="Which of its rows.")] = 1,
    out: Out = [Path("cloud.png")],  # noqa: B006
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Draw a model's cloud beside its target, for a row of a manifest, as PNG or HTML.

    \b
    kwela cloud compare --row 5 --out pair.png --out pair.html
    """
    from kwela import config
    from kwela.corpus.pairs import rows
    from kwela.spectocloud import predict as prediction
    from kwela.spectocloud import render
    from kwela.spectocloud import target as targets
    from kwela.spectocloud.config import SpectocloudData

    path = manifest or config.repo_root() / "data" / "manifests" / "spectocloud_val.jsonl"
    all_rows = rows.read(path, SpectocloudData.row_keys)
    if row > len(all_rows):
        raise UserError(f"{path}: --row {row}: it has {len(all_rows)} rows")
    chosen = all_rows[row - 1]
    audio, midi_file = Path(chosen["audio_path"]), Path(chosen["midi_path"])
    segment = chosen["emotion64"], chosen["offset"], chosen.get("start", 0.0)
    clouds = {
        "predicted": prediction.predict(_load_spectocloud(model), audio, midi_file, *segment),
        "target": targets.compute(audio, midi_file, *segment),
    }
    title = f"{audio.stem}, {segment[2]:.1f} s"
    writers = {".html": render.save_html, ".png": render.save_pair}
    for file in out:
        if file.suffix not in writers:
            raise UserError(f"{file}: a comparison is drawn as .png or .html")
    _write(out, as_json, lambda file: writers[file.suffix](clouds, file, title))


@cloud_app.command("render")
def draw(
    cloud_file: Annotated[Path, typer.Argument(metavar="CLOUD.npy")],
    out: Out = [Path("cloud.png")],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Draw a cloud that was saved as .npy (1200 x 3, with or without its .attributes.npy).

    \b
    kwela cloud render data/clouds/0a1b2c.npy --out cloud.gif
    """
    from kwela.spectocloud import render

    cloud = render.read(cloud_file)
    _write(out, as_json, lambda file: render.write(cloud, file))


def _write(out: list[Path], as_json: bool, draw: Callable[[Path], None]) -> None:
    with speaking(as_json) as say:
        for file in out:
            draw(file)
        say({"files": [str(file) for file in out]}, "\n".join(f"wrote {file}" for file in out))


def _load_spectocloud(model: Path | None) -> Spectocloud:
    """Load the Spectocloud model of `cloud predict` and `cloud compare`."""
    from kwela import config, families
    from kwela.engine import checkpoint
    from kwela.spectocloud.model import Spectocloud

    file = model or config.repo_root() / "checkpoints" / "spectocloud" / "best.pt"
    network = families.named("spectocloud").rebuild(file, checkpoint.load(file))
    assert isinstance(network, Spectocloud)
    return network


def _emotion_numbers(emotion: str, path: Path) -> tuple[float, ...]:
    """Return the numbers of a word, or as they are written; without either, those of the path."""
    from kwela.music import emotion as emotions

    return emotions.parse(emotion) if emotion else emotions.from_path(path).emotion
