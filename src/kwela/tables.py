"""Read tables (CSV) and lists of objects (JSONL), each row with its place for messages: "file:row N".

Row numbers count from 1, the header of a table included and blank lines too, as an editor shows them unless a
cell holds a line break. Text is UTF-8, with or without a byte order mark; lines may end as on any system.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kwela import files
from kwela.errors import UserError

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_LONGEST_CELL = 131_072  # characters
_YES, _NO = ("true",), ("false", "")


def read_cells(
    path: Path, what: str, separator: str = ",", columns: Sequence[str] = ()
) -> list[tuple[str, list[str]]]:
    """Return ("file:row N", cells) of each row of a CSV that is not blank.

    what: the rows' name in an error message, a plural. columns: of the header, where the table has one; if
    `separator` does not give them, but commas, tabs or semicolons do, the table is read with these. Raises
    UserError for a file that can't be read, or in which a quote is left open.
    """
    text = files.read_text(path, what)
    if told := re.match(r"sep=([,;\t])[\r\n]", text):  # as Excel writes and reads it
        separator, text = told[1], text[5:]  # the line stays as a blank one
    elif columns:
        separator = _separator(text, separator, columns)
    rows, number = [], 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for number, cells in enumerate(reader, 1):
            rows.append((f"{path}:row {number}", cells))
    except csv.Error as error:
        if len(text) > _LONGEST_CELL and "field larger" in str(error):
            raise UserError(
                f"{path}: {what} not readable: row {number + 1} has a cell of more than {_LONGEST_CELL:,} "
                "characters: is a quote left open?"
            ) from None
        if "unexpected end" in str(error):
            raise UserError(f"{path}: {what} not readable: row {number + 1}: a quote is left open") from None
        rows = _lenient(path, text, separator)
    return [(where, cells) for where, cells in rows if any(cell.strip() for cell in cells)]


def _lenient(path: Path, text: str, separator: str) -> list[tuple[str, list[str]]]:
    """Return the rows of a table with letters behind a closing quote, which stay in the cell."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return [(f"{path}:row {number}", cells) for number, cells in enumerate(reader, 1)]
    except csv.Error:
        raise UserError(f"{path}: no table: a cell has more than {_LONGEST_CELL:,} characters") from None


def _separator(text: str, usual: str, columns: Sequence[str]) -> str:
    """Return the separator that gives a header with the `columns`; the usual one where none does."""
    start = text.lstrip("\r\n")[:_LONGEST_CELL]
    for separator in (usual, *_SEPARATORS):
        try:
            header = next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])
        except csv.Error:
            continue
        if set(columns) <= {cell.strip() for cell in header}:
            return separator
    return usual


def check_header(
    path: Path, header: Sequence[str], columns: Sequence[str], separator: str = ",", others_once: bool = True
) -> None:
    """Raise UserError unless `header` has all the `columns`, and no name twice.

    others_once: False allows further columns of one name.
    """
    for column in columns:
        if column not in header:
            first = f", the first is {header[0][:60]!r}" if header else ""
            alike = next((name for name in header if name.casefold() == column.casefold()), None)
            hint = f" (is it separated by {_SEPARATORS[separator]}?)" if len(header) == 1 else ""
            hint = f" (capitals count: there is {alike!r})" if alike else hint
            raise UserError(f"{path}: no column {column}{first}{hint}; needed: {', '.join(columns)}")
    for number, column in enumerate(header, 1):
        if column in header[: number - 1] and (column in columns or (column and others_once)):
            before = header.index(column) + 1
            raise UserError(
                f"{path}: column {column[:60]} stands twice ({before} and {number}): rename or remove one"
            )


def read(path: Path, columns: Sequence[str], what: str) -> list[tuple[str, dict[str, str]]]:
    """Return ("file:row N", row) of a CSV with a header: column -> cell, stripped; a missing cell is "".

    columns: which must be there; others are kept, but for those without a name. what: the rows' name in an
    error message, a plural. Raises UserError for a file that can't be read, lacks a column, has one twice, or
    has no row.
    """
    lines = read_cells(path, what, columns=columns)
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    check_header(path, header, columns)
    if len(lines) < 2:
        raise UserError(f"{path}: no {what} in it")
    rows = []
    for where, cells in lines[1:]:
        padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
        row = dict(zip(header, padded))
        row.pop("", None)
        rows.append((where, row))
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


def yes_or_no(text: str) -> bool | None:
    """Return what a cell of a 0/1 column says: 1, 1.0, True; 0, 0.0, False, or nothing. None: neither."""
    word = text.strip().casefold()
    if word in _YES or word in _NO:
        return word in _YES
    try:
        value = float(word)
    except ValueError:
        return None
    return bool(value) if value in (0, 1) else None


def read_jsonl(path: Path, what: str) -> list[tuple[str, dict[str, Any]]]:
    """Return ("file:row N", object) of each line of a JSONL file that is not blank.

    what: the rows' name in an error message. Raises UserError for a file that can't be read, and naming the
    row where a line is no JSON object.
    """
    text = files.read_text(path, what)
    rows = []
    # Not splitlines: it also splits at separators that a file's name may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            rows.append((f"{path}:row {number}", _parse_object(line, f"{path}:row {number}")))
    return rows


def parse_json(text: str, where: str, **how: Any) -> Any:
    """Return the value of a JSON text. how: passed on to json.loads. Raises UserError naming its line."""
    try:
        return json.loads(text, **how)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20].strip()
        place = (
            f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        )
        raise UserError(
            f"{where}: not JSON at {place}, near {near!r}: look for a comma, quote or bracket"
        ) from None
    except RecursionError:
        raise UserError(f"{where}: not JSON that kwela reads: nested too deeply") from None
    except ValueError:  # a number of more digits than Python converts
        raise UserError(f"{where}: not JSON that kwela reads: a number has too many digits") from None


def _parse_object(line: str, where: str) -> dict[str, Any]:
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, found {type(row).__name__}")
    return row
