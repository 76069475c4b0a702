"""What a build of manifests makes of songs, copies, and files that it does not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_files import RATE, Tree, write_midi

from kwela.corpus.pairs import manifest
from kwela.errors import UserError


def add(tree: Tree, *names: str, seed: int = 0) -> None:
    """Pairs with sounds of their own (1.1 s of noise) and one MIDI file."""
    for number, name in enumerate(names, seed):
        path = tree.audio / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        soundfile.write(path, rng.uniform(-0.3, 0.3, RATE + RATE // 10), RATE, "PCM_16")
        write_midi(tree.midi / f"{name}.mid")


def build(tree: Tree, **how) -> manifest.Report:
    return manifest.build(tree.audio, tree.midi, tree.out, quiet=True, workers=1, **how)


def sides(tree: Tree) -> dict[str, set[str]]:
    """The audio files (without extension, below the root) of each side."""
    found = {}
    for side in ("train", "val"):
        lines = (tree.out / f"spectocloud_{side}.jsonl").read_text(encoding="utf-8").splitlines()
        paths = [Path(json.loads(line)["audio_path"]) for line in lines]
        found[side] = {path.relative_to(tree.audio).with_suffix("").as_posix() for path in paths}
    return found


def groups(tree: Tree) -> set[str]:
    rows = [(tree.out / f"midi_{side}.jsonl").read_text(encoding="utf-8") for side in ("train", "val")]
    return {json.loads(line)["group"] for line in "".join(rows).splitlines()}


def test_a_folder_for_each_song_gives_songs_on_both_sides(tree):
    add(tree, *(f"happy/Song {k}/mix" for k in range(4)))
    report = build(tree)
    assert (report.counts["songs"], report.counts["songs_val"]) == (4, 1)
    assert groups(tree) == {f"Song {k}" for k in range(4)}


def test_clips_of_a_song_stand_on_its_side(tree):
    add(tree, *(f"happy/Song {s} part{c}" for s in "ABC" for c in range(3)))
    assert build(tree, val_split=0.4).counts["songs"] == 3
    for held in sides(tree).values():
        assert len(held) % 3 == 0 and held


def test_the_users_rule_makes_other_songs_and_is_reported(tree):
    add(tree, *(f"happy/Song {s} part{c}" for s in "AB" for c in range(2)))
    report = build(tree, rule="stem")
    assert report.counts["songs"] == 4 and report.settings["group_by"] == "stem"


@pytest.mark.parametrize(
    ("names", "rule"), [(["happy/a_v1", "happy/a_v2"], None), (["h/a", "h/b"], "folder")]
)
def test_one_song_is_refused_with_what_to_do_and_nothing_is_written(tree, names, rule):
    add(tree, *names)
    with pytest.raises(UserError, match=r"one song, '\w' \(2 pairs\).*--group-by") as error:
        build(tree, rule=rule)
    assert error.value.status == 2 and not tree.out.exists()
    add(tree, "h2/another", seed=9)
    assert build(tree, rule=rule).counts["songs"] == 2, "the control"


def test_the_same_audio_under_two_names_stands_on_one_side(tree):
    add(tree, *(f"song {k}" for k in range(6)))
    for k in range(6):
        copy = tree.audio / f"other name {k}.wav"
        (os.link if k % 2 else _copy)(tree.audio / f"song {k}.wav", copy)
        write_midi(tree.midi / f"other name {k}.mid")
    report = build(tree, val_split=0.4)
    for held in sides(tree).values():
        assert {f"song {k}" in held for k in range(6)} == {True, False}
        assert all((f"song {k}" in held) == (f"other name {k}" in held) for k in range(6))
    assert len([entry for entry in report.copies if entry["kind"] == "audio"]) == 6
    assert any("12 files hold the same audio" in line for line in manifest.summary(report))


def test_one_recording_in_two_formats_or_with_other_tags_stands_on_one_side(tree):
    add(tree, *(f"song {k}" for k in range(5)))
    for k in range(5):
        wave, rate = soundfile.read(tree.audio / f"song {k}.wav", dtype="int16")
        soundfile.write(tree.audio / f"lossless {k}.flac", wave, rate)
        _write_wav_with_a_comment(tree.audio / f"tagged {k}.wav", tree.audio / f"song {k}.wav")
        for name in ("lossless", "tagged"):
            write_midi(tree.midi / f"{name} {k}.mid")
    report = build(tree, val_split=0.4)
    assert report.counts["songs"] == 5, "15 names"
    for held in sides(tree).values():
        assert all(
            len({f"{name} {k}" in held for name in ("song", "lossless", "tagged")}) == 1 for k in range(5)
        )


def _write_wav_with_a_comment(target: Path, source: Path) -> None:
    data = source.read_bytes() + b"LIST" + (10).to_bytes(4, "little") + b"INFOICMT\0\0"
    target.write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])


def test_silent_files_are_no_copies_and_nearly_the_same_sound_is_not_the_same(tree):
    add(tree, "one", "two", "three", "four")
    for name in ("one", "two"):
        soundfile.write(tree.audio / f"{name}.wav", np.zeros(RATE), RATE, "PCM_16")
    wave, rate = soundfile.read(tree.audio / "three.wav", dtype="int16")
    wave[5] += 1  # the same length, the same middle, another sample
    soundfile.write(tree.audio / "four.flac", wave, rate)
    (tree.audio / "four.wav").unlink()
    report = build(tree)
    assert report.counts["songs"] == 4
    assert [entry["kind"] for entry in report.copies] == ["MIDI"]


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_where_every_file_is_the_same_the_names_split_and_a_warning_says_so(tree):
    tree.add("one", "two", "three")
    report = build(tree)
    assert report.counts["songs"] == 3
    assert sum("WARNING: all songs hold the same" in line for line in manifest.summary(report)) == 2


def test_files_of_other_kinds_are_counted_and_hidden_ones_are_not(tree):
    add(tree, "a", "b")
    for name in (
        "x.sid",
        "y.sid",
        "cover.jpg",
        "notes",
        "song.mid.xz",
        ".hidden.wav",
        "._a.wav",
        ".c.wav.icloud",
    ):
        (tree.audio / name).touch()
    (tree.midi / "__MACOSX").mkdir()
    (tree.midi / "__MACOSX" / "z.xyz").touch()
    write_midi(tree.audio / "lost.mid")
    report = build(tree)
    assert {entry["suffix"]: entry["count"] for entry in report.passed_over} == {
        ".sid": 2, ".jpg": 1, ".mid.xz": 1, ".icloud": 1, "without an ending": 1,
    }  # fmt: skip
    assert [Path(file).name for file in report.misplaced] == ["lost.mid"]
    (line,) = [line for line in manifest.summary(report) if "kinds that are not read" in line]
    assert line.startswith("6 files of kinds that are not read: 2 .sid, ")


def test_one_root_for_both_kinds_passes_neither_over(tree):
    add(tree, "a", "b")
    tree.midi.rename(tree.audio / "midi")
    tree.midi = tree.audio
    report = build(tree)
    assert report.counts["kept"] == 2 and report.passed_over == report.misplaced == []


def test_names_that_differ_in_case_are_hinted_at(tree):
    add(tree, "a", "b")
    tree.add("Track", midi=None).add("track", audio=None)
    report = build(tree)
    assert [(Path(near["audio"]).name, Path(near["midi"]).name) for near in report.near_misses] == [
        ("Track.wav", "track.mid")
    ]


def test_folders_that_are_not_understood_are_named_and_their_rows_stay_neutral(tree):
    add(tree, "Happy Songs/a", "Sad Boys/b", "Sad Boys/c", "not_happy/d", "e")
    report = build(tree)
    assert report.emotion_sources == {"default": 4, "directory": 1}
    assert report.not_understood == [{"folder": "Sad Boys", "pairs": 2}, {"folder": "not_happy", "pairs": 1}]
    (line,) = [line for line in manifest.summary(report) if "no emotion understood" in line]
    assert "Sad Boys (2), not_happy (1)" in line and "--labels" in line


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    add(tree, "a", "b", "locked/c")
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("audio/locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    report = build(tree)
    assert len(report.unreadable_folders) == 1 and "locked: Permission denied" in report.unreadable_folders[0]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_that_are_no_utf8_are_left_out_by_an_escaped_name(tree, locale):
    import subprocess
    import sys

    add(tree, "a", "b")
    for folder, suffix in ((tree.audio, "wav"), (tree.midi, "mid")):
        os.link(folder / f"a.{suffix}", os.fsencode(folder) + b"/caf\xe9." + suffix.encode())
    roots = ["--audio-root", str(tree.audio), "--midi-root", str(tree.midi), "--out-dir", str(tree.out)]
    done = subprocess.run(
        [sys.executable, "-m", "kwela", "manifests", *roots, "--workers", "1"],
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"caf\\udce9.wav: its name is not valid UTF-8" in done.stdout
    report = json.loads((tree.out / manifest.REPORT).read_text(encoding="utf-8"))
    assert os.fsencode(report["rejected"][0]["file"]).endswith(b"caf\xe9.wav"), "the path reads back"
