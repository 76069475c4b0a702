"""Encoding the same parsed scores by kwela and by MidiTok's REMI: `python benchmarks/tokenise.py [FOLDER]`.

FOLDER holds MIDI files; without one, movements of song length from music21's corpus are used (POP909's songs
have 1,600 notes on average; shorter pieces, such as chorales of 250 notes, gain less, for ours costs about
0.15 ms a piece beside the notes). REMI has programs, tempos and meters on, as our ids do. Parsing is not
counted; processor time of one core, the best of six passes over all scores on each side, taken in turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from symusic import Score

import common
from kwela.music import midi, tokens

PIECES = (
    "haydn/opus1no1/movement1.mxl",
    "haydn/opus1no1/movement2.mxl",
    "haydn/opus1no1/movement4.mxl",
    "mozart/k155/movement1.mxl",
    "mozart/k155/movement2.mxl",
    "mozart/k155/movement3.mxl",
    "mozart/k156/movement1.mxl",
    "joplin/maple_leaf_rag.mxl",
    "monteverdi/madrigal.3.1.mxl",
    "monteverdi/madrigal.3.11.mxl",
)


def scores(folder: str | None) -> list[Score]:
    if folder:
        return [midi.read(path) for path in sorted(Path(folder).rglob("*.mid"))]
    from music21 import corpus

    return [Score(corpus.parse(piece).write("midi")) for piece in PIECES]


def seconds(encode: Callable[[Score], object], pieces: list[Score]) -> float:
    began = time.process_time()
    for piece in pieces:
        encode(piece)
    return time.process_time() - began


def main(folder: str | None = None) -> None:
    from miditok import REMI, TokenizerConfig

    pieces = scores(folder)
    notes = sum(piece.note_num() for piece in pieces)
    print(f"{len(pieces)} pieces, {notes} notes")
    remi = REMI(TokenizerConfig(use_programs=True, use_tempos=True, use_time_signatures=True))
    # In turns, so that whatever else the machine does falls on both.
    rounds = [(seconds(remi.encode, pieces), seconds(tokens.encode, pieces)) for _ in range(6)]
    theirs, ours = map(min, zip(*rounds, strict=True))
    common.write("tokenise", notes / ours, notes / theirs, "notes/s", "MidiTok REMI", version("miditok"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
