"""A collection's audio: where a clip's bytes are, in folders or in an archive."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kwela.corpus.tagged.archive import Archive, find_parts
from kwela.errors import UserError


@dataclass(frozen=True)
class Source:
    """A collection's audio: folders, searched in order, then an archive in one or several parts."""

    folders: tuple[Path, ...]
    parts: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> Source:
        """Return the source in MagnaTagATune's folder: mp3/, unpacked files, mp3.zip, or its parts."""
        return cls(
            tuple(place for place in (folder / "mp3", folder) if place.is_dir()), tuple(find_parts(folder))
        )

    def has_audio(self) -> bool:
        """Return whether there is any audio."""
        return bool(self.parts) or any(next(place.glob("*/*.mp3"), None) for place in self.folders)

    def size(self, path: str) -> int:
        """Return the bytes that a clip takes, 0 if it is missing."""
        if file := self._file(path):
            return file.stat().st_size
        archive = _archive(self.parts)
        name = archive and _entry(archive, path)
        return archive.entries[name].file_size if archive and name else 0

    def read(self, path: str) -> bytes:
        """Return the bytes of a clip.

        Raises UserError with the name of what is missing, or DamagedPart with that of the archive's damaged
        part.
        """
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise UserError(f"{path}: its path leaves the data set's folder")
        if file := self._file(path):
            return file.read_bytes()
        archive = _archive(self.parts)
        name = archive and _entry(archive, path)
        if not archive or not name:
            raise UserError(f"{path}: not among the files")
        return archive.read(name)

    def unsafe(self) -> list[str]:
        """Return the archive's entries that may not be unpacked because their paths leave the folder."""
        archive = _archive(self.parts)
        return archive.unsafe if archive else []

    def _file(self, path: str) -> Path | None:
        places = (place / name for place in self.folders for name in _spellings(path))
        return next((file for file in places if file.is_file()), None)


def _spellings(path: str) -> list[str]:
    """Return a path with its accents as written, composed, and apart, as macOS and its zips write them."""
    return list(dict.fromkeys([path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]))


def _entry(archive: Archive, path: str) -> str | None:
    names = (f"{folder}{name}" for name in _spellings(path) for folder in ("", "mp3/"))
    return next((name for name in names if name in archive.entries), None)


@functools.lru_cache(maxsize=2)
def _archive(parts: tuple[Path, ...]) -> Archive | None:
    return Archive(parts) if parts else None
