"""What a folder of audio and MIDI becomes, what is left out and why, and that a build is all or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from corpus_files import Tree, write_midi

from kwela.corpus.pairs import manifest, split, validation
from kwela.corpus.pairs.rows import read
from kwela.errors import KwelaError, UserError
from kwela.midi_generator.config import MidiGeneratorData
from kwela.spectocloud.config import SpectocloudData


def build(tree: Tree, out: Path | None = None, **how) -> manifest.Report:
    return manifest.build(
        tree.audio, tree.midi, out or tree.out, quiet=True, **{"val_split": 0.3, "workers": 1} | how
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows(out: Path, family: str) -> list[dict]:
    return [row for side in ("train", "val") for row in lines(out / f"{family}_{side}.jsonl")]


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in (*manifest.FILES, manifest.REPORT)}


def fake_cloud(
    audio: Path, midi: Path, emotion: np.ndarray, offset: float, start: float, folder: Path
) -> str:
    path = folder / f"{audio.stem}-{start}.npy"
    np.save(path, np.zeros((1200, 3), np.float32))
    return str(path)


# ------------------------------------------------------------------------ rows


def test_rows_have_the_contracts_keys_in_both_manifests(tree):
    build(tree.add("happy/one", "sad/two", "plain/song_grief_1", "plain/other"))
    assert [list(row) for row in rows(tree.out, "spectocloud")] == [
        ["audio_path", "midi_path", "emotion", "emotion_source", "group", "offset"]
    ] * 4
    assert [list(row) for row in rows(tree.out, "midi")] == [
        ["midi_path", "emotion", "emotion_source", "group"]
    ] * 4
    assert {row["group"]: (row["emotion"], row["emotion_source"]) for row in rows(tree.out, "midi")} == {
        "one": ([0.8, 0.5, 0.6], "directory:happy"),
        "two": ([-0.7, -0.4, 0.6], "directory:sad"),
        "song_grief_1": ([-0.85, -0.35, 0.6], "filename:grief"),
        "other": ([0.0, 0.0, 0.5], "default"),
    }
    assert all(Path(row["audio_path"]).is_absolute() for row in rows(tree.out, "spectocloud"))


def test_all_six_formats_in_any_case_earn_rows(tree):
    for index, form in enumerate(["wav", "MP3", "Flac", "ogg", "m4a", "AAC"]):
        tree.add(f"happy/{form}", audio=form, midi="MIDI" if index % 2 else "Mid")
    assert build(tree).counts["kept"] == 6


def test_what_is_written_reads_back_for_both_families(tree):
    build(tree.add("happy/one", "sad/two"))
    for family, row_keys in {
        "spectocloud": SpectocloudData.row_keys,
        "midi": MidiGeneratorData.row_keys,
    }.items():
        for side in ("train", "val"):
            assert read(tree.out / f"{family}_{side}.jsonl", row_keys)[0]["emotion64"].shape == (64,)


def test_labels_go_before_paths(tree, tmp_path):
    (tmp_path / "l.csv").write_text("one,0.1,0.2,0.3\nnobody,0,0,0\n")
    report = build(tree.add("happy/one", "happy/two"), labels=tmp_path / "l.csv")
    assert {row["group"]: row["emotion_source"] for row in rows(tree.out, "midi")} == {
        "one": "user",
        "two": "directory:happy",
    }
    assert next(row for row in rows(tree.out, "midi") if row["group"] == "one")["emotion"] == [0.1, 0.2, 0.3]
    assert report.unused_labels == ["nobody"] and report.emotion_sources == {"directory": 1, "user": 1}


def test_the_midis_folder_counts_where_the_audios_says_nothing_and_a_conflict_is_reported(tree):
    tree.add("one", midi=None).add("sad/one", audio=None)
    tree.add("happy/two", midi=None).add("angry/two", audio=None)
    report = build(tree)
    assert {row["group"]: row["emotion_source"] for row in rows(tree.out, "midi")} == {
        "one": "directory:sad",
        "two": "directory:happy",
    }
    assert [(entry["used"], entry["other"]) for entry in report.conflicts] == [
        ("directory:happy", "directory:angry")
    ]


def test_segments_and_clouds_give_rows_with_a_start_each(tree):
    clouds = tree.folder / "clouds"
    report = build(tree.add("happy/one", "sad/two"), segments=3, make_cloud=fake_cloud, clouds_dir=clouds)
    found = rows(tree.out, "spectocloud")
    assert report.counts["spectocloud_train"] + report.counts["spectocloud_val"] == len(found)
    assert all(Path(row["target_pointcloud_path"]).is_file() for row in found)
    assert len({(row["group"], row["start"]) for row in found}) == len(found)
    assert len(rows(tree.out, "midi")) == 2  # a song, not a segment


def test_starts_spread_evenly_inside_the_file(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "x.wav", np.zeros(44_100 * 10), 44_100)
    starts = validation.pick_starts(tmp_path / "x.wav", 4)
    assert len(starts) == 4 and starts[0] >= 0 and starts[-1] + 65_536 / 44_100 <= 10
    assert np.allclose(np.diff(starts), starts[1] - starts[0], atol=2e-3)
    soundfile.write(tmp_path / "short.wav", np.zeros(1000), 44_100)
    assert validation.pick_starts(tmp_path / "short.wav", 4) == [0.0]


def test_an_opened_pair_gives_what_this_version_is_recorded_to_give(tree):
    import soundfile

    tree.add("happy/one")
    soundfile.write(tree.audio / "happy/one.wav", np.zeros(44_100 * 10), 44_100)
    paths = str(tree.audio / "happy/one.wav"), str(tree.midi / "happy/one.mid")
    plain, aligned = (
        validation.open_pair(*paths, [0.0, 0.0, 0.5], how, 2, None, "") for how in (False, True)
    )
    why = "another result than recorded: raise manifest.OPENING_VERSION"
    assert manifest.OPENING_VERSION == 3
    assert plain == {"offset": 0.0, "segments": [{"start": 2.128}, {"start": 6.385}], "sound": ""}, why
    assert list(aligned) == ["rejected"] and "don't match" in aligned["rejected"][0][1], why


def test_a_lost_cloud_is_made_again(tree):
    how = {"make_cloud": fake_cloud, "clouds_dir": tree.folder / "clouds"}
    build(tree.add("happy/one", "sad/two"), **how)
    lost = Path(rows(tree.out, "spectocloud")[0]["target_pointcloud_path"])
    lost.unlink()
    build(tree, **how)
    assert lost.is_file()
    times = {path: path.stat().st_mtime_ns for path in how["clouds_dir"].iterdir()}
    build(tree, **how)
    assert {path: path.stat().st_mtime_ns for path in how["clouds_dir"].iterdir()} == times
    build(tree, **how, cloud_version=2)
    assert all(path.stat().st_mtime_ns > times[path] for path in how["clouds_dir"].iterdir())


# ----------------------------------------------------------------------- split


def test_versions_of_a_song_stand_on_one_side_in_both_manifests(tree):
    names = [
        f"{folder}/song{i}{suffix}" for i in range(5) for folder, suffix in (("happy", ""), ("sad", "_v2"))
    ]
    build(tree.add(*names))
    sides = {
        side: {row["group"] for row in lines(tree.out / f"midi_{side}.jsonl")} for side in ("train", "val")
    }
    assert sides["train"].isdisjoint(sides["val"]) and len(sides["train"] | sides["val"]) == 5
    for side, groups in sides.items():
        assert {row["group"] for row in lines(tree.out / f"spectocloud_{side}.jsonl")} == groups


def test_a_song_stays_on_its_side_when_files_are_added(tree):
    def held_out() -> set[str]:
        build(tree)
        return {row["group"] for row in lines(tree.out / "midi_val.jsonl")}

    names = {f"song{i}" for i in range(8)}
    before = tree.add(*names) and held_out()
    assert (
        before == {name for name in names if split.position(name, 42) < 0.3} != set()
    )  # not the filled-in case
    tree.add(*(f"more{i}" for i in range(8)))
    assert held_out() & names == before


# -------------------------------------------------------------- the same bytes


def test_one_and_two_workers_write_the_same_bytes_and_so_does_another_run(tree):
    tree.add(*(f"happy/{i}" for i in range(12)), *(f"sad/{i + 12}" for i in range(12)))
    (tree.audio / "happy" / "3.wav").write_bytes(b"not audio")
    build(tree, workers=1)
    one = contents(tree.out)
    (tree.out / "manifest_report.json").unlink()
    build(tree)
    assert contents(tree.out) == one
    build(tree, tree.folder / "elsewhere", workers=2)
    assert contents(tree.folder / "elsewhere") == one
    build(tree, tree.folder / "seed", seed=1)
    assert contents(tree.folder / "seed") != one  # the control


# --------------------------------------------------------------------- bad input


def spoil(tree: Tree) -> dict[str, str]:
    """The issue's four bad files, each with a good partner -> what its reason must say."""
    tree.add("cut", "text", "empty", "bomb")
    cut = tree.audio / "cut.wav"
    cut.write_bytes(cut.read_bytes()[:9000])
    (tree.audio / "text.wav").unlink()
    (tree.audio / "text.mp3").write_text("these are words, not music\n" * 40)
    (tree.midi / "empty.mid").write_bytes(b"")
    header = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk"
    (tree.midi / "bomb.mid").write_bytes(header + (2**32 - 1).to_bytes(4, "big") + b"\0\x90\x3c\x40" * 9)
    return {
        "cut.wav": "truncated",
        "text.mp3": "not readable as audio",
        "empty.mid": "empty",
        "bomb.mid": "claims",
    }


