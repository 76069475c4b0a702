"""The ways a command ends other than well, and the exit status of each.

Every command turns these into one line on stderr and the status below; anything else that escapes is a defect of
ours and shows its traceback.
"""

from __future__ import annotations


class KwelaError(Exception):
    """Something failed that is neither the input nor a defect: a full disk, a killed worker. Exit status 1."""

    status = 1


class UserError(KwelaError):
    """Bad input or usage, in one line: what was wrong, where (file, row or key), what to do. Exit status 2."""

    status = 2


class Interrupted(KwelaError):
    """Stopped by a signal with a checkpoint on disk: run the same command again to go on. Exit status 75."""

    status = 75
