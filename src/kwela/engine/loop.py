"""The one training loop, for every family.

- A run is a function of (data, settings, seed). Killed at any moment and started again, it ends in the same bits: the
  draws are functions (order.py), state is saved only between optimiser steps, and everything a step changes is in it.
- The host never waits for the device inside a step; figures are fetched when they are logged, saved or judged.
- A step that is not finite ends the run before its weights can reach a checkpoint.
- Where the last step of an epoch was saved but not its validation, a resumed run validates first.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kwela.config import TrainConfig
from kwela.engine import checkpoint, journal, optim, order, signals, trouble
from kwela.engine import ranks as ranks_
from kwela.engine import resume as resume_
from kwela.engine.learner import Learner
from kwela.engine.task import Task
from kwela.errors import Interrupted, KwelaError, UserError


@dataclass
class Progress:
    epoch: int = 0  # finished, with their validation
    samples: int = 0  # of the epoch under way
    step: int = 0  # optimiser steps in all


@dataclass
class Stopping:
    best: float = math.inf  # lowest value of the monitored figure: whose weights are in best.pt
    best_epoch: int = 0
    reference: float = math.inf  # the value that patience counts from
    waited: int = 0  # validations since the reference
    evaluated: int = 0  # the step of the last validation


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the step and epoch reached, the best and the last validation figures, seconds in all."""

    step: int
    epoch: int
    best: float
    seconds: float
    finished: bool
    val: dict[str, float]


def fit(
    task: Task,
    config: TrainConfig,
    out: Path,
    *,
    resume: resume_.Resume = "auto",
    device: str | None = None,
    data_hash: str,
    tokenizer_hash: str,
    runs_dir: Path | None = None,
    quiet: bool = False,
    extra: Callable[[], dict[str, Any]] | None = None,
    on_resume: Callable[[dict[str, Any]], None] | None = None,
) -> Outcome:
    """Train `task` in the checkpoint folder `out`, from where it was left (resume.choose) or from the start.

    runs_dir: TensorBoard's parent folder; its logs go to `runs_dir/<task.name>`. None: no TensorBoard.
    quiet: print nothing.
    extra: asked for what to keep in each checkpoint under "extra", on the first rank. on_resume: given that back.
    Under torchrun every rank calls this alike; the folder must be shared by all of them.
    Raises UserError (bad data or a checkpoint that can't be resumed), Interrupted (SIGTERM or SIGINT: last.pt is
    saved) or KwelaError (not finite, out of memory, full disk, a lost worker or rank); status.json says the same.
    """
    with ranks_.joined(device) as ranks, signals.watched() as asked, _determinism(config.deterministic):
        run = Run(task, config, out, ranks, asked, extra)
        run.open(resume, data_hash, tokenizer_hash, runs_dir, quiet, on_resume)
        return run.go()


