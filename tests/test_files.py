"""Files are whole or absent, hashes are SHA-256, and a failed write is one line that names the path."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kwela import files
from kwela.errors import KwelaError, UserError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of "abc", FIPS 180-4


def test_a_file_is_replaced_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    files.write(path, "first")
    files.write(path, b"second")
    assert path.read_bytes() == b"second" and list(path.parent.iterdir()) == [path]


def test_what_was_there_stays_if_the_draft_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, "old")

    def fail_halfway() -> None:
        with files.draft(path) as draft:
            draft.write_text("half")
            assert path.read_text() == "old" and draft.name == ".file.tmp"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_draft_of_a_killed_run_is_removed_and_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "previews"
    for folder, name in ((tmp_path / ".previews.tmp", "left over"), (place, "old")):
        folder.mkdir()
        (folder / name).write_text("x")
    with files.draft(place) as draft:
        draft.mkdir()
        (draft / "new").write_text("x")
        assert (place / "old").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["previews", "new"]


def test_a_link_stays_a_link_and_a_device_is_written_directly(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    files.write(link, "content")
    assert link.is_symlink() and (tmp_path / "target").read_text() == "content"
    files.write(Path("/dev/null"), "content")
    assert not Path("/dev/null").is_file()


def test_a_shared_draft_has_a_name_of_its_own_and_an_ending_that_a_library_may_need(tmp_path: Path) -> None:
    with files.draft(tmp_path / "a.wav", shared=True, ending=".tmp.wav") as draft:
        draft.write_text("x")
        assert draft.name.startswith(f".a.wav.{os.getpid()}.") and draft.suffix == ".wav"


def test_durable_content_is_flushed_before_it_is_renamed_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append([path.name for path in tmp_path.iterdir()]))
    with files.draft(tmp_path / "file") as draft:
        draft.write_text("x")
    assert seen == [[".file.tmp"], ["file"]]
    with files.draft(tmp_path / "file", durable=False) as draft:
        draft.write_text("x")
    assert len(seen) == 2


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 1), (errno.EACCES, 2), (errno.EROFS, 2)])
def test_a_failed_write_is_the_users_error_only_where_the_user_can_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(KwelaError, match=f"file: not written: {os.strerror(number)}.*stays") as failed:
        files.write(tmp_path / "file", "content")
    assert failed.value.status == status and isinstance(failed.value, files.NotWritable) == (status == 2)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_and_a_name_that_is_too_long_are_the_users(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="not written"):
            files.write(path, "content")
        with pytest.raises(UserError, match="no line added"):
            files.append(path, "line")


def test_a_line_is_added_below_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines"
    files.append(path, "one")
    files.append(path, "two\n")
    path.write_text(path.read_text() + "torn")
    files.append(path, "three")
    assert path.read_text() == "one\ntwo\ntorn\nthree\n"


def test_a_hash_is_of_a_files_bytes_or_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(b"abc") == files.sha256(tmp_path / "abc") == ABC
    with pytest.raises(FileNotFoundError):
        files.sha256(tmp_path / "none")


def test_a_cache_makes_an_entry_once_and_again_if_it_is_damaged(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"abc"

    assert [files.cached(tmp_path, "0123", make) for _ in range(2)] == [b"abc", b"abc"] and len(made) == 1
    entry = tmp_path / "01" / "23"
    assert entry.read_bytes() == bytes.fromhex(ABC) + b"abc"
    for damaged in (bytes.fromhex(ABC) + b"abd", b"short", b""):
        entry.write_bytes(damaged)
        assert files.cached(tmp_path, "0123", make) == b"abc"
    assert len(made) == 4 and entry.read_bytes() == bytes.fromhex(ABC) + b"abc"


def test_a_path_is_shown_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.display_path(tmp_path / "a" / "b") == Path("a/b")
    assert files.display_path(Path("/other")) == Path("/other")
