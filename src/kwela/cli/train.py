"""`kwela train`: settings, manifests (or the smoke set) and a family's task, handed to the engine."""

from __future__ import annotations

import math
import sys
import tempfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kwela.cli.output import Json, first_rank, speaking
from kwela.errors import UserError

if TYPE_CHECKING:
    from kwela.config import TrainConfig
    from kwela.engine.resume import Resume
    from kwela.engine.task import Task


class Family(StrEnum):
    spectocloud = "spectocloud"
    midi = "midi"
    musicgen = "musicgen"


class Preset(StrEnum):
    demo = "demo"
    full = "full"
    tiny = "tiny"


FOLDERS = {"spectocloud": "spectocloud", "midi": "midi_generator"}
SMOKE_EPOCHS = 5
ESTIMATE_STEPS = 20


def register(app: typer.Typer) -> None:
    app.command("train", short_help="Train a model family; stops and resumes exactly.")(train)


def train(
    family: Family,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON; default: the shipped one.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="demo: minutes on 2 cores; tiny: for tests.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=value, over everything else.")
    ] = None,
    resume: Annotated[str, typer.Option(help="'auto' or a checkpoint.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; an old folder is renamed.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Short for --set training.epochs=N.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best there is.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; default: checkpoints/<family>.")
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="20 steps, then hours and dollars.")] = False,
    dollars_per_hour: Annotated[float, typer.Option(min=0, help="Price for --estimate.")] = 0.75,
    check: Annotated[
        bool, typer.Option("--check", help="musicgen: look at model, device and data, and stop.")
    ] = False,
    ledger: Annotated[
        Path | None, typer.Option(help="musicgen: a campaign's, kept in each checkpoint.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="musicgen: processes that fill the cache.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model family.

    Without --config the shipped YAML is used. Without manifests a small synthetic set stands in, loudly.
    Run the same command again after an interruption (exit status 75): it goes on exactly where it was.

    \b
    kwela train spectocloud
    kwela train midi --epochs 20 --set data.batch_size=16 --set training.grad_accum_steps=4
    torchrun --nproc_per_node=4 -m kwela train midi
    kwela train musicgen --check
    kwela train musicgen --preset tiny --epochs 2
    """
    from kwela import config as settings
    from kwela.corpus.pairs import rows
    from kwela.engine import journal, loop
    from kwela.engine.session import Session
    from kwela.music import tokens

    if resume != "auto" and (fresh or estimate):
        raise UserError(
            f"kwela train: --resume {resume} with {'--fresh' if fresh else '--estimate'}: choose one"
        )
    if family != Family.musicgen and (check or ledger or workers):
        raise UserError(f"kwela train {family}: --check, --ledger and --workers are for musicgen")
    with speaking(as_json, aloud=first_rank()) as say:
        root = settings.repo_root()
        go_on: Resume = None if fresh or estimate else "auto" if resume == "auto" else Path(resume).resolve()
        hooks: dict[str, Any] = {}
        if family == Family.musicgen:
            from kwela.cli import musicgen

            tuned, own, beside = musicgen.settings(config, preset, overrides or [])
            tuned.training.epochs = epochs or tuned.training.epochs
            tuning = musicgen.task(tuned, workers, device)
            if check:
                raise typer.Exit(0 if musicgen.check(tuning, own, device) else 1)
            task: Task = tuning
            chosen: TrainConfig = tuned
            folder, runs = out or own.checkpoint_dir, own.tensorboard_dir
            if folder != own.checkpoint_dir:  # a rehearsal, or a run beside the campaign
                runs = runs.with_name(folder.name)
            tokenizer_hash = tuning.fingerprint
            data_hash = rows.data_hash([chosen.data.train_manifest])
            hooks = musicgen.hooks(ledger, beside, folder)
        else:
            chosen = settings.load(family, config, preset=preset, overrides=overrides or [])
            smoke = _stand_in(chosen, family, demo=preset == Preset.demo)
            if epochs is not None:
                chosen.training.epochs = epochs
            elif smoke:
                chosen.training.epochs = _smoke_epochs(family, config, preset, overrides or [])
            task = _task(chosen)
            folder = out or root / "checkpoints" / FOLDERS[family]
            runs = root / "runs" / folder.resolve().name
            tokenizer_hash = tokens.tokenizer_hash() if family == Family.midi else ""
            data_hash = rows.data_hash([chosen.data.train_manifest, chosen.data.val_manifest])

        session = Session(data_hash, tokenizer_hash, resume=go_on, device=device)

        if estimate:
            wanted, most = chosen.training.epochs, chosen.training.max_steps
            chosen.training.epochs = chosen.training.max_steps = ESTIMATE_STEPS
            chosen.training.save_every = ESTIMATE_STEPS + 1  # no previews
            with tempfile.TemporaryDirectory() as scratch:
                # Its lines would speak of checkpoints that are gone when it ends.
                outcome = loop.fit(task, chosen, Path(scratch) / family, replace(session, quiet=True))
            steps = min(wanted * outcome.steps_per_epoch, most or sys.maxsize)
            hours = outcome.seconds_per_step * steps / 3600
            dollars = hours * dollars_per_hour
            say(
                {"hours": hours, "dollars": dollars, "steps": steps},
                f"{steps:,} steps ({wanted} epochs of {outcome.steps_per_epoch}): about {hours:.3g} h, "
                f"${dollars:.2f} at ${dollars_per_hour:.2f}/h (early stopping may end it sooner)",
            )
            return
        outcome = loop.fit(task, chosen, folder, replace(session, runs_dir=runs, **hooks))
        if family == Family.musicgen and first_rank():
            musicgen.finish(folder, tuning)
        what = "validation loss" if outcome.monitor == "val_loss" else outcome.monitor
        say(
            {
                "step": outcome.step,
                "epoch": outcome.epoch,
                "monitor": outcome.monitor,
                "best": _json(outcome.best),
                "best_step": outcome.best_step,
                "best_epoch": outcome.best_epoch,
                "val": {name: _json(value) for name, value in outcome.val.items()},
            },
            f"Best {what}: {journal.format_figure(outcome.best)} (step {outcome.best_step:,}, epoch {outcome.best_epoch})",
        )


def _json(value: float) -> float | None:
    """JSON has no NaN: a figure over nothing (no drums in these songs) is null."""
    return value if math.isfinite(value) else None


def _task(chosen: TrainConfig) -> Task:
    from kwela.config import MidiConfig, SpectocloudConfig

    if isinstance(chosen, SpectocloudConfig):
        from kwela.spectocloud.task import SpectocloudTask

        return SpectocloudTask(chosen)
    assert isinstance(chosen, MidiConfig)
    from kwela.midi_generator.task import MidiTask

    return MidiTask(chosen)


def _smoke_epochs(family: str, config: Path | None, preset: str | None, overrides: list[str]) -> int:
    """SMOKE_EPOCHS, unless a config, the preset or --set names a number of epochs.

    The shipped YAML spells out the defaults: what it says is nobody's choice, whether it was asked for or not.
    """
    from kwela import config as settings
    from kwela.presets import PRESETS

    named = preset is not None and "epochs" in PRESETS[family][preset].get("training", {})
    if config is not None:
        shipped = settings.SHIPPED[family]
        own = settings.find(config, shipped).resolve() != (settings.repo_root() / shipped).resolve()
        named = named or (own and "epochs" in settings.load(family, config).training.model_fields_set)
    under = [] if named else [f"training.epochs={SMOKE_EPOCHS}"]
    return settings.load(family, config, preset=preset, overrides=[*under, *overrides]).training.epochs


def _stand_in(chosen: TrainConfig, family: str, *, demo: bool) -> bool:
    """Point `chosen` at the synthetic smoke set if its manifests are missing at their default paths.

    The demo's manifests stand at those paths too: only the demo preset sees them.
    Raises UserError for a missing manifest that the user named.
    """
    from kwela import config as settings
    from kwela.cli.corpus import smoke_set
    from kwela.corpus.pairs import manifest

    root = settings.repo_root()
    default = settings.SCHEMAS[family]().data
    paths = [chosen.data.train_manifest, chosen.data.val_manifest]
    if paths != [root / default.train_manifest, root / default.val_manifest]:
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path}: no such manifest (kwela manifests writes it)")
        return False
    missing = [path for path in paths if not path.is_file()]
    if not missing and (demo or not manifest.is_demo(paths[0].parent)):
        return False
    if first_rank():
        print(f"WARNING: Manifest not found: {(missing or paths)[0].relative_to(root)}", flush=True)
        print("WARNING: Generating synthetic training data for smoke testing only!", flush=True)
    folder = smoke_set(root / "data" / "smoke")
    chosen.data.train_manifest = folder / default.train_manifest.name
    chosen.data.val_manifest = folder / default.val_manifest.name
    return True
