"""Any folder of audio with tags: from a CSV, or from the names of the folders that a file lies in.

CSV: `file` (its path below the folder or its name, with or without the extension), then tags, one a cell or
comma-joined in one; or, as in MagnaTagATune, one column of 0 and 1 a tag (1.0 and True are 1 too). An
`artist` column names the artist; else it is what the file's name tells (`artists.py`). A column of numbers
without a name, as pandas writes its index, is passed over.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kwela import files, tables
from kwela.corpus.pairs import scan
from kwela.corpus.tagged.artists import artist_of
from kwela.corpus.tagged.magnatagatune import Annotations
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import UserError

_HOLDS_TAGS = re.compile(r"tags?[ _.-]?\d*", re.IGNORECASE)


@dataclass(frozen=True)
class AudioFolder:
    """The clips of a folder, and the files in it that are no clips."""

    annotations: Annotations
    others: list[Path]  # of kinds that are not read
    unreadable: list[str]  # folders, with the reason
    unlisted: list[str]  # audio files that the table lacks
    ties: dict[str, list[str]]  # a name of the table -> the several files that it may mean
    passed_over_columns: int = 0  # of the table

    def report(self) -> dict[str, Any]:
        """Return the entries of dataset_report.json on files that are no clips."""
        return {
            "passed_over": scan.passed_over(self.others),
            "unreadable_folders": self.unreadable,
            "unlisted": self.unlisted,
            "ambiguous": self.ties,
        }

    def lines(self) -> Iterator[str]:
        """Yield what a terminal says of them."""
        if self.others:
            yield f"{scan.passed_over_text(self.others)} (listed in the report)"
        if self.passed_over_columns:
            yield f"passed over: {self.passed_over_columns} columns of numbers without a name in the table"
        for folder in self.unreadable:
            yield f"folder not readable: {folder}"
        for name, meant in self.ties.items():
            yield f"left out: {name} of the table may be {', '.join(meant)}: write the extension"
        if self.unlisted:
            few = ", ".join(self.unlisted[:3]) + ", ..." * (len(self.unlisted) > 3)
            plural = "s" * (len(self.unlisted) > 1)
            yield f"left out: {len(self.unlisted)} audio file{plural} that the table lacks ({few})"


def read(folder: Path, table: Path | None = None) -> Annotations:
    """Return the clips of `look` and their tags. Raises UserError as `look`, and where no clip has a tag."""
    return look(folder, table).annotations


def look(
    folder: Path, table: Path | None = None, need_tags: bool = True, made: Path | None = None
) -> AudioFolder:
    """Find every audio file below `folder` with its tags; without `table` these are the names of its folders.

    need_tags: whether it is an error that no clip has a tag. made: a folder of which nothing is taken, for
    the data set that an earlier run made holds copies. Raises UserError: no such folder, no audio, a
    table without a `file` column, a row whose file isn't there.
    """
    root = Path(os.path.abspath(folder))  # noqa: PTH100 - keeps links, and takes ".." away
    found = scan.look(root, scan.AUDIO, "audio")
    if made is not None:
        made = Path(os.path.abspath(made))  # noqa: PTH100 - as above
        own = [
            [path for path in kind if not path.is_relative_to(made)] for kind in (found.files, found.others)
        ]
        found = scan.Found(own[0], own[1], found.unreadable)
    paths = [path.relative_to(root).as_posix() for path in found.files]
    if table is None:
        tags = {path: [name.casefold() for name in path.split("/")[:-1]] for path in paths}
        listed = _Table(tags, {}, {})
    else:
        listed = _read_table(table, paths, root)
    tied = {path for meant in listed.ties.values() for path in meant}
    clips = [
        Clip(
            clip_id(path),
            path,
            tuple(dict.fromkeys(map(scan.printable, listed.tags[path]))),
            scan.printable(listed.artists.get(path) or artist_of(path)),
        )
        for path in paths
        if path in listed.tags
    ]
    if not clips or (need_tags and not any(clip.tags for clip in clips)):
        raise UserError(f"{table or folder}: no tags (name them in a CSV, or by folders; or --min-tags 0)")
    return AudioFolder(
        Annotations(clips, sorted({tag for clip in clips for tag in clip.tags})),
        [file for file in found.others if table is None or file != table.absolute()],
        found.unreadable,
        [scan.printable(path) for path in paths if path not in listed.tags and path not in tied],
        listed.ties,
        listed.passed_over_columns,
    )


def clip_id(path: str) -> str:
    """Return a name for a file's copy that no other path shares."""
    return files.sha256(path.encode("utf-8", "surrogateescape"))[:16]


