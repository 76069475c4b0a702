"""Many items: watched by a progress bar, or on every core, where what is no good is named and nothing vanishes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from kwela.corpus import parallel
from kwela.errors import KwelaError


class Failed(str):
    """Why there is no result."""


def progress(items: Sequence[Any], label: str) -> Iterable[Any]:
    """`items`, with a progress bar that goes when they are done; none without a label."""
    return track(items, label, console=Console(stderr=True), transient=True, disable=not label)


def spread(function: Callable[..., Any], items: Sequence[Any], label: str, inline: int = 8) -> list[Any]:
    """function(item) of each, in order, or `Failed`: it raised KwelaError, or killed its process.

    function: a module's own (it goes to other processes) that returns JSON values. inline: items that don't pay for a
    process's start. Raises KwelaError if no process can start.
    """
    tasks = {str(k): (function, item) for k, item in enumerate(items)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            got = parallel.run(
                _one,
                tasks,
                Path(folder) / "done",
                label=label,
                crashed=_crashed,
                quiet=len(items) < 20,
                inline=inline,
            )
        except KwelaError:  # its advice is of an option that judges don't have
            raise KwelaError("worker processes can't start: their reason stands above") from None
    return [Failed(one["why"]) if "why" in one else one["result"] for one in got.values()]


def _one(function: Callable[..., Any], item: Any) -> dict[str, Any]:
    try:
        return {"result": function(item)}
    except KwelaError as error:
        return {"why": str(error)}


def _crashed(function: Callable[..., Any], item: Any) -> dict[str, Any]:
    named = f"{item}: not readable: its" if isinstance(item, Path) else "the"
    return {"why": f"{named} worker died over it; replace or remove it"}
