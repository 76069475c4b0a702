"""Print a command's results: as text on stdout, or with `--json` as one JSON object alone on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

from kwela import terminal

Json = Annotated[
    bool, typer.Option("--json", help="One JSON object alone on stdout; everything else on stderr.")
]


def first_rank() -> bool:
    """Return whether this process is the one that prints, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def speaking(as_json: bool, aloud: bool = True) -> Iterator[Callable[[dict[str, Any], str], None]]:
    """Give the function `say(result, text)`, which prints a command's result.

    With `as_json` the result is printed as JSON, and all other output goes to stderr.
    aloud: False prints nothing, because another process does.
    """
    stdout = sys.stdout

    def say(result: dict[str, Any], text: str) -> None:
        if aloud:
            terminal.show_json(result, stdout) if as_json else terminal.show(text, stdout)

    if as_json:
        with redirect_stdout(sys.stderr):
            yield say
    else:
        yield say
