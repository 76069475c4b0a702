"""From a collection to a set: the playbook's lines, what is left out and why, going on after a kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from made_mtt import annotate, chosen, make, mp3, name_of, zip_in_parts

from kwela.corpus.tagged import dataset, magnatagatune
from kwela.corpus.tagged.dataset import Source
from kwela.errors import KwelaError, UserError


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("mtt"))


def build(folder: Path, out: Path, say=lambda line: None, **how) -> dict:
    choice = chosen(**{"at_least": 2, "limit": 30} | how)
    clips, tags = magnatagatune.read(folder, choice.tags)
    return dataset.build(clips, tags, Source.of(folder), out, choice, say=say, workers=1, quiet=True)


def table(out: Path) -> list[dict[str, str]]:
    with (out / dataset.METADATA).open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


def test_the_playbooks_lines_hold_true_figures(collection, tmp_path):
    lines: list[str] = []
    report = build(collection, tmp_path, lines.append)
    kept, rows = report["kept"], table(tmp_path)
    assert lines[0] == "Loaded 40 clips with 26 tag columns"
    assert (
        lines[1].startswith("Not among its tags: ") and "bassline, chords, groove, chill, soulful" in lines[1]
    )
    assert lines[2] == f"Filtered to {report['qualifying']} clips with ≥2 Amapiano proxy tags"
    assert lines[3] == "Score distribution:" and lines[4].startswith("  ")
    assert f"Copied {kept}/{report['chosen']} clips..." in lines and "Created training subset:" in lines
    assert f"  - {kept} audio files copied" in lines
    assert kept == len(rows) == len(list((tmp_path / "audio").iterdir())) < report["chosen"]
    assert sum(report["distribution"].values()) == report["qualifying"]


def test_the_table_has_the_playbooks_columns_and_true_durations(collection, tmp_path):
    build(collection, tmp_path)
    rows = table(tmp_path)
    assert tuple(rows[0]) == dataset.COLUMNS
    for row in rows:
        assert (tmp_path / row["file_path"]).is_file() and abs(float(row["duration"]) - 1.5) < 0.15
        assert int(row["amapiano_proxy_score"]) >= 2
    sides = {row["artist"]: row["split"] for row in rows}
    assert all(sides[row["artist"]] == row["split"] for row in rows) and set(sides.values()) == {
        "train",
        "val",
        "test",
    }
    assert [int(row["amapiano_proxy_score"]) for row in rows] == sorted(
        (int(row["amapiano_proxy_score"]) for row in rows), reverse=True
    )


def test_broken_clips_are_reported_with_their_reasons_and_left_out(collection, tmp_path):
    report = build(collection, tmp_path, at_least=1, limit=100)
    assert {"39", "40", "41"} & report["broken"].keys() == report["broken"].keys() != set()
    assert all(name_of(int(clip_id) - 2) in why for clip_id, why in report["broken"].items())
    assert not {row["clip_id"] for row in table(tmp_path)} & report["broken"].keys()


def test_too_few_says_so_and_what_loosening_would_give(collection, tmp_path):
    lines: list[str] = []
    report = build(collection, tmp_path, lines.append, at_least=3, limit=500, per_artist=1)
    (line,) = [line for line in lines if line.startswith("Only ")]
    assert (
        f"Only {report['chosen']} of the 500 asked for qualify" in line
        and "over 1 an artist left out" in line
    )
    assert f"--min-tags 2 would give {report['looser'][2]}" in line
    assert report["looser"][1] > report["looser"][2] > report["qualifying"]


def test_parts_one_zip_and_an_unpacked_folder_give_the_same_set(collection, tmp_path):
    build(collection, tmp_path / "parts")
    for form in ("zip", "folder", "in place"):
        other = tmp_path / form
        other.mkdir()
        (other / "annotations_final.csv").write_bytes((collection / "annotations_final.csv").read_bytes())
        data = b"".join(part.read_bytes() for part in sorted(collection.glob("mp3.zip.*")))
        (other / "mp3.zip").write_bytes(data)
        if form != "zip":
            import zipfile

            zipfile.ZipFile(other / "mp3.zip").extractall(other / "mp3" if form == "folder" else other)
            (other / "mp3.zip").unlink()
        build(other, tmp_path / f"{form} out")
        mine, theirs = contents(tmp_path / f"{form} out"), contents(tmp_path / "parts")
        assert {k: v for k, v in mine.items() if "journal" not in k} == {
            k: v for k, v in theirs.items() if "journal" not in k
        }


def test_another_choice_removes_the_clips_it_does_not_hold(collection, tmp_path):
    build(collection, tmp_path, limit=30)
    build(collection, tmp_path, limit=5)
    assert len(list((tmp_path / "audio").iterdir())) == len(table(tmp_path)) <= 5


def test_a_damaged_part_ends_the_build_and_is_named(collection, tmp_path):
    folder = tmp_path / "mtt"
    folder.mkdir()
    for path in collection.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    middle = bytearray((folder / "mp3.zip.002").read_bytes())
    for at in range(0, len(middle), 700):
        middle[at] ^= 255
    (folder / "mp3.zip.002").write_bytes(middle)
    with pytest.raises(UserError, match=r"mp3\.zip\.00[12]: damaged at .*download it again"):
        build(folder, tmp_path / "out")
    assert not (tmp_path / "out" / dataset.METADATA).exists()


def test_a_path_that_leaves_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.mp3").write_bytes(mp3())
    folder = tmp_path / "mtt"
    annotate(
        folder,
        [
            ("2", "../secret.mp3", ["drum", "piano"]),
            *((str(k), name_of(k), ["drum", "piano"]) for k in (3, 4)),
        ],
    )
    zip_in_parts(folder, {name_of(3): mp3(), name_of(4): mp3(hertz=330)})
    report = build(folder, tmp_path / "out")
    assert report["kept"] == 2 and "leaves the data set's folder" in report["broken"]["2"]


def test_a_disk_too_small_is_said_before_anything_is_copied(collection, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("kwela.corpus.tagged.dataset.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(KwelaError, match=r"GB to copy and 0\.00 GB free"):
        build(collection, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_build_killed_again_and_again_ends_with_the_same_set(collection, tmp_path):
    build(collection, tmp_path / "whole")
    program = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from kwela.corpus.tagged import dataset
        import test_proxyset
        fetch = dataset.fetch
        def slowly(*arguments):
            time.sleep(0.02)
            return fetch(*arguments)
        dataset.fetch = slowly
        test_proxyset.build(Path({str(collection)!r}), Path({str(tmp_path / "killed")!r}), print)
    """)
    kills = 0
    for wait in (0.05, 0.2, 0.3, None):
        running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        if wait is not None:
            while "qualify" not in (line := running.stdout.readline()) and "Limited" not in line:
                assert line, "it ended before it began to copy"
            time.sleep(wait)
            if running.poll() is None:
                os.kill(running.pid, signal.SIGKILL)
                kills += 1
        running.communicate()
    assert kills >= 2 and running.returncode == 0
    mine, theirs = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert mine.keys() == theirs.keys() and all(mine[k] == theirs[k] for k in mine if "journal" not in k)
    assert json.loads(mine[dataset.REPORT])["kept"] == len(table(tmp_path / "killed"))


def test_a_set_of_another_collection_is_not_written_over(collection, tmp_path):
    build(collection, tmp_path)
    before = contents(tmp_path)
    clips, tags = magnatagatune.read(collection, chosen().tags)
    source, choice = Source.of(collection), chosen(at_least=1)
    with pytest.raises(
        UserError, match="holds a set made from magnatagatune: name another folder with --datasets"
    ):
        dataset.build(clips, tags, source, tmp_path, choice, collection="mine", say=lambda line: None)
    assert contents(tmp_path) == before
