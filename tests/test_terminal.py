"""Whatever a name holds is printed, on any terminal, without acting on it."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kwela import terminal

HOSTILE = "a\x1b[31mred\x07 b\x9bc caf\udce9 \u202egnp.exe 日本 🎹 é\r\x00"


def test_control_characters_and_half_characters_are_escaped() -> None:
    shown = terminal.printable(HOSTILE + "\n\tend")
    assert shown == "a\\x1b[31mred\\x07 b\\x9bc caf\\udce9 \\u202egnp.exe 日本 🎹 é\\r\\x00\n\tend"
    assert terminal.printable(shown) == shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_lines_and_json_are_printed_in_any_encoding(encoding: str) -> None:
    bytes_written = io.BytesIO()
    stream = io.TextIOWrapper(bytes_written, encoding=encoding, newline="\n")
    terminal.say(HOSTILE, stream)
    terminal.show_json({"name": HOSTILE}, stream)
    line, found = bytes_written.getvalue().decode(encoding).splitlines()
    assert line.startswith("a\\x1b[31mred\\x07") and line.isprintable()
    assert json.loads(found) == {"name": HOSTILE} and found.isprintable()
    if encoding == "utf-8":
        assert "日本 🎹" in line and "日本 🎹" in found


def test_a_result_that_a_full_disk_refuses_is_an_error_and_a_line_is_dropped() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        terminal.say("line", full)
        with pytest.raises(OSError, match="No space"):
            terminal.show("result", full)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_no_command_fails_on_what_stdout_can_not_encode(encoding: str, option: list[str]) -> None:
    name = b"/x/caf\xe9\x1b[2J \xe6\x97\xa5/grief.wav"
    done = subprocess.run(
        [sys.executable, "-m", "kwela", "emotion", name, *option],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0 and not done.stderr
    assert b"\x1b" not in done.stdout and b"grief" in done.stdout
    if option:
        answer = json.loads(done.stdout.decode(encoding))["readings"][0]
        assert os.fsencode(answer["input"]) == name
    failed = subprocess.run(
        [sys.executable, "-m", "kwela", "emotion", b"caf\xe9\x1b[2J"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert failed.returncode == 2 and b"\x1b" not in failed.stderr
    assert failed.stderr.startswith(b"error: ") and failed.stderr.count(b"\n") == 1


def test_numbers_with_a_minus_are_no_option_and_options_stay() -> None:
    def kwela(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "kwela", *arguments], capture_output=True, text=True)

    done = kwela("emotion", "grief", "-0.8,0.5,0.5", "--json", "\u2212.5,0,1")
    assert [answer["valence"] for answer in json.loads(done.stdout)["readings"]][1:] == [
        pytest.approx(-0.8),
        pytest.approx(-0.5),
    ]
    assert json.loads(done.stdout)["readings"][1]["input"] == "-0.8,0.5,0.5"
    refused = kwela("emotion", "grief", "--jsn")
    assert (
        refused.returncode == 2 and "No such option: --jsn" in refused.stderr and "--json" in refused.stderr
    )


def test_a_line_that_quotes_63000_letters_is_short_and_whole_in_meaning() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kwela", "generate", "midi", "--emotion", "w" * 63_000 + "\n0:x"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and len(done.stderr) < 2100
    assert "write a curve as BAR:EMOTION" in done.stderr


def test_nothing_is_printed_past_this_module() -> None:
    """A `print` elsewhere would send names to the terminal as they are."""
    root = Path(terminal.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if path.name != "terminal.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", "") == "print" or getattr(node.func, "attr", "") == "echo")
    ]
    assert not found
