"""A zip in parts is read as one, and what is wrong with it is named by part."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

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


PAGE = b"<html><head><title>404 Not Found</title></head></html>"


def parts_with(folder: Path, changes: dict[int, bytes], parts: int = 3) -> list[Path]:
    """The parts of CONTENTS, some of them with other bytes."""
    made = zip_in_parts(folder, CONTENTS, parts)
    for number, data in changes.items():
        made[number - 1].write_bytes(data)
    return find_parts(folder)


@pytest.mark.parametrize(
    ("number", "change", "complaint"),
    [
        (2, lambda data: PAGE, r"mp3\.zip\.002: a web page, not a part of the archive; download it again"),
        (1, lambda data: b"\xef\xbb\xbf\n <!DOCTYPE HTML>", r"mp3\.zip\.001: a web page"),
        (3, lambda data: PAGE, r"mp3\.zip\.003: a web page"),
        (2, lambda data: b"", r"mp3\.zip\.002: empty"),
        (1, lambda data: b'{"error": "quota"}', r"mp3\.zip\.001: does not begin as a zip does"),
        (1, lambda data: data[:-7], r"mp3\.zip\.001: cut short: [\d,]+ bytes, another part has"),
        (2, lambda data: data[:-7], r"mp3\.zip\.002: cut short: [\d,]+ bytes, another part has"),
        (3, lambda data: data[:-7], r"mp3\.zip\.003 is cut short, or a part after it is missing"),
        (3, lambda data: data[:40] + bytes(len(data) - 62) + data[-22:], r"mp3\.zip\.003: .* is damaged"),
    ],
)
def test_the_part_to_download_again_is_named(tmp_path, number, change, complaint):
    whole = zip_in_parts(tmp_path / "whole", CONTENTS)
    with pytest.raises(DamagedPart, match=complaint) as refused:
        Archive(parts_with(tmp_path, {number: change(whole[number - 1].read_bytes())}))
    assert "\n" not in str(refused.value)


def test_two_parts_of_which_the_first_is_short_are_told_apart_by_where_entries_stand(tmp_path):
    whole = zip_in_parts(tmp_path / "whole", CONTENTS, 2)
    with pytest.raises(DamagedPart, match=r"mp3\.zip\.001: cut short"):
        Archive(parts_with(tmp_path / "first", {1: whole[0].read_bytes()[:-900]}, 2))
    data = whole[1].read_bytes()
    with pytest.raises(DamagedPart, match=r"mp3\.zip\.001 or mp3\.zip\.002: lacks 50 bytes"):
        Archive(parts_with(tmp_path / "second", {2: data[:20] + data[70:]}, 2))
    assert len(Archive(whole).entries) == len(CONTENTS)


def test_parts_in_a_wrong_order_or_too_many_are_said(tmp_path):
    first, second, third = (part.read_bytes() for part in zip_in_parts(tmp_path / "whole", CONTENTS))
    with pytest.raises(DamagedPart, match=r"002: ends as the archive's last part does, and mp3\.zip\.003"):
        Archive(parts_with(tmp_path / "last", {2: third, 3: second}))
    with pytest.raises(DamagedPart, match=r"mp3\.zip\.001: does not begin as a zip does"):
        Archive(parts_with(tmp_path / "first", {1: second, 2: first}))
    parts_with(tmp_path / "more", {})
    (tmp_path / "more" / "mp3.zip.004").write_bytes(second)
    with pytest.raises(
        DamagedPart, match=r"mp3\.zip\.003: ends as .* does, and mp3\.zip\.004 comes after it"
    ):
        Archive(find_parts(tmp_path / "more"))


def test_an_end_record_that_runs_over_two_parts_is_found(tmp_path):
    data = b"".join(part.read_bytes() for part in zip_in_parts(tmp_path / "whole", CONTENTS))
    (tmp_path / "mp3.zip.001").write_bytes(data[:-9])
    (tmp_path / "mp3.zip.002").write_bytes(data[-9:])
    assert len(Archive(find_parts(tmp_path)).entries) == len(CONTENTS)


def test_an_entry_that_is_too_large_encrypted_or_packed_otherwise_is_refused_alone(tmp_path):
    path = zip_in_parts(tmp_path, {"a.mp3": b"a", "b.mp3": b"b"}, 1)[0].rename(tmp_path / "mp3.zip")
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    for offset, value, complaint in (
        (24, struct.pack("<I", 3 << 30), "too large to unpack: 3,221 MB"),
        (8, b"\x01\0", "encrypted; unpack the archive yourself"),
        (10, b"\x09\0", "packed in a way that kwela can't read"),
    ):
        path.write_bytes(data[: at + offset] + value + data[at + offset + len(value) :])
        archive = Archive([path])
        with pytest.raises(UserError, match=f"a.mp3: {complaint}") as refused:
            archive.read("a.mp3")
        assert not isinstance(refused.value, DamagedPart)
        assert archive.read("b.mp3") == b"b"


def test_an_entry_without_a_name_is_passed_over(tmp_path):
    whole = zip_in_parts(tmp_path, {"clip.mp3": b"sound", "x": b""}, 1)[0]
    data = bytearray(whole.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the last entry of the list at the end, whose name has one letter
    data[at + 28 : at + 30] = b"\0\0"
    del data[at + 46]
    size = data.rindex(b"PK\x05\x06") + 12
    data[size : size + 4] = (int.from_bytes(data[size : size + 4], "little") - 1).to_bytes(4, "little")
    whole.write_bytes(data)
    archive = Archive([whole])
    assert list(archive.entries) == ["clip.mp3"]
    assert archive.unsafe == [""]
