"""What is drawn, as functions of (seed, epoch, index) and never as state.

- The permutation of an epoch is f(seed, epoch); an item's random generator is f(seed, epoch, index); the seed of the
  model's own randomness (dropout) is f(seed, step, rank). Nothing about them needs saving.
- A step takes `batch x ranks x accumulation` consecutive entries of the permutation. How they are dealt out to ranks
  and micro-batches changes no draw, so neither workers nor ranks change the run.
- Training epochs count from 1. Validation is epoch 0, always, in file order.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from kwela.config import Data
from kwela.engine import signals
from kwela.engine.task import Batch, Items, Task
from kwela.errors import KwelaError

VALIDATION = 0

# What a seed is for. Part of every key, so that no two uses share a stream.
_ORDER, _ITEM, _STEP, _INIT, _EVALUATION = range(5)


class Draw(NamedTuple):
    """One micro-batch of one rank. `live` is False for a stand-in that counts for nothing (see `shares`)."""

    epoch: int
    indexes: tuple[int, ...]
    live: bool


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` items in `epoch` (from 1), int64."""
    return _generator(_ORDER, seed, epoch).permutation(count)


def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator that item `index` draws its augmentation from in `epoch`."""
    return _generator(_ITEM, seed, epoch, index)


def held_out_item(items: Items, index: int, seed: int) -> Any:
    """Item `index` as validation sees it, always."""
    return items.item(index, item_rng(seed, VALIDATION, index))


def init_seed(seed: int) -> int:
    """Torch's seed for the first weights, equal on all ranks."""
    return _torch_seed(_INIT, seed)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Torch's seed for the step after `step` on `rank`: dropout there depends on nothing that went before."""
    return _torch_seed(_STEP, seed, step, rank)


def evaluation_seed(seed: int, step: int, rank: int) -> int:
    """Torch's seed for the evaluation at `step`."""
    return _torch_seed(_EVALUATION, seed, step, rank)


def shares(order: np.ndarray, epoch: int, batch: int, rank: int, ranks: int) -> list[Draw]:
    """Deal `order` out as micro-batches of at most `batch` and return those of `rank`: the same number on every rank.

    An uneven end leaves ranks with nothing. Such a rank gets the first entry as a stand-in that is not live: it runs
    the same collectives as the others, and adds zero to the loss and to its weight.
    """
    draws = []
    for low in range(0, len(order), batch * ranks):
        mine = order[low + rank * batch : min(low + (rank + 1) * batch, len(order))]
        live = len(mine) > 0
        draws.append(Draw(epoch, tuple((mine if live else order[:1]).tolist()), live))
    return draws


class Batches(Dataset):
    """Items as batches, keyed by Draw. A KwelaError comes back as a value: a worker would wrap it in its traceback."""

    def __init__(self, task: Task, items: Items, seed: int) -> None:
        self.task, self.items, self.seed = task, items, seed

    def __getitem__(self, draw: Draw) -> Batch | KwelaError:
        try:
            return self.task.collate(
                [self.items.item(index, item_rng(self.seed, draw.epoch, index)) for index in draw.indexes]
            )
        except KwelaError as error:
            return error


class Feed:
    """Batches of the draws it is given, made by data.num_workers processes; the workers live as long as the feed."""

    def __init__(
        self, task: Task, items: Items, data: Data, seed: int, pin: bool, keep_workers: bool
    ) -> None:
        self.draws: list[Draw] = []
        self.running: Iterator[Any] | None = None
        workers = data.num_workers
        self.loader: DataLoader = DataLoader(
            Batches(task, items, seed),
            batch_size=None,
            sampler=self.draws,
            collate_fn=_as_is,
            num_workers=workers,
            prefetch_factor=data.prefetch_factor if workers else None,
            persistent_workers=keep_workers and workers > 0,
            pin_memory=pin,
            generator=torch.Generator(),  # else iter() would draw from the model's generator
            worker_init_fn=functools.partial(_start_worker, os.getpid()),
        )

    def __call__(self, draws: list[Draw]) -> Iterator[Batch]:
        self.draws[:] = draws
        self.running = iter(self.loader)
        for batch in self.running:
            if isinstance(batch, KwelaError):
                raise batch
            yield batch

    def close(self) -> None:
        """End the workers. Must be called: they ignore the signal by which Python ends children that are left."""
        shut_down = getattr(self.running, "_shutdown_workers", None)  # torch has no public name for it
        if shut_down:
            shut_down()


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(parent: int, _: int) -> None:
    signals.die_with(parent)
    signals.ignore()  # torchrun and Ctrl-C signal the whole group; the training process decides when workers end


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _torch_seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
