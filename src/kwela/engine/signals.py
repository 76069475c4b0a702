"""Turn SIGTERM, SIGINT and SIGHUP into a request that the training loop checks between steps."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kwela.errors import Interrupted

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """The signal that asked this process to stop, or None.

    deferred: False before there is anything to save; a signal then stops the process at once.
    """

    signal: signal.Signals | None = None
    deferred = False

    @property
    def name(self) -> str:
        """The signal's name, for messages."""
        return self.signal.name if self.signal else "a signal to another rank"

    def __bool__(self) -> bool:
        """Return whether a signal has come."""
        return self.signal is not None


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask a run to stop. A SIGHUP that is ignored, as under nohup, stays ignored."""
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in _STOP_SIGNALS if not (nohup and number == signal.SIGHUP)]


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """Note stop signals instead of ending. A second SIGINT raises KeyboardInterrupt. Main thread only."""
    request = StopRequest()

    def note(number: int, _: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)
        if not request.deferred:
            raise Interrupted(
                f"stopped by {request.signal.name} before the first step; run the same command again"
            )

    before = {number: signal.signal(number, note) for number in stop_signals()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals() -> None:
    """Ignore stop signals in this process, a data worker: a signal to the process group reaches it too."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def die_with_parent(parent: int) -> None:
    """End this process when its parent, process `parent`, ends in whatever way.

    torch's own watch misses a parent that died before the worker had started.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
