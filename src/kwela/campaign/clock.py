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
    """One reading, in seconds. boot: names this start of the machine; ended: wall time of its last orderly shutdown."""

    boot: str
    wall: float
    up: float
    awake: float
    ended: float | None = None


class Clock(Protocol):
    def read(self) -> Time: ...

    def sleep(self, seconds: float) -> None: ...


class Real:
    """This machine's clocks, `speed` times as fast: a rehearsal lives weeks in seconds."""

    SHORTEST = 0.02  # seconds to sleep at least, however fast

    def __init__(self, speed: float = 1.0) -> None:
        self.speed, self.began, self.asleep = speed, time.time(), _asleep()

    def read(self) -> Time:
        awake, wall, asleep = time.monotonic(), time.time(), _asleep()
        if asleep - self.asleep > 1.0:  # less is the time between two readings
            self.asleep = asleep
        if self.speed != 1:
            wall = self.began + (wall - self.began) * self.speed
        return Time(_boot(), wall, (awake + self.asleep) * self.speed, awake * self.speed, _shutdown())

    def sleep(self, seconds: float) -> None:
        time.sleep(max(self.SHORTEST, seconds / self.speed))


class Fake:
    """Clocks that move when told: for simulation and tests."""

    def __init__(self, wall: float = 1.7e9) -> None:
        self.boots, self.wall, self.up, self.awake = 1, wall, 0.0, 0.0
        self.ended: float | None = None

    def read(self) -> Time:
        return Time(str(self.boots), self.wall, self.up, self.awake, self.ended)

    def sleep(self, seconds: float) -> None:
        self.wall, self.up, self.awake = self.wall + seconds, self.up + seconds, self.awake + seconds

    def suspend(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def reboot(self, off: float = 0.0, orderly: bool = False) -> None:
        """Off for `off` seconds, then on again. orderly: it noted when it went."""
        self.ended = self.wall if orderly else self.ended
        self.boots, self.wall, self.up, self.awake = self.boots + 1, self.wall + off, 0.0, 0.0

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall += seconds


def _asleep() -> float:
    """Seconds that this machine was suspended since it started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() if hasattr(time, "CLOCK_BOOTTIME") else 0.0


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux: count it as one start, so that time between two runs is billed rather than lost
        return "one"


_UTMP = struct.Struct("hi32s4s32s256shhiii4i20s")  # struct utmp of glibc, 384 bytes


def _shutdown(log: Path = Path("/var/log/wtmp")) -> float | None:
    """When this machine was last shut down in order, from the log of logins; None if that doesn't say."""
    try:
        records = list(_UTMP.iter_unpack(log.read_bytes()))
    except (OSError, struct.error):
        return None
    return max((float(record[9]) for record in records if record[4].rstrip(b"\0") == b"shutdown"), default=None)
