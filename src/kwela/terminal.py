"""Print status lines and progress bars. A closed terminal or pipe does not stop the program."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from typing import TextIO, TypeVar

Item = TypeVar("Item")


def say(line: str, to: TextIO | None = None) -> None:
    """Print a line to `to`, or to stdout. Once nobody reads the stream any more, lines are dropped."""
    stream = to or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE, errno.EBADF):  # a full disk: it may have room again
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def with_progress_bar(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over `items` with a progress bar on stderr, removed at the end. Without a label there is none.

    total: how many there are, where `items` has no length.
    """
    from rich.console import Console
    from rich.progress import track

    return track(items, label, total, console=Console(stderr=True), transient=True, disable=not label)
