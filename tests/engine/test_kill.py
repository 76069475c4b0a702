"""SIGKILL at any moment, and the run still ends in the same bits.

Each run is a process of its own (or two, over gloo, as torchrun would start them) that is killed at random
moments, and once in the middle of writing a checkpoint; after each kill the same command is run again. At the
end every checkpoint and every logged figure equals those of a run that nobody killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs import STEPS, differences, start, status

from kwela.engine import checkpoint


def finish(processes: list[subprocess.Popen]) -> list[str]:
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def step_of(out: Path) -> int:
    try:
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"] if lines else 0
    except (FileNotFoundError, json.JSONDecodeError):
        return 0


def killed(processes: list[subprocess.Popen], out: Path, dice: random.Random) -> bool:
    """Kill all ranks when a random step is reached, or one of them; then end the others as torchrun does."""
    goal = min(step_of(out) + dice.randint(1, 7), STEPS)
    while step_of(out) < goal and all(process.poll() is None for process in processes):
        time.sleep(0.002)
    time.sleep(dice.random() * 0.05)
    finished = all(process.poll() == 0 for process in processes)
    for process in processes if dice.random() < 0.7 else [dice.choice(processes)]:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        leave(process)
    return not finished


def leave(process: subprocess.Popen) -> None:
    """A rank whose sibling died leaves by itself, unless it is still waiting to meet it."""
    try:
        said = process.communicate(timeout=10)[1]
        assert process.returncode in (0, 1, -signal.SIGKILL), said
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=10)


def survives(tmp_path: Path, workers: int, ranks: int, dtype: str, kills: int) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    cell = (workers, ranks, dtype)
    dice = random.Random(f"{cell} {os.environ.get('KWELA_TEST_SEED', 0)}")
    finish(start(whole, *cell))
    assert checkpoint.load(whole / "last.pt")["progress"]["step"] == STEPS
    died = 0
    for kill in range(kills):
        if kill == kills // 2:
            processes = start(part, *cell, "--slow", "0.01", "--die-while-saving", str(dice.randint(1, 2)))
            processes[0].communicate(timeout=120)
            if processes[0].returncode == -signal.SIGKILL:
                assert list(part.glob(".*.pt.tmp"))  # half a checkpoint was on disk
                died += 1
            for process in processes[1:]:
                leave(process)
            continue
        died += killed(start(part, *cell, "--slow", "0.01"), part, dice)
    assert died >= kills // 2
    finish(start(part, *cell))
    assert differences(whole, part) == []
    assert status(part)["state"] == "finished"
    assert not list(part.glob(".*.tmp"))
    assert [
        pid for pid in Path("/proc").glob("[0-9]*") if str(part) in command_of(pid)
    ] == []  # no worker is left


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(("workers", "ranks", "dtype"), [(0, 1, "fp32"), (2, 1, "bf16"), (2, 2, "fp32")])
def test_a_killed_run_ends_in_the_same_bits(tmp_path, workers, ranks, dtype):
    survives(tmp_path, workers, ranks, dtype, kills=2)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_eight_kills_change_nothing_in_any_cell(tmp_path, workers, ranks, dtype):
    survives(tmp_path, workers, ranks, dtype, kills=8)


@pytest.mark.full
def test_four_ranks_sum_in_the_same_order_after_a_kill(tmp_path):
    """Two ranks commute; from three on, the order in which DDP sums its buckets shows in the last bit."""
    survives(tmp_path, 0, 4, "fp32", kills=4)
