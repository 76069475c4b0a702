"""The Chamfer distance, forward and backward, beside the form that writes out all pairs: seconds, and growth
of memory.

B = 16 clouds of N = 1,200 points, 2 threads, alternating in one run; medians. Memory is the growth of the
process's peak resident size over a run that has done everything but that one call, each form in a process of
its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from common import write
from kwela.spectocloud.chamfer import chamfer

BATCH, POINTS, THREADS, RUNS = 16, 1200, 2, 15
PEER = "broadcast squared distances", f"torch {torch.__version__}"


def broadcast(pred: Tensor, target: Tensor) -> Tensor:
    squared = (pred[:, :, None] - target[:, None]).square().sum(-1)
    return squared.min(2).values.mean() + squared.min(1).values.mean()


FORMS = {"ours": chamfer, "peer": broadcast}


def clouds(batch: int = BATCH, points: int = POINTS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(batch, points, 3, generator=generator, requires_grad=True),
        torch.rand(batch, points, 3, generator=generator),
    )


def growth(form: str) -> float:
    """MiB by which one call forward and backward raises the peak of this process, after a small one as
    warm-up.
    """
    small, large = clouds(2, 50), clouds()
    FORMS[form](*small).backward()
    before = peak()
    FORMS[form](*large).backward()
    return peak() - before


def peak() -> float:
    """Peak resident MiB of this process since it began (Linux; getrusage would count the parent's in)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    torch.set_num_threads(THREADS)
    if len(sys.argv) > 1:
        print(growth(sys.argv[1]))
        return
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(RUNS + 2):
        for form, run in FORMS.items():
            pred, target = clouds()
            began = time.perf_counter()
            run(pred, target).backward()
            seconds[form].append(time.perf_counter() - began)
    ours, peer = (1000 * statistics.median(seconds[form][2:]) for form in FORMS)
    write("chamfer_time", ours, peer, "ms", *PEER, lower_is_better=True)
    ours, peer = (
        float(
            subprocess.run(
                [sys.executable, __file__, form], check=True, capture_output=True, text=True
            ).stdout
        )
        for form in FORMS
    )
    write("chamfer_memory", ours, peer, "MiB", *PEER, lower_is_better=True)


if __name__ == "__main__":
    main()
