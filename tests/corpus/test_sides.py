"""The sides of a tagged set: by artist, by song or by the user's rule, and never an empty one unsaid."""

from __future__ import annotations

import csv
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_mtt import chosen
from typer.testing import CliRunner

from kwela.cli import app
from kwela.corpus.tagged import dataset, sides
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import UserError

RATE = 8000


def sound(path: Path, seed: int, **form) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).uniform(-0.3, 0.3, RATE + 500)
    soundfile.write(path, wave, RATE, **form)
    return path


def make(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        sound(folder / name, seed)
    return folder


def run(folder: Path, *options: str, where: Path | None = None) -> tuple[int, str, dict, list[dict]]:
    """Exit status, what was said, the report and the table of `kwela dataset folder`."""
    out = (where or folder.parent) / "sets"
    shutil.rmtree(out, ignore_errors=True)
    words = [
        "dataset",
        "folder",
        str(folder),
        "--datasets",
        str(out),
        "--workers",
        "1",
        "--min-tags",
        "0",
        *options,
    ]
    done = CliRunner().invoke(app, words)
    made = out / "amapiano_proxy"
    if not (made / dataset.METADATA).is_file():
        return (getattr(done.exception, "status", done.exit_code), f"{done.output}{done.exception}", {}, [])
    with (made / dataset.METADATA).open(newline="", encoding="utf-8") as file:
        return (
            done.exit_code,
            done.output,
            json.loads((made / dataset.REPORT).read_text()),
            list(csv.DictReader(file)),
        )


def sides_of(rows: list[dict]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["group"], set()).add(row["split"])
    return found


def test_chunks_of_a_song_stand_together_and_nothing_is_claimed_of_artists(tmp_path):
    names = [f"house/My Song {s}_chunk{c}.wav" for s in range(5) for c in range(3)]
    status, said, report, rows = run(make(tmp_path / "in", *names))
    assert status == 0 and report["groups"] == 5 and report["artists_known"] == 0
    assert all(len(held) == 1 for held in sides_of(rows).values())
    assert {row["split"] for row in rows} == {"train", "val", "test"} and {row["artist"] for row in rows} == {
        ""
    }
    assert "no artist on two sides" not in said and "an artist may stand on two sides" in said


def test_where_every_name_has_an_artist_it_is_said_that_none_is_on_two_sides(tmp_path):
    folder = make(
        tmp_path / "in",
        *(f"{k:02} - {a} - t{k}.wav" for k, a in enumerate(["Ann", "Bob", "Cyd", "Ann", "Bob"])),
    )
    _, said, report, rows = run(folder)
    assert "Split 3 groups: no artist on two sides" in said and report["artists_known"] == 5
    assert {row["artist"] for row in rows} == {"Ann", "Bob", "Cyd"}
    _, said, report, _ = run(folder, "--group-by", "stem")  # the control: the user's rule tears an artist
    assert "no artist on two sides" not in said and "artists stand on two sides" in said
    assert report["group_by"] == "stem" and report["artists_on_two_sides"]


def test_loops_are_split_one_by_one(tmp_path):
    status, _, _, rows = run(make(tmp_path / "in", *(f"loop-{k:03}.wav" for k in range(12))))
    assert status == 0 and {row["split"] for row in rows} == {"train", "val", "test"}


def test_one_artist_alone_is_refused_with_what_to_do(tmp_path):
    folder = make(tmp_path / "in", *(f"amen-{k:03}.wav" for k in range(4)))
    status, said, _, rows = run(folder)
    assert (
        status == 2
        and rows == []
        and "(4 clips) counts as one artist, 'amen'" in said
        and "--group-by" in said
    )
    assert run(folder, "--group-by", "stem")[0] == 0, "the control"


def test_two_groups_train_and_validate_and_the_empty_test_side_is_said(tmp_path):
    _, said, _, rows = run(make(tmp_path / "in", "Ann - a.wav", "Bob - b.wav"))
    assert {row["split"] for row in rows} == {"train", "val"} and "The test side is empty" in said


def test_one_sound_under_two_names_or_in_two_formats_stands_on_one_side(tmp_path):
    folder = make(tmp_path / "in", *(f"Artist{k} - s.wav" for k in range(5)))
    for k in range(5):
        shutil.copy(folder / f"Artist{k} - s.wav", folder / f"Copy{k} - s.wav")
        wave, rate = soundfile.read(folder / f"Artist{k} - s.wav")
        soundfile.write(folder / f"Lossless{k} - s.flac", wave, rate)
    _, said, report, rows = run(folder)
    assert "15 clips have the same sound as others" in said and len(report["copies"]) == 5
    assert report["groups"] == 5 and all(len(held) == 1 for held in sides_of(rows).values())


def test_silence_and_one_sound_for_all_do_not_make_one_song():
    clips = [Clip(str(k), f"song {k}.wav", (), "") for k in range(4)]
    assert sides.divide(clips, [""] * 4, None, 1).report["groups"] == 4
    one = sides.divide(clips, ["x"] * 4, None, 1)
    assert one.report["groups"] == 4 and one.lines[0].startswith("WARNING: all clips have one sound")


def test_files_of_other_kinds_are_counted(tmp_path):
    folder = make(tmp_path / "in", "Ann - a.wav", "Bob - b.wav")
    for name in ("x.sid", "y.sid", "cover.jpg", ".hidden.sid"):
        (folder / name).touch()
    _, said, report, _ = run(folder)
    assert "3 files of kinds that are not read: 2 .sid, 1 .jpg" in said
    assert [entry["count"] for entry in report["passed_over"]] == [2, 1]


def test_what_a_table_lacks_and_what_it_names_twice_is_said_and_left_out(tmp_path):
    folder = make(tmp_path / "in", *(f"A{k} - t.wav" for k in range(5)))
    sound(folder / "A0 - t.flac", 9)
    table = tmp_path / "some.csv"
    table.write_text("file,tags\nA0 - t,Log Drum\nA1 - t,Log Drum\nA2 - t.wav,Log Drum\nA3 - t,x\n")
    _, said, report, rows = run(folder, "--tags", str(table))
    assert "left out: 1 audio file that the table lacks (A4 - t.wav)" in said
    assert "A0 - t of the table may be A0 - t.flac, A0 - t.wav" in said
    assert len(rows) == 3 and report["unlisted"] == ["A4 - t.wav"] and list(report["ambiguous"]) == ["A0 - t"]
    table.write_text("file,tags\nA0 - t.flac,x\nA1 - t,x\nA2 - t,x\nA3 - t,x\nA4 - t,x\n")
    assert len(run(folder, "--tags", str(table))[3]) == 5, "the control: the extension decides"


def test_a_table_finds_decomposed_names_names_alone_and_backslashes(tmp_path):
    folder = make(
        tmp_path / "in", unicodedata.normalize("NFD", "Beyoncé - Déjà.wav"), "sub/Bob - b.wav", "Cyd - c.wav"
    )
    table = tmp_path / "t.csv"
    table.write_text("file,tags\nBeyoncé - Déjà.wav,x\nsub\\Bob - b.wav,y\n./Cyd - c,z\n", encoding="utf-8")
    assert len(run(folder, "--tags", str(table))[3]) == 3
    table.write_text("file,tags\nBob - b,y\nCyd - c,z\n", encoding="utf-8")
    assert len(run(folder, "--tags", str(table))[3]) == 2


def test_short_clips_are_taken_and_a_click_is_not(tmp_path):
    folder = make(tmp_path / "in", "Ann - a.wav", "Bob - b.wav", "Cyd - c.wav")
    for name, seconds in (("Ann - a", 0.3), ("Bob - b", 0.02)):
        wave = np.random.default_rng(1).uniform(-0.3, 0.3, round(seconds * RATE))
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    _, said, report, rows = run(folder)
    assert {row["artist"] for row in rows} == {
        "Ann",
        "Cyd",
    } and "Bob - b.wav: 0.02 s long" in said
    assert len(report["broken"]) == 1


def test_a_flat_folder_and_a_path_with_dots_are_taken(tmp_path, monkeypatch):
    folder = make(tmp_path / "in", "Ann - a.wav", "Bob - b.wav")
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    status, _, report, rows = run(Path("../beside/../in"), where=tmp_path)
    assert status == 0 and len(rows) == 2 and report["collection"] == "in"
    status, said, _, _ = run(folder, "--min-tags", "1")
    assert status == 2 and "no tags" in said and "--min-tags 0" in said


def test_names_that_are_no_utf8_are_taken_by_an_escaped_name(tmp_path):
    folder = make(tmp_path / "in", "Ann - a.wav", "Bob - b.wav")
    inner = os.fsencode(folder) + b"/caf\xe9"
    Path(os.fsdecode(inner)).mkdir()
    shutil.copy(sound(tmp_path / "x.wav", 7), inner + b"/Jos\xe9 - c.wav")
    (folder / "x").touch()
    status, _, _, rows = run(folder)
    assert status == 0 and {row["artist"] for row in rows} == {"Ann", "Bob", "Jos\\xe9"}
    assert {row["tags"] for row in rows} == {"", "caf\\xe9"}


@pytest.mark.parametrize("rule", ["(", "missing.csv"])
def test_a_rule_that_is_none_is_refused(rule):
    clips = [Clip(str(k), f"song {k}.wav", (), "") for k in range(3)]
    with pytest.raises(UserError):
        sides.divide(clips, ["a", "b", "c"], rule, 1)


def test_who_plays_with_others_on_another_side_is_named():
    names = ["Ann", "Ann & Bob", "Bob, Cy", "Dee x Ann", "Eve", "Fay", "Gus and Bob", "Hal"]
    clips = [Clip(str(k), f"{name} - {k}.wav", (), name) for k, name in enumerate(names)]
    found = sides.divide(clips, [""] * len(clips), None, 1)
    torn = found.report["artists_on_two_sides"]
    where = dict(zip(names, found.sides, strict=True))
    assert len({where["Ann"], where["Ann & Bob"], where["Dee x Ann"]}) > 1 and "ann" in torn
    assert "eve" not in torn and "stand on two sides" in found.lines[0]
    apart = [clip for clip in clips if clip.artist in ("Ann & Bob", "Eve", "Fay", "Hal")]
    assert sides.divide(apart, [""] * 4, None, 1).lines[0].endswith("no artist on two sides")


def test_a_choice_still_counts_clips_of_unknown_artists_one_by_one():
    from kwela.corpus.tagged import proxy_score

    clips = [Clip(str(k), f"loop-{k}.wav", ("drum",), "") for k in range(5)]
    scores = proxy_score.score(clips, chosen().groups)
    assert len(proxy_score.choose(clips, scores, 1, 9, per_artist=1)) == 5
