"""Read the losses of a training run from its checkpoint folder while the run writes them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from kwela.campaign.decide.json_files import (
    AppendedLines,
    JsonObject,
    count_or_zero,
    finite_or_none,
    read_json,
)


@dataclass(frozen=True)
class LossCurve:
    """Losses by step, in nats.

    train, val: (step, loss), where the loss is None if it was not finite. base: the validation loss of the
    untuned model. step: the last one that was logged or saved.
    """

    step: int = 0
    epoch: int = 0
    train: list[tuple[int, float | None]] = field(default_factory=list)
    val: list[tuple[int, float | None]] = field(default_factory=list)
    base: float | None = None

    @property
    def best_val_loss(self) -> float | None:
        """The lowest validation loss of a trained model: step 0 is the untuned one."""
        return min((loss for step, loss in self.val if loss is not None and step > 0), default=None)

    @property
    def last_val_loss(self) -> float | None:
        """The last validation loss."""
        return self.val[-1][1] if self.val else None

    @property
    def last_train_loss(self) -> float | None:
        """The last training loss."""
        return self.train[-1][1] if self.train else None


class LossCurveReader:
    """Reads the curve of the run in a checkpoint folder again and again, each time only the new lines.

    A run that resumes cuts `metrics.jsonl` back to its checkpoint: the curve is then read anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = AppendedLines(folder / "metrics.jsonl")
        self._logged = LossCurve()

    def read(self) -> LossCurve:
        """Return the curve so far. A later call does not change a curve that was returned."""
        rows, began_anew = self.metrics.read_new()
        if began_anew:
            self._logged = LossCurve()
        if rows:
            self._logged = _extended(self._logged, rows)
        saved_step = count_or_zero(read_json(self.folder / "status.json").get("step"))
        return replace(self._logged, step=max(saved_step, self._logged.step))


def read_loss_curve(folder: Path) -> LossCurve:
    """Return the curve of the run in checkpoint folder `folder`; it is empty where there is none."""
    return LossCurveReader(folder).read()


def _extended(curve: LossCurve, rows: list[JsonObject]) -> LossCurve:
    """Return `curve` with the rows of `metrics.jsonl` that follow it."""
    step, epoch, base = curve.step, curve.epoch, curve.base
    train, val = list(curve.train), list(curve.val)
    for row in rows:
        row_step = count_or_zero(row.get("step"))
        step, epoch = max(step, row_step), max(epoch, count_or_zero(row.get("epoch")))
        if row.get("split") == "train":
            train.append((row_step, finite_or_none(row.get("loss"))))
        elif row.get("split") == "val":
            loss = finite_or_none(row.get("val_loss"))
            val.append((row_step, loss))
            if row_step == 0:
                base = loss
            baselines = row.get("baselines")
            if isinstance(baselines, dict):
                base = finite_or_none(baselines.get("base_loss", base))
    return LossCurve(step, epoch, train, val, base)
