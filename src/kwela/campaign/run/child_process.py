"""Run training in a process group of its own, which saves and ends when the process that started it is gone.

So a killed orchestrator may leave a group that is still saving. The group holds a lock for as long as any of
its processes lives, and the locked file holds its number: the next orchestrator waits for that group, and
does not take another process that got the same number for it.
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

# Seconds that training has to save in.
GRACE_ON_NOTICE = 100.0  # when the machine is going: a spot instance has 120 from its notice
GRACE = 600.0  # otherwise: gigabytes of weights and moments on a slow disk take their time
KILL_WAIT = 30.0  # until a killed process is gone; one that waits for a lost disk or a broken driver stays
CHECK_INTERVAL = 0.1
# Starts the command argv[2:] with a request to the kernel: SIGTERM when the parent dies (PR_SET_PDEATHSIG is
# 1, and exec keeps it; Linux alone has it). Nothing would check the budget of a training that outlives its
# orchestrator.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit(75)
os.execvp(sys.argv[2], sys.argv[2:])
"""


# The numbers of the groups that run now. The watchdog ends them where the loop can't.
running_groups: set[int] = set()


class ChildProcess:
    """A running `command`. lock: the file that it keeps locked. out, errors: its output; None: as ours."""

    def __init__(
        self,
        command: Sequence[str],
        lock: Path,
        out: IO[bytes] | None = None,
        errors: IO[bytes] | None = None,
    ) -> None:
        handle = open_locked(lock)
        assert handle is not None, f"{lock}: stop what holds it first"
        try:
            # If we are killed before the new number is in, the file must not hold the old one.
            os.ftruncate(handle, 0)
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(os.getpid()), *command],
                start_new_session=True,
                pass_fds=(handle,),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
            running_groups.add(self.process.pid)
            try:
                os.pwrite(handle, str(self.process.pid).encode(), 0)
            except OSError:  # a full disk: without its number nothing could find the group again
                self.stop(lambda: 0.0)
                raise
        finally:
            os.close(handle)  # the child's copy keeps the lock

    def poll(self) -> int | None:
        """Return the exit status; negative: the signal that killed it; None: it runs."""
        status = self.process.poll()
        if status is not None:
            running_groups.discard(self.process.pid)
        return status

    def stop(
        self,
        grace: Callable[[], float] = lambda: GRACE,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> int:
        """Ask the group to save and end, and kill it once its time is up. Returns its exit status.

        grace: how many seconds it has; asked again and again, because a spot notice may come meanwhile, from
        which on fewer are left. while_waiting: called again and again until it has ended. Raises KwelaError
        if it doesn't end even when it is killed.
        """
        if (status := self.poll()) is not None:
            return status
        _signal_group(self.process.pid, signal.SIGTERM)
        allowed = grace()
        deadline = time.monotonic() + allowed
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                _signal_group(self.process.pid, signal.SIGKILL)
                return self._wait_until_killed()
            time.sleep(CHECK_INTERVAL)
            while_waiting()
            if (less := grace()) < allowed:
                allowed, deadline = less, min(deadline, time.monotonic() + less)
        return status

    def _wait_until_killed(self) -> int:
        try:
            status = self.process.wait(KILL_WAIT)
        except subprocess.TimeoutExpired:
            raise KwelaError(
                f"process {self.process.pid} doesn't end even when it is killed: it waits for a disk, a file "
                "system or a driver; restart the machine, then go on with --resume"
            ) from None
        running_groups.discard(self.process.pid)
        return status


def stop_orphan(
    lock: Path, grace: Callable[[], float] = lambda: GRACE, while_waiting: Callable[[], None] = lambda: None
) -> int | None:
    """End the group that a killed orchestrator left, once it has saved. The parameters are those of `stop`.

    Returns its number; None if nothing runs. Raises KwelaError if it does not end.
    """
    handle = open_locked(lock)
    if handle is not None:
        os.close(handle)
        return None
    number = lock.read_bytes()
    group = int(number) if number.isdigit() else 0
    _signal_group(group, signal.SIGTERM)
    allowed = grace()
    deadline = time.monotonic() + allowed
    while (handle := open_locked(lock)) is None:
        if time.monotonic() > deadline:
            _signal_group(group, signal.SIGKILL)
        if time.monotonic() > deadline + CHECK_INTERVAL * 100:
            raise KwelaError(
                f"{lock}: held by a process that doesn't end (number {group or 'unknown'}): stop it first"
            )
        time.sleep(CHECK_INTERVAL)
        while_waiting()
        if (less := grace()) < allowed:
            allowed, deadline = less, min(deadline, time.monotonic() + less)
    os.close(handle)
    return group


def open_locked(lock: Path) -> int | None:
    """Return a handle of the file with its lock held; None if another process holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _signal_group(group: int, number: signal.Signals) -> None:
    if group > 1:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
