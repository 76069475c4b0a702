"""The one training loop, for every family.

- A run is a function of (data, settings, seed). Killed at any moment and started again, it ends in the same bits: the
  draws are functions (order.py), state is saved only between optimiser steps, and all that a step changes is in it.
- The host never waits for the device inside a step; figures are fetched when they are logged, saved or judged.
- A step that is not finite ends the run before its weights can reach a checkpoint.
- An epoch ends with its validation; `eval_every_steps` adds others. A run killed before one that is due validates
  first when it is resumed.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kwela import files
from kwela.config import TrainConfig
from kwela.engine import checkpoint, failures, journal, optim, order, preview, ranks, signals
from kwela.engine import resume as resuming
from kwela.engine.averages import Tally
from kwela.engine.learner import Learner
from kwela.engine.session import Extra, Session
from kwela.engine.stopping import Progress, Stopping, over
from kwela.engine.task import Task
from kwela.errors import Interrupted, KwelaError, UserError


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the step and epoch reached, the best of the monitored figure and all last validation figures.

    best is that of `monitor` (training.early_stopping.monitor), at best_step in best_epoch; NaN at 0 if there is none.
    seconds_per_step leaves out validation and this session's first step.
    """

    step: int
    epoch: int
    best: float
    val: dict[str, float]
    steps_per_epoch: int
    seconds_per_step: float
    best_step: int
    best_epoch: int
    monitor: str


def fit(task: Task, config: TrainConfig, out: Path, session: Session) -> Outcome:
    """Train `task` in the checkpoint folder `out`, from where it was left or from the start.

    Under torchrun every rank calls this alike, and all of them see `out`.
    Raises UserError (bad data, or a checkpoint that can't be resumed), Interrupted (SIGTERM or SIGINT: last.pt is
    saved) or KwelaError (not finite, out of memory, full disk, a lost worker or rank); status.json says the same.
    """
    with ranks.joined(session.device) as team, signals.watched() as asked, _determinism(config.deterministic):
        try:
            run = Run(task, config, out, session, team, asked)
        except KwelaError:
            raise
        except Exception as error:  # the model may not fit in memory
            if known := failures.known(error, config, config.training.grad_accum_steps, None):
                raise known from error
            raise
        return run.go()


