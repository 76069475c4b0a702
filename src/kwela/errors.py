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


class NoGo(KwelaError):
    """The gate said no: a checkpoint and abort_report.json are on disk. Exit status 3."""

    status = 3


class BudgetSpent(KwelaError):
    """Stopped with a checkpoint before the budget was overspent. Exit status 4."""

    status = 4


class Hold(KwelaError):
    """The gate couldn't decide: a metric wasn't measured. Stopped with a checkpoint. Exit status 5."""

    status = 5
