"""Turn expected failures of a run into errors of one line that say what to do."""

from __future__ import annotations

import errno
import math

import numpy as np
import torch

from kwela.config import TrainConfig
from kwela.errors import KwelaError, UserError

_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")
_WORKER = "DataLoader worker (pid"
_RANK = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


def known(error: Exception, config: TrainConfig, accumulated: int, step: int | None) -> KwelaError | None:
    """Return `error` as a KwelaError, or None if it is a defect of kwela's and needs its traceback.

    accumulated: micro-batches of a step. step: the last step that was taken, None before the first.
    """
    text = str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(mark in text for mark in _MEMORY):
        if step is None:
            return KwelaError("out of memory before the first step: choose a smaller model")
        return _out_of_memory(config, accumulated, step)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return KwelaError(f"{error.filename or 'disk'}: {error.strerror}; free some space and run again")
    # The connection breaks if a worker dies while it sends a batch; torch reports a worker that dies in
    # between.
    if isinstance(error, ConnectionResetError | EOFError) or _WORKER in text:
        reason = text.splitlines()[0] if text else type(error).__name__
        return KwelaError(f"a data worker died at step {step}: {reason}")
    if "No working C++ compiler" in text:
        return KwelaError("training.compile: no C++ compiler here; install one, or set it to false")
    if isinstance(error, torch.distributed.DistError) or any(mark in text for mark in _RANK):
        return KwelaError(f"another rank stopped at step {step}; its own message says why")
    return None


def not_finite(what: str, step: int, epoch: int, rows: np.ndarray | None, manifest: str) -> KwelaError:
    """Return the error for a figure (`what`) that is not finite.

    rows: the rows of `manifest` that the step used; None stands for all rows.
    """
    where = "all rows"
    if rows is not None:
        rest = f" ... ({len(rows)} in all)" if len(rows) > 16 else ""
        where = "rows " + " ".join(map(str, rows[:16])) + rest
    return KwelaError(
        f"the {what} is not finite at step {step} (epoch {epoch}), {where} of {manifest}: "
        f"the checkpoint before stays; lower optim.lr, or look at these rows"
    )


def monitored(name: str, figures: dict[str, float], step: int, epoch: int, manifest: str) -> float:
    """Return the figure that early stopping monitors. Raises UserError if there is none of this name.

    manifest: of the rows behind the figures. Raises KwelaError for a figure that is not finite.
    """
    if name not in figures:
        raise UserError(f"training.early_stopping.monitor: no figure {name} (there are {', '.join(figures)})")
    if not math.isfinite(figures[name]):
        raise not_finite(name, step, epoch, None, manifest)
    return figures[name]


def _out_of_memory(config: TrainConfig, accumulated: int, step: int) -> KwelaError:
    batch = config.data.batch_size
    if batch == 1:
        return KwelaError(f"out of memory at step {step + 1} with data.batch_size 1: choose a smaller model")
    smaller = max(size for size in range(1, batch) if batch * accumulated % size == 0)
    return KwelaError(
        f"out of memory at step {step + 1}: set data.batch_size to {smaller} (now {batch}) and "
        f"training.grad_accum_steps to {batch * accumulated // smaller} (now {accumulated}), and run again"
    )
