"""SIGTERM, SIGINT and SIGHUP as a question the loop asks between steps, instead of a death in the middle of one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kwela.errors import Interrupted

_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Asked:
    """The signal that asked this process to stop, if any. Until there is something to save, it stops at once."""

    signal: signal.Signals | None = None
    patient = False

    def __bool__(self) -> bool:
        return self.signal is not None


def heard() -> list[signal.Signals]:
    """The signals that ask a run to stop. A SIGHUP that is ignored, as under nohup, stays so."""
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in _ASKING if not (nohup and number == signal.SIGHUP)]


@contextmanager
def watched() -> Iterator[Asked]:
    """Note them instead of dying; a second SIGINT interrupts at once. Main thread only."""
    asked = Asked()

    def note(number: int, _: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.signal = signal.Signals(number)
        if not asked.patient:
            raise Interrupted(
                f"stopped by {asked.signal.name} before the first step; run the same command again"
            )

    before = {number: signal.signal(number, note) for number in heard()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """Be deaf to them: for the data workers, whom a signal to the whole group reaches too."""
    for number in _ASKING:
        signal.signal(number, signal.SIG_IGN)


def die_with(parent: int) -> None:
    """End when `parent`, our parent process, ends in whatever way. Torch's own watch misses one that died early."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
