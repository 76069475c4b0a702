"""Previews: pictures and samples of an epoch's model in `previews/epoch_N`, complete or absent.

A preview is drawn after the checkpoint is saved, so drawing it can't lose an epoch. A run that was killed in
between draws the missing preview when it is resumed. A preview that can't be drawn is said, and the run goes
on: a picture is worth less than a training.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from kwela import files
from kwela.engine.task import Task
from kwela.errors import Interrupted, KwelaError


def folder(out: Path, epoch: int) -> Path:
    """Return the folder of an epoch's preview in the checkpoint folder `out`."""
    return out / "previews" / f"epoch_{epoch}"


def remove(out: Path, epoch: int) -> None:
    """Remove the preview of `epoch` that an earlier session may have drawn from other weights."""
    shutil.rmtree(folder(out, epoch), ignore_errors=True)


def draw(task: Task, model: nn.Module, out: Path, epoch: int, say: Callable[[str], None]) -> None:
    """Draw the task's preview of `model` into the folder of `epoch`. say: told of the reason if it fails."""
    place = folder(out, epoch)
    try:
        with files.draft(place, durable=False) as draft, torch.no_grad():
            draft.mkdir()
            task.preview(model, draft)
    except Interrupted:
        raise
    except Exception as error:  # of any kind: a library's of fonts, of sound, of memory
        reason = " ".join(str(error).split()) or "no reason given"
        kind = "" if isinstance(error, KwelaError) else f"{type(error).__name__}: "
        say(f"No preview of epoch {epoch}: {kind}{reason[:300]}; training goes on")
