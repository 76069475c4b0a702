"""A user's own emotions (`--labels`): a CSV or JSON file of stem -> vector that overrides inference.

CSV: the stem, then 3 or 64 numbers; a first line without numbers is a header. JSON: {"track001": [0.7, 0.8, 0.6]}.
A stem that repeats in the corpus may be written with its folder ("happy/track001"); an extension is ignored.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kwela.corpus import scan
from kwela.errors import UserError
from kwela.music import emotion

Labels = dict[str, np.ndarray]  # "track001" or "happy/track001" -> float32 (3,) or (64,)


def read_labels(path: Path) -> Labels:
    """Raises UserError naming the file, and the row or stem of a bad or repeated label."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: labels not readable: {error}") from None
    labels: Labels = {}
    for name, values, where in _json(path, text) if path.suffix.lower() == ".json" else _csv(path, text):
        stem = _key(name)
        if stem in labels:
            raise UserError(f"{where}: {name} is labelled twice")
        labels[stem] = emotion.check(values, where)
    if not labels:
        raise UserError(f"{path}: no labels (CSV: stem,valence,arousal,intensity; JSON: stem -> numbers)")
    return labels


def find_label(labels: Labels, pair: scan.Pair, audio_root: Path, midi_root: Path) -> tuple[str, np.ndarray] | None:
    """The label of a pair and the key it stands under: by folder and stem on either side, else by stem."""
    keys = [_key(file.relative_to(root).as_posix()) for file, root in zip(pair, (audio_root, midi_root), strict=True)]
    keys = [*sorted(keys, key=lambda key: -key.count("/")), scan.stem(pair.audio)]
    return next(((key, labels[key]) for key in keys if key in labels), None)


def _key(name: str) -> str:
    path = PurePosixPath(unicodedata.normalize("NFC", name.strip()))
    return str(path.with_suffix("") if path.suffix.lower() in scan.AUDIO | scan.MIDI else path)


def _json(path: Path, text: str) -> list[tuple[str, Any, str]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected an object of stem -> numbers, found {type(values).__name__}")
    return [(stem, vector, f"{path}:{stem}") for stem, vector in values.items()]


def _csv(path: Path, text: str) -> list[tuple[str, Any, str]]:
    rows = []
    for number, cells in enumerate(csv.reader(text.splitlines()), 1):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            rows.append((cells[0], [float(cell) for cell in cells[1:]], f"{path}:row {number}"))
        except ValueError:
            if number > 1:
                raise UserError(f"{path}:row {number}: expected a stem and 3 or {emotion.DIMENSIONS} numbers") from None
    return rows