@dataclass
class Run:
    task: Task
    config: TrainConfig
    out: Path
    ranks: ranks_.Ranks
    asked: signals.Asked
    extra: Callable[[], dict[str, Any]] | None
    progress: Progress = field(default_factory=Progress)
    stopping: Stopping = field(default_factory=Stopping)
    val: dict[str, float] = field(default_factory=dict)
    # Steps since figures were last fetched: (step, indexes drawn, sums, gradient norm).
    pending: list[tuple[int, np.ndarray, Tensor, Tensor]] = field(default_factory=list)
    window: list[list[float]] = field(default_factory=list)  # fetched sums since the last line of the log
    last_loss: float | None = None

    # ------------------------------------------------------------ beginning

    def open(
        self,
        resume: resume_.Resume,
        data_hash: str,
        tokenizer_hash: str,
        runs_dir: Path | None,
        quiet: bool,
        on_resume: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        config, ranks, out = self.config, self.ranks, self.out
        dump = config.model_dump(mode="json")
        identity = resume_.Identity(self.task.name, tokenizer_hash, data_hash, dump.get("model"), config.seed)
        loud = ranks.first and not quiet
        say = (lambda line: print(line, flush=True)) if loud else (lambda line: None)
        path = ranks.from_first(lambda: resume_.choose(out, resume, config.training.resume_from, identity, say))
        state = checkpoint.load(path) if path else None

        self.train, self.held_out = self.task.datasets()
        for name, items in (("train", self.train), ("val", self.held_out)):
            if len(items) == 0:
                raise UserError(f"{getattr(config.data, f'{name}_manifest')}: no rows to use")
        self.accumulated = (
            resume_.accumulation(config, state, ranks.size) if state else config.training.grad_accum_steps
        )
        self.whole = config.data.batch_size * ranks.size * self.accumulated
        self.total = config.training.epochs * math.ceil(len(self.train) / self.whole)
        if config.training.max_steps is not None:
            self.total = min(self.total, config.training.max_steps)

        dtype, note = optim.precision(config.training, ranks.device)
        self.learner = Learner(self.task, config, ranks, dtype)
        self.identity, self.dump = identity, dump
        self.began, self.seconds_before = time.monotonic(), 0.0
        self.kept_extra: dict[str, Any] = {}
        if state:
            self._restore(state)
            if on_resume:
                on_resume(self.kept_extra)
        if ranks.first:
            out.mkdir(parents=True, exist_ok=True)
            if state and path and path.resolve() != (out / checkpoint.LAST).resolve():
                checkpoint.copy(path, out / checkpoint.LAST)  # what a kill before the next save must come back to
            evaluated = self.stopping.evaluated == self.progress.step
            journal.cut(out / "metrics.jsonl", self.progress.step if state else -1, evaluated)
        board = None if runs_dir is None else runs_dir / self.task.name
        purge = self.progress.step + 1 if state else 0
        self.journal = journal.Journal(out, board, purge, tell=ranks.first, quiet=quiet)
        if path and not self.done():
            self.journal.say(f"Resuming from {path} at step {self.progress.step}")
        if note:
            self.journal.say(note)
        if ranks.size > 1 and "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in os.environ:
            self.journal.say(
                "torchrun kills its workers 30 s after SIGTERM: "
                "export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300 if a step and a save may take longer"
            )
        self._describe(dump, state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.load(state)
        self.progress = Progress(**state["progress"])
        self.stopping = Stopping(**state["stopping"])
        self.val, self.window = state["meta"]["val"], state["meta"]["window"]
        self.seconds_before = state["meta"]["seconds"]
        self.kept_extra = state["extra"]

    def _describe(self, dump: dict[str, Any], state: dict[str, Any] | None) -> None:
        if not self.ranks.first:
            return
        ranks = self.ranks
        self.run_json = journal.facts(dump, self.identity.data, self.identity.tokenizer, ranks.device, ranks.size)
        self.run_json["batch"] = {
            "batch_size": self.config.data.batch_size,
            "ranks": ranks.size,
            "grad_accum_steps": self.accumulated,
            "global": self.whole,
        }
        self.run_json["resumes"] = list(state["meta"]["resumes"]) if state else []
        if state:
            self.run_json["resumes"].append(
                {
                    "step": self.progress.step,
                    "at": journal.now(),
                    "batch": self.run_json["batch"],
                    "changed": journal.changes(state["config"], dump),
                }
            )
        self.run_json["started"] = state["meta"]["started"] if state else journal.now()

    # -------------------------------------------------------------- running

    def go(self) -> Outcome:
        try:
            if self.done():
                self.journal.say(f"Already finished at step {self.progress.step}")
            else:
                self._train()
            self._status("finished", 0, "all epochs done" if self._reached_end() else "early stopping")
            return self._outcome()
        except KwelaError as error:
            self._status("interrupted" if isinstance(error, Interrupted) else "failed", error.status, str(error))
            raise
        except Exception as error:
            known = trouble.known(error, self.config, self.accumulated, self.progress.step)
            self._status("failed", 1, str(known or f"{type(error).__name__}: {error}"))
            if known:
                raise known from error
            raise
        finally:
            self.journal.close()

    def done(self) -> bool:
        """Whether state and settings say that the run is over, its last validation included."""
        if self.progress.step == 0 or self.stopping.evaluated != self.progress.step:
            return False
        early = self.config.training.early_stopping
        waited = early.enabled and self.stopping.waited >= early.patience
        return self._reached_end() or (waited and self.progress.epoch >= self.config.training.min_epochs)

    def _reached_end(self) -> bool:
        return self.progress.step >= self.total or self.progress.epoch >= self.config.training.epochs

    def _train(self) -> None:
        self._status("running", None, "training")
        self.baselines = self.task.baselines() if self.ranks.first else {}
        self.journal.baselines(self.baselines, self.progress.step)
        pin = self.ranks.device.type == "cuda"
        self.feed = order.Feed(self.task, self.train, self.config.data, self.config.seed, pin, True)
        self.val_feed = order.Feed(self.task, self.held_out, self.config.data, self.config.seed, pin, False)
        while not self.done():
            self._epoch_steps()
            val = self._evaluate()
            if val is None:
                self._interrupt()
            else:
                self._end_epoch(val)
        self.journal.say("Training complete!")
        self.journal.say(f"Best model saved: {self.out / checkpoint.BEST}")
        self.journal.say(f"Final validation loss: {journal.number(self.val['val_loss'])}")

    def _epoch_steps(self) -> None:
        training, at = self.config.training, self.progress
        epoch, count = at.epoch + 1, len(self.train)
        everything = order.permutation(self.config.seed, epoch, count)
        starts = range(at.samples, count, self.whole)[: self.total - at.step]
        wholes = [everything[start : start + self.whole] for start in starts]
        shares = [self._shares(indexes, epoch) for indexes in wholes]
        batches = self.feed([draw for draws in shares for draw in draws])
        self.journal.begin(f"Epoch {epoch}/{training.epochs}", math.ceil(count / self.whole), at.samples // self.whole)
        self._restart_clock()
        for indexes, draws in zip(wholes, shares, strict=True):
            lr = optim.rate(at.step + 1, self.total, self.config.optim.lr, self.config.scheduler)
            sums, norm = self.learner.step(batches, draws, at.step + 1, lr)
            at.step += 1
            at.samples += len(indexes)
            self.pending.append((at.step, indexes, sums, norm))
            self.items += len(indexes)
            self.journal.advance()
            if at.step % training.log_every == 0:
                self._log(epoch, lr)
            if self.ranks.any(bool(self.asked)):
                self._interrupt()
            if training.save_every_steps and at.step % training.save_every_steps == 0:
                self._save(self.out / checkpoint.LAST)

    def _shares(self, indexes: np.ndarray, epoch: int) -> list[order.Draw]:
        return order.shares(indexes, epoch, self.config.data.batch_size, self.ranks.rank, self.ranks.size)

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float] | None:
        """The held-out figures under their names, `val_` before each; None if asked to stop meanwhile."""
        self._fetch()
        model = self.learner.judged()
        torch.manual_seed(order.evaluation_seed(self.config.seed, self.progress.step, self.ranks.rank))
        draws = self._shares(np.arange(len(self.held_out)), order.VALIDATION)
        sums = None
        self.journal.begin("Validation", len(draws))
        for draw, batch in zip(draws, self.val_feed(draws), strict=True):
            _, found = self.learner.losses(model, self.learner.moved(batch), draw.live)
            sums = found if sums is None else sums + found
            self.journal.advance()
            if self.ranks.any(bool(self.asked)):
                return None
        assert sums is not None
        self.ranks.sum_(sums)
        return {f"val_{name}": value for name, value in self.learner.means(sums).items()}

    def _end_epoch(self, val: dict[str, float]) -> None:
        training, at, stopping = self.config.training, self.progress, self.stopping
        epoch = at.epoch + 1
        monitor = training.early_stopping.monitor
        if monitor not in val:
            raise UserError(
                f"training.early_stopping.monitor: {monitor}: no such figure (this family has {', '.join(val)})"
            )
        value = val[monitor]
        if not math.isfinite(value):
            raise KwelaError(
                f"{monitor} is {value} after step {at.step} (epoch {epoch}), over all held-out items: "
                f"the checkpoint before stays; lower optim.lr, or look at {self.config.data.val_manifest}"
            )
        self.val, stopping.evaluated = val, at.step
        if at.samples == len(self.train):
            at.epoch, at.samples = epoch, 0
        improved = value < stopping.best
        if improved:
            stopping.best, stopping.best_epoch = value, epoch
        stopping.waited += 1
        if value < stopping.reference - training.early_stopping.min_delta:
            stopping.reference, stopping.waited = value, 0
        against = {"baselines": self.baselines} if self.baselines else {}
        self.journal.record(at.step, epoch, "val", val, **against)
        self.journal.say(journal.val_line(epoch, training.epochs, at.step, self.last_loss, val, self.baselines))
        due = at.samples == 0 and epoch % training.save_every == 0
        names = [checkpoint.BEST] * improved + [f"checkpoint_epoch_{epoch}.pt"] * due + [checkpoint.LAST]
        self._save(*(self.out / name for name in names))
        if due and self.ranks.first:
            folder = self.out / "previews" / f"epoch_{epoch}"
            folder.mkdir(parents=True, exist_ok=True)
            model = self.learner.average.model if self.learner.average else self.learner.model.eval()
            with torch.no_grad():
                self.task.preview(model, folder)
        if not self.done() and self.ranks.any(bool(self.asked)):
            self._interrupt(saved=True)

    # ------------------------------------------------------ telling, saving

    def _fetch(self) -> None:
        """Bring the pending steps' figures to the host, and stop at the first that is not finite."""
        if not self.pending:
            return
        figures = torch.stack([torch.cat((sums.flatten(), norm[None])) for _, _, sums, norm in self.pending]).tolist()
        loss = list(self.learner.names).index("loss")
        for (step, indexes, _, _), (*flat, norm) in zip(self.pending, figures, strict=True):
            rows = [flat[at : at + 2] for at in range(0, len(flat), 2)]
            # Under a float16 scaler a gradient that overflows is skipped, and the scale falls.
            wrong = None if math.isfinite(norm) or self.learner.scaler.is_enabled() else "gradient"
            wrong = wrong if math.isfinite(rows[loss][0]) else "loss"
            if wrong:
                raise trouble.not_finite(wrong, step, self.progress.epoch + 1, indexes, self.config)
            before = self.window or [[0.0, 0.0] for _ in rows]
            self.window = [[t + a, w + b] for (t, w), (a, b) in zip(before, rows, strict=True)]
        self.norm = figures[-1][-1]
        self.pending.clear()

    def _log(self, epoch: int, lr: float) -> None:
        self._fetch()
        figures = self.learner.means(torch.tensor(self.window, dtype=torch.float64))
        speed = self.items / max(time.monotonic() - self.clock, 1e-9)
        self.journal.record(
            self.progress.step, epoch, "train", figures | {"lr": lr, "grad_norm": self.norm, "items_per_s": speed}
        )
        self.journal.say(journal.train_line(epoch, self.config.training.epochs, self.progress.step, figures, lr, speed))
        self.last_loss, self.window = figures["loss"], []
        self._restart_clock()

    def _restart_clock(self) -> None:
        self.clock, self.items = time.monotonic(), 0

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _save(self, *paths: Path) -> None:
        self._fetch()  # on all ranks: the state must be finite
        if not self.ranks.first:
            return
        at, seed = self.progress, self.config.seed
        if self.extra:
            self.kept_extra = self.extra()
        state = self.learner.state() | {
            "format": checkpoint.FORMAT,
            "family": self.identity.family,
            "tokenizer_hash": self.identity.tokenizer,
            "scheduler": {"step": at.step, "total": self.total},
            "rng_per_rank": [order.step_seed(seed, at.step, rank) for rank in range(self.ranks.size)],
            "progress": asdict(at),
            "stopping": asdict(self.stopping),
            "config": self.dump,
            "extra": self.kept_extra,
            "meta": {
                "data_hash": self.identity.data,
                "global_batch": self.whole,
                "val": self.val,
                "window": self.window,
                "seconds": self._seconds(),
                "versions": self.run_json["versions"],
                "started": self.run_json["started"],
                "resumes": self.run_json["resumes"],
            },
        }
        checkpoint.save(state, *paths)
        self._status("running", None, "training")

    def _interrupt(self, saved: bool = False) -> None:
        if not saved:
            self._save(self.out / checkpoint.LAST)
        self.ranks.wait()  # torchrun ends the others as soon as one leaves: the first must have saved
        name = self.asked.signal.name if self.asked.signal else "a signal to another rank"
        raise Interrupted(f"stopped by {name} at step {self.progress.step}; run the same command again to go on")

    def _status(self, state: str, exit_status: int | None, why: str) -> None:
        if not self.ranks.first:
            return
        at, seconds = self.progress, self._seconds()
        with contextlib.nullcontext() if state == "running" else contextlib.suppress(KwelaError):
            self.journal.status(state, at.step, at.epoch, exit_status, why)
            timing = {"wall_seconds": seconds, "device_seconds": seconds * self.ranks.size, "cost": None}
            self.journal.describe(self.run_json | timing | {"baselines": getattr(self, "baselines", {})})

    def _outcome(self) -> Outcome:
        at = self.progress
        return Outcome(at.step, at.epoch, self.stopping.best, self._seconds(), True, self.val)


@contextlib.contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
