"""How a command speaks: results and logs to stdout, or with `--json` one JSON object alone there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

Json = Annotated[
    bool, typer.Option("--json", help="One JSON object alone on stdout; everything else on stderr.")
]


def first_rank() -> bool:
    """Whether this process is the one that speaks, of those that torchrun started alike."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def speaking(as_json: bool, aloud: bool = True) -> Iterator[Callable[[dict[str, Any], str], None]]:
    """Inside, `say(result, text)` gives the command's result; with `as_json`, all other output moves to stderr.

    aloud: False leaves the saying to another process.
    """
    stdout = sys.stdout

    def say(result: dict[str, Any], text: str) -> None:
        if aloud:
            print(json.dumps(result, ensure_ascii=False) if as_json else text, file=stdout)

    if as_json:
        with redirect_stdout(sys.stderr):
            yield say
    else:
        yield say
