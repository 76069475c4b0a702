"""Pieces that people labelled with valence and arousal, in VGMIDI's layout (Ferreira and Whitehead 2019)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from symusic.core import ScoreTick

from kwela.errors import UserError
from kwela.judge.piece import LEAST_NOTES, is_valid
from kwela.judge.table import read as read_table
from kwela.music import midi

KEYS = ("file", "series", "valence", "arousal")


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
    lines = read_table(table, KEYS, "labels of --human")
    found = Labels([])
    for number, line in enumerate(lines, 2):
        where, name = f"--human: {table}:{number}", line["file"]
        valence, arousal = (_number(line[key], f"{where}: {key}") for key in ("valence", "arousal"))
        try:
            score = midi.read(folder / "midi" / name)
        except UserError as error:
            found.left_out[name] = str(error)
            continue
        if not is_valid(score):
            found.left_out[name] = f"fewer than {LEAST_NOTES} notes"
            continue
        found.pieces.append(Labelled(name, line["series"], valence, arousal, score))
    if not found.pieces:
        raise UserError(f"--human: {table}: none of its {len(lines)} pieces can be read")
    return found


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a number") from None
    if not -1 <= value <= 1:
        raise UserError(f"{where}: {text} is not in [-1, 1]")
    return value
