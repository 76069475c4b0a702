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


@contextmanager
def joined(device: str | None) -> Iterator[Ranks]:
    """This process among its ranks. device: None takes this rank's GPU, or the CPU where there is none."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"--device {device}: no CUDA GPU here; use --device cpu")
        chosen = torch.device("cuda", local if chosen.index is None else chosen.index)
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Ranks(0, 1, chosen)
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    team = Ranks(dist.get_rank(), size, chosen)
    try:
        team.gradients = dist.new_group(backend="nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
        yield team
    finally:
        team.gradients = None
        dist.destroy_process_group()
