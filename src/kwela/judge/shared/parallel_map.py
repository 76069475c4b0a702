"""Apply a function to many items on all cores.

An item that fails gives a `Failure` in its place, so that a judge can name what it left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kwela.corpus import parallel
from kwela.errors import KwelaError

_MIN_ITEMS_FOR_BAR = 20  # Fewer items are done before a progress bar is of use.


class Failure(str):
    """The reason why an item has no result."""


def map_items(
    function: Callable[..., Any], items: Sequence[Any], label: str, min_items_per_worker: int = 8
) -> list[Any]:
    """Return function(item) for each item, in order, computed in several processes.

    A result is a `Failure` if the function raised KwelaError for the item, or if the item killed its process.
    function: other processes import it, so it stands at the top level of a module; it returns JSON values.
    min_items_per_worker: with fewer items, starting a process takes longer than it saves.
    Raises KwelaError if no process can start.
    """
    tasks = {str(number): (function, item) for number, item in enumerate(items)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = parallel.run(
                _result_or_reason,
                tasks,
                Path(folder) / "done",
                label=label,
                result_of_crash=_reason_of_crash,
                quiet=len(items) < _MIN_ITEMS_FOR_BAR,
                min_items_per_worker=min_items_per_worker,
            )
        except KwelaError:  # Its message advises an option that `kwela judge` lacks.
            raise KwelaError("worker processes can't start; the reason is printed above") from None
    return [
        Failure(outcome["why"]) if "why" in outcome else outcome["result"] for outcome in outcomes.values()
    ]


def _result_or_reason(function: Callable[..., Any], item: Any) -> dict[str, Any]:
    try:
        return {"result": function(item)}
    except KwelaError as error:
        return {"why": str(error)}


def _reason_of_crash(function: Callable[..., Any], item: Any) -> dict[str, Any]:
    subject = f"{item}: not readable: its" if isinstance(item, Path) else "the"
    return {"why": f"{subject} worker died over it; replace or remove it"}
