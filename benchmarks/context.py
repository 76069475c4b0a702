"""Keys and chords read off POP909-CL's notes, beside its corrected labels, a template baseline, music21 and
chorder: `python benchmarks/context.py FOLDER [--peer-python PYTHON] [--peer-songs N]`.

FOLDER holds POP909-CL (see pop909.py). The coefficients were fitted on even song numbers, so the odd ones are
the figures to quote; both are shown. Peers are slow, so they read an even spread of N odd songs, and ours is
shown on the same songs; PYTHON is an interpreter that has music21 and chorder.

- key: the song's key (that of most bars); `relatives` also counts its relative. `bar keys`: each bar's.
- root: of each labelled beat. `maj/min` and `sevenths`: root and quality, over the beats whose label is
  major or minor (with or without a seventh or sixth), or one of maj, min, 7, maj7, min7 exactly (the
  vocabularies of MIREX). `only sevenths`: the last of these over the labels 7, maj7 and min7 alone.
- Template baseline: Krumhansl-Kessler profiles, and the best of 24 triads in the pitch classes of each beat
  and of its half bar (roots of shares, added up).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import common
import pop909
from kwela.music import beat_grid, chords
from kwela.music.context import measure
from kwela.music.midi import KEY_PROFILES

MAJOR_MINOR = np.array([0, 1, -1, -1, 0, 0, 1, 1, -1, -1, -1, -1, -1, 0, 1, -1])
WITH_SEVENTHS, SEVENTHS = [0, 1, 4, 5, 6], [4, 5, 6]
PROFILES = np.array([np.roll(profile, tonic) for profile in KEY_PROFILES for tonic in range(12)])
TRIADS = np.array([np.roll(np.isin(np.arange(12), t), root) for root in range(12) for t in chords.TONES[:2]])
MEASURES = ("key", "key, relatives", "bar keys", "root", "maj/min", "sevenths", "only sevenths")


class Guess(NamedTuple):
    key: np.ndarray  # (bars,) 0-23
    root: np.ndarray  # (beats,) 0-11, -1 none
    quality: np.ndarray  # (beats,) 0-15


def ours(song: pop909.Song) -> Guess:
    found = measure(song.score)
    changes = found.chords
    place = found_place(song, changes)
    row = np.searchsorted(place, song.grid.tick[:-1], side="right") - 1
    chord = np.where((row >= 0)[:, None], changes[np.maximum(row, 0), 2:] - 1, -1)
    return Guess(found.key - 1, chord[:, 0], chord[:, 1])


def found_place(song: pop909.Song, changes: np.ndarray) -> np.ndarray:
    return song.notes.bar_tick[changes[:, 0]] + changes[:, 1]


def templates(song: pop909.Song) -> Guess:
    classes = chords.pitch_classes(np.minimum(beat_grid.sounding(song.notes, song.grid), 1))
    whole = classes.sum(0)
    key = int(np.argmax([np.corrcoef(whole, profile)[0, 1] for profile in PROFILES]))
    halves = np.flatnonzero(song.grid.strength < 2)
    sizes = np.diff(np.append(halves, len(classes)))
    half = np.repeat(np.add.reduceat(classes, halves, axis=0), sizes, axis=0)
    fit = sum(np.sqrt(chords.share(part)) @ TRIADS.T for part in (classes, half))
    best = fit.argmax(1)
    return Guess(np.full(song.notes.bars, key), best // 2, best % 2)


def peers(chosen: list[pop909.Song], python: str) -> tuple[list[Guess], dict]:
    with tempfile.TemporaryDirectory() as folder:
        for song in chosen:
            song.score.dump_midi(Path(folder) / song.path.name)
        script = Path(__file__).with_name("context_peers.py")
        done = subprocess.run([python, script, folder], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"context.py: {python} can't run the peers: {done.stderr.strip().splitlines()[-1]}")
    report = json.loads(done.stdout)
    guesses = []
    for song in chosen:
        said = report["files"][song.path.name]
        named = [(c[0], chords.QUALITIES.index(c[1])) if c else (-1, -1) for c in said["chords"]] or [
            (-1, -1)
        ]
        middle = (song.grid.tick[1:] + song.grid.tick[:-1]) // 48
        chord = np.array(named)[np.minimum(middle, len(named) - 1)]
        guesses.append(Guess(np.full(song.notes.bars, said["key"]), chord[:, 0], chord[:, 1]))
    return guesses, report


def relative(key: np.ndarray) -> np.ndarray:
    return np.where(key < 12, (key + 9) % 12 + 12, (key - 9) % 12)


def accuracy(chosen: list[pop909.Song], guesses: list[Guess]) -> dict[str, float]:
    key = np.array([np.bincount(song.key).argmax() for song in chosen])
    said = np.array([np.bincount(np.maximum(guess.key, 0)).argmax() for guess in guesses])
    root, quality, their_root, their_quality = (
        np.concatenate([getattr(one, name) for one in group])
        for group in (chosen, guesses)
        for name in ("root", "quality")
    )
    right = root == their_root
    bars = np.concatenate([s.key for s in chosen]) == np.concatenate([guess.key for guess in guesses])
    named = MAJOR_MINOR[quality] >= 0
    same_mode = MAJOR_MINOR[quality] == MAJOR_MINOR[their_quality]
    exact = right & (quality == their_quality)
    labelled = root >= 0
    values = (
        (key == said).mean(),
        ((key == said) | (key == relative(said))).mean(),
        bars.mean(),
        right[labelled].mean(),
        (right & same_mode)[labelled & named].mean(),
        exact[labelled & np.isin(quality, WITH_SEVENTHS)].mean(),
        exact[labelled & np.isin(quality, SEVENTHS)].mean(),
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def songs_a_second(chosen: list[pop909.Song]) -> float:
    """Songs a second on one core, parsing not counted; the best of three passes."""
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        for song in chosen:
            measure(song.score)
        best = min(best, time.process_time() - began)
    return len(chosen) / best


def show(rows: dict[str, dict[str, float]]) -> None:
    print("| | " + " | ".join(MEASURES) + " |\n|---" * 1 + "|---" * len(MEASURES) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[m]:.3f}" for m in MEASURES) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-songs", type=int, default=180, help="0: no peers")
    options = parser.parse_args()
    every = list(pop909.songs(options.folder))
    if not every:
        sys.exit(f"context.py: {options.folder}: no songs with chords and a key")
    rows = {}
    for half, rest in (("even", 0), ("odd", 1)):
        chosen = [song for song in every if song.number % 2 == rest]
        rows[f"kwela, {half} ({len(chosen)})"] = accuracy(chosen, [ours(song) for song in chosen])
        rows[f"templates, {half}"] = accuracy(chosen, [templates(song) for song in chosen])
    speed = songs_a_second(chosen)
    if options.peer_songs:
        count = min(options.peer_songs, len(chosen))
        some = [chosen[index] for index in np.linspace(0, len(chosen) - 1, count).astype(int)]
        rows[f"kwela, {len(some)} odd"] = own = accuracy(some, [ours(song) for song in some])
        guesses, report = peers(some, options.peer_python)
        rows["music21 and chorder, the same"] = their = accuracy(some, guesses)
        versions, seconds = report["versions"], report["seconds"]
        for name, measure_name, peer in (
            ("context_key", "key", "music21"),
            ("context_root", "root", "chorder"),
            ("context_majmin", "maj/min", "chorder"),
        ):
            common.write(name, own[measure_name], their[measure_name], "accuracy", peer, versions[peer])
        slow = len(some) / (seconds["key"] + seconds["chords"])
        peer_version = f"{versions['music21']} + {versions['chorder']}"
        common.write("context_speed", speed, slow, "songs/s", "music21 + chorder", peer_version)
    show(rows)
    print(f"{speed:.0f} songs/s on one core")


if __name__ == "__main__":
    main()