def test_bad_files_are_reported_with_their_reasons_and_left_out(tree):
    expected = spoil(tree.add("happy/good", "happy/fine"))
    report = build(tree)
    reasons = {Path(entry["file"]).name: entry["reason"] for entry in report.rejected}
    assert reasons.keys() == expected.keys()
    assert all(word in reasons[name] for name, word in expected.items())
    assert {row["group"] for row in rows(tree.out, "midi")} == {"good", "fine"}
    written = json.loads((tree.out / manifest.REPORT).read_text())
    assert (
        written["rejected"] == report.rejected
        and written["counts"]["pairs"] == 6
        and written["demo"] is False
    )
    assert sum("left out" in line for line in manifest.summary(report)) == 4


def test_midi_without_notes_is_left_out_with_its_reason(tree):
    tree.add("good", "fine", "mute")
    (tree.midi / "mute.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0")
    report = build(tree)
    assert report.counts["kept"] == 2
    assert [(Path(e["file"]).name, e["reason"]) for e in report.rejected] == [("mute.mid", "it has no notes")]


def test_links_that_lead_nowhere_and_pipes_are_left_out(tree):
    tree.add("good", "fine", "dangling", "loop", "pipe")
    for name, become in (
        ("dangling", lambda path: path.symlink_to("nowhere.wav")),
        ("loop", lambda path: path.symlink_to(path)),
        ("pipe", os.mkfifo),
    ):
        path = tree.audio / f"{name}.wav"
        path.unlink()
        become(path)
    report = build(tree)
    reasons = {Path(entry["file"]).name: entry["reason"] for entry in report.rejected}
    assert report.counts["kept"] == 2 and reasons.keys() == {"dangling.wav", "loop.wav", "pipe.wav"}
    assert "No such file" in reasons["dangling.wav"] and "not a regular file" in reasons["pipe.wav"]


