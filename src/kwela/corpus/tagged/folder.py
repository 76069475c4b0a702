"""Any folder of audio with tags: from a CSV, or from the names of the folders that a file lies in.

CSV: `file` (its path below the folder, with or without the extension), then tags, one a cell or comma-joined
in one; or, as in MagnaTagATune, one column of 0 and 1 a tag. An `artist` column names the artist; else it is
the file's name up to the first "-".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kwela import files, tables
from kwela.corpus.pairs import scan
from kwela.corpus.tagged.magnatagatune import Annotations, artist_of
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import UserError


def read(folder: Path, table: Path | None = None) -> Annotations:
    """Every audio file below `folder` with its tags; without `table` the tags are the names of its folders.

    Raises UserError: no such folder, no audio, a table without a `file` column, a row whose file isn't there.
    """
    root = folder.absolute()
    paths = [path.relative_to(root).as_posix() for path in scan.find(folder, scan.AUDIO, "audio")]
    if table is None:
        held = {path: [name.casefold() for name in path.split("/")[:-1]] for path in paths}
        artists: dict[str, str] = {}
    else:
        held, artists = _table(table, paths, root)
    clips = [
        Clip(clip_id(path), path, tuple(dict.fromkeys(held[path])), artists.get(path) or artist_of(path))
        for path in paths
        if path in held
    ]
    if not any(clip.tags for clip in clips):
        raise UserError(f"{table or folder}: no tags (name them in a CSV, or by folders)")
    return Annotations(clips, sorted({tag for clip in clips for tag in clip.tags}))


def clip_id(path: str) -> str:
    """Return a name for a file's copy that no other path shares."""
    return files.sha256(path.encode("utf-8", "surrogateescape"))[:16]


def _table(table: Path, paths: Sequence[str], root: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    rows = tables.read_cells(table, "tags")
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    tables.check_header(table, head, ["file"])
    at_file = head.index("file")
    at_artist = head.index("artist") if "artist" in head else None
    known = {path: path for path in paths} | {path.rpartition(".")[0]: path for path in paths}
    held: dict[str, list[str]] = {}
    artists: dict[str, str] = {}
    for where, row in rows[1:]:
        if len(row) <= at_file or row[at_file].strip() not in known:
            name = row[at_file] if len(row) > at_file else ""
            raise UserError(f"{where}: no such audio file under {root}: {name}")
        path = known[row[at_file].strip()]
        if at_artist is not None and len(row) > at_artist:
            artists[path] = row[at_artist].strip()
        tags = held.setdefault(path, [])
        for index, cell in enumerate(row):
            if index in (at_file, at_artist):
                continue
            if cell.strip() in ("0", "1") and index < len(head):
                tags += [head[index].casefold()] * (cell.strip() == "1")
            else:
                tags += [word.strip().casefold() for word in cell.split(",") if word.strip()]
    return held, artists
