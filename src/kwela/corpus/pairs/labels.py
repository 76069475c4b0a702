"""A user's own emotions (`--labels`): a CSV or JSON file of stem -> vector that overrides inference.

CSV: the stem, then 3 or 64 numbers; a first line without any number is a header. JSON: {"track001": [0.7,
0.8, 0.6]}. A stem that repeats in the corpus may be written with its folder ("happy/track001"); an extension
is ignored.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kwela import files, tables
from kwela.corpus.pairs import scan
from kwela.errors import UserError
from kwela.music import emotion

Labels = dict[str, np.ndarray]  # "track001" or "happy/track001" -> float32 (3,) or (64,)


def read_labels(path: Path) -> Labels:
    """Read the labels. Raises UserError naming the file, and the row or stem of a bad or repeated label."""
    labels: Labels = {}
    for name, values, where in _json(path) if path.suffix.lower() == ".json" else _csv(path):
        stem = _key(name)
        if stem in labels:
            raise UserError(f"{where}: {name} is labelled twice")
        labels[stem] = emotion.check(values, where)
    if not labels:
        names = ",".join(emotion.DIMENSION_NAMES)
        raise UserError(f"{path}: no labels (CSV: stem,{names}; JSON: stem -> numbers)")
    return labels


def find_label(
    labels: Labels, pair: scan.Pair, audio_root: Path, midi_root: Path
) -> tuple[str, np.ndarray] | None:
    """Return the label of a pair and its key: by folder and stem on either side, else by stem."""
    if not labels:
        return None
    keys = [
        _key(file.relative_to(root).as_posix())
        for file, root in zip(pair, (audio_root, midi_root), strict=True)
    ]
    keys = [*sorted(keys, key=lambda key: -key.count("/")), scan.stem(pair.audio)]
    return next(((key, labels[key]) for key in keys if key in labels), None)


class _Object(list[tuple[str, Any]]):
    """A JSON object as its items, so that a stem that stands twice is seen twice."""


def _key(name: str) -> str:
    path = str(PurePosixPath(unicodedata.normalize("NFC", name.strip())))
    ending = scan.suffix(path)
    return path[: -len(ending)] if ending in scan.AUDIO | scan.MIDI else path


def _json(path: Path) -> list[tuple[str, Any, str]]:
    values = tables.parse_json(files.read_text(path, "labels"), str(path), object_pairs_hook=_Object)
    if not isinstance(values, _Object):
        raise UserError(f"{path}: expected an object of stem -> numbers")
    return [(stem, vector, f"{path}:{stem}") for stem, vector in values]


def _csv(path: Path) -> list[tuple[str, Any, str]]:
    rows = tables.read_cells(path, "labels")
    for separator in ";\t":  # there need not be a header by whose columns the separator is known
        if rows and all(len(cells) == 1 and separator in cells[0] for _, cells in rows):
            rows = tables.read_cells(path, "labels", separator)
    if rows and not any(_is_number(cell) for cell in rows[0][1][1:]):
        _check_header(rows.pop(0)[1], path)
    found = []
    for where, cells in rows:
        if not all(_is_number(cell) for cell in cells[1:]):
            raise UserError(f"{where}: expected a stem and {emotion.SIZES_TEXT}")
        found.append((cells[0], [float(cell) for cell in cells[1:]], where))
    return found


def _check_header(cells: list[str], path: Path) -> None:
    names = [cell.strip().casefold() for cell in cells[1:]]
    right = list(emotion.DIMENSION_NAMES)
    if set(names) & set(right) and names != right:
        raise UserError(
            f"{path}:row 1: the columns are stem,{','.join(right)} in this order, not {','.join(cells)}"
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
