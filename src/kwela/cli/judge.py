"""Define `kwela judge`: each of its commands writes a scorecard as JSON, a page and plots into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kwela.cli.output import Json, speaking

if TYPE_CHECKING:
    from kwela.judge.shared.scorecard import Scorecard

judge_app = typer.Typer(help="Measure what a model made.", no_args_is_help=True, rich_markup_mode=None)

Quick = Annotated[bool, typer.Option("--quick", help="Fewer seeds and resamples: minutes, wider intervals.")]
Seed = Annotated[int, typer.Option(min=0)]


def register(app: typer.Typer) -> None:
    """Add `kwela judge` and its commands to the command line."""
    app.add_typer(judge_app, name="judge")


@judge_app.command("midi")
def midi(
    model: Annotated[Path | None, typer.Option(help="Default: checkpoints/midi_generator/best.pt.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Held-out rows; default: data/manifests/midi_val.jsonl.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training rows; default: data/manifests/midi_train.jsonl.")
    ] = None,
    human: Annotated[
        Path | None, typer.Option(help="Human-labelled pieces in VGMIDI's layout, for the evaluators.")
    ] = None,
    twin_model: Annotated[
        Path | None,
        typer.Option("--twin", help="A checkpoint trained on shuffled labels (kwela judge twin)."),
    ] = None,
    quick: Quick = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("judged/midi"),
    as_json: Json = False,
) -> None:
    """Judge whether a MIDI generator follows the emotion it is given, makes music, and makes its own.

    \b
    kwela judge midi --quick
    kwela judge midi --human vgmidi --out judged/midi
    """
    from kwela.judge.midi import judge

    with speaking(as_json) as say:
        card = judge.judge(model, manifest, training, human, twin_model, out=out, quick=quick, seed=seed)
        say(card.to_dict(), _text(card, out))


@judge_app.command("twin")
def twin(
    training: Annotated[Path, typer.Option(help="Training rows of the model.")] = Path(
        "data/manifests/midi_train.jsonl"
    ),
    out: Annotated[Path, typer.Option(help="The twin's training rows.")] = Path(
        "data/manifests/midi_train_twin.jsonl"
    ),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write the training rows with emotions shuffled among the songs, for the model of `judge midi --twin`.

    \b
    kwela judge twin
    kwela train midi --set data.train_manifest=data/manifests/midi_train_twin.jsonl \\
        --out checkpoints/midi_twin
    kwela judge midi --twin checkpoints/midi_twin/best.pt
    """
    from kwela.judge.midi import shuffled_labels

    with speaking(as_json) as say:
        shuffled_labels.write_shuffled_rows(training, out, seed)
        say({"manifest": str(out), "seed": seed}, f"{out}: train the twin as the model was, on these rows")


@judge_app.command("clouds")
def clouds(
    model: Annotated[Path | None, typer.Option(help="Default: checkpoints/spectocloud/best.pt.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Held-out rows; default: data/manifests/spectocloud_val.jsonl.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training rows; default: data/manifests/spectocloud_train.jsonl.")
    ] = None,
    quick: Quick = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("judged/clouds"),
    as_json: Json = False,
) -> None:
    """Judge a Spectocloud on held-out segments, beside the target drawn again and three baselines.

    \b
    kwela judge clouds --quick
    """
    from kwela.judge.clouds import judge

    with speaking(as_json) as say:
        card = judge.judge(model, manifest, training, out=out, quick=quick, seed=seed)
        say(card.to_dict(), _text(card, out))


@judge_app.command("authenticity")
def authenticity(
    contrast: Annotated[Path, typer.Option(help="Music that is not of the style.")],
    samples: Annotated[Path, typer.Option(help="What the model made.")],
    reference: Annotated[
        Path | None, typer.Option(help="Real music of the style; without: conformity only.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="The base model's clips on the same prompts, by file name.")
    ] = None,
    artists: Annotated[
        Path | None, typer.Option(help="CSV: file, artist. Default: the name before the first '-'.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a blind listening sheet (CSV) and its clips there.")
    ] = None,
    ratings: Annotated[Path | None, typer.Option(help="A listening sheet that was filled in.")] = None,
    quick: Quick = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("judged/authenticity"),
    as_json: Json = False,
) -> None:
    """Judge how much samples sound like reference music rather than like contrast music.

    \b
    kwela judge authenticity --reference amapiano --contrast other --samples tuned --base untuned
    """
    from kwela.judge.authenticity import judge

    with speaking(as_json) as say:
        card = judge.judge(
            reference,
            contrast,
            samples,
            base,
            artists=artists,
            sheet=sheet,
            ratings=ratings,
            out=out,
            quick=quick,
            seed=seed,
        )
        say(card.to_dict(), _text(card, out))


@judge_app.command("damage")
def damage(
    base: Annotated[Path, typer.Option(help="The base model's clips.")],
    tuned: Annotated[Path, typer.Option(help="The tuned model's clips on the same prompts.")],
    training: Annotated[
        Path | None, typer.Option(help="The clips it was tuned on, for the copy check.")
    ] = None,
    unseen: Annotated[Path | None, typer.Option(help="Real clips of artists it was not tuned on.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="The tuned MusicGen's checkpoint: its cross-entropy on --unseen.")
    ] = None,
    quick: Quick = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("judged/damage"),
    as_json: Json = False,
) -> None:
    """Judge what fine-tuning broke: dull highs, silence, loops, clipping, copies of training clips.

    \b
    kwela judge damage --base untuned --tuned tuned --training clips --unseen others
    """
    from kwela.cli.musicgen import tiny_folder
    from kwela.judge.damage import judge

    with speaking(as_json) as say:
        card = judge.judge(
            base, tuned, training, unseen, model, tiny_folder(), out=out, quick=quick, seed=seed
        )
        say(card.to_dict(), _text(card, out))


def _text(card: Scorecard, out: Path) -> str:
    return f"{card.summary()}\n\npage: {out}"
