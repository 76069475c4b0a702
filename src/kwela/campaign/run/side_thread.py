"""Run calls that may hang in a thread beside the campaign's loop, which waits for each only so long.

Such calls are the GPU's meter (a driver that is lost) and TensorBoard's files (a file system that is lost).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class SideThread:
    """A thread that runs calls one after another. patience: seconds that a call is waited for.

    While an earlier call hangs, new ones are left out at once. The thread does not delay the interpreter's
    exit.
    """

    def __init__(self, name: str, patience: float) -> None:
        self.name, self.patience = name, patience
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], list[Any], threading.Event]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._last: threading.Event | None = None

    @property
    def hangs(self) -> bool:
        """Whether the last call has not ended yet."""
        return self._last is not None and not self._last.is_set()

    def call(self, work: Callable[[], Result], otherwise: Result) -> Result:
        """Return what `work` returns; `otherwise` if it doesn't end in time. Raises what it raises."""
        if self.hangs:
            return otherwise
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()
        outcome: list[Any] = []  # whether it raised, and the result or the exception
        self._last = threading.Event()
        self._calls.put((work, outcome, self._last))
        if not self._last.wait(self.patience):
            return otherwise
        raised, result = outcome
        if raised:
            raise result
        return result

    def _work(self) -> None:
        while True:
            work, outcome, ended = self._calls.get()
            try:
                outcome += [False, work()]
            except Exception as error:
                outcome += [True, error]
            ended.set()
