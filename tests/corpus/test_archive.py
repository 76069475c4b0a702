"""A zip in parts is read as one, and what is wrong with it is named by part."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_mtt import zip_in_parts

from kwela.corpus.tagged.archive import Archive, DamagedPart, _Joined, find_parts
from kwela.errors import UserError

CONTENTS = {f"{k % 3}/clip-{k}.mp3": bytes((k * j) % 251 for j in range(3000 + 500 * k)) for k in range(9)}


def test_every_entry_reads_back_from_three_parts_and_from_one(tmp_path):
    zip_in_parts(tmp_path / "three", CONTENTS)
    zip_in_parts(tmp_path / "one", CONTENTS, 1)[0].rename(tmp_path / "one" / "mp3.zip")
    for folder, count in (("three", 3), ("one", 1)):
        parts = find_parts(tmp_path / folder)
        assert len(parts) == count
        archive = Archive(parts)
        assert {name: archive.read(name) for name in archive.entries} == CONTENTS


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.integers(0, 50), st.integers(0, 50))
def test_joined_files_read_as_their_bytes_end_to_end(tmp_path_factory, blocks, start, length):
    folder = tmp_path_factory.mktemp("joined")
    paths = [folder / str(k) for k in range(len(blocks))]
    for path, block in zip(paths, blocks, strict=True):
        path.write_bytes(block)
    joined = io.BufferedReader(_Joined(paths), 4)
    joined.seek(start)
    assert joined.read(length) == b"".join(blocks)[start : start + length]
    joined.seek(0)
    assert joined.read() == b"".join(blocks)


def test_a_part_that_is_missing_cut_or_damaged_is_named(tmp_path):
    parts = zip_in_parts(tmp_path, CONTENTS)
    second, third = parts[1].read_bytes(), parts[2].read_bytes()
    parts[1].unlink()
    with pytest.raises(DamagedPart, match=r"mp3\.zip\.002: missing"):
        find_parts(tmp_path)
    parts[1].write_bytes(second)
    parts[2].write_bytes(third[:-40])
    with pytest.raises(DamagedPart, match=r"mp3\.zip\.003 is cut short, or a part after it is missing"):
        Archive(find_parts(tmp_path))
    parts[2].unlink()
    with pytest.raises(DamagedPart, match=r"mp3\.zip\.002 is cut short, or a part after it is missing"):
        Archive(find_parts(tmp_path))
    parts[2].write_bytes(third)
    parts[1].write_bytes(second[:300] + bytes(255 - byte for byte in second[300:320]) + second[320:])
    archive = Archive(find_parts(tmp_path))
    damaged = []
    for name in archive.entries:
        try:
            archive.read(name)
        except UserError as error:
            damaged.append(str(error))
    assert len(damaged) == 1 and ": damaged at " in damaged[0] and "download it again" in damaged[0]


def test_entries_that_would_leave_the_folder_are_passed_over_and_reported(tmp_path):
    link = zipfile.ZipInfo("link.mp3")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "mp3.zip", "w") as file:
        for entry in ("0/good.mp3", "../up.mp3", "/etc/passwd", "a\\..\\b.mp3", link):
            file.writestr(entry, b"x")
    archive = Archive([tmp_path / "mp3.zip"])
    assert list(archive.entries) == ["0/good.mp3"]
    assert archive.unsafe == ["../up.mp3", "/etc/passwd", "a\\..\\b.mp3", "link.mp3"]
