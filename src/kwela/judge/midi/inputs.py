"""What `kwela judge midi` judges and by what: manifests' rows, pieces that people labelled, how much is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from symusic.core import ScoreTick

from kwela import tables
from kwela.corpus.pairs import manifest as manifests
from kwela.corpus.pairs import rows as manifest_rows
from kwela.corpus.pairs.rows import Row
from kwela.errors import UserError
from kwela.judge.midi import memorisation, piece
from kwela.judge.midi.grid import FULL, QUICK, Size
from kwela.music import midi as midi_files


@dataclass(frozen=True)
class Effort:
    """How much is done. What --quick leaves out is said on the page."""

    size: Size
    natural: int  # pieces for held-out emotions, for quality and memorisation
    draws: int  # shuffles of the emotions
    songs: int  # held-out songs scored, at most
    ids: int | None  # of each, from its start
    symbolic_clips: int  # excerpts of a labelled piece, at most
    rendered_clips: int


LEAST_SONGS = 5  # held out; fewer are refused
KEYS = ("file", "series", "valence", "arousal")  # of labels in VGMIDI's layout (Ferreira and Whitehead 2019)
THOROUGH = Effort(FULL, 128, 8, 512, None, 8, 3)
BRIEF = Effort(QUICK, 48, 2, 24, 1024, 6, 1)


@dataclass
class Material:
    """What is judged, and what it is judged by."""

    training: list[Row]  # rows with "score"
    held_out: list[Row]
    derived: str  # why the labels are known to be derived from the MIDI; "" if they aren't
    data_hash: str = ""  # of both manifests; "" if these songs are known to be the model's own
    left_out: dict[str, str] = field(default_factory=dict)  # file -> reason
    twin_doubt: str = ""  # why it isn't known that the twin learnt these songs under shuffled labels

    @property
    def songs(self) -> int:
        return len({row["group"] for row in self.held_out})


def gather(manifest: Path, training: Path) -> Material:
    """Rows with their scores. Left out: files that can't be read, held-out songs that are in the training rows too.

    Raises UserError if no file of a side can be read.
    """
    left_out: dict[str, str] = {}
    learned, held_out = (
        with_scores(manifest_rows.read(path, "midi"), path, left_out) for path in (training, manifest)
    )
    songs, notes = (
        {row["group"].casefold() for row in learned},
        {fingerprint(row["score"]) for row in learned},
    )
    for row in held_out:
        if row["group"].casefold() in songs or fingerprint(row["score"]) in notes:
            left_out[row["midi_path"]] = f"the song {row['group']} is in the training rows too"
    held_out = [row for row in held_out if row["midi_path"] not in left_out]
    own = manifest_rows.data_hash([training, manifest])
    demo = "the demo's words are chosen by mode and pace" if manifests.is_demo(manifest.parent) else ""
    sources = sorted(str(row.get("emotion_source", "")) for row in held_out)
    derived = next((source for source in sources if source.startswith("derived")), demo)
    return Material(learned, held_out, derived, own, left_out)


def with_scores(rows: Sequence[Mapping[str, Any]], path: Path, left_out: dict[str, str]) -> list[Row]:
    out = []
    for row in rows:
        try:
            found = midi_files.read(row["midi_path"])
        except UserError as error:
            left_out[row["midi_path"]] = str(error)
            continue
        if piece.note_count(found):
            out.append({**row, "score": found})
        else:
            left_out[row["midi_path"]] = "no notes"
    if not out:
        raise UserError(f"{path}: none of its {len(rows)} MIDI files can be read")
    if left_out:
        Console(stderr=True).print(f"{path}: {len(left_out)} MIDI files left out", style="yellow")
    return out


def fingerprint(score: ScoreTick) -> bytes:
    """The same for transposed and re-timed copies of a piece."""
    return memorisation.lines(score)[0].tobytes()


def mean_emotion(rows: Sequence[Row]) -> np.ndarray:
    """(64,) float32."""
    return np.stack([row["emotion64"] for row in rows]).mean(0)


def reference(rows: Sequence[Row], bars: int, seed: int) -> list[tuple[ScoreTick, str]]:
    """Up to four excerpts of held-out songs, as many bars long as generated pieces, each with its song."""
    out = []
    for number, row in enumerate(rows):
        quarters = bars * piece.piece(row["score"]).bar_q
        out += [(one, row["group"]) for one in piece.excerpts(row["score"], quarters, 4, seed + number)]
    return out


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


def read_labels(folder: Path) -> Labels:
    """`labels.csv` (file, series, valence, arousal, in any order, others ignored) and `midi/<file>`.

    Raises UserError for a missing folder, CSV or column, a number that isn't in [-1, 1], or where no piece can be read;
    a single file that can't be read, or holds fewer than 8 notes, is left out with its reason.
    """
    csv = folder / "labels.csv"
    lines = tables.read(csv, KEYS, "labels of --human")
    found = Labels([])
    for where, line in lines:
        name = line["file"]
        valence, arousal = (tables.number(line[key], -1, 1, f"--human: {where}: {key}") for key in KEYS[2:])
        try:
            score = midi_files.read(folder / "midi" / name)
        except UserError as error:
            found.left_out[name] = str(error)
            continue
        if piece.is_valid(score):
            found.pieces.append(Labelled(name, line["series"], valence, arousal, score))
        else:
            found.left_out[name] = f"fewer than {piece.LEAST_NOTES} notes"
    if not found.pieces:
        raise UserError(f"--human: {csv}: none of its {len(lines)} pieces can be read")
    return found
