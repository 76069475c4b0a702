"""The ranks of a run: one process, or those that torchrun started.

- Flags travel over gloo even between GPUs, so agreeing on one never waits for the GPU's queue.
- DDP has a group of its own, because it never lets go of it: gloo's threads then outlive Python, and one that still
  holds a tensor of ours aborts the process (seen in 1 of 80 exits). The group that carries our tensors does end.
"""

from __future__ import annotations

import datetime
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
_PATIENCE = datetime.timedelta(minutes=30)  # for what the first rank does alone: saves, previews, baselines


@dataclass
class Ranks:
    rank: int
    size: int
    device: torch.device
    gradients: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Sum in place over all ranks."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.gradients if tensor.is_cuda else None)

    def any(self, flag: bool) -> bool:
        """True on every rank if it is on one."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns on the first rank, or the KwelaError it raises there, on every rank."""
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

    def wait(self) -> None:
        """Until every rank is here."""
        self.any(False)


def pick(device: str | None, local: int, size: int) -> torch.device:
    """The device of the `local`-th rank of this machine, of `size` ranks in all.

    device: "cpu", "cuda", "cuda:1" or "mps". None takes this rank's CUDA GPU, else Apple's (which one process alone can
    use), else the CPU. Raises UserError for another name, or a device that is not here.
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
    index, there = int(number) if colon else local, torch.cuda.device_count()
    if index >= there:
        raise UserError(f"--device cuda:{index}: this machine has {there} CUDA GPUs, counted from 0")
    return torch.device("cuda", index)


@contextmanager
def joined(device: str | None) -> Iterator[Ranks]:
    """This process among its ranks, on the device of `pick`."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    chosen = pick(device, int(os.environ.get("LOCAL_RANK", 0)), size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Ranks(0, 1, chosen)
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    team = Ranks(dist.get_rank(), size, chosen)
    try:
        team.gradients = dist.new_group(
            backend="nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE
        )
        yield team
    finally:
        team.gradients = None
        dist.destroy_process_group()
