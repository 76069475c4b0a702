"""MagnaTagATune's annotations are read as programs write them; a cell that says neither 0 nor 1 is named."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from made_mtt import zip_in_parts

from kwela.corpus.tagged import magnatagatune
from kwela.corpus.tagged.source import Source
from kwela.errors import UserError

WANTED = ("drums", "piano")
USUAL = [["1", "0", "1"], ["0", "0", "1"]]
TAGS = [("drums", "no vocals"), ("no vocals",)]


def table(
    folder: Path, cells: list[list[str]], separator: str = "\t", first: list[str] | None = None
) -> Path:
    """annotations_final.csv of two clips; `first`: a column before the others, its name first."""
    rows = [["clip_id", "drums", "piano", "no vocals", "mp3_path"]]
    rows += [[str(k + 1), *row, f"a/ann-{k}.mp3"] for k, row in enumerate(cells)]
    if first is not None:
        rows = [[before, *row] for before, row in zip(first, rows, strict=True)]
    text = "\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)
    (folder / magnatagatune.ANNOTATIONS).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("no", "yes"),
    [("0", "1"), ("0.0", "1.0"), ("False", "True"), (" 0 ", " 1 "), ("0", "1.0"), ("-0.0", "TRUE")],
)
@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_1_0_and_true_are_1(tmp_path: Path, no: str, yes: str, separator: str) -> None:
    cells = [[yes if cell == "1" else no for cell in row] for row in USUAL]
    said: list[str] = []
    clips, tags = magnatagatune.read(table(tmp_path, cells, separator), WANTED, said.append)
    assert [clip.tags for clip in clips] == TAGS and tags == ["drums", "piano", "no vocals"]
    assert [clip.path for clip in clips] == ["a/ann-0.mp3", "a/ann-1.mp3"] and not said


@pytest.mark.parametrize("cell", ["2", "0.5", "yes", "nan", "-1", "1,0"])
def test_a_cell_that_is_neither_0_nor_1_is_named_by_row_and_column(tmp_path: Path, cell: str) -> None:
    with pytest.raises(UserError, match=f"row 3: column piano: {cell!r} is neither 0 nor 1"):
        magnatagatune.read(table(tmp_path, [["1", "0", "1"], ["1", cell, "0"]]), WANTED)


def test_empty_cells_are_0_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    clips, _ = magnatagatune.read(table(tmp_path, [["1", "", "1"], ["", "0", "1"]]), WANTED, said.append)
    assert [clip.tags for clip in clips] == TAGS
    assert len(said) == 1 and said[0].startswith("2 empty cells are read as 0")
    assert said[0].endswith("row 2, column piano")


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_column_without_a_name_is_passed_over_and_said(tmp_path: Path, name: str) -> None:
    said: list[str] = []
    clips, tags = magnatagatune.read(table(tmp_path, USUAL, first=[name, "0", "1"]), WANTED, said.append)
    assert [clip.tags for clip in clips] == TAGS and len(tags) == 3
    assert len(said) == 1 and said[0].endswith("1 column without a name is passed over")


def test_a_tag_that_stands_twice_and_a_web_page_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, USUAL, first=["drums", "0", "1"]) / magnatagatune.ANNOTATIONS
    with pytest.raises(UserError, match=r"column drums stands twice \(1 and 3\)"):
        magnatagatune.read(tmp_path, WANTED)
    path.write_text("<html><body>Not found</body></html>")
    with pytest.raises(UserError, match="annotations not readable: it is a web page"):
        magnatagatune.read(tmp_path, WANTED)


def test_a_path_with_accents_finds_its_file_and_its_entry_however_they_are_written(tmp_path: Path) -> None:
    composed, apart = (f"a/{unicodedata.normalize(form, 'Beyoncé-Déjà')}.mp3" for form in ("NFC", "NFD"))
    assert composed != apart
    for name, wanted in ((composed, apart), (apart, composed)):
        folder = tmp_path / str(len(name))
        (folder / "mp3" / "a").mkdir(parents=True)
        (folder / "mp3" / name).write_bytes(b"file")
        source = Source.of(folder)
        assert source.read(wanted) == b"file" and source.size(wanted) == 4
        zip_in_parts(folder / "zip", {name: b"entry"})
        assert Source.of(folder / "zip").read(wanted) == b"entry"
        with pytest.raises(UserError, match="not among the files"):
            source.read("a/Beyonce-Deja.mp3")
