"""The user's own rule of what a song is (`--group-by`), which takes the place of rules 1 to 4 of `songs.py`.

- stem: each name is a song of its own;
- folder: each folder is one song;
- songs.csv: a table, file (its path or its name, with or without the extension), then song;
- anything else is a regular expression, searched in the path below the root without the extension: its first
  group is the song, or the whole match where it has no group.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from kwela import tables
from kwela.corpus.pairs import scan, songs
from kwela.errors import UserError

# A corpus's files -> their songs. A file is given by the paths that may name it: stems below a root, first
# of all its own (for a pair, the audio's).
Rule = Callable[[Sequence[Sequence[str]]], list[str]]

_FILE_COLUMNS = ("file", "stem", "path", "name", "audio_filename", "midi_filename")
_SONG_COLUMNS = ("group", "song", "series", "canonical_title", "title", "artist")


def parse_rule(text: str | None) -> Rule:
    """Return the rule that `--group-by` names; None is the default rule of `songs.py`.

    Raises UserError for a table that can't be read and for a pattern that is none. The rule itself raises
    UserError, with the names of some files, where it says nothing of a file.
    """
    if text is None:
        return lambda files: songs.assign([names[0] for names in files])
    if text == "stem":
        return lambda files: [PurePosixPath(names[0]).name for names in files]
    if text == "folder":
        return lambda files: [str(PurePosixPath(names[0]).parent) for names in files]
    if text.lower().endswith(".csv"):
        return _by_table(Path(text))
    return _by_pattern(text)


def _by_pattern(text: str) -> Rule:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"--group-by {text!r}: no regular expression: {error}") from None

    def rule(files: Sequence[Sequence[str]]) -> list[str]:
        matches = [pattern.search(names[0]) for names in files]
        found = [(match[1] if pattern.groups else match[0]) if match else None for match in matches]
        return _complete(found, files, f"--group-by {text!r}: doesn't match")

    return rule


def _by_table(path: Path) -> Rule:
    rows = tables.read_cells(path, "songs")
    header = [cell.strip().casefold() for cell in rows[0][1]] if rows else []
    at = next((header.index(name) for name in _FILE_COLUMNS if name in header), None)
    song_at = next((header.index(name) for name in _SONG_COLUMNS if name in header), None)
    if at is None or song_at is None:
        raise UserError(f"{path}: needs the columns file and song (its first row is {','.join(header)[:80]})")
    of: dict[str, str] = {}
    for where, row in rows[1:]:
        file, song = (row[index].strip() if index < len(row) else "" for index in (at, song_at))
        if not file or not song:
            raise UserError(f"{where}: expected a file and its song")
        if of.setdefault(_key(file), song) != song:
            raise UserError(f"{where}: {file} stands twice, with two songs")
    for name, song in list(of.items()):  # a name alone names the file too, where no other file has that name
        alone = PurePosixPath(name).name
        of[alone] = song if of.get(alone, song) == song else ""

    def rule(files: Sequence[Sequence[str]]) -> list[str]:
        found = []
        for names in files:
            keys = [_key(name) for name in (*names, *(PurePosixPath(name).name for name in names))]
            found.append(next((of[key] for key in keys if of.get(key)), None))
        return _complete(found, files, f"{path}: has no song for")

    return rule


def _key(name: str) -> str:
    """Return a name without its extension, in one Unicode form and with forward slashes."""
    path = unicodedata.normalize("NFC", name.replace("\\", "/"))
    ending = scan.suffix(path)
    return path[: -len(ending)] if ending in scan.AUDIO | scan.MIDI else path


def _complete(found: Sequence[str | None], files: Sequence[Sequence[str]], what: str) -> list[str]:
    lacking = [names[0] for names, song in zip(files, found, strict=True) if not song]
    if lacking:
        raise UserError(f"{what} {len(lacking)} of {len(files)} files, such as {', '.join(lacking[:3])}")
    return [song for song in found if song]
