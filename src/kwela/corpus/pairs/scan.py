"""Find the audio and MIDI files of two trees and pair them by name.

A file's stem (its name without the extension) pairs it; where a stem repeats, its folder below the root
decides too. What that leaves undecided is reported, never guessed.
"""

from __future__ import annotations

import difflib
import itertools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kwela.errors import UserError
from kwela.music import audio

AUDIO = audio.AUDIO_SUFFIXES
MIDI = frozenset({".mid", ".midi"})


class Pair(NamedTuple):
    """An audio file and its MIDI file."""

    audio: Path
    midi: Path


class Pairing(NamedTuple):
    """What pairing by names gave."""

    pairs: list[Pair]  # by audio path
    unmatched: list[Path]  # no file of the other kind has this stem
    ambiguous: list[list[Path]]  # files of one stem that neither name nor folder can pair


def find(root: Path, extensions: Iterable[str], kind: str) -> list[Path]:
    """Return every file below `root` with one of `extensions` (any case), absolute, sorted.

    Hidden files are left out.

    Links are followed, each folder entered once. Raises UserError if `root` is missing or holds no such file.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; --{kind}-root must hold the {kind} files")
    wanted = frozenset(extensions)
    entered: set[tuple[int, int]] = set()
    files = []
    for folder, inner, names in os.walk(os.path.abspath(root), followlinks=True):  # noqa: PTH100 - links stay as named
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in entered:
            inner.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        files += [
            Path(folder, n) for n in names if not n.startswith(".") and Path(n).suffix.lower() in wanted
        ]
    if not files:
        raise UserError(f"{root}: holds no {kind} files ({' '.join(sorted(e[1:] for e in wanted))})")
    return sorted(files)


def pair(audio_files: list[Path], midi_files: list[Path], audio_root: Path, midi_root: Path) -> Pairing:
    """Pair files by stem; where a stem repeats, by relative folder and stem."""
    sides: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for side, files in enumerate((audio_files, midi_files)):
        for file in files:
            sides[stem(file)][side].append(file)
    result = Pairing([], [], [])
    for waves, scores in sides.values():
        if not waves or not scores:
            result.unmatched.extend(waves + scores)
        elif len(waves) == len(scores) == 1:
            result.pairs.append(Pair(waves[0], scores[0]))
        else:
            _pair_by_folder(waves, scores, audio_root, midi_root, result)
    return Pairing(sorted(result.pairs), sorted(result.unmatched), sorted(result.ambiguous))


def stem(file: Path) -> str:
    """Return the name that pairs a file, in one Unicode form: macOS decomposes accents and others don't."""
    return unicodedata.normalize("NFC", file.stem)


def near_misses(audio_files: list[Path], midi_files: list[Path], count: int = 3) -> list[Pair]:
    """Return the audio and MIDI files with the most similar stems, each file once: likely mistakes."""

    def likeness(both: Pair) -> float:
        return difflib.SequenceMatcher(None, stem(both.audio).casefold(), stem(both.midi).casefold()).ratio()

    some = itertools.product(audio_files[:100], midi_files[:100])  # enough to see the pattern of the names
    chosen: list[Pair] = []
    for both in sorted((Pair(*one) for one in some), key=lambda both: (-likeness(both), both)):
        if not any(both.audio == other.audio or both.midi == other.midi for other in chosen):
            chosen.append(both)
    return chosen[:count]


def _pair_by_folder(
    waves: list[Path], scores: list[Path], audio_root: Path, midi_root: Path, result: Pairing
) -> None:
    folders: dict[Path, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for side, files, root in ((0, waves, audio_root), (1, scores, midi_root)):
        for file in files:
            folders[file.parent.relative_to(os.path.abspath(root))][side].append(file)  # noqa: PTH100
    left: tuple[list[Path], list[Path]] = ([], [])
    for here in folders.values():
        if len(here[0]) == len(here[1]) == 1:
            result.pairs.append(Pair(here[0][0], here[1][0]))
        elif here[0] and here[1]:
            result.ambiguous.append(sorted(here[0] + here[1]))
        else:
            left[0].extend(here[0])
            left[1].extend(here[1])
    if left[0] and left[1]:
        result.ambiguous.append(sorted(left[0] + left[1]))
    else:
        result.unmatched.extend(left[0] + left[1])
