"""Work that was done stays done, and one bad item costs only itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kwela.corpus import parallel


def square(number: int, log: str = "") -> int:
    if log:
        with Path(log).open("a") as file:
            file.write(f"{number}\n")
    return number * number


def die_at_13(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dead(number: int) -> str:
    return f"{number} died"


def refuse(number: int) -> int:
    raise RuntimeError(f"no {number}")


def sleep_a_second(log: str) -> None:
    square(1, log)
    time.sleep(1)


def run(function, items, journal: Path, **how):
    return parallel.run(function, items, journal, label="x", result_of_crash=dead, quiet=True, **how)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_by_key_in_the_order_asked_whatever_the_workers(tmp_path, workers):
    items = {f"k{n}": (n,) for n in range(40)}
    assert list(run(square, items, tmp_path / "j", workers=workers).items()) == [
        (f"k{n}", n * n) for n in range(40)
    ]


def test_any_executor_will_do(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        assert run(square, {"a": (3,)}, tmp_path / "j", executor=executor) == {"a": 9}


def test_what_the_journal_holds_is_not_done_again(tmp_path):
    log = str(tmp_path / "log")
    run(square, {"a": (2, log), "b": (3, log)}, tmp_path / "j")
    assert run(square, {"b": (3, log), "c": (4, log)}, tmp_path / "j") == {"b": 9, "c": 16}
    assert Path(log).read_text().split() == ["2", "3", "4"]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"16]", b"17]")])
def test_a_torn_or_altered_line_is_done_again_and_hurts_no_other(tmp_path, damage):
    journal = tmp_path / "j"
    run(square, {"a": (2,), "b": (4,)}, journal)
    journal.write_bytes(damage(journal.read_bytes()))
    assert parallel.read_journal(journal) == {"a": 4}
    assert run(square, {"a": (2,), "b": (4,), "c": (1,)}, journal) == {"a": 4, "b": 16, "c": 1}
    assert parallel.read_journal(journal) == {"a": 4, "b": 16, "c": 1}


def test_an_item_that_kills_its_worker_is_named_and_the_others_finish(tmp_path):
    items = {str(n): (n,) for n in range(24)}
    expected = {str(n): "13 died" if n == 13 else n for n in range(24)}
    assert run(die_at_13, items, tmp_path / "j", workers=2) == expected
    assert "13" not in parallel.read_journal(tmp_path / "j")  # the next run tries it again


def test_an_exception_of_the_function_ends_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="no 5"):
        run(refuse, {"a": (5,)}, tmp_path / "j")


PROGRAM = """
from pathlib import Path
from kwela.corpus import parallel
items = {str(n): (-n,) for n in range(24)}
print(parallel.run(abs, items, Path("j"), label="x", result_of_crash=abs, workers=2, quiet=True)["7"])
"""


def test_a_signal_waits_for_what_is_under_way_and_not_for_the_queue(tmp_path):
    log = tmp_path / "log"

    def ask(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, ask)
    command = f"while [ ! -s {log} ]; do sleep 0.05; done; kill -USR1 {os.getpid()}"
    with subprocess.Popen(["sh", "-c", command]):
        try:
            with pytest.raises(KeyboardInterrupt):
                run(
                    sleep_a_second,
                    {f"k{n}": (str(log),) for n in range(16)},
                    tmp_path / "j",
                    workers=2,
                    min_items_per_worker=1,
                )
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert 1 <= len(log.read_text().split()) <= 5  # of 8 that were handed to the pool


def test_a_program_from_stdin_does_without_workers(tmp_path):
    done = subprocess.run([sys.executable, "-"], input=PROGRAM, text=True, capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_workers_that_cannot_start_are_not_taken_for_bad_items(tmp_path):
    (tmp_path / "unguarded.py").write_text(PROGRAM)  # each worker would run it again
    done = subprocess.run([sys.executable, "unguarded.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "worker processes can't start" in done.stderr and done.stdout == ""
    assert parallel.read_journal(tmp_path / "j") == {}


def test_pruning_the_journal_keeps_only_what_is_asked(tmp_path):
    run(square, {"a": (2,), "b": (4,)}, tmp_path / "j")
    parallel.prune_journal(tmp_path / "j", keep=["b", "z"])
    assert parallel.read_journal(tmp_path / "j") == {"b": 16}
