"""Training in a process group of its own, on a leash: it saves and ends when whoever started it is gone.

A killed orchestrator may so leave a group that is still saving. It holds a lock for as long as any of it lives, and its
number stands in the locked file: the next orchestrator waits for it, and tells it from one whose number is another's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from kwela.errors import KwelaError

GRACE = 100.0  # seconds to save in when the machine is going: a spot instance has 120 from its notice
PATIENCE = 600.0  # otherwise: gigabytes of weights and moments on a slow disk take their time
LOOK = 0.1
# Nobody would look at the budget of one that outlives us. Linux alone has it: PR_SET_PDEATHSIG (1), which exec keeps.
LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit(75)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Child:
    """`command`, running. lock: the file whose lock it holds. out, errors: where it writes; None: where we do."""

    def __init__(
        self,
        command: Sequence[str],
        lock: Path,
        out: IO[bytes] | None = None,
        errors: IO[bytes] | None = None,
    ) -> None:
        handle = _locked(lock)
        assert handle is not None, f"{lock}: stop what holds it first"
        try:
            os.ftruncate(
                handle, 0
            )  # no number rather than the last one's, if we are killed before the next is in
            self.process = subprocess.Popen(
                [sys.executable, "-c", LEASH, str(os.getpid()), *command],
                start_new_session=True,
                pass_fds=(handle,),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
            try:
                os.pwrite(handle, str(self.process.pid).encode(), 0)
            except OSError:  # a full disk: nobody could find it again
                self.stop(grace=0.0)
                raise
        finally:
            os.close(handle)  # the child's copy keeps the lock

    def poll(self) -> int | None:
        """Its exit status; negative: the signal that killed it; None: it runs."""
        return self.process.poll()

    def stop(self, grace: float = PATIENCE, waiting: Callable[[], None] = lambda: None) -> int:
        """Ask it to save and end, kill it after `grace` seconds; returns its exit status. waiting: called meanwhile."""
        _signal(self.process.pid, signal.SIGTERM)
        until = time.monotonic() + grace
        while self.process.poll() is None:
            if time.monotonic() > until:
                _signal(self.process.pid, signal.SIGKILL)
                return self.process.wait()
            time.sleep(LOOK)
            waiting()
        return self.process.returncode


def stop_stray(lock: Path, grace: float = PATIENCE) -> int | None:
    """Wait for what a killed orchestrator left saving, or end it; returns its number, None if nothing runs."""
    handle = _locked(lock)
    if handle is not None:
        os.close(handle)
        return None
    number = lock.read_bytes()
    stray = int(number) if number.isdigit() else 0
    _signal(stray, signal.SIGTERM)
    until = time.monotonic() + grace
    while (handle := _locked(lock)) is None:
        if time.monotonic() > until:
            _signal(stray, signal.SIGKILL)
        if time.monotonic() > until + LOOK * 100:
            raise KwelaError(
                f"{lock}: held by a process that doesn't end (number {stray or 'unknown'}): stop it first"
            )
        time.sleep(LOOK)
    os.close(handle)
    return stray


def _locked(lock: Path) -> int | None:
    """The file, opened with its lock held; None if another process holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _signal(group: int, number: signal.Signals) -> None:
    if group > 1:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
