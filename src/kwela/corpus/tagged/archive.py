"""Read a zip in parts, or whole, in its place: a file is taken out without the others or a joined copy.

`mp3.zip.001 .002 .003` are a plain split, so their bytes in order are the zip. An entry's name is never used
as a path unless it is safe: no absolute path, no "..", no link. An entry is read whole, so one that is very
large is refused.

A download that went wrong leaves a web page, an empty or a short file, or a part of another archive. So the
parts are looked at before they are read, and the one that has to be downloaded again is named.
"""

from __future__ import annotations

import bisect
import io
import itertools
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from kwela import files
from kwela.errors import UserError

LARGEST_ENTRY = 256 << 20  # bytes of an unpacked entry
_PART = re.compile(r"(.+\.zip)\.(\d{3})")
# By PKWARE's APPNOTE: what a zip begins with, its end record, and how far that is from its end at most.
_LOCAL, _EMPTY, _END = b"PK\x03\x04", b"PK\x05\x06", b"PK\x05\x06"
_END_SIZE, _END_REACH = 22, 22 + 65_535


class DamagedPart(UserError):
    """A file of an archive that has to be downloaded again; no matter of a single clip."""


class Archive:
    """A zip of one or several part files.

    Raises DamagedPart naming the part that is missing, cut short or damaged.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self.parts = list(parts)
        self._joined = _Joined(self.parts)
        _check_parts(self.parts, self._joined)
        try:
            self._zip = zipfile.ZipFile(self._joined)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error):
            raise DamagedPart(
                f"{self.parts[-1]}: the list of files at the archive's end is damaged; download it again"
            ) from None
        listed = [entry for entry in self._zip.infolist() if not entry.filename.endswith("/")]
        safe = [(_safe_name(entry), entry) for entry in listed]
        self.entries = {name: entry for name, entry in safe if name}
        self.unsafe = [entry.filename for name, entry in safe if not name]
        self._check_places()

    def read(self, name: str) -> bytes:
        """Return the bytes of an entry. Raises DamagedPart naming the part in which it is damaged.

        Raises UserError for an entry that is encrypted, packed in a way that Python does not read, or larger
        than LARGEST_ENTRY.
        """
        entry = self.entries[name]
        if entry.file_size > LARGEST_ENTRY:
            size = f"{entry.file_size / 1e6:,.0f} MB, over {LARGEST_ENTRY / 1e6:,.0f}"
            raise UserError(f"{self.parts[0]}: {name}: too large to unpack: {size}")
        if entry.flag_bits & 1:
            raise UserError(f"{self.parts[0]}: {name}: encrypted; unpack the archive yourself")
        try:
            return self._zip.read(entry)
        except NotImplementedError:
            raise UserError(
                f"{self.parts[0]}: {name}: packed in a way that kwela can't read; unpack the archive yourself"
            ) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError, struct.error):
            raise DamagedPart(f"{self._parts_of(entry)}: damaged at {name}; download it again") from None

    def _parts_of(self, entry: zipfile.ZipInfo) -> str:
        """Name the part in which an entry stands, or both where it runs over an end."""
        first = self._joined.part_at(max(0, entry.header_offset))
        last = self._joined.part_at(max(0, entry.header_offset + 30 + entry.compress_size))
        return str(first) if first == last else f"{first} or {last.name}"

    def _check_places(self) -> None:
        """Raise DamagedPart where entries do not stand where the list at the end says: bytes lack or repeat.

        zipfile moves all entries by the difference. It is right where something stands before the zip, which
        in a plain split is never so.
        """
        shift = min((entry.header_offset for entry in self.entries.values()), default=0)
        listed = _listed_start(self._joined)
        if listed is None or listed.found == listed.announced or (shift >= 0 and len(self.parts) == 1):
            return
        moved = listed.found - listed.announced
        last_sound, first_moved = 0, self._joined.starts[-1] - 1
        for place in sorted(entry.header_offset - moved for entry in self.entries.values()):
            self._joined.seek(place)
            if self._joined.read(4) != _LOCAL:
                first_moved = min(place, first_moved)
                break
            last_sound = place
        first, last = self._joined.part_at(last_sound), self._joined.part_at(first_moved)
        part = first if first == last else f"{first} or {last.name}"
        what = "lacks" if moved < 0 else "has"
        more = "" if moved < 0 else " too many"
        raise DamagedPart(f"{part}: {what} {abs(moved):,} bytes{more}; download it again")

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


class _ListedStart(NamedTuple):
    """Where the list of entries begins by the end record, and where it stands."""

    announced: int
    found: int


def _listed_start(joined: _Joined) -> _ListedStart | None:
    """Return the places of the list of entries; None for a zip over 4 GB, which states them elsewhere."""
    size = joined.starts[-1]
    joined.seek(max(0, size - _END_REACH))
    tail = joined.read(_END_REACH)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        return None
    length, announced = struct.unpack("<II", tail[at + 12 : at + 20])
    if 0xFFFFFFFF in (length, announced):
        return None
    return _ListedStart(announced, max(0, size - len(tail)) + at - length)


def _check_parts(parts: Sequence[Path], joined: _Joined) -> None:
    """Raise DamagedPart for a part that can't belong to the archive, by its size and both its ends."""
    sizes = [part.stat().st_size for part in parts]
    ends = []
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        with part.open("rb") as file:
            start = file.read(512)
            file.seek(max(0, size - _END_REACH))
            tail = file.read(_END_REACH)
        if not size:
            raise DamagedPart(f"{part}: empty; download it again")
        if files.is_web_page(start):
            raise DamagedPart(f"{part}: a web page, not a part of the archive; download it again")
        if number == 0 and not start.startswith((_LOCAL, _EMPTY)):
            raise DamagedPart(
                f"{part}: does not begin as a zip does: it is damaged, or another part under this name; "
                "download it again"
            )
        ends.append(_ends_a_zip(tail))
    joined.seek(max(0, joined.starts[-1] - _END_REACH))
    whole = _ends_a_zip(joined.read(_END_REACH))  # the record may run over two parts
    if not whole and any(ends):
        last = len(ends) - 1 - ends[::-1].index(True)
        raise DamagedPart(
            f"{parts[last]}: ends as the archive's last part does, and {parts[-1].name} comes after it: "
            "the parts are in the wrong order, or one does not belong here"
        )
    for part, size in zip(parts[:-1], sizes[:-1], strict=True):
        if size < max(sizes):
            raise DamagedPart(
                f"{part}: cut short: {size:,} bytes, another part has {max(sizes):,}; download it again"
            )
    if whole:
        return
    more = ", or a part after it is missing" if len(parts) > 1 else ""
    raise DamagedPart(f"{parts[-1]} is cut short{more}; download it again")


def _ends_a_zip(tail: bytes) -> bool:
    """Return whether the end of a file holds a zip's end record, whose comment reaches the file's end."""
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        return False
    comment = int.from_bytes(tail[at + 20 : at + 22], "little")
    return at + _END_SIZE + comment == len(tail)


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
    """Return the entry's path, or None if it has none, would leave the folder, or is a link or a device."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    path = PurePosixPath(entry.filename)
    if (
        kind not in (0, stat.S_IFREG)
        or not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in entry.filename
    ):
        return None
    return path.as_posix()
