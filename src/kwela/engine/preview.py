"""Previews: pictures and samples of an epoch's model in `previews/epoch_N`, whole or absent.

They are drawn after the save, so that none can cost an epoch; a run killed in between draws the missing one when it
goes on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn

from kwela.engine.task import Task


def folder(out: Path, epoch: int) -> Path:
    return out / "previews" / f"epoch_{epoch}"


def remove(out: Path, epoch: int) -> None:
    """Before the save of `epoch`: what a run that went back to an older checkpoint left there is not this epoch's."""
    shutil.rmtree(folder(out, epoch), ignore_errors=True)


def draw(task: Task, model: nn.Module, out: Path, epoch: int) -> None:
    place = folder(out, epoch)
    draft = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with torch.no_grad():
        task.preview(model, draft)
    draft.replace(place)
