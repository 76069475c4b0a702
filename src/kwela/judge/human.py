"""Pieces that people labelled with valence and arousal, in VGMIDI's layout (Ferreira and Whitehead 2019)."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from symusic.core import ScoreTick

from kwela.errors import UserError
from kwela.judge.piece import note_count
from kwela.music import midi

KEYS = ("file", "series", "valence", "arousal")
LEAST_NOTES = 8  # a piece with fewer can't be judged


@dataclass(frozen=True)
class Labelled:
    name: str
    series: str  # what it is split by: pieces of one series are alike
    valence: float  # in [-1, 1]; 0: people didn't agree on a side
    arousal: float
    score: ScoreTick


@dataclass
class Labels:
    pieces: list[Labelled]
    left_out: dict[str, str] = field(default_factory=dict)  # file -> reason


def read(folder: Path) -> Labels:
    """`labels.csv` (file, series, valence, arousal, in any order, others ignored) and `midi/<file>`.

    Raises UserError for a missing folder, CSV or column, a number that isn't in [-1, 1], or where no piece can be read;
    a single file that can't be read, or holds fewer than 8 notes, is left out with its reason.
    """
    table = folder / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            missing = [key for key in KEYS if key not in (reader.fieldnames or ())]
    except OSError as error:
        raise UserError(f"--human: {table}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--human: {table}: not a CSV in UTF-8: {error}") from None
    if missing:
        raise UserError(f"--human: {table}: no column {missing[0]!r} (wanted: {', '.join(KEYS)})")
    found = Labels([])
    for number, line in enumerate(lines, 2):
        where = f"--human: {table}:{number}"
        valence, arousal = (_number(line[key], f"{where}: {key}") for key in ("valence", "arousal"))
        name = line["file"] or ""
        try:
            score = midi.read(folder / "midi" / name)
        except UserError as error:
            found.left_out[name] = str(error)
            continue
        if note_count(score) < LEAST_NOTES:
            found.left_out[name] = f"fewer than {LEAST_NOTES} notes"
            continue
        found.pieces.append(Labelled(name, line["series"] or "", valence, arousal, score))
    if not found.pieces:
        raise UserError(f"--human: {table}: none of its {len(lines)} pieces can be read")
    return found


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a number") from None
    if not -1 <= value <= 1:
        raise UserError(f"{where}: {text} is not in [-1, 1]")
    return value
