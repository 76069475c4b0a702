"""Define the errors that end a command, each with its exit status.

A command turns such an error into one line on stderr and its status. Any other exception is a defect of kwela
and shows its traceback.
"""

from __future__ import annotations


class KwelaError(Exception):
    """A failure that is neither bad input nor a defect: a full disk, a killed worker. Exit status 1."""

    status = 1


class UserError(KwelaError):
    """Bad input or usage, in one line: what is wrong, where (file, row, key), what to do. Exit status 2."""

    status = 2


class Interrupted(KwelaError):
    """A signal stopped the run after a checkpoint was saved; the same command goes on. Exit status 75."""

    status = 75


class NoGo(KwelaError):
    """The gate decided NO-GO; a checkpoint and abort_report.json are saved. Exit status 3."""

    status = 3


class BudgetSpent(KwelaError):
    """The run stopped with a checkpoint before it would overspend the budget. Exit status 4."""

    status = 4


class Hold(KwelaError):
    """The gate could not decide, because a metric was not measured; a checkpoint is saved. Exit status 5."""

    status = 5
