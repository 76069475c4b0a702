"""`kwela dataset`: a training set out of a large tagged collection."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kwela import terminal
from kwela.cli.corpus import GROUP_BY
from kwela.cli.output import Json, speaking
from kwela.errors import UserError

if TYPE_CHECKING:
    from kwela.corpus.tagged.dataset import Choice

dataset_app = typer.Typer(
    help="Training sets out of tagged audio.", no_args_is_help=True, rich_markup_mode=None
)

Datasets = Annotated[Path | None, typer.Option(help="Over the config's dataset_dir.")]
MinTags = Annotated[int, typer.Option(min=0, help="Groups of tags that a clip must have; 0: take any.")]
Limit = Annotated[int, typer.Option(min=1, help="Clips at most.")]
Config = Annotated[Path | None, typer.Option(help="JSON; default: ai-service/config.json.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: the cores.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the split.")]
GroupBy = Annotated[str | None, typer.Option(help=GROUP_BY)]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(dataset_app, name="dataset")


@dataset_app.command("magnatagatune")
def magnatagatune(
    datasets: Datasets = None,
    min_tags: MinTags = 3,
    limit: Limit = 8000,
    config: Config = None,
    seed: Seed = 42,
    group_by: GroupBy = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Choose MagnaTagATune's clips with the tags nearest to the config's groups: DATASETS/amapiano_proxy.

    Reads DATASETS/magnatagatune: mp3.zip.001 to .003, mp3.zip or mp3/, and annotations_final.csv. Run it
    again after an interruption: what was copied stays.

    \b
    kwela dataset magnatagatune
    kwela dataset magnatagatune --datasets /data --min-tags 2 --limit 4000
    """
    from kwela.corpus.tagged import dataset
    from kwela.corpus.tagged import magnatagatune as mtt
    from kwela.corpus.tagged.source import Source

    place, choice = _choice(config, datasets, min_tags, limit, seed)
    folder = place / "magnatagatune"
    with speaking(as_json) as say:
        source = Source.of(folder)
        missing = mtt.missing(folder, source.has_audio())
        if missing:
            raise UserError(missing)
        clips, tags = mtt.read(folder, choice.tags)
        out = place / "amapiano_proxy"
        report = dataset.build(clips, tags, source, out, choice, rule=group_by, workers=workers)
        if as_json:
            say(report, "")


@dataset_app.command("folder")
def folder(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO_FOLDER")],
    tags: Annotated[
        Path | None, typer.Option(help="CSV: file, tag, tag...; default: the names of folders.")
    ] = None,
    datasets: Datasets = None,
    min_tags: MinTags = 1,
    limit: Limit = 8000,
    config: Config = None,
    seed: Seed = 42,
    group_by: GroupBy = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Make the same out of any folder of audio, tagged by a CSV or by the names of its folders.

    \b
    kwela dataset folder ~/music --tags tags.csv --min-tags 2
    kwela dataset folder data/demo/audio --min-tags 0
    kwela dataset folder loops --min-tags 0 --group-by folder
    """
    from kwela.corpus.tagged import dataset
    from kwela.corpus.tagged import folder as tagged
    from kwela.corpus.tagged.source import Source

    place, choice = _choice(config, datasets, min_tags, limit, seed)
    with speaking(as_json) as say:
        root = Path(os.path.abspath(audio))  # noqa: PTH100 - keeps links, and takes ".." away
        out = place / "amapiano_proxy"
        found = tagged.look(root, tags, need_tags=min_tags > 0, made=out)
        for line in found.lines():
            terminal.say(line)
        report = dataset.build(
            *found.annotations,
            Source((root,)),
            out,
            choice,
            collection=root.name,
            rule=group_by,
            more=found.report(),
            workers=workers,
        )
        if as_json:
            say(report, "")


def _choice(
    config: Path | None, datasets: Path | None, min_tags: int, limit: int, seed: int
) -> tuple[Path, Choice]:
    """Return the folder of data sets, and what to choose."""
    from kwela import playbook
    from kwela.corpus.tagged.dataset import Choice

    settings = playbook.load(config)
    choice = Choice(
        groups=settings.proxy_groups,
        negatives=settings.negative_tags,
        weights=settings.tag_weights,
        at_least=min_tags,
        limit=limit,
        per_artist=settings.max_clips_per_artist,
        seed=seed,
    )
    return (datasets or settings.dataset_dir).absolute(), choice
