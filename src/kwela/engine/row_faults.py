"""Turn what goes wrong with the files of a row into an error that names the row.

A reason that may pass by itself (a network mount that is away, an input error of a disk) is tried again
before it counts.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kwela import files
from kwela.errors import UserError

T = TypeVar("T")
GOES_ON = "goes on without it"  # in the message of a run that the same command continues

PAUSES = (0.5, 2.0)  # seconds before a reason that may pass is tried again
_MAY_PASS = (
    *(
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.EBUSY,
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    ),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET),
)
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Row(NamedTuple):
    """A row of a manifest.

    key: a hash of what the row says. place: "file:row N", for messages. files: its paths, by their keys.
    """

    key: str
    place: str
    files: dict[str, str]


class Fault(NamedTuple):
    """Why a row can't be read. may_pass: the reason may pass by itself, as a network's may."""

    reason: str
    may_pass: bool = False


class RowFailed(UserError):
    """A row of the data can't be read.

    place: "file:row N", or "" where the data set names no rows. epoch: whose draws the failed item used.
    on_all_ranks: every rank raises it, see `Ranks.together`.
    """

    on_all_ranks = False

    def __init__(self, place: str, fault: Fault, epoch: int, advice: str = "") -> None:
        super().__init__((f"{place}: " if place else "") + fault.reason + advice)
        self.place, self.fault, self.epoch, self.advice = place, fault, epoch, advice

    def __reduce__(self) -> Any:
        """Say how a data worker sends it: by default it would be made anew from its message alone."""
        return RowFailed, (self.place, self.fault, self.epoch, self.advice)

    def with_advice(self, step: int, known: bool) -> RowFailed:
        """Return the same with what was done and what to do. known: a resumed run can leave the row out."""
        again = "run the same command again, which tries it once more" if self.fault.may_pass else ""
        again = again or "replace the file, or run the same command again"
        joint = " and" if self.fault.may_pass else ", which"
        advice = f"; saved at step {step}: {again}{f'{joint} {GOES_ON} if it fails again' * known}"
        return RowFailed(self.place, self.fault, self.epoch, advice)


def fault_of(error: Exception) -> Fault | None:
    """Return what `error` says of a row's files; None if it says nothing of them (a full disk, a defect)."""
    if isinstance(error, files.NotWritable):  # of the cache
        return None
    if isinstance(error, UserError):
        return Fault(str(error), _may_pass(error))
    if isinstance(error, OSError) and error.errno and error.filename and error.errno not in _FULL_DISK:
        return Fault(f"{error.filename}: {error.strerror}", _may_pass(error))
    return None


def fault_in(read_file: Callable[[Path], Any], path: str, key: str) -> Fault | None:
    """Return why `read_file` can't read the file that a row names as `key`; None if it can."""
    try:
        read_file(Path(path))
    except Exception as error:
        if (fault := fault_of(error)) is None:
            raise
        return fault._replace(reason=f"{key}: {fault.reason}")
    return None


def read(make: Callable[[], T], place: str, epoch: int) -> T:
    """Return what `make` reads of the row at `place`. Raises RowFailed where its files can't be read."""
    for pause in (*PAUSES, None):
        try:
            return make()
        except Exception as error:
            if isinstance(error, RowFailed) or (fault := fault_of(error)) is None:
                raise
            if pause is None or not fault.may_pass:
                # What the reader says often begins with the place itself.
                reason = fault.reason.removeprefix(f"{place}: ")
                raise RowFailed(place, fault._replace(reason=reason), epoch) from error
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: BaseException | None) -> bool:
    """Return whether the operating system's reason behind `error` is one that may pass."""
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, OSError):
            return error.errno in _MAY_PASS
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
