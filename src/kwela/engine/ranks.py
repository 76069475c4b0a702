"""The ranks of a run: one process, or those that torchrun started.

- Flags are exchanged over gloo even between GPUs, so agreeing on a flag never waits for the GPU's queue.
- DDP has a process group of its own, because it never releases the group. The threads of gloo then outlive
  Python, and a thread that still holds a tensor aborts the process (seen in 1 of 80 exits). The group that
  carries the tensors of this module is destroyed at the end.
"""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from kwela.errors import KwelaError, UserError

T = TypeVar("T")
_TIMEOUT = datetime.timedelta(minutes=30)  # the other ranks wait while the first saves, draws or evaluates


@dataclass
class Ranks:
    """This process among the ranks of a run. gradients: the process group of DDP, None with one rank."""

    rank: int
    size: int
    device: torch.device
    gradients: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this is the rank that prints and writes files."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Sum in place over all ranks."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.gradients if tensor.is_cuda else None)

    def any(self, flag: bool) -> bool:
        """Return True on every rank if `flag` is true on any of them."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def from_first(self, make: Callable[[], T]) -> T:
        """Return on every rank what `make` returns on the first, or raise its KwelaError on all."""
        box: list[Any] = [None]
        if self.first:
            try:
                box = [make()]
            except KwelaError as error:
                box = [error]
        if self.size > 1:
            dist.broadcast_object_list(box)
        if isinstance(box[0], KwelaError):
            raise box[0]
        return box[0]

    def together(self, make: Callable[[], T]) -> T:
        """Return what `make` returns on this rank; if it fails on any, raise its KwelaError on every rank."""
        if self.size == 1:
            return make()
        result: Any = None
        error: KwelaError | None = None
        try:
            result = make()
        except KwelaError as failure:
            error = failure
        if self.any(error is not None):
            errors: list[Any] = [None] * self.size
            dist.all_gather_object(errors, error)
            first = next(each for each in errors if each is not None)
            first.on_all_ranks = True
            raise first
        return result

    def take(self, values: Iterator[T], count: int) -> Iterator[T]:
        """Return the next `count` values. With several ranks, an error of one is raised on all."""
        if self.size == 1:
            return values
        return iter(self.together(lambda: list(itertools.islice(values, count))))

    def wait(self) -> None:
        """Wait until every rank has called this."""
        self.any(False)


def pick(device: str | None, local: int, size: int) -> torch.device:
    """Return the device of the `local`-th rank of this machine, of `size` ranks in all.

    device: "cpu", "cuda", "cuda:1" or "mps". None takes this rank's CUDA GPU, or else Apple's GPU (which only
    one process can use), or else the CPU. Raises UserError for another name, or a device that this machine
    lacks.
    """
    if device is None:
        apple = size == 1 and torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise UserError(f"--device {device}: unknown; use cpu, cuda, cuda:1 (its number) or mps")
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: no Apple GPU here; use --device cpu")
        if size > 1:
            raise UserError(
                f"--device mps: one process alone can use it, and there are {size} ranks; use --device cpu"
            )
        return torch.device("mps")
    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: no CUDA GPU here; use --device cpu")
    index, gpu_count = int(number) if colon else local, torch.cuda.device_count()
    if index >= gpu_count:
        raise UserError(f"--device cuda:{index}: this machine has {gpu_count} CUDA GPUs, counted from 0")
    return torch.device("cuda", index)


@contextmanager
def joined(device: str | None) -> Iterator[Ranks]:
    """Join the ranks that torchrun started, or run alone, on the device that `pick` returns."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    chosen = pick(device, int(os.environ.get("LOCAL_RANK", 0)), size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Ranks(0, 1, chosen)
        return
    dist.init_process_group("gloo", timeout=_TIMEOUT)
    team = Ranks(dist.get_rank(), size, chosen)
    try:
        team.gradients = dist.new_group(backend="nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
        yield team
    finally:
        team.gradients = None
        dist.destroy_process_group()
