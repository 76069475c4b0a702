"""The limits that keep files and functions readable: 400 lines a file, 60 lines a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "kwela"
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def long_functions(text: str, limit: int = MAX_FUNCTION_LINES) -> list[tuple[str, int]]:
    """Return (name, lines) of each function in `text` that is longer than `limit`, decorators not counted."""
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = [(node.name, (node.end_lineno or 0) - node.lineno + 1) for node in functions]
    return [(name, length) for name, length in lengths if length > limit]


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert long_functions(text) == []


def test_a_long_function_is_found() -> None:
    text = "def short():\n    pass\n\n\ndef long():\n" + "    pass\n" * MAX_FUNCTION_LINES
    assert long_functions(text) == [("long", MAX_FUNCTION_LINES + 1)]
