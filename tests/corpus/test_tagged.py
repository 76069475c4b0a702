"""Any folder of audio: tags from a table or from folders' names."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_mtt import chosen, mp3

from kwela.corpus.tagged import dataset
from kwela.corpus.tagged import folder as tagged
from kwela.corpus.tagged.dataset import Source
from kwela.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("house/deep/ann-one.mp3", "house/bob-two.mp3", "jazz/cat-three.mp3", "cat-four.mp3"):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mp3())
    return tmp_path / "music"


def test_folders_names_are_tags(folder):
    clips, tags = tagged.read(folder)
    assert {clip.path: clip.tags for clip in clips}["house/deep/ann-one.mp3"] == ("house", "deep")
    assert tags == ["deep", "house", "jazz"] and {clip.artist for clip in clips} == {"ann", "bob", "cat"}


def test_a_table_names_files_with_or_without_extension_and_tags_in_cells_or_columns(folder):
    table = folder.parent / "tags.csv"
    table.write_text('file,tags,artist\nhouse/bob-two,"Drums, piano",Bobby\ncat-four.mp3,jazz,\n')
    clips, _ = tagged.read(folder, table)
    assert [(clip.path, clip.tags, clip.artist) for clip in clips] == [
        ("cat-four.mp3", ("jazz",), "cat"),
        ("house/bob-two.mp3", ("drums", "piano"), "Bobby"),
    ]
    table.write_text("file,drums,piano\ncat-four,1,0\njazz/cat-three,1,1\n")
    assert [clip.tags for clip in tagged.read(folder, table).clips] == [("drums",), ("drums", "piano")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,tags\n", "no column file, the first is 'name'"),
        ("file,tags\ngone,jazz\n", "row 2: no such audio file .*gone"),
        ("file,tags\ncat-four,\n", "no tags"),
        ("", "no column file"),
    ],
)
def test_a_bad_table_is_named(folder, text, complaint):
    (folder.parent / "tags.csv").write_text(text)
    with pytest.raises(UserError, match=rf"tags\.csv:?.*{complaint}"):
        tagged.read(folder, folder.parent / "tags.csv")


def test_it_becomes_a_set_of_the_same_form(folder, tmp_path):
    clips, tags = tagged.read(folder)
    choice = chosen(at_least=1)
    report = dataset.build(
        clips, tags, Source((folder,)), tmp_path / "out", choice, say=lambda line: None, quiet=True
    )
    assert report["kept"] == 3 and (tmp_path / "out" / dataset.METADATA).read_text().count("audio/") == 3


def test_a_set_of_whatever_tags_counts_what_is_absent_and_says_where_it_is(folder, tmp_path):
    clips, tags = tagged.read(folder)
    lines: list[str] = []
    out = tmp_path / "out"
    report = dataset.build(
        clips, tags, Source((folder,)), out, chosen(at_least=0), say=lines.append, quiet=True
    )
    assert lines[1] == f"{len(report['tags_missing'])} of the tags looked for are not among its own"
    assert lines[2] == "All 4 clips qualify, whatever their tags"
    split = report["clips_by_split"]
    counts = ", ".join(f"{split.get(name, 0)} {name}" for name in ("train", "val", "test"))
    assert lines[-1] == f"Wrote {out / dataset.METADATA} ({counts})"


def test_columns_of_1_0_and_true_are_tags_and_an_index_is_passed_over(folder):
    table = folder.parent / "tags.csv"
    table.write_text(
        ";file;drums;piano;tag;tag\n0;cat-four;1.0;False;90s;808\n2;jazz/cat-three;0.0;True;1;x\n"
    )
    found = tagged.look(folder, table)
    assert [clip.tags for clip in found.annotations.clips] == [("drums", "90s", "808"), ("piano", "1", "x")]
    assert found.passed_over_columns == 1 and any("without a name" in line for line in found.lines())
    table.write_text("file,drums\ncat-four,1\njazz/cat-three,2\n")
    with pytest.raises(UserError, match="row 3: column drums: '2' is neither 0 nor 1"):
        tagged.look(folder, table)


@pytest.mark.parametrize("cell", ["2", "120", "yes", "nan", "1,0"])
def test_a_column_of_numbers_or_answers_is_no_tag_unless_it_is_called_so(folder, cell):
    table = folder.parent / "tags.csv"
    table.write_text(f"file;drums\ncat-four;{cell}\njazz/cat-three;{cell}\n")
    with pytest.raises(UserError, match=f"row 2: column drums: '{cell}' is neither 0 nor 1"):
        tagged.look(folder, table)
    table.write_text(f"file;Tags\ncat-four;{cell}\njazz/cat-three;{cell}\n")  # the control
    assert [clip.tags for clip in tagged.look(folder, table).annotations.clips] == [
        tuple(cell.split(","))
    ] * 2


def test_a_name_in_other_capitals_is_pointed_out(folder):
    table = folder.parent / "tags.csv"
    table.write_text("file,tags\nJazz/CAT-three,jazz\n")
    with pytest.raises(UserError, match=r"CAT-three \(capitals count: there is jazz/cat-three"):
        tagged.look(folder, table)
    table.write_text("File,Tags\ncat-four,jazz\n")
    with pytest.raises(UserError, match=r"no column file.*\(capitals count: there is 'File'\)"):
        tagged.look(folder, table)


def test_the_set_that_an_earlier_run_made_in_the_folder_is_not_read(folder):
    made = folder / "sets" / "amapiano_proxy"
    (made / "audio").mkdir(parents=True)
    (made / "audio" / "copy.mp3").write_bytes(mp3())
    (made / dataset.METADATA).write_text("clip_id\n")
    read = tagged.look(folder, made=folder / "house" / ".." / "sets" / "amapiano_proxy")
    assert len(read.annotations.clips) == 4 and not read.others
    assert len(tagged.look(folder).annotations.clips) == 5  # the control
