"""Previews: pictures and samples of an epoch's model in `previews/epoch_N`, complete or absent.

A preview is drawn after the checkpoint is saved, so drawing it can't lose an epoch. A run that was killed in
between draws the missing preview when it is resumed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn

from kwela import files
from kwela.engine.task import Task


def folder(out: Path, epoch: int) -> Path:
    """Return the folder of an epoch's preview in the checkpoint folder `out`."""
    return out / "previews" / f"epoch_{epoch}"


def remove(out: Path, epoch: int) -> None:
    """Remove the preview of `epoch` that an earlier session may have drawn from other weights."""
    shutil.rmtree(folder(out, epoch), ignore_errors=True)


def draw(task: Task, model: nn.Module, out: Path, epoch: int) -> None:
    """Draw the task's preview of `model` into the folder of `epoch`."""
    place = folder(out, epoch)
    with files.draft(place, durable=False) as draft, torch.no_grad():
        draft.mkdir()
        task.preview(model, draft)