class _Table(NamedTuple):
    """What a table says of the files: tags and artists by path, and names that may mean several files."""

    tags: dict[str, list[str]]
    artists: dict[str, str]
    ties: dict[str, list[str]]
    passed_over_columns: int = 0


def _read_table(table: Path, paths: Sequence[str], root: Path) -> _Table:
    rows = tables.read_cells(table, "tags", columns=["file"])
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    tables.check_header(table, head, ["file"], others_once=False)
    at_file = head.index("file")
    at_artist = head.index("artist") if "artist" in head else None
    known = _names(paths)
    flags, indexes = _columns_of_numbers(head, rows[1:], {at_file, at_artist})
    listed = _Table({}, {}, {}, len(indexes))
    for where, row in rows[1:]:
        name = row[at_file].strip() if len(row) > at_file else ""
        meant = known.get(_plain(name), [])
        if not meant:
            raise UserError(f"{where}: no such audio file under {root}: {name}{_other_case(name, known)}")
        if len(meant) > 1:
            listed.ties[name] = [scan.printable(path) for path in meant]
            continue
        path = meant[0]
        if at_artist is not None and len(row) > at_artist:
            listed.artists[path] = row[at_artist].strip()
        tags = listed.tags.setdefault(path, [])
        for index, cell in enumerate(row):
            if index in (at_file, at_artist) or index in indexes:
                continue
            if index in flags:
                tags += [head[index].casefold()] * bool(tables.yes_or_no(cell))
            else:
                tags += [word.strip().casefold() for word in cell.split(",") if word.strip()]
    return listed


def _columns_of_numbers(
    head: Sequence[str], rows: Sequence[tuple[str, list[str]]], others: set[int | None]
) -> tuple[set[int], set[int]]:
    """Return the indexes of the columns of 0 and 1, and of those of numbers without a name.

    others: columns that are not looked at. Raises UserError naming the row and column of another number among
    0 and 1, or in a column of numbers, yes and no alone that is not called tags. Every other column holds
    words.
    """
    flags, indexes = set(), set()
    for index, name in enumerate(head):
        cells = [
            (where, row[index].strip()) for where, row in rows if len(row) > index and row[index].strip()
        ]
        if index in others or not cells:
            continue
        wrong = [(where, cell) for where, cell in cells if tables.yes_or_no(cell) is None]
        if re.fullmatch(r"|Unnamed: \d+", name) and all(cell.isdecimal() for _, cell in cells):
            indexes.add(index)
        elif not wrong:
            flags.add(index)
        elif all(_is_no_tag(cell) for _, cell in wrong):
            where, cell = wrong[0]
            if len(wrong) < len(cells):
                raise UserError(f"{where}: column {name}: {cell!r} is neither 0 nor 1")
            if not _HOLDS_TAGS.fullmatch(name):
                raise UserError(
                    f"{where}: column {name}: {cell!r} is neither 0 nor 1, and no tag: write 0 and 1, remove "
                    "the column, or call it tags if its cells are tags"
                )
    return flags, indexes


def _other_case(name: str, known: Iterable[str]) -> str:
    """Return a hint at a file whose name differs in capitals alone; "" if there is none."""
    wanted = _plain(name).casefold()
    found = next((other for other in known if other.casefold() == wanted), None)
    return "" if found is None else f" (capitals count: there is {scan.printable(found)})"


def _is_no_tag(cell: str) -> bool:
    """Return whether a cell holds a number, or yes or no: an answer about a tag, and none itself."""
    if cell.casefold() in ("yes", "no", "y", "n"):
        return True
    try:
        float(cell.replace(",", "."))  # a spreadsheet may write decimals with a comma
    except ValueError:
        return False
    return True


def _names(paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the files that each name may mean: paths, paths without extension, names, names without one.

    A fuller name comes before a shorter one: "a.wav" means the file below the root, not "deep/a.wav".
    """
    names: dict[str, list[str]] = {}
    for shorten in (
        lambda path: path,
        lambda path: path[: len(path) - len(scan.suffix(path))],
        lambda path: path.rpartition("/")[2],
        lambda path: scan.stem(Path(path)),
    ):
        meant: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            meant[_plain(shorten(path))].append(path)
        names = meant | names
    return names


def _plain(name: str) -> str:
    """Return a path in one Unicode form, with forward slashes, without "./" before it."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")
