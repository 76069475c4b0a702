"""Read JSON and JSON Lines files that another process may be writing at the same moment."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]


def read_json(path: Path) -> JsonObject:
    """Return the object in `path`.

    It is {} where there is no file, or where the file holds something else, as in the moment it is replaced.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json_lines(path: Path) -> list[JsonObject]:
    """Return the objects of a JSON Lines file, without torn lines. A file that is not there has none."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return parse_json_lines(content)


def parse_json_lines(content: bytes) -> list[JsonObject]:
    """Return the objects among the lines of `content`, and pass over lines that hold none."""
    rows = []
    for line in content.decode("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class AppendedLines:
    """A JSON Lines file that grows. Each `read_new` reads only the bytes that were added since the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_read = 0  # in all calls together
        self._file_id: tuple[int, int] | None = None
        self._offset = 0  # after the last whole line

    def read_new(self) -> tuple[list[JsonObject], bool]:
        """Return the objects of the new lines, and whether the file began anew.

        The file begins anew when it was replaced, cut back or removed; the objects are then those of the
        whole file. A last line without its line feed may still be in the making: a later call reads it.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                file_id = status.st_dev, status.st_ino
                began_anew = file_id != self._file_id or status.st_size < self._offset
                if began_anew:
                    self._file_id, self._offset = file_id, 0
                file.seek(self._offset)
                content = file.read()
        except OSError:
            began_anew, self._file_id, self._offset = self._file_id is not None, None, 0
            return [], began_anew
        self.bytes_read += len(content)
        whole_lines = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole_lines)
        return parse_json_lines(whole_lines), began_anew


def count_or_zero(value: object) -> int:
    """Return a count that a file holds; 0 for what is no positive integer."""
    return value if isinstance(value, int) and value > 0 else 0


def finite_or_none(value: object) -> float | None:
    """Return a figure that a file holds; None for what is no finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
