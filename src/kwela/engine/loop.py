"""The one training loop, which every model family uses.

- A run is a function of its data, settings and seed. A run that was killed at any moment and started again
  ends with the same bits: random draws are functions (order.py), a checkpoint is saved only between optimiser
  steps, and it holds everything that a step changes.
- The host never waits for the device inside a step. Figures are fetched when they are logged, saved or
  evaluated.
- A step whose loss or gradient is not finite ends the run before its weights reach a checkpoint.
- Every epoch ends with a validation; `eval_every_steps` adds more. A run that was killed before a validation
  that was due starts with that validation when it is resumed.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kwela import files
from kwela.config import TrainConfig
from kwela.engine import checkpoint, failures, journal, optim, order, preview, ranks, session_start, signals
from kwela.engine.learner import Learner
from kwela.engine.log_window import LogWindow
from kwela.engine.row_faults import RowFailed
from kwela.engine.session import Extra, Outcome, Session
from kwela.engine.stopping import Progress, Stopping, reason_to_end
from kwela.engine.task import Task
from kwela.errors import Interrupted, KwelaError, UserError

State = dict[str, Any]  # what a checkpoint holds


def fit(task: Task, config: TrainConfig, out: Path, session: Session) -> Outcome:
    """Train `task` in the checkpoint folder `out`, from its last checkpoint or from the start.

    Under torchrun every rank calls this alike, and all ranks see `out`. Raises UserError for bad data or a
    checkpoint that can't be resumed, Interrupted after SIGTERM, SIGINT or SIGHUP (last.pt is saved), and
    KwelaError for a figure that is not finite, too little memory, a full disk, or a worker or rank that died.
    status.json names the same reason.
    """
    with (
        ranks.joined(session.device) as team,
        signals.watch_signals() as stop_request,
        optim.deterministic_algorithms(config.deterministic),
    ):
        try:
            run = Run(task, config, out, session, team, stop_request)
        except KwelaError:
            raise
        except Exception as error:  # the model may not fit in memory
            if known := failures.known(error, config, config.training.grad_accum_steps, None):
                raise known from error
            raise
        return run.go()


class Run:
    """One session of a run, from the choice of its checkpoint to its last line."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        out: Path,
        session: Session,
        team: ranks.Ranks,
        stop_request: signals.StopRequest,
    ) -> None:
        self.task, self.config, self.out, self.session = task, config, out, session
        self.team, self.stop_request = team, stop_request
        self.extra = Extra()
        self.settings = config.model_dump(mode="json")
        self.learner = Learner(task, config, team)
        self.identity = session_start.identify(task.name, session, self.settings, self.learner.model)
        self.journal = journal.Journal(team.first, session.quiet, session.log)
        say = self.journal.say
        start = session_start.choose_start(out, session, config, self.identity, task, team, say)
        state = checkpoint.load(start.path) if start.path else None
        self.data = session_start.load_data(task, config, start.path, state, team)
        self.train, self.held_out = self.data.train, self.data.held_out
        dtype_note = session_start.set_precision(self.learner, state, team)
        self._clear_figures()
        if start.path and state:
            self._restore_or_refuse(start.path, state)
        self.plan = session_start.plan_steps(config, state, team.size, len(self.train), self.progress)
        if start.path and session.on_resume:
            session.on_resume(self.extra)
        keep_validation = self.stopping.evaluated == self.progress.step
        session_start.open_folder(
            out, start, self.progress.step, keep_validation, self.journal, session.runs_dir
        )
        self.facts = journal.run_facts(
            self.settings, session.data_hash, session.tokenizer_hash, team, self.plan.accumulation, state
        )
        if start.path and state and not self._reason_to_end():
            session_start.say_resumed(start.path, state, self.settings, self.data, say)
        session_start.say_notes(dtype_note, team.size, say)

    def _clear_figures(self) -> None:
        self.progress, self.stopping = Progress(), Stopping()
        self.log_window = LogWindow(self.learner, str(self.config.data.train_manifest))
        self.val: dict[str, float] = {}
        self.untrained_loss: float | None = None  # before the first step, where evaluate_first asks for it
        self.last_loss: float | None = None
        self.baselines: dict[str, float] = {}
        self.session_began, self.seconds_before = time.monotonic(), 0.0
        self.step_seconds, self.timed_steps = 0.0, 0  # without the session's first step, which may compile
        self.compiled = False

    def _restore_or_refuse(self, path: Path, state: State) -> None:
        try:
            self._restore(state)
        except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            if failures.known(error, self.config, 1, None):  # out of memory
                raise
            # checkpoint.load checked the outer shape; a fault deeper in the state shows only here.
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{path}: can't resume from it: {type(error).__name__}: {reason}") from error

    def _restore(self, state: State) -> None:
        self.learner.load(state)
        self.progress = session_start.first_progress(self.data, self.config.seed, state["progress"])
        self.stopping = Stopping(**state["stopping"])
        early = self.config.training.early_stopping
        if state["config"]["training"]["early_stopping"]["monitor"] != early.monitor:
            # The best value of another figure says nothing about this one.
            self.stopping = Stopping(evaluated=self.stopping.evaluated)
        self.extra = state["extra"]
        meta = state["meta"]
        self.val = {name: float(value) for name, value in meta["val"].items()}
        self.untrained_loss = meta.get("untrained")
        self.log_window.sums = [[float(total), float(weight)] for total, weight in meta["window"]]
        self.seconds_before = meta["seconds"]

    def go(self) -> Outcome:
        """Train to the end, or return at once if the run has ended before. Raises as `fit`."""
        try:
            if self._preview_missing():
                self._draw_preview()  # a kill came between the save and the preview
            if self._reason_to_end():
                self.journal.say(f"Already finished at step {self.progress.step}")
            else:
                self._train()
            self._write_status("finished", 0, self._reason_to_end() or "")
        except RowFailed as failure:
            raise self._stop_at(failure) from failure
        except KwelaError as error:
            state = "interrupted" if isinstance(error, Interrupted) else "failed"
            self._write_status(state, error.status, str(error))
            raise
        except Exception as error:
            known = failures.known(error, self.config, self.plan.accumulation, self.progress.step)
            self._write_status("failed", 1, str(known or f"{type(error).__name__}: {error}"))
            if known:
                raise known from error
            raise
        finally:
            self.journal.close()
            self.learner.close()
        return self._outcome()

    def _outcome(self) -> Outcome:
        return Outcome(
            step=self.progress.step,
            epoch=self.progress.epoch,
            best=math.nan if self.stopping.best is None else self.stopping.best,
            val=self.val,
            steps_per_epoch=self.plan.steps_per_epoch,
            seconds_per_step=self.step_seconds / self.timed_steps if self.timed_steps else math.nan,
            best_step=self.stopping.best_step,
            best_epoch=self.stopping.best_epoch,
            monitor=self.config.training.early_stopping.monitor,
        )

    def _train(self) -> None:
        self._write_status("running", None, "training")
        self.baselines = self.team.together(lambda: self.task.baselines() if self.team.first else {})
        self.journal.baselines(self.baselines, self.progress.step)
        pin = self.team.device.type == "cuda"
        data, seed = self.config.data, self.config.seed
        feed = order.Feed(self.task, self.train, data, seed, pin, keep_workers=True)
        val_feed = order.Feed(self.task, self.held_out, data, seed, pin, keep_workers=False)
        with contextlib.closing(feed), contextlib.closing(val_feed):
            self.stop_request.deferred = True
            if self.config.training.evaluate_first:
                self._evaluate_untrained(val_feed)
            while not self._reason_to_end():
                self._train_until_validation(feed)
                self._finish_validation(self._evaluate(val_feed))
        self.journal.say("Training complete!")
        best = self.out / checkpoint.BEST
        if self.session.on_best and self.team.first:
            best = self.session.on_best(best)  # once more: a kill may have come between the save and the call
        self.journal.say(f"Best model saved: {files.display_path(best)}")
        self.journal.say(f"Final validation loss: {journal.format_figure(self.val['val_loss'])}")

    def _evaluate_untrained(self, feed: order.Feed) -> None:
        """Validate before the first step. Every later validation is logged beside that loss."""
        if self.progress.step == 0:
            val = self._evaluate(feed)
            self.untrained_loss = val["val_loss"]
            self.journal.validation(0, 1, self.config.training.epochs, None, val, self.baselines)
        if self.untrained_loss is not None:
            self.baselines = {"base_loss": self.untrained_loss, **self.baselines}
            self.journal.baselines({"base_loss": self.untrained_loss}, self.progress.step)

    def _train_until_validation(self, feed: order.Feed) -> None:
        """Take the steps up to the next validation; none, where a validation is due at once."""
        training, progress, item_count = self.config.training, self.progress, len(self.train)
        total_steps = self.plan.total_steps
        epoch = progress.epoch + 1
        permutation = self.data.rows.order_of_epoch(self.config.seed, epoch, item_count)
        step_count = self._next_validation() - progress.step
        starts = range(progress.samples, item_count, self.plan.global_batch)[:step_count]
        step_items = [permutation[start : start + self.plan.global_batch] for start in starts]
        step_batches = [self._micro_batches(items, epoch) for items in step_items]
        batches = feed([micro_batch for micro_batches in step_batches for micro_batch in micro_batches])
        steps_done = progress.samples // self.plan.global_batch
        self.journal.begin(f"Epoch {epoch}/{training.epochs}", self.plan.steps_per_epoch, steps_done)
        self.log_window.restart_clock()
        clock_start, timed_steps = time.monotonic(), len(step_items)
        for items, micro_batches in zip(step_items, step_batches, strict=True):
            lr = optim.rate(progress.step + 1, total_steps, self.config.optim.lr, self.config.scheduler)
            own_batches = self.team.take(batches, len(micro_batches))
            sums, norm = self.learner.step(own_batches, micro_batches, progress.step + 1, lr)
            progress.step += 1
            progress.samples += len(items)
            self.log_window.add(progress.step, epoch, items, sums, norm)
            self._after_step(epoch, lr)
            if not self.compiled:
                clock_start, timed_steps, self.compiled = time.monotonic(), timed_steps - 1, True
        self.log_window.fetch()
        self.step_seconds += time.monotonic() - clock_start
        self.timed_steps += timed_steps

    def _after_step(self, epoch: int, lr: float) -> None:
        """Log, stop or save, where the step that was just taken asks for it."""
        training, step = self.config.training, self.progress.step
        self.journal.advance()
        if step % training.log_every == 0:
            figures = self.log_window.close()
            self.last_loss = figures["loss"]
            self.journal.train(step, epoch, training.epochs, lr, figures)
        if self._stop_requested():
            self._interrupt()
        if training.save_every_steps and step % training.save_every_steps == 0:
            self._save(checkpoint.LAST)

    def _next_validation(self) -> int:
        """Return the step of the next validation that the settings ask for, or else the run's last step."""
        every, step = self.config.training.eval_every_steps, self.progress.step
        if not every:
            return self.plan.total_steps
        already_evaluated = step == 0 or self.stopping.evaluated == step
        return min(self.plan.total_steps, -(-(step + already_evaluated) // every) * every)

    @torch.no_grad()
    def _evaluate(self, feed: order.Feed) -> dict[str, float]:
        """Return the held-out figures, each name with `val_` before it.

        An interruption leaves the state as it was, so the resumed run evaluates again.
        """
        self.learner.seed(order.evaluation_seed(self.config.seed, self.progress.step, self.team.rank))
        model = self.learner.evaluation_model()
        micro_batches = self._micro_batches(np.arange(len(self.held_out)), order.VALIDATION)
        sums = None
        self.journal.begin("Validation", len(micro_batches))
        batches = feed(micro_batches)
        for micro_batch in micro_batches:
            batch = next(self.team.take(batches, 1))
            _, batch_sums = self.learner.losses(model, self.learner.to_device(batch), micro_batch.live)
            sums = batch_sums if sums is None else sums + batch_sums
            self.journal.advance()
            if self._stop_requested():
                self._interrupt()
        assert sums is not None
        self.team.sum_(sums)
        return {f"val_{name}": value for name, value in self.learner.means(sums).items()}

    def _finish_validation(self, val: dict[str, float]) -> None:
        """Take in a validation: end the epoch if all its items were used, log, save and draw a preview."""
        training, progress = self.config.training, self.progress
        epoch = progress.epoch + 1
        improved = self._judge_validation(val, epoch)
        if progress.samples == len(self.train):
            progress.epoch, progress.samples = epoch, 0
        self.journal.validation(progress.step, epoch, training.epochs, self.last_loss, val, self.baselines)
        epoch_saved = progress.samples == 0 and epoch % training.save_every == 0
        if epoch_saved and self.team.first:
            preview.remove(self.out, epoch)
        # last.pt comes last: a run that is killed before resumes from the one before and redoes the others.
        names = [checkpoint.BEST] * improved + [f"checkpoint_epoch_{epoch}.pt"] * epoch_saved
        self._save(*names, checkpoint.LAST)
        if improved and self.session.on_best and self.team.first:
            self.session.on_best(self.out / checkpoint.BEST)
        if epoch_saved and self.team.first:
            self._draw_preview()
        if not self._reason_to_end() and self._stop_requested():
            self._interrupt(saved=True)

    def _judge_validation(self, val: dict[str, float], epoch: int) -> bool:
        """Return whether `val` is the best so far. Raises UserError or KwelaError for a bad figure."""
        early, step = self.config.training.early_stopping, self.progress.step
        value = failures.monitored(early.monitor, val, step, epoch, str(self.config.data.val_manifest))
        self.val = val
        gain = self.learner.names[early.monitor.removeprefix("val_")].gain
        return self.stopping.update(value, epoch, step, early, gain)

    def _preview_missing(self) -> bool:
        """Return whether the run stands at the end of an epoch whose preview was never drawn."""
        progress, evaluated = self.progress, self.stopping.evaluated == self.progress.step
        saved = evaluated and progress.samples == 0 and progress.epoch % self.config.training.save_every == 0
        drawn = progress.epoch == 0 or preview.folder(self.out, progress.epoch).exists()
        return self.team.first and saved and not drawn

    def _draw_preview(self) -> None:
        model = self.learner.bare_evaluation_model()
        preview.draw(self.task, model, self.out, self.progress.epoch, self.journal.say)

    def _micro_batches(self, indexes: np.ndarray, epoch: int) -> list[order.MicroBatch]:
        batch_size, team = self.config.data.batch_size, self.team
        return order.micro_batches(indexes, epoch, batch_size, team.rank, team.size)

    def _reason_to_end(self) -> str | None:
        return reason_to_end(self.progress, self.stopping, self.config.training, self.plan.total_steps)

    def _stop_requested(self) -> bool:
        return self.team.any(bool(self.stop_request))

    def _interrupt(self, saved: bool = False) -> None:
        if not saved:
            self._save(checkpoint.LAST)
        self.team.wait()  # torchrun ends all ranks as soon as one leaves, and the first rank is still saving
        explicit = isinstance(self.session.resume, Path)
        command = "with --resume auto" if explicit else "with the same command"
        how = f"stopped by {self.stop_request.name} at step {self.progress.step}"
        raise Interrupted(f"{how}, saved; run again {command} to go on")

    def _stop_at(self, failure: RowFailed) -> KwelaError:
        """Save the last step, and return the error that names the row and says how to go on."""
        known = self.data.rows.note_failure(failure)
        self._save(checkpoint.LAST)
        error = failure.with_advice(self.progress.step, known)
        self._write_status("failed", error.status, str(error))
        if failure.on_all_ranks:
            self.team.wait()  # as in _interrupt
        return error

    def _save(self, *names: str) -> None:
        self.log_window.fetch()  # on every rank: what is saved must be finite
        if not self.team.first:
            return
        if self.session.extra:
            self.extra = self.session.extra()
        checkpoint.save(self._state(), *(self.out / name for name in names))
        self._write_status("running", None, "training")

    def _state(self) -> State:
        seed, step = self.config.seed, self.progress.step
        return self.learner.state() | {
            "format": checkpoint.FORMAT,
            "family": self.identity.family,
            "tokenizer_hash": self.identity.tokenizer,
            "scheduler": {"step": step, "total": self.plan.total_steps},
            "rng_per_rank": [order.step_seed(seed, step, rank) for rank in range(self.team.size)],
            "progress": asdict(self.progress),
            "stopping": asdict(self.stopping),
            "config": self.settings,
            "extra": self.extra,
            "meta": {
                "data_hash": self.identity.data,
                "global_batch": self.plan.global_batch,
                "val": self.val,
                "untrained": self.untrained_loss,
                "window": self.log_window.sums,
                "seconds": self._seconds(),
                "facts": self.facts,
                "rows": self.data.rows.pack(),
                "precision": self.learner.precision,
            },
        }

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.session_began

    def _write_status(self, state: str, exit_status: int | None, why: str) -> None:
        # At the end of a run, a disk too full for its status must not hide the reason of that end.
        with contextlib.nullcontext() if state == "running" else contextlib.suppress(KwelaError):
            seconds = self._seconds()
            cost = {"wall_seconds": seconds, "device_seconds": seconds * self.team.size, "cost": None}
            self.journal.status(state, self.progress.step, self.progress.epoch, exit_status, why)
            run = {"steps": self.plan.total_steps, "baselines": self.baselines}
            self.journal.describe(self.facts | cost | run | {"left_out_rows": self.data.rows.left_out()})
