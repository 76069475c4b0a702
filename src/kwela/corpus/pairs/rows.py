"""Read a manifest back: every row checked before training starts.

A hand-written row needs only the runbook's keys; unknown keys are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kwela import files, tables
from kwela.corpus.pairs import songs
from kwela.engine import row_faults
from kwela.engine.row_faults import Fault
from kwela.errors import UserError
from kwela.music import emotion

Row = dict[str, Any]
T = TypeVar("T")

_FILES = ("audio_path", "midi_path", "target_pointcloud_path")
_SECONDS = ("offset", "start")
ADDED_KEYS = ("emotion64", "where", "row_hash", "fault")  # by `read`; a row that is written again has none
_LONGEST = 1e6  # seconds; eleven days


def read(path: Path, required: Sequence[str], *, keep_missing: bool = False) -> list[Row]:
    """Read the rows of a manifest.

    Each is a dict of its keys, with absolute paths (a relative one is beside the manifest), and more keys:

    - "emotion64": float32 (64,), the emotion padded with zeros;
    - "offset" (s, 0 unless given), "group" (of the MIDI's path, by `songs.name`, unless given);
    - "where", "file:row N", for messages;
    - "row_hash", of what the row says;
    - "fault", a row_faults.Fault if one of its files can't be found, else None.

    required: the keys that each row must hold. keep_missing: return rows with a missing file too, instead of
    raising for the first. Raises UserError "file:row N: key: what is wrong" at the first
    bad row: not JSON, a missing key, a bad emotion, a file that doesn't exist, a time that isn't one. The
    files are not opened.
    """
    rows = [_checked(row, where, path, required) for where, row in tables.read_jsonl(path, "manifest")]
    if not rows:
        raise UserError(f"{path}: the manifest holds no rows; build it again (kwela manifests)")
    faulty = [row for row in rows if row["fault"]]
    if faulty and not keep_missing:
        raise UserError(f"{faulty[0]['where']}: {faulty[0]['fault'].reason}")
    return rows


def engine_rows(rows: Iterable[Row]) -> list[row_faults.Row]:
    """Return rows as the engine records them."""
    return [
        row_faults.Row(row["row_hash"], row["where"], {key: row[key] for key in _FILES if key in row})
        for row in rows
    ]


def read_sides(train: Path, val: Path, required: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Read the rows of two manifests as `read` does, also those with a missing file."""
    return (
        read(train, required, keep_missing=True),
        read(val, required, keep_missing=True),
    )


def usable(rows: Sequence[Row], found: Sequence[T | Fault], left_out: Collection[int]) -> list[T]:
    """Return what was found for the rows, without those that are left out. Raises UserError for a fault."""
    values = []
    for index, (row, value) in enumerate(zip(rows, found, strict=True)):
        if index in left_out:
            continue
        if isinstance(value, Fault):
            raise UserError(f"{row['where']}: {value.reason}")
        values.append(value)
    return values


def data_hash(paths: Iterable[Path]) -> str:
    """SHA-256 of manifests in this order: the identity of the data that a checkpoint was trained on."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()


def _checked(row: Row, where: str, manifest: Path, required: Sequence[str]) -> Row:
    for key in required:
        if key not in row:
            raise UserError(f"{where}: {key}: missing")
    row_hash = files.sha256(json.dumps(row, sort_keys=True).encode())[:16]
    row["emotion64"] = emotion.to_64d(emotion.check(row["emotion"], f"{where}: emotion"))
    faults = []
    for key in _FILES:
        if key in row:
            row[key], fault = _file(row[key], f"{where}: {key}", manifest)
            faults += [fault._replace(reason=f"{key}: {fault.reason}")] if fault else []
    row |= {"row_hash": row_hash, "fault": faults[0] if faults else None}
    for key in _SECONDS:
        value = row.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_LONGEST < value < _LONGEST:
            raise UserError(f"{where}: {key}: {repr(value)[:40]} is not a number of seconds")
    if row.get("start", 0.0) < 0:
        raise UserError(f"{where}: start: {row['start']} is before the file's beginning")
    row.setdefault("offset", 0.0)
    if not isinstance(row.setdefault("group", songs.name(PurePosixPath(row["midi_path"]))), str):
        raise UserError(f"{where}: group: {row['group']!r} is not a name")
    row["where"] = where
    return row


def _file(value: object, where: str, manifest: Path) -> tuple[str, Fault | None]:
    """Return the path of a row's file, and why there is no file if there is none."""
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a path, found {value!r}")
    path = manifest.parent.absolute() / value
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:
        fault = row_faults.fault_of(error)
        if fault and fault.may_pass:  # a network that is away
            return str(path), fault
        raise UserError(f"{where}: {error}") from None  # too long a name, a NUL in it
    return str(path), None if there else Fault(f"no such file: {path}")
