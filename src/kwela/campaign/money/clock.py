"""Three clocks, because money, the calendar and a reboot are counted differently.

    wall     unix seconds; may jump when somebody sets it
    up       seconds since the machine started, suspended time included
    awake    the same without suspended time, in which a cloud instance isn't billed

`up` and `awake` never jump and outlive the process, so within one start of the machine nothing is lost by a crash and a
set clock changes nothing. `wall` is asked only after a new start.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

DAY, HOUR = 86400.0, 3600.0


@dataclass(frozen=True)
class Time:
    """One reading, in seconds.

    boot: names this start of the machine. earlier: its starts before, as (from, to) in wall time; to is None where it
    went down without a word.
    """

    boot: str
    wall: float
    up: float
    awake: float
    earlier: tuple[tuple[float, float | None], ...] = ()


class Clock(Protocol):
    def read(self) -> Time: ...

    def sleep(self, seconds: float) -> None: ...


class Real:
    """This machine's clocks, `speed` times as fast: a rehearsal lives weeks in seconds."""

    SHORTEST = 0.02  # seconds to sleep at least, however fast

    def __init__(self, speed: float = 1.0) -> None:
        self.speed, self.began, self.asleep = speed, time.time(), _asleep()
        self.boot, self.earlier = _boot(), _earlier()

    def read(self) -> Time:
        awake, wall, asleep = time.monotonic(), time.time(), _asleep()
        if asleep - self.asleep > 1.0:  # less is the time between two readings
            self.asleep = asleep
        if self.speed != 1:
            wall = self.began + (wall - self.began) * self.speed
        return Time(self.boot, wall, (awake + self.asleep) * self.speed, awake * self.speed, self.earlier)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(self.SHORTEST, seconds / self.speed))


class Fake:
    """Clocks that move when told: for simulation and tests."""

    def __init__(self, wall: float = 1.7e9) -> None:
        self.boots, self.wall, self.up, self.awake = 1, wall, 0.0, 0.0
        self.started, self.earlier = wall, list[tuple[float, float | None]]()

    def read(self) -> Time:
        return Time(str(self.boots), self.wall, self.up, self.awake, tuple(self.earlier))

    def sleep(self, seconds: float) -> None:
        self.wall, self.up, self.awake = self.wall + seconds, self.up + seconds, self.awake + seconds

    def suspend(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def reboot(self, off: float = 0.0, orderly: bool = False) -> None:
        """Off for `off` seconds, then on again. orderly: it noted when it went."""
        self.earlier.append((self.started, self.wall if orderly else None))
        self.boots, self.wall, self.up, self.awake = self.boots + 1, self.wall + off, 0.0, 0.0
        self.started = self.wall

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall += seconds


def _asleep() -> float:
    """Seconds that this machine was suspended since it started."""
    return (
        time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() if hasattr(time, "CLOCK_BOOTTIME") else 0.0
    )


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (
        OSError
    ):  # not Linux: count it as one start, so that time between two runs is billed rather than lost
        return "one"


_UTMP = struct.Struct("hi32s4s32s256shhiii4i20s")  # struct utmp of glibc, 384 bytes


BOOT_TIME, RUN_LVL = 2, 1  # types of its records, as utmp(5) has them


def _earlier(log: Path = Path("/var/log/wtmp")) -> tuple[tuple[float, float | None], ...]:
    """See Time.earlier: from the log of logins (and last month's), which notes starts and orderly shutdowns."""
    found: list[tuple[float, float | None]] = []
    start: float | None = None  # unknown: before the log begins
    for path in (log.with_name(f"{log.name}.1"), log):
        try:
            noted = path.read_bytes()
        except OSError:
            continue
        for record in _UTMP.iter_unpack(noted[: len(noted) // _UTMP.size * _UTMP.size]):
            if record[0] == BOOT_TIME:
                if start is not None:
                    found.append((start, None))
                start = float(record[9])
            elif record[0] == RUN_LVL and record[4].rstrip(b"\0") == b"shutdown" and start is not None:
                found.append((start, max(start, float(record[9]))))
                start = None
    return tuple(found)  # the last start is this one
