"""Tables and JSON Lines are read with the place of each row, and a fault is one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kwela import tables
from kwela.errors import UserError


def written(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rows_are_numbered_as_an_editor_shows_them(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufefffile, artist\n\na.wav , Bach\n,\nb.wav\n")
    rows = tables.read(path, ["file", "artist"], "artists")
    assert rows == [
        (f"{path}:row 3", {"file": "a.wav", "artist": "Bach"}),
        (f"{path}:row 5", {"file": "b.wav", "artist": ""}),
    ]


def test_a_quoted_cell_may_hold_commas_and_a_table_may_have_tabs(tmp_path: Path) -> None:
    path = written(tmp_path, 'a,"b,c"\n"x\ty"\tz\n')
    assert [cells for _, cells in tables.read_cells(path, "rows")] == [["a", "b,c"], ["x\ty\tz"]]
    assert tables.read_cells(path, "rows", "\t")[1] == (f"{path}:row 2", ["x\ty", "z"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("file,who\na,b\n", "no column artist, the first is 'file'; needed: file, artist"),
        ("file|artist\na|b\n", r"no column file, .*\(is it separated by commas\?\)"),
        ("file,artist,file\na,b,c\n", r"column file stands twice \(1 and 3\)"),
        ('file,artist\na,b\n"c,d\ne,f\n', "artists not readable: row 3: a quote is left open"),
        (f"file,artist\n{'x' * 200_000},b\n", "artists not readable: row 2 has a cell of more than 131,072"),
        ("file,artist\na,\0\n", "artists not readable: no text: a NUL byte in line 2"),
        ("file,artist\na,caf\u00e9\n".encode("latin-1"), "no UTF-8 in line 2 \\(byte 0xe9\\); save it"),
        ("file,artist\na,b\n".encode("utf-16"), "its text is UTF-16; save it as UTF-8"),
        ("file,artist\na,b\n".encode("utf-16-le"), "no text: a NUL byte in line 1"),
        ("<!DOCTYPE html>\n<html>404</html>", "it is a web page, not the file; download it again"),
        (
            "\ufeff<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            "it is a web page, not the file",
        ),
        ("", "no column file; needed"),
        ("file,artist\n\n", "no artists in it"),
        (b"\xff\xfe", "artists not readable: its text is UTF-16"),
    ],
)
def test_a_table_without_what_is_needed_is_named(
    tmp_path: Path, content: str | bytes, complaint: str
) -> None:
    with pytest.raises(UserError, match=rf"t\.csv: .*{complaint}") as refused:
        tables.read(written(tmp_path, content), ["file", "artist"], "artists")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="artists not readable"):
        tables.read(tmp_path / "none", ["file"], "artists")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_line_ends_and_marks_of_other_programs_are_read(
    tmp_path: Path, separator: str, end: str, mark: str
) -> None:
    rows = [["", " file", "artist "], ["0", "a.wav", '"Bach; son, and"'], ["1", "b.wav", ""]]
    path = written(tmp_path, (mark + end.join(separator.join(row) for row in rows) + end).encode())
    assert [row for _, row in tables.read(path, ["file", "artist"], "artists")] == [
        {"file": "a.wav", "artist": "Bach; son, and"},
        {"file": "b.wav", "artist": ""},
    ]


def test_the_line_by_which_excel_names_the_separator_is_no_row(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffsep=;\r\nfile;artist\r\na,b.wav;Bach\r\n".encode())
    assert tables.read(path, ["file"], "artists") == [
        (f"{path}:row 3", {"file": "a,b.wav", "artist": "Bach"})
    ]


def test_letters_behind_a_closing_quote_stay_in_the_cell(tmp_path: Path) -> None:
    path = written(tmp_path, 'file,artist\na,"Duke" Ellington\nb,c\n')
    assert [row["artist"] for _, row in tables.read(path, ["file"], "artists")] == ["Duke Ellington", "c"]


def test_a_cell_of_a_column_of_0_and_1_is_read_as_programs_write_it() -> None:
    for cell in ("1", " 1 ", "1.0", "1e0", "True", "TRUE", "true"):
        assert tables.yes_or_no(cell) is True
    for cell in ("0", "0.0", "-0", "False", "", " "):
        assert tables.yes_or_no(cell) is False
    for cell in ("2", "0.5", "yes", "nan", "-1", "x"):
        assert tables.yes_or_no(cell) is None


def test_a_number_lies_in_its_range() -> None:
    assert tables.number(" 0.5", -1, 1, "t:row 2") == 0.5 and tables.number("-1", -1, 1, "t") == -1
    for text in ("high", "", "nan", "1.01", "-1.01"):
        with pytest.raises(UserError, match=f"t:row 2: '{text}' is not a number from -1 to 1"):
            tables.number(text, -1, 1, "t:row 2")


def test_a_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    text = tables.csv_text([("a", "b"), ['x,"y"', 1.5]])
    assert text == 'a,b\n"x,""y""",1.5\n'
    assert tables.read(written(tmp_path, text), ["a", "b"], "rows")[0][1] == {"a": 'x,"y"', "b": "1.5"}


def test_json_lines_are_objects_and_a_name_may_hold_a_line_separator(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeff{"a": "x\u2028y"}\n\n{"b": 1}\n'.encode())
    assert tables.read_jsonl(path, "rows") == [
        (f"{path}:row 1", {"a": "x\u2028y"}),
        (f"{path}:row 3", {"b": 1}),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON at column 2, near '{': look for a comma, quote or bracket"),
        ('{"a" 1}', "not JSON at column 6"),
        ("[]", "expected an object, found list"),
        ("[" * 100_000, "not JSON that kwela reads: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON that kwela reads: a number has too many digits"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(UserError, match=rf"t\.csv:row 2: {complaint}"):
        tables.read_jsonl(written(tmp_path, "{}\n" + line), "rows")
    with pytest.raises(UserError, match="none: rows not readable"):
        tables.read_jsonl(tmp_path / "none", "rows")
