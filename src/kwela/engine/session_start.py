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
from kwela.engine import checkpoint, data_rows, precision, resume
from kwela.engine.journal import Journal, changed_settings, cut_metrics
from kwela.engine.learner import Learner
from kwela.engine.ranks import Ranks
from kwela.engine.session import Session
from kwela.engine.stopping import Progress
from kwela.engine.task import Items, RowTask, Task
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


@dataclass(frozen=True)
class RunData:
    """The data of a run: its training and validation items, and its rows.

    before: the rows as the checkpoint that is resumed has them; None for a new run.
    """

    train: Items
    held_out: Items
    rows: data_rows.DataRows
    before: data_rows.DataRows | None = None


def choose_start(
    out: Path,
    session: Session,
    config: TrainConfig,
    identity: resume.RunIdentity,
    task: Task,
    team: Ranks,
    say: Say,
) -> resume.Start:
    """Choose on the first rank what all ranks start from. Raises UserError as `resume.choose`.

    A folder that holds a campaign's ledger (session.keeps_folder) is never set aside for a new run: that is a
    UserError too.
    """
    resume_from = config.training.resume_from

    def data_difference(state: dict[str, Any]) -> str | None:
        try:
            return data_rows.difference(state, task)
        except ValueError as error:
            return str(error)

    start = team.from_first(
        lambda: resume.choose(out, session.resume, resume_from, identity, data_difference, say)
    )
    if start.afresh and session.keeps_folder and any(out.glob("*.pt")):
        why = start.why or "another run goes on here"
        raise UserError(
            f"{out}: {why}, and this folder has a campaign's ledger, so it isn't set aside: go on with "
            f"what the campaign began with, take another folder (checkpoint_dir), or move its *.pt away to "
            f"begin at step 0"
        )
    return start


def load_data(
    task: Task, config: TrainConfig, path: Path | None, state: dict[str, Any] | None, team: Ranks
) -> RunData:
    """Return the data of a run. Raises UserError where a side has none, or where a row can't be read.

    path, state: of the checkpoint that is resumed, or None. A resumed run leaves out the rows that can't be
    read any more.
    """
    try:
        before = data_rows.DataRows.of(state) if state else None
    except ValueError as error:
        raise UserError(f"{path}: can't resume from it: {error}") from None
    if state and before and before.sides and isinstance(task, RowTask):
        data = _remaining_data(task, config, state, before, team)
    else:
        train, held_out = task.datasets()
        data = RunData(train, held_out, data_rows.DataRows.begin(task))
    manifests = config.data.train_manifest, config.data.val_manifest
    for items, manifest in zip((data.train, data.held_out), manifests, strict=True):
        if len(items) == 0:
            raise UserError(f"{manifest}: no rows to use")
    return data


def _remaining_data(
    task: Any, config: TrainConfig, state: dict[str, Any], before: data_rows.DataRows, team: Ranks
) -> RunData:
    """Return the data of a resumed run, on every rank as the first one finds them."""
    step = state["progress"]["step"]
    task.read_rows()  # on every rank: one of them may fill a cache that the others wait for
    rows = team.from_first(lambda: data_rows.resumed(state, task, step))
    task.leave_out(data_rows.excluded(rows, task))
    train, held_out = task.datasets()

    def retry() -> data_rows.DataRows | None:
        return rows if data_rows.retry_failed(rows, (train, held_out), config.seed, step) else None

    if found := team.from_first(retry):
        rows = found
        task.leave_out(data_rows.excluded(rows, task))
        train, held_out = task.datasets()
    train.numbers, held_out.numbers = rows.numbers(0), rows.numbers(1)
    return RunData(train, held_out, rows, before)


def set_precision(learner: Learner, state: dict[str, Any] | None, team: Ranks) -> str | None:
    """Choose on the first rank which precision all ranks train in. Return what to print of it, or None.

    state: of the checkpoint that is resumed, or None.
    """
    training = learner.config.training

    def choose() -> precision.Choice:
        new = precision.choose(training, team.device)
        return precision.resumed(new, training, team.device, state) if state else new

    dtype, note = team.from_first(choose)
    learner.set_precision(dtype)
    return note


def first_progress(data: RunData, seed: int, saved: dict[str, int]) -> Progress:
    """Return where a resumed run stands, whose checkpoint holds the progress `saved`.

    Raises ValueError for a progress that its data can't have.
    """
    progress = Progress(**saved)
    if data.before:
        progress.samples = data.rows.samples_after(data.before, seed, progress.epoch + 1, progress.samples)
    if progress.samples > len(data.train):
        raise ValueError(f"{progress.samples} samples of an epoch of {len(data.train)}")
    return progress


def plan_steps(
    config: TrainConfig, state: dict[str, Any] | None, ranks: int, item_count: int, progress: Progress
) -> StepPlan:
    """Count the steps of a run over `item_count` items. Raises UserError as `resume.accumulation`.

    state: of the checkpoint that is resumed, or None. progress: where the run stands.
    """
    training = config.training
    accumulation = resume.accumulation(config, state, ranks)
    global_batch = config.data.batch_size * ranks * accumulation
    steps_per_epoch = math.ceil(item_count / global_batch)
    # Counted from here on: where rows were left out, the epochs before had more steps.
    rest_of_epoch = math.ceil((item_count - progress.samples) / global_batch)
    later_epochs = training.epochs - progress.epoch - 1
    total_steps = progress.step + rest_of_epoch + later_epochs * steps_per_epoch
    return StepPlan(
        accumulation, global_batch, steps_per_epoch, min(total_steps, training.max_steps or 2**62)
    )


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


def say_resumed(path: Path, state: dict[str, Any], settings: dict[str, Any], data: RunData, say: Say) -> None:
    """Print which checkpoint is resumed, and what changed since: settings, rows that are left out."""
    say(f"Resuming from {path} at step {state['progress']['step']}")
    if changed := changed_settings(state["config"], settings):
        say("Changed since: " + resume.describe_changes(changed))
    if data.before:
        for line in data_rows.describe(data.before, data.rows):
            say(line)


def say_notes(dtype_note: str | None, ranks: int, say: Say) -> None:
    """Print what the user should know of the precision and of torchrun."""
    if dtype_note:
        say(dtype_note)
    if ranks > 1 and "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in os.environ:
        hint = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300 gives a slow save time"
        say(f"torchrun kills its ranks 30 s after SIGTERM: {hint}")
