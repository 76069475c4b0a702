"""The `kwela` command: one thin command a stage. Stages are imported when called, so `--help` is instant.

Exit status: 0 done; 1 failed; 2 bad input or usage, with one clear line on stderr; 75 interrupted with a
checkpoint.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer

from kwela import terminal
from kwela.cli import campaign, corpus, dataset, demo, export, judge, machine, music, train
from kwela.errors import KwelaError

app = typer.Typer(
    name="kwela",
    help="Folders of audio and MIDI in; trained, judged and exported music models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for room in (corpus, dataset, train, music, judge, export, demo, campaign, machine):
    room.register(app)

_LONGEST_ERROR = 2000  # characters: a line may quote a name or a prompt of any length

# The base class of Typer's usage errors. Typer may carry a click of its own.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    # Threads that wait for each other sleep instead of spinning. On two cores that other processes use too,
    # spinning made a training step 25 times slower. This must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    terminal.accept_any_text()
    try:
        status = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except KwelaError as error:
        _leave(str(error), error.status)
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "kwela"
        _leave(f"{where}: {error.format_message()} (see {where} --help)", 2)  # type: ignore[attr-defined]
    except typer.Abort:
        _leave("interrupted", 130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a folder in a file's place, no permission, a full disk: not a defect of kwela
        if error.errno is None or not error.filename:
            raise
        _leave(f"{error.filename}: {error.strerror}", 1 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 2)
    if status == 130:  # Typer returns this after Ctrl-C
        _leave("interrupted; what is done stays: run the same command again to go on", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _leave(message: str, status: int) -> None:
    message = terminal.shorten(message.replace("\n", "\\n").replace("\r", "\\r"), _LONGEST_ERROR)
    terminal.say(f"error: {message}" if status != 75 else message, sys.stderr)
    sys.exit(status)
