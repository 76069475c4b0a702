"""Write files whole or not at all, hash them, cache results, and say in one line why a write failed.

A draft is written beside its place, flushed to the disk where that matters, and renamed. So a kill, a full
disk or a power cut at any moment leaves the old file or the new one. Drafts are hidden: `.NAME...tmp`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from kwela.errors import KwelaError, UserError

LARGEST_TEXT = 1 << 30  # bytes of a text file that is read as a whole

_KEPT = "; what was there before stays"


class NotWritable(UserError):
    """A file is in the way, a permission is missing, or a name is not possible there."""


def write_error(path: Path, error: OSError, what: str = "can't write there", hint: str = "") -> KwelaError:
    """Return a failed write as an error of one line: `path: what: reason`, then `hint`.

    It is NotWritable where the user must change the path or its permissions, else (a full disk) a KwelaError.
    """
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError | PermissionError)
    in_the_way = in_the_way or error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
    return (NotWritable if in_the_way else KwelaError)(f"{path}: {what}: {error.strerror or error}{hint}")


@contextlib.contextmanager
def draft(
    path: Path,
    *,
    durable: bool = True,
    shared: bool = False,
    ending: str = ".tmp",
    what: str = "not written",
    hint: str = _KEPT,
) -> Iterator[Path]:
    """Give a path beside `path` for a file or a folder, which takes the place of `path` when the block ends.

    If the block raises, the draft is removed and what was at `path` stays. The parent folder is made. A link
    stays a link. A folder replaces a folder: between the two there is a moment without either.

    durable: wait until the disk holds it (not of what a folder contains). shared: other processes may write
    the same path now, so the draft has a name of its own; otherwise a killed run's draft is removed first.
    ending: of the draft's name, for libraries that choose a format by it. what, hint: parts of the error
    message. Raises as `write_error` for an OSError of the block or of the rename.
    """
    place = Path(os.path.realpath(path))
    owner = f".{os.getpid()}.{threading.get_ident()}" if shared else ""
    temporary = place.with_name(f".{place.name}{owner}{ending}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            _remove(temporary)
            yield temporary
            if durable:
                sync(temporary)
            if temporary.is_dir() and place.exists():
                _remove(place)  # a folder can't be renamed over one that holds files
            temporary.replace(place)
            if durable:
                sync(place.parent)
        finally:
            _remove(temporary)
    except OSError as error:
        raise write_error(path, error, what, hint) from error


def write(
    path: Path, content: bytes | str, durable: bool = True, what: str = "not written", hint: str = _KEPT
) -> None:
    """Write `content` (text as UTF-8) to `path`, whole or not at all. A device or a pipe is written directly.

    durable: False does not wait for the disk; it is for what can be made again and shows when it is damaged.
    what, hint: parts of the error message. Raises as `write_error`.
    """
    # A name that is no UTF-8 stands in JSON as an escape that is read back as that name.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
    except OSError as error:
        raise write_error(path, error, what, hint) from error
    with draft(path, durable=durable, shared=True, what=what, hint=hint) as temporary:
        temporary.write_bytes(data)


def append(path: Path, line: str, what: str = "no line added") -> None:
    """Add `line` to a text file and wait until the disk holds it; the parent folder is made.

    A last line that a power cut left without its end stays as it is: the new line begins below it.
    Raises as `write_error`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            torn = False
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            text = "\n" * torn + line.rstrip("\n") + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error, what) from error


def read_text(path: Path, what: str, largest: int = LARGEST_TEXT) -> str:
    """Return the text of a file that somebody gave: UTF-8, without a byte order mark, line ends as they are.

    what: what the file holds, for the message. largest: bytes. Raises UserError for a file that can't be
    read, is larger, or holds something else: text in UTF-16 or an older encoding, a web page in place of a
    download, no text at all.
    """
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path}: {what} not readable: {_reason(error)}") from None
    return decode(data, path, what, largest)


def decode(data: bytes, path: Path, what: str, largest: int = LARGEST_TEXT) -> str:
    """Return the text that `read_text` gives of these bytes of the file `path`; raises as it."""
    fault = None
    if len(data) > largest:
        fault = f"more than {largest >> 20:,} MB"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fault = "its text is UTF-16; save it as UTF-8"
    elif (at := data.find(b"\0")) >= 0:
        fault = f"no text: a NUL byte in line {_line(data, at)}; save it as UTF-8"
    elif is_web_page(data):
        fault = "it is a web page, not the file; download it again"
    if fault is None:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            byte = f"byte {data[error.start]:#04x}"
            fault = f"no UTF-8 in line {_line(data, error.start)} ({byte}); save it as UTF-8"
    raise UserError(f"{path}: {what} not readable: {fault}")


def is_web_page(start: bytes) -> bool:
    """Return whether a file that begins like this is HTML or XML: what a server sends for an error."""
    head = start[:200].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return head.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<!--", b"<?xml", b"<error"))


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def sha256(content: Path | bytes) -> str:
    """Return the SHA-256, in hex, of a file or of bytes. Raises OSError for a file that can't be read."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached(folder: Path, key: str, make: Callable[[], bytes]) -> bytes:
    """Return the bytes kept in the cache `folder` under `key` (hex), or make them and keep them there.

    An entry stands after its own SHA-256: a damaged one is made again. Processes may share the folder.
    Raises as `write_error`, and whatever `make` raises.
    """
    entry = folder / key[:2] / key[2:]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        digest, body = (raw := entry.read_bytes())[:32], raw[32:]
        if hashlib.sha256(body).digest() == digest:
            return body
    body = make()
    hint = "; see data.cache_dir, data.cache_features"
    write(entry, hashlib.sha256(body).digest() + body, durable=False, what="not cached", hint=hint)
    return body


def display_path(path: Path) -> Path:
    """Return `path` as a reader would type it: relative to the working directory where it lies below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def sync(path: Path) -> None:
    """Wait until the disk holds a file's bytes, or the names of the files in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
