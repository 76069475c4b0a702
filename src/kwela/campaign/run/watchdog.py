"""End a campaign whose loop hangs, such as in a write to a file system that is lost.

Nothing else would then look at the budget, or hear a signal: Python calls a signal's handler in the main
thread. The watchdog is a thread that only reads what the loop last said. It warns once, and ends the training
and this process where the loop should have stopped it: the budget is spent, or a stop was asked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kwela import terminal
from kwela.campaign.run import child_process
from kwela.errors import BudgetSpent, Interrupted

LOOK_INTERVAL = 5.0  # seconds
SILENCE = 600.0  # seconds without a turn of the loop, after which it is reported, and the budget is looked at
STOP_SILENCE = child_process.GRACE_ON_NOTICE + 20.0  # the same once a stop was asked for


@dataclass(frozen=True)
class Money:
    """What the loop knew in its last turn, in dollars. usd_a_second: of real time."""

    usd: float
    usd_a_second: float
    most_usd: float  # with more than this, only the reserve is left


class Watchdog:
    """Watches the loop that calls `turn`. stop_requested: set once a signal or a notice asked for a stop.

    warn: gets one line when the loop hangs. end: ends this process with an exit status. Tests set the last
    three.
    """

    def __init__(
        self,
        stop_requested: threading.Event,
        warn: Callable[[str], None],
        end: Callable[[int], None] = os._exit,
        look_interval: float = LOOK_INTERVAL,
        silence: tuple[float, float] = (SILENCE, STOP_SILENCE),
    ) -> None:
        self.stop_requested, self.warn, self.end = stop_requested, warn, end
        self.look_interval, self.silence = look_interval, silence
        self._last_turn, self._money = time.monotonic(), Money(0.0, 0.0, float("inf"))
        self._asked_at: float | None = None
        self._has_warned = False
        self._done = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def turn(self, money: Money | None = None) -> None:
        """Note that the loop has taken a turn, and what it has cost by now."""
        self._last_turn, self._has_warned = time.monotonic(), False
        self._money = money or self._money

    def close(self) -> None:
        """Watch no longer."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(self.look_interval):
            if self._asked_at is None and self.stop_requested.is_set():
                self._asked_at = time.monotonic()
            status = self._overdue()
            if status and not self._done.is_set():
                self._end(status)
                return

    def _overdue(self) -> int:
        """Return the exit status with which the loop should have ended by now; 0 if it may go on."""
        now, money = time.monotonic(), self._money
        silent = now - self._last_turn
        long, after_stop = self.silence
        if self._asked_at is not None and min(silent, now - self._asked_at) > after_stop:
            return Interrupted.status
        if silent <= long:
            return 0
        if not self._has_warned:
            self._has_warned = True
            self.warn(f"the campaign's loop has not moved for {silent / 60:.0f} min: does its folder answer?")
        return BudgetSpent.status if money.usd + money.usd_a_second * silent > money.most_usd else 0

    def _end(self, status: int) -> None:
        why = "a stop was asked for" if status == Interrupted.status else "the budget is spent"
        self.warn(f"the campaign's loop hangs and {why}: training is ended from outside")
        groups = list(child_process.running_groups)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for group in groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)
            deadline = time.monotonic() + child_process.GRACE_ON_NOTICE
            while any(map(_lives, groups)) and number == signal.SIGTERM and time.monotonic() < deadline:
                time.sleep(0.1)
        self.end(status)


def _lives(group: int) -> bool:
    """Return whether a process of the group runs. One that has ended and waits for its parent doesn't."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        ended = os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # not a child of ours
        return True
    return ended is None


def say_to_stderr(line: str) -> None:
    """Print a line to stderr; a terminal that takes nothing is not waited for."""
    terminal.say(line, sys.stderr)