def test_a_playlist_named_as_audio_is_not_followed(tree):
    tree.add("good", "fine", "list")
    (tree.audio / "list.wav").rename(tree.audio / "list.mp3")
    (tree.audio / "list.mp3").write_text(f"ffconcat version 1.0\nfile {tree.audio / 'good.wav'}\n")
    report = build(tree)
    assert [Path(entry["file"]).name for entry in report.rejected] == ["list.mp3"]


def test_names_with_odd_characters_read_back(tree):
    names = ["sad/b\u2028c", "sad/new\nline", "sad/naïve 100%", 'sad/"q"']
    build(tree.add(*names, "sad/plain"))
    found = read(tree.out / "midi_train.jsonl", MidiGeneratorData.row_keys) + read(
        tree.out / "midi_val.jsonl", MidiGeneratorData.row_keys
    )
    assert {Path(row["midi_path"]).stem for row in found} == {name[4:] for name in [*names, "sad/plain"]}


def test_the_roots_own_name_counts(tree):
    tree.audio, tree.midi = tree.folder / "a" / "happy", tree.folder / "m" / "happy"
    assert build(tree.add("one", "two")).emotion_sources == {"directory": 2}


def test_a_file_in_the_folders_place_is_bad_input(tree):
    tree.add("one", "two").out.write_text("mine")
    with pytest.raises(UserError, match="manifests: can't write there"):
        build(tree)
    assert tree.out.read_text() == "mine"


