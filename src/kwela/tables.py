"""Read tables (CSV) and lists of objects (JSONL), each row with its place for messages: "file:row N".

Row numbers count from 1, the header of a table included and blank lines too, as an editor shows them unless a
cell holds a line break. Text is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kwela.errors import UserError

_SEPARATORS = {",": "commas", "\t": "tabs"}


def read_cells(path: Path, what: str, separator: str = ",") -> list[tuple[str, list[str]]]:
    """Return ("file:row N", cells) of each row of a CSV that is not blank.

    what: the rows' name in an error message, a plural. Raises UserError for a file that can't be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: {what} not readable: {error}") from None
    return [
        (f"{path}:row {number}", cells)
        for number, cells in enumerate(rows, 1)
        if any(cell.strip() for cell in cells)
    ]


def check_header(path: Path, header: Sequence[str], columns: Sequence[str], separator: str = ",") -> None:
    """Raise UserError unless `header` has all the `columns`."""
    for column in columns:
        if column not in header:
            first = f", the first is {header[0][:60]!r}" if header else ""
            hint = f" (is it separated by {_SEPARATORS[separator]}?)" if len(header) == 1 else ""
            raise UserError(f"{path}: no column {column}{first}{hint}; needed: {', '.join(columns)}")


def read(path: Path, columns: Sequence[str], what: str) -> list[tuple[str, dict[str, str]]]:
    """Return ("file:row N", row) of a CSV with a header: column -> cell, stripped; a missing cell is "".

    columns: which must be there; others are kept. what: the rows' name in an error message, a plural.
    Raises UserError for a file that can't be read, lacks a column, or has no row.
    """
    lines = read_cells(path, what)
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    check_header(path, header, columns)
    if len(lines) < 2:
        raise UserError(f"{path}: no {what} in it")
    rows = []
    for where, cells in lines[1:]:
        padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
        rows.append((where, dict(zip(header, padded))))
    return rows


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows of cells as the text of a CSV, with a line feed after each row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def number(text: str, low: float, high: float, where: str) -> float:
    """Return the number in a cell. Raises UserError unless it is a number from `low` to `high`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise UserError(f"{where}: {text!r} is not a number from {low:g} to {high:g}")
    return value


def read_jsonl(path: Path, what: str) -> list[tuple[str, dict[str, Any]]]:
    """Return ("file:row N", object) of each line of a JSONL file that is not blank.

    what: the rows' name in an error message. Raises UserError for a file that can't be read, and naming the
    row where a line is no JSON object.
    """
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"{path}: {what} not readable: {error.strerror}") from None
    rows = []
    # Not splitlines: it also splits at separators that a file's name may hold.
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            rows.append((f"{path}:row {number}", _parse_object(line, f"{path}:row {number}")))
    return rows


def _parse_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON: {str(error)[:200]}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, found {type(row).__name__}")
    return row
