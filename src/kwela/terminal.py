"""Lines for whoever watches; that nobody does any more stops nothing."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO


def say(line: str, to: TextIO | None = None) -> None:
    """Print a line, to stdout unless told. Once that is hung up, or a pipe that nobody reads, lines go nowhere."""
    stream = to or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE, errno.EBADF):  # a full disk, which may have room again
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
