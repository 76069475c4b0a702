"""Read a manifest back: every row checked before training starts.

A hand-written row needs only the runbook's keys; unknown keys are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kwela import files, tables
from kwela.corpus.pairs import songs
from kwela.errors import UserError
from kwela.music import emotion

Row = dict[str, Any]

_FILES = ("audio_path", "midi_path", "target_pointcloud_path")
_SECONDS = ("offset", "start")
_LONGEST = 1e6  # seconds; eleven days


def read(path: Path, required: Sequence[str]) -> list[Row]:
    """Read the rows of a manifest.

    Each is a dict of its keys, with absolute paths (a relative one is beside the manifest), and more keys:

    - "emotion64": float32 (64,), the emotion padded with zeros;
    - "offset" (s, 0 unless given), "group" (of the MIDI's path, by `songs.name`, unless given);
    - "where", "file:row N", for messages.

    required: the keys that each row must hold. Raises UserError "file:row N: key: what is wrong" at the first
    bad row: not JSON, a missing key, a bad emotion, a file that doesn't exist, a time that isn't one. The
    files are not opened.
    """
    rows = [_checked(row, where, path, required) for where, row in tables.read_jsonl(path, "manifest")]
    if not rows:
        raise UserError(f"{path}: the manifest holds no rows; build it again (kwela manifests)")
    return rows


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
    row["emotion64"] = emotion.to_64d(emotion.check(row["emotion"], f"{where}: emotion"))
    for key in _FILES:
        if key in row:
            row[key] = _file(row[key], f"{where}: {key}", manifest)
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


def _file(value: object, where: str, manifest: Path) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a path, found {value!r}")
    path = manifest.parent.absolute() / value
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:  # too long a name, a NUL in it
        raise UserError(f"{where}: {error}") from None
    if not there:
        raise UserError(f"{where}: no such file: {path}")
    return str(path)
