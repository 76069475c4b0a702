"""`kwela train`: settings, manifests (or the smoke set) and a family's task, given to the engine."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kwela import families
from kwela.cli import prepare
from kwela.cli.output import Json, first_rank, speaking
from kwela.errors import UserError

if TYPE_CHECKING:
    from kwela.engine.resume import Resume
    from kwela.engine.session import Outcome, Session

ESTIMATE_STEPS = 20
Say = Callable[[dict[str, Any], str], None]

Word = Annotated[str, typer.Argument(help=", ".join(family.command for family in families.registered()))]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML or JSON; default: the shipped one.")]
Preset = Annotated[
    str | None, typer.Option(help="demo: minutes on 2 cores; full: as shipped; tiny: for tests.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="a.b=value, over everything else.")]
ResumeFrom = Annotated[str, typer.Option(help="'auto' or a checkpoint.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew; an old folder is renamed.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Short for --set training.epochs=N.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best there is.")]
Out = Annotated[Path | None, typer.Option(help="Checkpoint folder; default: checkpoints/<family>.")]
Estimate = Annotated[bool, typer.Option("--estimate", help="20 steps, then hours and dollars.")]
Price = Annotated[float, typer.Option(min=0, help="Price for --estimate.")]
Check = Annotated[bool, typer.Option("--check", help="musicgen: look at model, device and data, and stop.")]
Ledger = Annotated[Path | None, typer.Option(help="musicgen: a campaign's, kept in each checkpoint.")]
Workers = Annotated[int | None, typer.Option(min=1, help="musicgen: processes that fill the cache.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("train", short_help="Train a model family; stops and resumes exactly.")(train)


def train(
    family: Word,
    config: ConfigFile = None,
    preset: Preset = None,
    overrides: Overrides = None,
    resume: ResumeFrom = "auto",
    fresh: Fresh = False,
    epochs: Epochs = None,
    device: Device = None,
    out: Out = None,
    estimate: Estimate = False,
    dollars_per_hour: Price = 0.75,
    check: Check = False,
    ledger: Ledger = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train a model family.

    Without --config, the shipped YAML is used; without manifests, a small synthetic set, with a warning.
    Run the same command again after an interruption (exit status 75): it goes on exactly where it was.

    \b
    kwela train spectocloud
    kwela train midi --epochs 20 --set data.batch_size=16 --set training.grad_accum_steps=4
    torchrun --nproc_per_node=4 -m kwela train midi
    kwela train musicgen --check
    kwela train musicgen --preset tiny --epochs 2
    """
    chosen = families.by_command(family)
    if resume != "auto" and (fresh or estimate):
        raise UserError(
            f"kwela train: --resume {resume} with {'--fresh' if fresh else '--estimate'}: choose one"
        )
    if chosen.name != "musicgen" and (check or ledger or workers):
        raise UserError(f"kwela train {family}: --check, --ledger and --workers are for musicgen")
    request = prepare.TrainingRequest(chosen, config, preset, overrides or [], epochs, device, out)
    with speaking(as_json, aloud=first_rank()) as say:
        if check:
            from kwela.cli import musicgen

            raise typer.Exit(0 if musicgen.check(request, workers) else 1)
        ready = _prepare(request, workers, ledger)
        session = _session(ready, device, resume, afresh=fresh or estimate)
        if estimate:
            _estimate(ready, session, dollars_per_hour, say)
        else:
            _fit(ready, session, say)


def _prepare(
    request: prepare.TrainingRequest, workers: int | None, ledger: Path | None
) -> prepare.PreparedTraining:
    """MusicGen reads the playbook's config and a campaign's ledger; every other family is prepared alike."""
    if request.family.name != "musicgen":
        return prepare.prepare(request)
    from kwela.cli import musicgen

    return musicgen.prepare(request, workers, ledger)


def _session(ready: prepare.PreparedTraining, device: str | None, resume: str, *, afresh: bool) -> Session:
    from kwela.engine.session import Session

    start: Resume = None if afresh else "auto" if resume == "auto" else Path(resume).resolve()
    return Session(ready.data_hash, ready.tokenizer_hash, resume=start, device=device)


def _estimate(ready: prepare.PreparedTraining, session: Session, dollars_per_hour: float, say: Say) -> None:
    """Train ESTIMATE_STEPS in a temporary folder, and say how long the whole takes and what it costs."""
    from kwela.engine import loop

    training = ready.settings.training
    epochs, max_steps = training.epochs, training.max_steps or sys.maxsize
    training.epochs = training.max_steps = ESTIMATE_STEPS
    training.save_every = ESTIMATE_STEPS + 1  # no previews
    with tempfile.TemporaryDirectory() as scratch:
        # Quiet: its lines would name checkpoints that are gone when it ends.
        outcome = loop.fit(
            ready.task, ready.settings, Path(scratch) / ready.folder.name, replace(session, quiet=True)
        )
    steps = min(epochs * outcome.steps_per_epoch, max_steps)
    hours = outcome.seconds_per_step * steps / 3600
    dollars = hours * dollars_per_hour
    say(
        {"hours": hours, "dollars": dollars, "steps": steps},
        f"{steps:,} steps ({epochs} epochs of {outcome.steps_per_epoch}): about {hours:.3g} h, "
        f"${dollars:.2f} at ${dollars_per_hour:.2f}/h (early stopping may end it sooner)",
    )


def _fit(ready: prepare.PreparedTraining, session: Session, say: Say) -> None:
    """Train, and say the best figure and where it was reached."""
    from kwela.engine import journal, loop

    session = replace(session, runs_dir=ready.runs_dir, **ready.session)
    outcome = loop.fit(ready.task, ready.settings, ready.folder, session)
    if first_rank():
        ready.finish()
    figure = "validation loss" if outcome.monitor == "val_loss" else outcome.monitor
    say(
        _figures(outcome),
        f"Best {figure}: {journal.format_figure(outcome.best)} "
        f"(step {outcome.best_step:,}, epoch {outcome.best_epoch})",
    )


def _figures(outcome: Outcome) -> dict[str, Any]:
    return {
        "step": outcome.step,
        "epoch": outcome.epoch,
        "monitor": outcome.monitor,
        "best": _json(outcome.best),
        "best_step": outcome.best_step,
        "best_epoch": outcome.best_epoch,
        "val": {name: _json(value) for name, value in outcome.val.items()},
    }


def _json(value: float) -> float | None:
    """JSON has no NaN, so a figure over nothing (no drums in these songs) is null."""
    return value if math.isfinite(value) else None
