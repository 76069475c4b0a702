"""MagnaTagATune's tables: which clips there are, what people tagged them with, and whose music they are.

Both tables are tab-separated and quoted (commas and semicolons are read too). `annotations_final.csv`:
clip_id, one column of 0 and 1 a tag (1.0 and True are 1; 0.0, False and nothing are 0), mp3_path. A column
without a name, as pandas writes its index, is passed over. `clip_info_final.csv`: clip_id, artist and more;
without it an artist is the file's name up to the first "-". Law et al. 2009, "Evaluation of algorithms using
games: the case of music tagging"; CC BY-NC-SA.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kwela import tables, terminal
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import UserError

ANNOTATIONS, INFO, AUDIO, ZIP = "annotations_final.csv", "clip_info_final.csv", "mp3", "mp3.zip"
_COLUMNS = ("clip_id", "mp3_path")
_NAMELESS = re.compile(r"|Unnamed: \d+")  # pandas gives its index the second name when it reads the first
_SITE = "https://mirg.city.ac.uk/datasets/magnatagatune/"
ADDRESSES = {
    **{f"{ZIP}.{n:03}": f"{_SITE}{ZIP}.{n:03}" for n in (1, 2, 3)},
    ANNOTATIONS: f"{_SITE}{ANNOTATIONS}",
    INFO: f"{_SITE}{INFO} (optional: artists)",
}


class Annotations(NamedTuple):
    """A tagged collection: its clips, and the tags it knows."""

    clips: list[Clip]
    tags: list[str]  # the table's tag columns


def read(folder: Path, wanted: Iterable[str], say: Callable[[str], None] = terminal.say) -> Annotations:
    """Every clip of the annotations in `folder`, its artist from the info table where that is there.

    wanted: configured tags, of which at least one must be a column. say: told of columns that are passed over
    and of empty cells. Raises UserError naming the file, and the column or row that is wrong.
    """
    path = folder / ANNOTATIONS
    rows = tables.read_cells(path, "annotations", "\t", _COLUMNS)
    if not rows:
        raise UserError(f"{path}: empty")
    head = [cell.strip() for cell in rows[0][1]]
    tables.check_header(path, head, _COLUMNS, "\t")
    columns = [k for k, name in enumerate(head) if name not in _COLUMNS and not _NAMELESS.fullmatch(name)]
    if nameless := len(head) - len(_COLUMNS) - len(columns):
        what = "1 column without a name is" if nameless == 1 else f"{nameless} columns without a name are"
        say(f"{path}: {what} passed over")
    tags = [head[index] for index in columns]
    if not set(tags) & set(wanted):
        raise UserError(f"{path}: none of the configured tags is a column")
    artists = _artists(folder / INFO)
    clips = _clips(rows[1:], head, columns, artists, say)
    if not clips:
        raise UserError(f"{path}: no clips")
    unknown = artists.keys() - {clip.clip_id for clip in clips}
    if artists and len(unknown) == len(artists):
        raise UserError(f"{folder / INFO}: none of its clips is in {ANNOTATIONS}")
    return Annotations(clips, tags)


def _clips(
    rows: Sequence[tuple[str, list[str]]],
    head: Sequence[str],
    columns: Sequence[int],
    artists: dict[str, str],
    say: Callable[[str], None],
) -> list[Clip]:
    """Return a clip for each row. columns: indexes of the tags."""
    at_id, at_path = (head.index(name) for name in _COLUMNS)
    clips, ids, empty = [], set(), []
    for where, row in rows:
        if len(row) != len(head):
            raise UserError(f"{where}: {len(row)} columns, the first row has {len(head)}")
        clip_id, place = row[at_id].strip(), row[at_path].strip()
        if not re.fullmatch(r"[\w-]{1,64}", clip_id):  # it names a file
            raise UserError(f"{where}: clip_id {clip_id[:80]!r}: letters, digits, - and _ alone")
        if clip_id in ids:
            raise UserError(f"{where}: clip_id {clip_id} stands twice")
        ids.add(clip_id)
        hits = []
        for index in columns:
            cell = row[index]
            if cell == "0":
                continue
            held = tables.yes_or_no(cell)
            if held is None:
                raise UserError(f"{where}: column {head[index]}: {cell[:40]!r} is neither 0 nor 1")
            if not cell.strip():
                empty.append(f"{where}, column {head[index]}")
            if held:
                hits.append(head[index])
        clips.append(Clip(clip_id, place, tuple(hits), artists.get(clip_id) or artist_of(place)))
    if empty:
        say(f"{len(empty):,} empty cells are read as 0; the first: {empty[0]}")
    return clips


def artist_of(path: str) -> str:
    """Return "american_bach_soloists" for "f/american_bach_soloists-j_s__bach-01-....mp3"."""
    return PurePosixPath(path).stem.split("-")[0]


def missing(folder: Path, sound: bool) -> str | None:
    """Return one message with the address of each missing file, or None.

    sound: whether there is audio in any form.
    """
    lacking = [] if sound else [name for name in ADDRESSES if name.startswith(ZIP)]
    lacking += [ANNOTATIONS] if not (folder / ANNOTATIONS).is_file() else []
    if not lacking:
        return None
    return f"{folder}: missing " + "; ".join(f"{name} ({ADDRESSES[name]})" for name in lacking)


def _artists(path: Path) -> dict[str, str]:
    """Artist by clip_id; empty without the table."""
    if not path.is_file():
        return {}
    rows = tables.read_cells(path, "artists", "\t", ["clip_id", "artist"])
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    tables.check_header(path, head, ["clip_id", "artist"], "\t")
    at_id, at_artist = head.index("clip_id"), head.index("artist")
    return {
        row[at_id].strip(): row[at_artist].strip() for _, row in rows[1:] if len(row) > max(at_id, at_artist)
    }
