"""A user's own table: a CSV whose columns are checked before anything relies on them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from kwela.errors import UserError


def read(path: Path, columns: tuple[str, ...], what: str) -> list[tuple[str, dict[str, str]]]:
    """("file:row N", row) of a CSV (UTF-8), cells stripped; the first is row 2. Others than `columns` are kept.

    what: of the message. Raises UserError for a file that can't be read, or lacks a column or any row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [
                {key: (cell or "").strip() for key, cell in row.items() if isinstance(key, str)}
                for row in reader
            ]
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: {what} not readable: {error}") from None
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}: {what} have the columns {','.join(columns)}")
    if not rows:
        raise UserError(f"{path}: no {what} in it")
    return [(f"{path}:row {number}", row) for number, row in enumerate(rows, 2)]


def number(text: str, low: float, high: float, where: str) -> float:
    """The number in a cell. Raises UserError unless it is one from `low` to `high`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise UserError(f"{where}: {text!r} is not a number from {low:g} to {high:g}")
    return value
