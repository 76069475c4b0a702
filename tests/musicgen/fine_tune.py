"""A small real fine-tune in a process of its own, for tests that kill it.

`python fine_tune.py TABLE PLACE STAND_IN OUT [a.b=c]...`: every draw that a run may have is on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import musicgen_set
import torch
import yaml

from kwela.engine import loop
from kwela.engine.session import Session
from kwela.engine.task import Batch, Mean
from kwela.errors import KwelaError
from kwela.musicgen.config import MusicgenConfig
from kwela.musicgen.task import MusicgenTask

LORA = ("model.tuning=lora", "model.rank=4", "model.dropout=0.1", "augment.condition_dropout=0.3")
STEPS = 12
SETTINGS = (
    f"training.max_steps={STEPS}",
    "training.epochs=20",
    "training.log_every=1",
    "training.save_every_steps=2",
    "training.eval_every_steps=5",
    "data.seconds=1",
    "scheduler.warmup_steps=4",
)


class Slow(MusicgenTask):
    """Gives whoever kills it time to aim."""

    seconds = 0.0

    def losses(self, model: torch.nn.Module, batch: Batch) -> dict[str, Mean]:
        time.sleep(self.seconds)
        return super().losses(model, batch)


def settings(table: Path, place: Path, stand_in: Path, *overrides: str) -> MusicgenConfig:
    made = musicgen_set.settings(table, place, stand_in)
    for override in overrides:
        key, _, text = override.partition("=")
        group, name = key.split(".")
        setattr(getattr(made, group), name, yaml.safe_load(text))
    return made


def fit(made: MusicgenConfig, out: Path, slow: float = 0.0, **more: Any) -> loop.Outcome:
    """more: fields of the Session."""
    said: list[str] = []
    task = Slow(made, workers=1, device="cpu", say=said.append)
    task.seconds = slow
    given = {"data_hash": "data", "tokenizer_hash": task.fingerprint, "device": "cpu", "quiet": True} | more
    return loop.fit(task, made, out, Session(**given))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        fit(settings(*map(Path, sys.argv[1:4]), *sys.argv[5:]), Path(sys.argv[4]), slow=0.1)
    except KwelaError as error:
        sys.exit(f"{error.status}: {error}")
