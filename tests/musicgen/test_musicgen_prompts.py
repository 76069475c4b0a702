"""Prompts from a file or the command line: read as people save them, and refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from kwela.cli.musicgen import _read_prompts
from kwela.errors import UserError
from kwela.musicgen import generation
from kwela.musicgen.config import LONGEST_PROMPT


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_of_prompts_is_read_as_any_editor_saves_it(tmp_path: Path, mark: str, end: str) -> None:
    file = tmp_path / "prompts.txt"
    prompts = ["like Yelle Ba$$in", "アマピアノ", "موسيقى\u2028🎹"]
    text = mark + end.join(["", *prompts, "  "])
    file.write_bytes(text.encode())
    assert _read_prompts(file) == prompts
    file.write_bytes((text + end + f"{mark}deep house").encode())  # two files put together
    assert _read_prompts(file) == [*prompts, "deep house"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("log drums".encode("utf-16"), "its text is UTF-16; save it as UTF-8"),
        ("drums\ncaf\u00e9".encode("latin-1"), r"no UTF-8 in line 2 \(byte 0xe9\)"),
        (b"a\0b", "a NUL byte in line 1"),
        (b"\xef\xbb\xbf \n", "there is no prompt in it"),
    ],
)
def test_a_file_that_is_no_list_of_prompts_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"prompts\.txt: .*{said}"):
        _read_prompts(file)


def test_a_prompt_has_a_length_and_is_text() -> None:
    generation.check_request(["日" * LONGEST_PROMPT, "for $5_{ or $6"], 1.0)
    for prompt, said in (
        ("x" * 63_000, "a prompt is too long: 63,000 characters, at most 2,000 are read"),
        ("caf\udce9", "a prompt is not UTF-8 text"),
        (" \n", "a prompt is empty"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            generation.check_request([prompt], 1.0)
        assert len(str(refused.value)) < 200
