"""Read the pieces that people labelled, which the evaluators learn from: `--human DIR` in VGMIDI's layout.

The layout is `labels.csv` (file, series, valence, arousal, in any order; other columns are ignored) beside
`midi/<file>`. Ferreira and Whitehead 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from symusic.core import ScoreTick

from kwela import tables
from kwela.errors import UserError
from kwela.judge.midi import score_edits
from kwela.music import midi as midi_files
from kwela.music.emotion import CIRCUMPLEX_NAMES

_COLUMNS = ("file", "series", *CIRCUMPLEX_NAMES)


@dataclass(frozen=True)
class LabelledPiece:
    """A piece with what people felt in it."""

    name: str
    series: str  # pieces of one series are alike, so evaluators are tested on other series than they learnt
    valence: float  # in [-1, 1]; 0: people didn't agree on a side
    arousal: float  # as valence
    score: ScoreTick


@dataclass
class LabelledPieces:
    """The pieces of a folder, and {file: reason} of those that were left out."""

    pieces: list[LabelledPiece]
    left_out: dict[str, str] = field(default_factory=dict)


def read_labelled_pieces(folder: Path) -> LabelledPieces:
    """Read a folder in VGMIDI's layout.

    A file that can't be read, or has fewer than 8 notes, is left out with its reason. Raises UserError for a
    missing folder, CSV or column, for a number outside [-1, 1], or if no piece can be read.
    """
    csv = folder / "labels.csv"
    rows = tables.read(csv, _COLUMNS, "labels of --human")
    labelled = LabelledPieces([])
    for where, row in rows:
        name = row["file"]
        valence, arousal = (
            tables.number(row[column], -1, 1, f"--human: {where}: {column}") for column in CIRCUMPLEX_NAMES
        )
        try:
            score = midi_files.read(folder / "midi" / name)
        except UserError as error:
            labelled.left_out[name] = str(error)
            continue
        if score_edits.has_enough_notes(score):
            labelled.pieces.append(LabelledPiece(name, row["series"], valence, arousal, score))
        else:
            labelled.left_out[name] = f"fewer than {score_edits.MIN_NOTES} notes"
    if not labelled.pieces:
        raise UserError(f"--human: {csv}: none of its {len(rows)} pieces can be read")
    return labelled