class Run:
    """One session of a run: what `fit` has to remember."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        out: Path,
        session: Session,
        team: ranks.Ranks,
        asked: signals.Asked,
    ) -> None:
        self.task, self.config, self.out, self.session, self.team, self.asked = (
            task,
            config,
            out,
            session,
            team,
            asked,
        )
        self.extra = Extra()
        resume, data_hash, tokenizer_hash = session.resume, session.data_hash, session.tokenizer_hash
        self.again = "with --resume auto" if isinstance(resume, Path) else "with the same command"
        self.dump = config.model_dump(mode="json")
        dtype, note = optim.precision(config.training, team.device)
        self.learner = Learner(task, config, team, dtype)
        weights = resuming.shapes(self.learner.model.state_dict())
        self.identity = resuming.Identity(
            task.name, tokenizer_hash, data_hash, self.dump.get("model"), config.seed, weights
        )
        self.journal = journal.Journal(team.first, session.quiet, session.log)
        say = self.journal.say
        choice = team.from_first(
            lambda: resuming.choose(out, resume, config.training.resume_from, self.identity, say)
        )
        path = choice.path
        if choice.afresh and session.bound and any(out.glob("*.pt")):
            why = choice.why or "another run goes on here"
            raise UserError(
                f"{out}: {why}, and this folder has a campaign's ledger, so it isn't set aside: go on with what the "
                f"campaign began with, take another folder (checkpoint_dir), or move its *.pt away to begin at step 0"
            )
        state = checkpoint.load(path) if path else None

        self.train, self.held_out = task.datasets()
        for items, manifest in (
            (self.train, config.data.train_manifest),
            (self.held_out, config.data.val_manifest),
        ):
            if len(items) == 0:
                raise UserError(f"{manifest}: no rows to use")
        self.accumulated = resuming.accumulation(config, state, team.size)
        self.whole = config.data.batch_size * team.size * self.accumulated  # the global batch
        self.steps_per_epoch = math.ceil(len(self.train) / self.whole)
        self.total = min(config.training.epochs * self.steps_per_epoch, config.training.max_steps or 2**62)
        self.at, self.stopping = Progress(), Stopping()
        self.tally = Tally(self.learner, str(config.data.train_manifest))
        self.val: dict[str, float] = {}
        self.untrained: float | None = (
            None  # the validation loss before the first step, where it was asked for
        )
        self.last_loss: float | None = None
        self.began, self.seconds_before = time.monotonic(), 0.0
        self.stepping, self.warm = (
            [0.0, 0],
            False,
        )  # seconds, and the steps they took, after a first that compiles
        if path and state:
            try:
                self._restore(state)
            except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
                if failures.known(error, config, self.accumulated, None):  # out of memory
                    raise
                # checkpoint.load looked at the whole; what lies deeper is found here.
                why = (str(error).splitlines() or [""])[0]
                raise UserError(f"{path}: can't resume from it: {type(error).__name__}: {why}") from error
            if session.on_resume:
                session.on_resume(self.extra)
        try:
            self._open(choice, session.runs_dir)
        except OSError as error:
            raise files.unwritable(Path(error.filename or out), error) from None
        self.facts = journal.facts(self.dump, data_hash, tokenizer_hash, team, self.accumulated, state)
        self.baselines: dict[str, float] = {}
        if path and not self._over():
            say(f"Resuming from {path} at step {self.at.step}")
            if state and (changed := journal.changes(state["config"], self.dump)):
                say("Changed since: " + resuming.told(changed))
        if note:
            say(note)
        if team.size > 1 and "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in os.environ:
            say(
                "torchrun kills its ranks 30 s after SIGTERM: TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300 gives a slow save time"
            )

    def _open(self, choice: resuming.Choice, runs_dir: Path | None) -> None:
        """Bring the folder to where the run begins: metrics cut back, and the checkpoint it goes on from in last.pt."""
        at, path = self.at, choice.path
        if self.team.first:
            if choice.afresh:
                resuming.set_aside(self.out, self.journal.say)
            self.out.mkdir(parents=True, exist_ok=True)
            checkpoint.prune(self.out)
            last = self.out / checkpoint.LAST
            if path and path.resolve() != last.resolve():
                checkpoint.copy(path, last)  # what a kill before the next save has to come back to
            journal.cut(
                self.out / "metrics.jsonl", at.step if path else -1, self.stopping.evaluated == at.step
            )
        self.journal.open(self.out, runs_dir, at.step + 1 if path else 0)

    def go(self) -> Outcome:
        try:
            if (
                self.team.first
                and self._preview_due()
                and not preview.folder(self.out, self.at.epoch).exists()
            ):
                self._preview()  # a kill came between the save and the picture
            if self._over():
                self.journal.say(f"Already finished at step {self.at.step}")
            else:
                self._train()
            self._status("finished", 0, self._over() or "")
        except KwelaError as error:
            self._status(
                "interrupted" if isinstance(error, Interrupted) else "failed", error.status, str(error)
            )
            raise
        except Exception as error:
            known = failures.known(error, self.config, self.accumulated, self.at.step)
            self._status("failed", 1, str(known or f"{type(error).__name__}: {error}"))
            if known:
                raise known from error
            raise
        finally:
            self.journal.close()
            self.learner.close()
        seconds, steps = self.stepping
        return Outcome(
            step=self.at.step,
            epoch=self.at.epoch,
            best=math.nan if self.stopping.best is None else self.stopping.best,
            val=self.val,
            steps_per_epoch=self.steps_per_epoch,
            seconds_per_step=seconds / steps if steps else math.nan,
            best_step=self.stopping.best_step,
            best_epoch=self.stopping.best_epoch,
            monitor=self.config.training.early_stopping.monitor,
        )

    def _train(self) -> None:
        self._status("running", None, "training")
        if self.team.first:
            self.baselines = self.task.baselines()
        self.journal.baselines(self.baselines, self.at.step)
        pin = self.team.device.type == "cuda"
        data, seed = self.config.data, self.config.seed
        feed = order.Feed(self.task, self.train, data, seed, pin, keep_workers=True)
        val_feed = order.Feed(self.task, self.held_out, data, seed, pin, keep_workers=False)
        with contextlib.closing(feed), contextlib.closing(val_feed):
            self.asked.patient = True
            if self.config.training.evaluate_first:
                self._first_figures(val_feed)
            while not self._over():
                self._steps(feed)
                self._end_epoch(self._evaluate(val_feed))
        self.journal.say("Training complete!")
        best = self.out / checkpoint.BEST
        if self.session.on_best and self.team.first:
            best = self.session.on_best(best)  # again: a kill may have come between the two
        self.journal.say(f"Best model saved: {files.shown(best)}")
        self.journal.say(f"Final validation loss: {journal.number(self.val['val_loss'])}")

    def _first_figures(self, feed: order.Feed) -> None:
        """Validate before the first step; from then on every validation stands beside that loss."""
        if self.at.step == 0:
            val = self._evaluate(feed)
            self.untrained = val["val_loss"]
            self.journal.validation(0, 1, self.config.training.epochs, None, val, self.baselines)
        if self.untrained is not None:
            self.baselines = {"base_loss": self.untrained, **self.baselines}
            self.journal.baselines({"base_loss": self.untrained}, self.at.step)

    def _steps(self, feed: order.Feed) -> None:
        """The steps to the next validation; none, where it is due."""
        training, at, count = self.config.training, self.at, len(self.train)
        epoch = at.epoch + 1
        everything = order.permutation(self.config.seed, epoch, count)
        starts = range(at.samples, count, self.whole)[: self._next_validation() - at.step]
        wholes = [everything[start : start + self.whole] for start in starts]
        shares = [self._shares(indexes, epoch) for indexes in wholes]
        batches = feed([draw for draws in shares for draw in draws])
        self.journal.begin(f"Epoch {epoch}/{training.epochs}", self.steps_per_epoch, at.samples // self.whole)
        self.tally.start_clock()
        began, timed = time.monotonic(), len(wholes)
        for indexes, draws in zip(wholes, shares, strict=True):
            lr = optim.rate(at.step + 1, self.total, self.config.optim.lr, self.config.scheduler)
            sums, norm = self.learner.step(batches, draws, at.step + 1, lr)
            at.step += 1
            at.samples += len(indexes)
            self.tally.add(at.step, epoch, indexes, sums, norm)
            self.journal.advance()
            if at.step % training.log_every == 0:
                figures = self.tally.close()
                self.last_loss = figures["loss"]
                self.journal.train(at.step, epoch, training.epochs, lr, figures)
            if self._stop_asked():
                self._interrupt()
            if training.save_every_steps and at.step % training.save_every_steps == 0:
                self._save(checkpoint.LAST)
            if not self.warm:
                began, timed, self.warm = time.monotonic(), timed - 1, True
        self.tally.fetch()
        self.stepping[0] += time.monotonic() - began
        self.stepping[1] += timed

    def _next_validation(self) -> int:
        """The step of the next validation that doesn't wait for the end of an epoch, or of the run's last."""
        every, at = self.config.training.eval_every_steps, self.at
        if not every:
            return self.total
        judged = at.step == 0 or self.stopping.evaluated == at.step
        return min(self.total, -(-(at.step + judged) // every) * every)

    @torch.no_grad()
    def _evaluate(self, feed: order.Feed) -> dict[str, float]:
        """The held-out figures, `val_` before each name. Interrupted leaves the state as before: it will be redone."""
        self.learner.seed(order.evaluation_seed(self.config.seed, self.at.step, self.team.rank))
        model = self.learner.judged()
        draws = self._shares(np.arange(len(self.held_out)), order.VALIDATION)
        sums = None
        self.journal.begin("Validation", len(draws))
        for draw, batch in zip(draws, feed(draws), strict=True):
            _, found = self.learner.losses(model, self.learner.moved(batch), draw.live)
            sums = found if sums is None else sums + found
            self.journal.advance()
            if self._stop_asked():
                self._interrupt()
        assert sums is not None
        self.team.sum_(sums)
        return {f"val_{name}": value for name, value in self.learner.means(sums).items()}

    def _end_epoch(self, val: dict[str, float]) -> None:
        training, at = self.config.training, self.at
        epoch, early = at.epoch + 1, training.early_stopping
        if early.monitor not in val:
            raise UserError(
                f"training.early_stopping.monitor: no figure {early.monitor} (there are {', '.join(val)})"
            )
        value = val[early.monitor]
        if not math.isfinite(value):
            raise failures.not_finite(early.monitor, at.step, epoch, None, str(self.config.data.val_manifest))
        self.val = val
        gain = self.learner.names[early.monitor.removeprefix("val_")].gain
        improved = self.stopping.update(value, epoch, at.step, early, gain)
        if at.samples == len(self.train):
            at.epoch, at.samples = epoch, 0
        self.journal.validation(at.step, epoch, training.epochs, self.last_loss, val, self.baselines)
        due = at.samples == 0 and epoch % training.save_every == 0
        if due and self.team.first:
            preview.remove(self.out, epoch)
        # last.pt last: until it is there, the one before it is where a killed run goes on from, and redoes the others.
        self._save(*[checkpoint.BEST] * improved, *[f"checkpoint_epoch_{epoch}.pt"] * due, checkpoint.LAST)
        if improved and self.session.on_best and self.team.first:
            self.session.on_best(self.out / checkpoint.BEST)
        if due and self.team.first:
            self._preview()
        if not self._over() and self._stop_asked():
            self._interrupt(saved=True)

    def _preview_due(self) -> bool:
        at = self.at
        at_end = at.epoch > 0 and at.samples == 0 and self.stopping.evaluated == at.step
        return at_end and at.epoch % self.config.training.save_every == 0

    def _preview(self) -> None:
        preview.draw(self.task, self.learner.shown(), self.out, self.at.epoch)

    def _shares(self, indexes: np.ndarray, epoch: int) -> list[order.Draw]:
        return order.shares(indexes, epoch, self.config.data.batch_size, self.team.rank, self.team.size)

    def _over(self) -> str | None:
        return over(self.at, self.stopping, self.config.training, self.total)

    def _stop_asked(self) -> bool:
        return self.team.any(bool(self.asked))

    def _interrupt(self, saved: bool = False) -> None:
        if not saved:
            self._save(checkpoint.LAST)
        self.team.wait()  # torchrun ends the other ranks as soon as one leaves, and the first is saving
        name = self.asked.signal.name if self.asked.signal else "a signal to another rank"
        raise Interrupted(f"stopped by {name} at step {self.at.step}, saved; run again {self.again} to go on")

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.load(state)
        self.at, self.stopping = Progress(**state["progress"]), Stopping(**state["stopping"])
        if self.at.samples > len(self.train):
            raise ValueError(f"{self.at.samples} samples of an epoch of {len(self.train)}")
        if (
            state["config"]["training"]["early_stopping"]["monitor"]
            != self.config.training.early_stopping.monitor
        ):
            self.stopping = Stopping(
                evaluated=self.stopping.evaluated
            )  # the best of another figure says nothing
        self.extra = state["extra"]
        self.val = {name: float(value) for name, value in state["meta"]["val"].items()}
        self.untrained = state["meta"].get("untrained")
        self.tally.window = [[float(total), float(weight)] for total, weight in state["meta"]["window"]]
        self.seconds_before = state["meta"]["seconds"]

    def _save(self, *names: str) -> None:
        self.tally.fetch()  # on every rank: what is saved must be finite
        if not self.team.first:
            return
        if self.session.extra:
            self.extra = self.session.extra()
        state = self.learner.state() | {
            "format": checkpoint.FORMAT,
            "family": self.identity.family,
            "tokenizer_hash": self.identity.tokenizer,
            "scheduler": {"step": self.at.step, "total": self.total},
            "rng_per_rank": [
                order.step_seed(self.config.seed, self.at.step, rank) for rank in range(self.team.size)
            ],
            "progress": asdict(self.at),
            "stopping": asdict(self.stopping),
            "config": self.dump,
            "extra": self.extra,
            "meta": {
                "data_hash": self.identity.data,
                "global_batch": self.whole,
                "val": self.val,
                "untrained": self.untrained,
                "window": self.tally.window,
                "seconds": self._seconds(),
                "facts": self.facts,
            },
        }
        checkpoint.save(state, *(self.out / name for name in names))
        self._status("running", None, "training")

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _status(self, state: str, exit_status: int | None, why: str) -> None:
        # Whatever ended a run, a disk too full to note it must not take its place.
        with contextlib.nullcontext() if state == "running" else contextlib.suppress(KwelaError):
            seconds = self._seconds()
            cost = {"wall_seconds": seconds, "device_seconds": seconds * self.team.size, "cost": None}
            self.journal.status(state, self.at.step, self.at.epoch, exit_status, why)
            self.journal.describe(self.facts | cost | {"steps": self.total, "baselines": self.baselines})


@contextlib.contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
