"""Read the training and held-out songs of the judged model from its manifests."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from symusic.core import ScoreTick

from kwela import terminal
from kwela.corpus.pairs import manifest as manifests
from kwela.corpus.pairs import rows as manifest_rows
from kwela.corpus.pairs.rows import Row
from kwela.errors import UserError
from kwela.judge.midi import memorisation, score_edits
from kwela.judge.midi.note_table import note_table
from kwela.midi_generator.config import MidiGeneratorData
from kwela.music import midi as midi_files

MIN_HELD_OUT_SONGS = 5  # fewer are refused


@dataclass
class JudgedSongs:
    """The songs that a model learnt and those held out, with what is known and in doubt about them.

    Rows are manifest rows with "score" added.
    """

    training: list[Row]
    held_out: list[Row]
    label_derivation: str  # how the labels are known to be derived from the MIDI; "" if they aren't
    data_hash: str = ""  # of both manifests
    left_out: dict[str, str] = field(default_factory=dict)  # file -> reason
    reason_to_doubt_twin: str = ""  # why the twin may not have learnt these songs with shuffled labels
    are_from_other_manifests: bool = False  # than those that the model was trained with

    @property
    def held_out_song_count(self) -> int:
        """How many different songs are held out."""
        return len({row["group"] for row in self.held_out})


def read_songs(manifest: Path, training: Path) -> JudgedSongs:
    """Read the held-out rows of `manifest` and the rows of `training` with their scores.

    Left out are files that can't be read, and held-out songs that are in the training rows too. Raises
    UserError if no file of a side can be read.
    """
    left_out: dict[str, str] = {}
    learnt, held_out = (
        _read_scores(manifest_rows.read(path, MidiGeneratorData.row_keys), path, left_out)
        for path in (training, manifest)
    )
    learnt_groups = {row["group"].casefold() for row in learnt}
    learnt_notes = {step_fingerprint(row["score"]) for row in learnt}
    for row in held_out:
        if row["group"].casefold() in learnt_groups or step_fingerprint(row["score"]) in learnt_notes:
            left_out[row["midi_path"]] = f"the song {row['group']} is in the training rows too"
    held_out = [row for row in held_out if row["midi_path"] not in left_out]
    data_hash = manifest_rows.data_hash([training, manifest])
    demo = "the demo's words are chosen by mode and pace" if manifests.is_demo(manifest.parent) else ""
    sources = sorted(str(row.get("emotion_source", "")) for row in held_out)
    derivation = next((source for source in sources if source.startswith("derived")), demo)
    return JudgedSongs(learnt, held_out, derivation, data_hash, left_out)


def _read_scores(rows: Sequence[Mapping[str, Any]], path: Path, left_out: dict[str, str]) -> list[Row]:
    """Add "score" to the rows of the manifest `path`; what can't be read goes to left_out {file: reason}."""
    with_scores: list[Row] = []
    for row in rows:
        try:
            score = midi_files.read(row["midi_path"])
        except UserError as error:
            left_out[row["midi_path"]] = str(error)
            continue
        if score_edits.count_pitched_notes(score):
            with_scores.append({**row, "score": score})
        else:
            left_out[row["midi_path"]] = "no notes"
    if not with_scores:
        raise UserError(f"{path}: none of its {len(rows)} MIDI files can be read")
    if left_out:
        terminal.say(f"{path}: {len(left_out)} MIDI files left out", sys.stderr)
    return with_scores


def step_fingerprint(score: ScoreTick) -> bytes:
    """Return the steps from note to note: the same for transposed and re-timed copies of a piece."""
    return memorisation.step_lines(score)[0].tobytes()


def mean_emotion(rows: Sequence[Row]) -> np.ndarray:
    """Return the mean emotion of the rows, (64,) float32."""
    return np.stack([row["emotion64"] for row in rows]).mean(0)


def reference_excerpts(rows: Sequence[Row], bars: int, seed: int) -> list[tuple[ScoreTick, str]]:
    """Cut up to four excerpts of each held-out song, each with its song's name.

    bars: of an excerpt, as of a generated piece.
    """
    excerpts = []
    for number, row in enumerate(rows):
        quarters = bars * note_table(row["score"]).bar_q
        cut = score_edits.cut_excerpts(row["score"], quarters, 4, seed + number)
        excerpts += [(excerpt, row["group"]) for excerpt in cut]
    return excerpts
