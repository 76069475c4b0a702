"""Files that are whole or absent: written beside their place, flushed, then renamed into it."""

from __future__ import annotations

import os
from pathlib import Path

from kwela.errors import KwelaError, UserError


def write(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Put `content` (text as UTF-8) at `path`, whole or not at all; makes the folder. Devices are written in place.

    durable: False doesn't wait for the disk, for what can be made again and shows when it is damaged.
    Raises UserError if the path can't be written (a folder or file in the way, no permission), KwelaError if the disk
    refuses; what was there stays.
    """
    data = content.encode() if isinstance(content, str) else content
    place = Path(os.path.realpath(path))  # a link stays one
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(data)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    except (IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError) as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    except OSError as error:
        raise KwelaError(f"{path}: not written: {error.strerror}; what was there before stays") from error