def test_a_build_of_bad_files_leaves_no_folder_it_made(tree, tmp_path):
    spoil(tree)
    with pytest.raises(UserError, match="no pair is left"):
        build(
            tree,
            tmp_path / "deep" / "er" / "out",
            make_cloud=fake_cloud,
            clouds_dir=tmp_path / "deep" / "clouds",
        )
    assert not (tmp_path / "deep").exists()


def test_a_build_of_bad_files_alone_ends_with_their_reasons_and_writes_nothing(tree):
    spoil(tree)
    with pytest.raises(UserError, match=r"no pair is left: 4 matched.*bomb\.mid: ") as error:
        build(tree)
    assert error.value.status == 2 and "\n" not in str(error.value)
    assert not tree.out.exists()


def test_no_match_shows_three_near_misses_and_writes_nothing(tree):
    tree.add(*(f"happy/song_{i:03}" for i in range(5)), midi=None)
    tree.add(*(f"happy/track{i:03}" for i in range(5)), audio=None)
    with pytest.raises(UserError, match="no pair matches: 5 audio files") as error:
        build(tree)
    assert str(error.value).count(" ~ ") == 3 and "happy/song_001.wav ~ happy/track001.mid" in str(
        error.value
    )
    assert not tree.out.exists()


def test_a_missing_root_and_a_root_without_files_are_named(tree):
    with pytest.raises(UserError, match="audio: no such folder"):
        build(tree)
    tree.add("one", midi=None).midi.mkdir()
    with pytest.raises(UserError, match="midi: holds no midi files"):
        build(tree)


def test_unmatched_and_ambiguous_files_are_listed(tree):
    tree.add("good", "fine").add("alone", midi=None).add("1/twice", "2/twice", midi=None).add(
        "twice", audio=None
    )
    report = build(tree)
    assert [Path(file).name for file in report.unmatched] == ["alone.wav"]
    assert [len(entry["files"]) for entry in report.ambiguous] == [3] and report.counts["kept"] == 2


def test_a_name_that_is_not_utf8_is_reported(tree):
    tree.add("good", "fine")
    for folder, suffix in ((tree.audio, "wav"), (tree.midi, "mid")):
        os.link(folder / f"good.{suffix}", os.fsencode(folder) + b"/\xff." + suffix.encode())
    report = build(tree)
    assert report.counts["kept"] == 2 and {entry["reason"].split(";")[0] for entry in report.rejected} == {
        "its name is not valid UTF-8"
    }
    json.loads((tree.out / manifest.REPORT).read_text(encoding="utf-8"))


