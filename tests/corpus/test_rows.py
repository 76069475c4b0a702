"""A manifest's rows are checked one by one, and the first bad one is named by file, row and key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kwela.corpus.pairs.rows import data_hash, read
from kwela.errors import UserError
from kwela.midi_generator.config import MidiGeneratorData
from kwela.spectocloud.config import SpectocloudData


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("x.wav", "x.mid", "x_v2.mid", "cloud.npy"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, *rows: object) -> Path:
    path = folder / "m.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


GOOD = {"audio_path": "x.wav", "midi_path": "x.mid", "emotion": [0.7, 0.8, 0.6]}


def test_the_runbooks_keys_are_enough_and_unknown_ones_are_kept(folder):
    (row,) = read(write(folder, GOOD | {"mood": "mine"}), SpectocloudData.row_keys)
    assert row["mood"] == "mine" and row["offset"] == 0.0 and "start" not in row and row["group"] == "x"
    assert row["emotion64"].dtype == np.float32 and row["emotion64"].shape == (64,)
    assert row["emotion64"][:4].tolist() == [*np.float32([0.7, 0.8, 0.6]).tolist(), 0]


def test_relative_paths_are_beside_the_manifest_whatever_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir("/")
    rows = read(
        write(folder, GOOD, "", GOOD | {"audio_path": str(folder / "x.wav")}), SpectocloudData.row_keys
    )
    assert {row["audio_path"] for row in rows} == {str(folder / "x.wav")} and len(rows) == 2


def test_a_midi_row_needs_no_audio_and_its_group_drops_the_version(folder):
    (row,) = read(write(folder, {"midi_path": "x_v2.mid", "emotion": [0] * 64}), MidiGeneratorData.row_keys)
    assert row["group"] == "x"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"emotion": [0.1, 0.2]}, "emotion: expected 3 numbers"),
        ({"emotion": [0.1, 2, 0]}, r"emotion: number 2 is 2, outside \[-1, 1\]"),
        ({"emotion": [0.1, float("nan"), 0]}, "emotion: number 2 is nan"),
        ({"emotion": None}, "emotion: expected"),
        ({"audio_path": "gone.wav"}, "audio_path: no such file: .*gone.wav"),
        ({"midi_path": 3}, "midi_path: expected a path"),
        ({"target_pointcloud_path": "gone.npy"}, "target_pointcloud_path: no such file"),
        ({"start": -1}, "start: -1 is before"),
        ({"start": "0"}, "start: '0' is not a number"),
        ({"offset": float("inf")}, "offset: inf is not a number"),
        ({"offset": 10**400}, "offset: 1000000.* is not a number"),
        ({"start": 1e300}, "start: 1e.300 is not a number"),
        ({"group": 5}, "group: 5 is not a name"),
        ({"audio_path": "x" * 300}, "audio_path: .*File name too long"),
        ({"audio_path": "a\0b"}, "audio_path: "),
    ],
)
def test_a_bad_row_is_named_by_file_row_and_key(folder, change, complaint):
    with pytest.raises(UserError, match=rf"m\.jsonl:row 2: {complaint}"):
        read(write(folder, GOOD, GOOD | change), SpectocloudData.row_keys)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"midi_path": "x.mid"}', "[" * 100_000, '{"emotion": ' + "9" * 6000 + "}"]
)
def test_a_row_that_is_not_one_is_named(folder, text):
    with pytest.raises(UserError, match=r"m\.jsonl:row 2: "):
        read(write(folder, GOOD, text), SpectocloudData.row_keys)


def test_a_row_that_is_not_utf8_is_named(folder):
    path = write(folder, GOOD, GOOD)
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\n")
    with pytest.raises(UserError, match=r"m\.jsonl: manifest not readable: no UTF-8 in line 2 \(byte 0xff\)"):
        read(path, SpectocloudData.row_keys)


def test_rows_end_at_newlines_alone_and_a_byte_order_mark_is_passed_over(folder):
    names = ["a\u2028b", "a\x85b", "a\x0bb"]
    text = "\r\n".join(json.dumps(GOOD | {"group": name}, ensure_ascii=False) for name in names)
    (folder / "m.jsonl").write_text("\ufeff" + text, encoding="utf-8", newline="")
    found = read(folder / "m.jsonl", SpectocloudData.row_keys)
    assert [row["group"] for row in found] == names
    assert [row["where"].rpartition(":")[2] for row in found] == ["row 1", "row 2", "row 3"]


def test_a_manifest_that_is_missing_or_empty_is_named(folder):
    with pytest.raises(UserError, match=r"none\.jsonl: manifest not readable"):
        read(folder / "none.jsonl", MidiGeneratorData.row_keys)
    with pytest.raises(UserError, match=r"m\.jsonl: the manifest holds no rows"):
        read(write(folder, ""), MidiGeneratorData.row_keys)


def test_the_data_hash_sees_every_byte_and_the_order(folder):
    one = write(folder, GOOD)
    two = folder / "two.jsonl"
    two.write_bytes(one.read_bytes() + b" ")
    hashes = [data_hash(paths) for paths in ([one, two], [two, one], [one, one])]
    assert len(set(hashes)) == 3 and data_hash([one, two]) == hashes[0]
