"""How a session of a run begins: its checkpoint, its data, its number of steps and its folder."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kwela import files
from kwela.config import TrainConfig
from kwela.engine import checkpoint, resume
from kwela.engine.journal import Journal, changed_settings, cut_metrics
from kwela.engine.ranks import Ranks
from kwela.engine.session import Session
from kwela.engine.task import Items, Task
from kwela.errors import UserError

Say = Callable[[str], None]


@dataclass(frozen=True)
class StepPlan:
    """The steps of a run.

    accumulation: micro-batches that a rank takes in one step. global_batch: items in one step, over all
    ranks.
    """

    accumulation: int
    global_batch: int
    steps_per_epoch: int
    total_steps: int


def identify(family: str, session: Session, settings: dict[str, Any], model: nn.Module) -> resume.RunIdentity:
    """Return what a checkpoint must share with this run to be resumed by it."""
    weights = resume.weight_shapes(model.state_dict())
    return resume.RunIdentity(
        family, session.tokenizer_hash, session.data_hash, settings.get("model"), settings["seed"], weights
    )


def choose_start(
    out: Path, session: Session, config: TrainConfig, identity: resume.RunIdentity, team: Ranks, say: Say
) -> resume.Start:
    """Choose on the first rank what all ranks start from. Raises UserError as `resume.choose`.

    A folder that holds a campaign's ledger (session.keeps_folder) is never set aside for a new run: that is a
    UserError too.
    """
    resume_from = config.training.resume_from
    start = team.from_first(lambda: resume.choose(out, session.resume, resume_from, identity, say))
    if start.afresh and session.keeps_folder and any(out.glob("*.pt")):
        why = start.why or "another run goes on here"
        raise UserError(
            f"{out}: {why}, and this folder has a campaign's ledger, so it isn't set aside: go on with "
            f"what the campaign began with, take another folder (checkpoint_dir), or move its *.pt away to "
            f"begin at step 0"
        )
    return start


def load_data(task: Task, config: TrainConfig) -> tuple[Items, Items]:
    """Return the training and the validation items. Raises UserError where a side has none."""
    train, held_out = task.datasets()
    for items, manifest in ((train, config.data.train_manifest), (held_out, config.data.val_manifest)):
        if len(items) == 0:
            raise UserError(f"{manifest}: no rows to use")
    return train, held_out


def plan_steps(config: TrainConfig, state: dict[str, Any] | None, ranks: int, item_count: int) -> StepPlan:
    """Count the steps of a run over `item_count` items. Raises UserError as `resume.accumulation`.

    state: of the checkpoint that is resumed, or None.
    """
    training = config.training
    accumulation = resume.accumulation(config, state, ranks)
    global_batch = config.data.batch_size * ranks * accumulation
    steps_per_epoch = math.ceil(item_count / global_batch)
    total_steps = min(training.epochs * steps_per_epoch, training.max_steps or 2**62)
    return StepPlan(accumulation, global_batch, steps_per_epoch, total_steps)


def open_folder(
    out: Path, start: resume.Start, step: int, keep_validation: bool, journal: Journal, runs_dir: Path | None
) -> None:
    """Make last.pt the chosen checkpoint, cut metrics.jsonl back to `step`, and open the journal.

    keep_validation: whether the validation at `step` is part of the state. Raises UserError or KwelaError
    where the folder can't be written.
    """
    try:
        if journal.first:
            if start.afresh:
                resume.set_aside(out, runs_dir, journal.say)
            out.mkdir(parents=True, exist_ok=True)
            checkpoint.prune(out)
            last = out / checkpoint.LAST
            if start.path and start.path.resolve() != last.resolve():
                checkpoint.copy(start.path, last)  # a kill before the next save resumes from this copy
            cut_metrics(out / "metrics.jsonl", step if start.path else -1, keep_validation)
        journal.open(out, runs_dir, step + 1 if start.path else 0)
    except OSError as error:
        raise files.write_error(Path(error.filename or out), error) from None


def say_resumed(path: Path, step: int, state: dict[str, Any], settings: dict[str, Any], say: Say) -> None:
    """Print which checkpoint is resumed, and the settings that changed since it was saved."""
    say(f"Resuming from {path} at step {step}")
    if changed := changed_settings(state["config"], settings):
        say("Changed since: " + resume.describe_changes(changed))


def say_notes(dtype_note: str | None, ranks: int, say: Say) -> None:
    """Print what the user should know of the precision and of torchrun."""
    if dtype_note:
        say(dtype_note)
    if ranks > 1 and "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in os.environ:
        hint = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300 gives a slow save time"
        say(f"torchrun kills its ranks 30 s after SIGTERM: {hint}")
