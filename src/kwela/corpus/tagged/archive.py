"""Read a zip in parts, or whole, in its place: a file is taken out without the others or a joined copy.

`mp3.zip.001 .002 .003` are a plain split, so their bytes in order are the zip. An entry's name is never used
as a path unless it is safe: no absolute path, no "..", no link.
"""

from __future__ import annotations

import bisect
import io
import itertools
import re
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from kwela.errors import UserError

_PART = re.compile(r"(.+\.zip)\.(\d{3})")


class DamagedPart(UserError):
    """A file of an archive that has to be downloaded again; no matter of a single clip."""


class Archive:
    """A zip of one or several part files.

    Raises DamagedPart naming the part that is missing, cut short or damaged.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self.parts = list(parts)
        self._joined = _Joined(self.parts)
        try:
            self._zip = zipfile.ZipFile(self._joined)
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            last = self.parts[-1]
            more = (
                f"{last} is cut short, or a part after it is missing"
                if len(parts) > 1
                else f"{last} is cut short"
            )
            raise DamagedPart(f"{more}: {error}; download it again") from None
        safe = [(_safe_name(entry), entry) for entry in self._zip.infolist() if not entry.is_dir()]
        self.entries = {name: entry for name, entry in safe if name}
        self.unsafe = [entry.filename for name, entry in safe if not name]

    def read(self, name: str) -> bytes:
        """Return the bytes of an entry. Raises DamagedPart naming the part in which it is damaged."""
        entry = self.entries[name]
        try:
            return self._zip.read(entry)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
        ) as error:
            part = self._joined.part_at(entry.header_offset)
            raise DamagedPart(f"{part}: damaged at {name}: {error}; download it again") from None

    def close(self) -> None:
        """Close the zip and its parts."""
        self._zip.close()
        self._joined.close()


def find_parts(folder: Path, name: str = "mp3.zip") -> list[Path]:
    """Return `name` in `folder`, or else its parts in order; empty if there is neither.

    Raises DamagedPart if one part is missing.
    """
    whole = folder / name
    if whole.is_file():
        return [whole]
    numbered = {}
    for path in folder.glob(f"{name}.*"):
        found = _PART.fullmatch(path.name)
        if found and path.is_file():
            numbered[int(found[2])] = path
    for number in range(1, max(numbered, default=0) + 1):
        if number not in numbered:
            raise DamagedPart(f"{folder / name}.{number:03}: missing, and later parts are there; download it")
    return [numbered[number] for number in sorted(numbered)]


class _Joined(io.RawIOBase):
    """Files end to end, as one that can be read and sought in."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self.parts = parts
        sizes = [part.stat().st_size for part in parts]
        self.starts = [0, *itertools.accumulate(sizes)]
        self.at = 0
        self._open: tuple[int, IO[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.starts[-1]}[whence] + offset
        if self.at < 0:
            raise ValueError("before the file's beginning")
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self.at < self.starts[-1]:
            number = bisect.bisect_right(self.starts, self.at) - 1
            file = self._part(number)
            file.seek(self.at - self.starts[number])
            data = file.read(min(len(view) - filled, self.starts[number + 1] - self.at))
            if not data:
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
            self.at += len(data)
        return filled

    def part_at(self, offset: int) -> Path:
        """Return the file that holds the byte at `offset`."""
        return self.parts[min(bisect.bisect_right(self.starts, offset) - 1, len(self.parts) - 1)]

    def close(self) -> None:
        if self._open:
            self._open[1].close()
            self._open = None
        super().close()

    def _part(self, number: int) -> IO[bytes]:
        if self._open is None or self._open[0] != number:
            if self._open:
                self._open[1].close()
            self._open = number, self.parts[number].open("rb")
        return self._open[1]


def _safe_name(entry: zipfile.ZipInfo) -> str | None:
    """Return the entry's path, or None if it would leave the folder or is a link or a device."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    path = PurePosixPath(entry.filename)
    if kind not in (0, stat.S_IFREG) or path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
        return None
    return path.as_posix()
