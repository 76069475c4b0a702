"""Print status lines and progress bars. A closed terminal or pipe does not stop the program."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar("Item")

PATIENCE = 5.0  # seconds that a terminal or a pipe is waited for
PIPE_ROOM = 4000  # bytes that a pipe takes at once when it takes any (PIPE_BUF is 4096)
_stuck: set[int] = set()  # the handles that took nothing for so long


def say(line: str, to: TextIO | None = None) -> None:
    """Print a line to `to`, or to stdout.

    Once nobody reads the stream any more, lines are dropped. So are they while a reader has stopped (Ctrl-S,
    a pipe into a pager): a campaign that waited for it would not look at its money.
    """
    stream = to or sys.stdout
    try:
        for part in _parts(f"{line}\n"):
            if not _takes_more(stream):
                return
            stream.write(part)
            stream.flush()
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE, errno.EBADF):  # a full disk: it may have room again
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _parts(text: str) -> Iterator[str]:
    """Yield the text in parts that each fit into a pipe that has room."""
    step = PIPE_ROOM // 4  # a character takes up to four bytes
    for start in range(0, len(text), step):
        yield text[start : start + step]


def _takes_more(stream: TextIO) -> bool:
    """Return whether the stream takes a line now. The first time that it doesn't, wait for it a while."""
    try:
        handle = stream.fileno()
        poll = select.poll()
    except (OSError, ValueError, AttributeError):  # no file, or a system without poll
        return True
    poll.register(handle, select.POLLOUT)
    if poll.poll(0.0 if handle in _stuck else PATIENCE * 1000):
        _stuck.discard(handle)
        return True
    _stuck.add(handle)
    return False


def with_progress_bar(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over `items` with a progress bar on stderr, removed at the end. Without a label there is none.

    total: how many there are, where `items` has no length.
    """
    from rich.console import Console
    from rich.progress import track

    return track(items, label, total, console=Console(stderr=True), transient=True, disable=not label)