def test_aligned_builds_drop_a_pair_that_does_not_match(tree):
    from kwela.corpus.demo import smoke

    smoke.make(tree.folder, pieces=4)
    happy, angry = tree.midi / "happy" / "smoke_000.mid", tree.midi / "angry" / "smoke_003.mid"
    angry.write_bytes(happy.read_bytes())
    report = build(tree, align=True)
    assert [Path(entry["file"]).name for entry in report.rejected] == ["smoke_003.wav"]
    assert "onsets don't match" in report.rejected[0]["reason"]
    assert build(tree).rejected == []  # the control: without --align nobody looks


@pytest.mark.parametrize("how", [{"val_split": 1.0}, {"val_split": -0.1}, {"segments": 0}])
def test_settings_out_of_range_are_refused(tree, how):
    with pytest.raises(UserError, match=f"--{next(iter(how)).replace('_', '-')}"):
        build(tree.add("one"), **how)


def test_the_demo_marks_its_manifests_and_overwrites_no_others(tree):
    tree.add("one", "two")
    assert build(tree, demo=True).demo and manifest.is_demo(tree.out)
    build(tree, demo=True)  # its own
    build(tree)  # a user's build replaces the demo's
    kept = contents(tree.out)
    with pytest.raises(UserError, match="not the demo's"):
        build(tree, demo=True)
    assert contents(tree.out) == kept and not manifest.is_demo(tree.out) and not manifest.is_demo(tree.folder)


# --------------------------------------------------------------- all or nothing


def test_a_failure_while_writing_leaves_the_old_manifests(tree, monkeypatch):
    build(tree.add("one", "two"))
    before = contents(tree.out)
    tree.add("three")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KwelaError, match="No space left"):
        build(tree)
    assert contents(tree.out) == before and not list(tree.out.glob(".*.tmp"))


SLOW = """
    import sys, time
    from pathlib import Path
    from kwela.corpus.pairs import manifest

    def slow_cloud(audio, midi, emotion, offset, start, folder):
        with (folder.parent / "log").open("a") as log:
            log.write(audio.stem + "\\n")
        time.sleep(0.03)
        path = folder / f"{audio.stem}.npy"
        path.touch()
        return str(path)

    if __name__ == "__main__":
        root = Path(sys.argv[1])
        manifest.build(root / "audio", root / "midi", root / sys.argv[2], make_cloud=slow_cloud,
                       clouds_dir=root / "clouds", workers=2, quiet=True)
"""


def test_a_killed_build_goes_on_without_opening_finished_pairs_again_and_ends_with_the_same_bytes(tree):
    tree.add("song")
    for index in range(40):
        for kind, suffix in (("audio", "wav"), ("midi", "mid")):
            os.link(tree.folder / kind / f"song.{suffix}", tree.folder / kind / f"{index:02}.{suffix}")
    program = tree.folder / "program.py"
    program.write_text(textwrap.dedent(SLOW))
    log = tree.folder / "log"

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(program), str(tree.folder), out])

    def logged() -> list[str]:
        return log.read_text().split() if log.exists() else []

    child = start("killed")
    while len(logged()) < 10 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(0.3)  # the workers notice
    first = logged()
    time.sleep(0.3)
    assert logged() == first and 10 <= len(first) < 41
    assert [path.name for path in (tree.folder / "killed").iterdir()] == [".manifests.journal"]

    assert start("killed").wait() == 0
    again = logged()[len(first) :]
    assert len(set(first) & set(again)) <= 8  # only those in the workers' hands at the kill
    assert len(set(first) | set(again)) == 41

    assert start("whole").wait() == 0
    assert contents(tree.folder / "killed") == contents(tree.folder / "whole")


def test_a_changed_file_is_opened_again_and_a_touched_setting_too(tree):
    build(tree.add("one", "two", "three"))
    (tree.midi / "one.mid").write_bytes(b"")
    assert [Path(entry["file"]).name for entry in build(tree).rejected] == ["one.mid"]
    write_midi(tree.midi / "one.mid")
    assert build(tree).rejected == [] and "start" not in rows(tree.out, "spectocloud")[0]
    build(tree, segments=2)
    assert "start" in rows(tree.out, "spectocloud")[0]
