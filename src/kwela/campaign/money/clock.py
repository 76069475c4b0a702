"""Read three clocks, because money, the calendar and a reboot are counted differently.

    wall     unix seconds; may jump when somebody sets it
    up       seconds since the machine started, suspended time included
    awake    the same without suspended time, in which a cloud instance isn't billed

`up` and `awake` never jump and go on when the process ends. So within one start of the machine a crash loses
no time, and setting the clock changes nothing. `wall` is used only after a new start.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

DAY, HOUR = 86400.0, 3600.0


@dataclass(frozen=True)
class ClockReading:
    """All three clocks at one moment, in seconds.

    boot: names this start of the machine. earlier_starts: (from, to) of the starts before it in wall time;
    `to` is None where the machine went down without a record.
    """

    boot: str
    wall: float
    up: float
    awake: float
    earlier_starts: tuple[tuple[float, float | None], ...] = ()


class Clock(Protocol):
    """What a campaign asks of a clock."""

    def read(self) -> ClockReading:
        """Return the time of now."""

    def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed on this clock."""


class MachineClock:
    """The clocks of this machine, `speed` times as fast: a rehearsal takes seconds for weeks."""

    SHORTEST_SLEEP = 0.02  # seconds, however fast the clock is

    def __init__(self, speed: float = 1.0) -> None:
        self.speed, self.began, self.suspended = speed, time.time(), _suspended_seconds()
        self.boot, self.earlier_starts = _boot_name(), _earlier_starts()

    def read(self) -> ClockReading:
        """Return the time of now."""
        awake, wall, suspended = time.monotonic(), time.time(), _suspended_seconds()
        if suspended - self.suspended > 1.0:  # less is the time between two readings
            self.suspended = suspended
        if self.speed != 1:
            wall = self.began + (wall - self.began) * self.speed
        up = (awake + self.suspended) * self.speed
        return ClockReading(self.boot, wall, up, awake * self.speed, self.earlier_starts)

    def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed on this clock."""
        time.sleep(max(self.SHORTEST_SLEEP, seconds / self.speed))


class FakeClock:
    """Clocks that move only when a method moves them: for simulation and tests."""

    def __init__(self, wall: float = 1.7e9) -> None:
        self.boots, self.wall, self.up, self.awake = 1, wall, 0.0, 0.0
        self.started, self.earlier_starts = wall, list[tuple[float, float | None]]()

    def read(self) -> ClockReading:
        """Return the time of now."""
        return ClockReading(str(self.boots), self.wall, self.up, self.awake, tuple(self.earlier_starts))

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.wall, self.up, self.awake = self.wall + seconds, self.up + seconds, self.awake + seconds

    def suspend(self, seconds: float) -> None:
        """Let `seconds` pass in which the machine is suspended."""
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def reboot(self, off: float = 0.0, orderly: bool = False) -> None:
        """Stop the machine for `off` seconds and start it again. orderly: it records when it goes down."""
        self.earlier_starts.append((self.started, self.wall if orderly else None))
        self.boots, self.wall, self.up, self.awake = self.boots + 1, self.wall + off, 0.0, 0.0
        self.started = self.wall

    def jump(self, seconds: float) -> None:
        """Set the wall clock `seconds` forward, or back if negative."""
        self.wall += seconds


def _suspended_seconds() -> float:
    """Return for how long this machine was suspended since it started."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def _boot_name() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Not Linux: all starts count as one, so that the time between two runs is billed rather than lost.
        return "one"


_UTMP = struct.Struct("hi32s4s32s256shhiii4i20s")  # struct utmp of glibc, 384 bytes
_BOOT_TIME, _RUN_LEVEL = 2, 1  # types of its records; see utmp(5)


def _earlier_starts(log: Path = Path("/var/log/wtmp")) -> tuple[tuple[float, float | None], ...]:
    """Return ClockReading.earlier_starts as the log of logins has them, and the log of the month before.

    These logs record each start of the machine and each orderly shutdown.
    """
    starts: list[tuple[float, float | None]] = []
    start: float | None = None  # unknown: before the log begins
    for path in (log.with_name(f"{log.name}.1"), log):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        for record in _UTMP.iter_unpack(content[: len(content) // _UTMP.size * _UTMP.size]):
            kind, user, seconds = record[0], record[4].rstrip(b"\0"), float(record[9])
            if kind == _BOOT_TIME:
                if start is not None:
                    starts.append((start, None))
                start = seconds
            elif kind == _RUN_LEVEL and user == b"shutdown" and start is not None:
                starts.append((start, max(start, seconds)))
                start = None
    return tuple(starts)  # the last start is this one
