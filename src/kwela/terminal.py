"""Print status lines and progress bars. A closed terminal or pipe does not stop the program.

Names of files and texts of users are printed as they are, but for what would act on the terminal instead of
being read: control characters (with ANSI escapes), and marks that turn the order of the letters, are written
as escapes. So are the bytes of a name that are not UTF-8, and whatever the stream's encoding lacks.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import select
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar("Item")

PATIENCE = 5.0  # seconds that a terminal or a pipe is waited for
PIPE_ROOM = 4000  # bytes that a pipe takes at once when it takes any (PIPE_BUF is 4096)
_stuck: set[int] = set()  # the handles that took nothing for so long

# Control characters but tab and line feed, separators of lines, marks that turn the order of what follows,
# and lone surrogates, by which Python stands for bytes of a name that are not UTF-8.
_NOT_PRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return `text` with escapes (such as \\x1b, \\udce9) in place of what is no readable character."""
    return _NOT_PRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_json(text: str, encoding: str | None) -> str:
    """Return JSON with JSON's own escapes for what is no readable character or lacks in `encoding`."""
    text = _NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text))
    return text


def shorten(text: str, longest: int) -> str:
    """Return `text` with its middle left out where it has more than `longest` characters."""
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]} ... {text[len(text) - (longest - head) + 5 :]}"


def accept_any_text() -> None:
    """Let stdout and stderr write an escape where their encoding lacks a character, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, to: TextIO | None = None) -> None:
    """Print a line to `to`, or to stdout.

    Once nobody reads the stream any more, lines are dropped. So are they while a reader has stopped (Ctrl-S,
    a pipe into a pager): a campaign that waited for it would not look at its money.
    """
    stream = to or sys.stdout
    try:
        for part in _parts(_encodable(f"{printable(line)}\n", stream)):
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


def show(text: str, to: TextIO) -> None:
    """Print a command's result, of which no line may be lost: raises OSError where `say` drops a line."""
    print(_encodable(printable(text), to), file=to, flush=True)


def show_json(value: object, to: TextIO) -> None:
    """Print a command's result as one line of JSON; raises as `show`."""
    print(printable_json(json.dumps(value, ensure_ascii=False), to.encoding), file=to, flush=True)


def _encodable(text: str, stream: TextIO) -> str:
    """Return `text` with escapes for what lacks in the stream's encoding."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text


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
