"""Keys by music21 and chords by chorder, for `context.py`: `python benchmarks/context_peers.py FOLDER`.

Runs under an interpreter that has music21 and chorder (`pip install music21 chorder`; chorder asks for other
versions than kwela, so give it an environment of its own). FOLDER holds MIDI files. Writes one JSON object to
stdout: the peers' versions and seconds, and by file name the key (0-23, major first; Krumhansl-Schmuckler) and
the chord of each beat, [root, quality] or null.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from chorder import Dechorder
from miditoolkit import MidiFile
from music21 import note, stream

QUALITIES = {
    "M": "maj",
    "m": "min",
    "o": "dim",
    "+": "aug",
    "7": "7",
    "M7": "maj7",
    "m7": "min7",
    "/o7": "hdim7",
    "o7": "dim7",
    "sus2": "sus2",
    "sus4": "sus4",
}


def key_of(midi: MidiFile) -> int:
    line = stream.Stream()
    for played in midi.instruments[0].notes:
        line.insert(
            played.start / midi.ticks_per_beat,
            note.Note(
                played.pitch, quarterLength=max((played.end - played.start) / midi.ticks_per_beat, 0.01)
            ),
        )
    found = line.analyze("key")
    return found.tonic.pitchClass + 12 * (found.mode == "minor")


def main(folder: str) -> None:
    files, seconds = {}, {"key": 0.0, "chords": 0.0}
    for path in sorted(Path(folder).glob("*.mid")):
        began = time.process_time()
        key = key_of(MidiFile(path))
        seconds["key"] += time.process_time() - began
        began = time.process_time()
        chords = Dechorder.dechord(MidiFile(path))
        seconds["chords"] += time.process_time() - began
        named = [[c.root_pc, QUALITIES[c.quality]] if c.quality else None for c in chords]
        files[path.name] = {"key": int(key), "chords": named}
    versions = {name: version(name) for name in ("music21", "chorder")}
    json.dump({"versions": versions, "seconds": seconds, "files": files}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
