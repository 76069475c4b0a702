"""Files that are whole or absent: written beside their place, flushed, then renamed into it; and what a failure is."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from pathlib import Path

from kwela.errors import KwelaError, UserError

STAYS = "; what was there before stays"


def unwritable(path: Path, error: OSError, what: str = "can't write there", then: str = "") -> KwelaError:
    """A failed write in one line: UserError for a file in the way or no permission, else (a full disk) KwelaError."""
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError | PermissionError)
    kind = (
        UserError
        if in_the_way or error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
        else KwelaError
    )
    return kind(f"{path}: {what}: {error.strerror or error}{then}")


def write(
    path: Path, content: bytes | str, durable: bool = True, what: str = "not written", then: str = STAYS
) -> None:
    """Put `content` (text as UTF-8) at `path`, whole or not at all; makes the folder. Devices are written in place.

    durable: False doesn't wait for the disk, for what can be made again and shows when it is damaged.
    what, then: of the message. Raises as `unwritable`; what was there stays.
    """
    data = content.encode() if isinstance(content, str) else content
    place = Path(os.path.realpath(path))  # a link stays one
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(data)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            draft.replace(place)
            if durable:
                sync(place.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error, what, then) from error


def cache(entry: Path, body: bytes) -> None:
    """Write a cache's entry: `body`, after its SHA-256. Raises as `write`."""
    hint = "; see data.cache_dir, data.cache_features"
    write(entry, hashlib.sha256(body).digest() + body, durable=False, what="not cached", then=hint)


def cached(entry: Path) -> bytes | None:
    """The body of a cache's entry; None where it isn't there or is damaged, and has to be made."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        digest, body = (raw := entry.read_bytes())[:32], raw[32:]
        if hashlib.sha256(body).digest() == digest:
            return body
    return None


def shown(path: Path) -> Path:
    """`path` as a reader would type it: from the working directory, where it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def sync(folder: Path) -> None:
    """Wait until the folder's names, such as that of a file just renamed into it, are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
