"""The order of the data and all random seeds, as functions of (seed, epoch, index) and never as state.

- The permutation of an epoch is f(seed, epoch); an item's random generator is f(seed, epoch, index); the seed
  of the model's own randomness (dropout) is f(seed, step, rank). None of them needs to be saved.
- A step takes `batch x ranks x accumulation` consecutive entries of the permutation. How these are divided
  among ranks and micro-batches changes no random draw, so neither workers nor ranks change the run.
- Training epochs count from 1. Validation is always epoch 0, in the order of the file.
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
from kwela.engine import row_faults, signals
from kwela.engine.task import Batch, Items, Task
from kwela.errors import KwelaError

VALIDATION = 0

# The use of a seed is part of its key, so that no two uses share a stream of random numbers.
_ORDER, _ITEM, _STEP, _INIT, _EVALUATION = range(5)


class MicroBatch(NamedTuple):
    """The items of one micro-batch of one rank. One that is not `live` adds nothing (see `micro_batches`)."""

    epoch: int
    indexes: tuple[int, ...]
    live: bool


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of `count` items in `epoch` (from 1), int64."""
    return _generator(_ORDER, seed, epoch).permutation(count)


def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator for the augmentation of item `index` in `epoch`."""
    return _generator(_ITEM, seed, epoch, index)


def read_item(items: Items, index: int, epoch: int, seed: int) -> Any:
    """Return item `index` as `epoch` sees it. Raises RowFailed, which names its row.

    Its generator is that of its number: the index that it had when the run began (see `data_rows`).
    """
    numbers, places = getattr(items, "numbers", None), getattr(items, "places", None)
    number = index if numbers is None else int(numbers[index])
    place = places[index] if places else ""
    return row_faults.read(lambda: items.item(index, item_rng(seed, epoch, number)), place, epoch)


def held_out_item(items: Items, index: int, seed: int) -> Any:
    """Return item `index` as every validation sees it. Raises as `read_item`."""
    return read_item(items, index, VALIDATION, seed)


def init_seed(seed: int) -> int:
    """Return torch's seed for the first weights, equal on all ranks."""
    return _torch_seed(_INIT, seed)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return torch's seed for the step after `step` on `rank`: its dropout depends on no earlier step."""
    return _torch_seed(_STEP, seed, step, rank)


def evaluation_seed(seed: int, step: int, rank: int) -> int:
    """Return torch's seed for the evaluation at `step`."""
    return _torch_seed(_EVALUATION, seed, step, rank)


def micro_batches(
    order: np.ndarray, epoch: int, batch_size: int, rank: int, rank_count: int
) -> list[MicroBatch]:
    """Divide `order` into micro-batches of at most `batch_size`; return those of `rank`.

    Every rank has the same number of them. At an uneven end a rank may have no item left. It then gets the
    first entry in a micro-batch that is not live: the rank runs the same collective operations as the others,
    and adds zero to the loss and to its weight.
    """
    result = []
    for start in range(0, len(order), batch_size * rank_count):
        own_start = start + rank * batch_size
        indexes = order[own_start : min(own_start + batch_size, len(order))]
        live = len(indexes) > 0
        result.append(MicroBatch(epoch, tuple((indexes if live else order[:1]).tolist()), live))
    return result


class Batches(Dataset):
    """A data set whose keys are micro-batches and whose values are their batches.

    A KwelaError is returned as a value, because a data worker would wrap a raised one in its traceback.
    """

    def __init__(self, task: Task, items: Items, seed: int) -> None:
        self.task, self.items, self.seed = task, items, seed

    def __getitem__(self, micro_batch: MicroBatch) -> Batch | KwelaError:
        """Return the batch, or the error that one of its items raised."""
        try:
            indexes, epoch = micro_batch.indexes, micro_batch.epoch
            return self.task.collate([read_item(self.items, index, epoch, self.seed) for index in indexes])
        except KwelaError as error:
            return error


class Feed:
    """Makes batches in data.num_workers processes, which live as long as the feed."""

    def __init__(
        self, task: Task, items: Items, data: Data, seed: int, pin: bool, keep_workers: bool
    ) -> None:
        self.micro_batches: list[MicroBatch] = []
        self.running: Iterator[Any] | None = None
        workers = data.num_workers
        self.loader: DataLoader = DataLoader(
            Batches(task, items, seed),
            batch_size=None,
            sampler=self.micro_batches,
            collate_fn=_as_is,
            num_workers=workers,
            prefetch_factor=data.prefetch_factor if workers else None,
            persistent_workers=keep_workers and workers > 0,
            pin_memory=pin,
            generator=torch.Generator(),  # otherwise iter() draws from the generator of the model
            worker_init_fn=functools.partial(_start_worker, os.getpid()),
        )

    def __call__(self, micro_batches: list[MicroBatch]) -> Iterator[Batch]:
        """Yield the batch of each micro-batch, in order. Raises the KwelaError of an item."""
        self.micro_batches[:] = micro_batches
        self.running = iter(self.loader)
        for batch in self.running:
            if isinstance(batch, KwelaError):
                raise batch
            yield batch

    def close(self) -> None:
        """End the workers. This must be called: they ignore the signal with which Python ends children."""
        shut_down = getattr(self.running, "_shutdown_workers", None)  # torch has no public name for it
        if shut_down:
            shut_down()


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(parent: int, _: int) -> None:
    signals.die_with_parent(parent)
    signals.ignore_stop_signals()  # they reach the whole process group; the training process ends its workers


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _torch_seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
