"""Find the audio and MIDI files of two trees and pair them by name.

A file's stem (its name without the extension) pairs it; where a stem repeats, its folder below the root
decides too. What that leaves undecided is reported, never guessed. So is every file that is passed over
because of its kind, and every folder that can't be read; hidden files alone are not.
"""

from __future__ import annotations

import difflib
import itertools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kwela.errors import UserError
from kwela.music import audio, midi

AUDIO = frozenset(audio.AUDIO_SUFFIXES)
MIDI = frozenset(midi.MIDI_SUFFIXES)
_KNOWN = sorted(AUDIO | MIDI, key=len, reverse=True)
_PACKED = (".gz", ".bz2", ".xz", ".zip")
# Folders that systems make beside music: what lies in them is no music, whatever its name.
_SYSTEM = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_NOT_HERE = ".icloud"  # `.song.wav.icloud` stands for a file that is in Apple's cloud alone
_LISTED = 100  # names of one kind in a report


class Pair(NamedTuple):
    """An audio file and its MIDI file."""

    audio: Path
    midi: Path


class Pairing(NamedTuple):
    """What pairing by names gave."""

    pairs: list[Pair]  # by audio path
    unmatched: list[Path]  # no file of the other kind has this stem
    ambiguous: list[list[Path]]  # files of one stem that neither name nor folder can pair


class Found(NamedTuple):
    """What lies below a root."""

    files: list[Path]  # of the kind that was looked for, absolute, sorted
    others: list[Path]  # all other files that are not hidden, sorted
    unreadable: list[str]  # folders that can't be read, with the reason


def look(root: Path, extensions: Iterable[str], kind: str) -> Found:
    """Find every file below `root` with one of `extensions` (any case). Hidden files are left out.

    Links are followed, each folder entered once. Raises UserError if `root` is missing or holds no such file.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; --{kind}-root must hold the {kind} files")
    wanted = tuple(extensions)
    entered: set[tuple[int, int]] = set()
    found = Found([], [], [])

    def failed(error: OSError) -> None:
        found.unreadable.append(f"{error.filename}: {error.strerror}")

    for folder, inner, names in os.walk(os.path.abspath(root), onerror=failed, followlinks=True):  # noqa: PTH100 - links stay as named
        try:
            status = os.stat(folder)  # noqa: PTH116
        except OSError as error:  # it has just been removed
            failed(error)
            continue
        if (status.st_dev, status.st_ino) in entered:
            inner.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _SYSTEM)
        for name in names:
            if not name.startswith(".") or name.endswith(_NOT_HERE):
                (found.files if name.lower().endswith(wanted) else found.others).append(Path(folder, name))
    if not found.files:
        others = f"; {passed_over_text(found.others)}" if found.others else ""
        raise UserError(f"{root}: holds no {kind} files ({' '.join(sorted(e[1:] for e in wanted))}){others}")
    return Found(sorted(found.files), sorted(found.others), sorted(found.unreadable))


def find(root: Path, extensions: Iterable[str], kind: str) -> list[Path]:
    """Return the files that `look` finds. Raises as `look`."""
    return look(root, extensions, kind).files


def printable(name: str) -> str:
    """Return a name with the bytes that are no UTF-8 written out, as in "caf\\xe9"."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def suffix(name: str) -> str:
    """Return how a name ends, in lower case: ".wav", ".mid.gz", or "" without a dot."""
    known = next((ending for ending in _KNOWN if name.lower().endswith(ending)), None)
    if known:
        return known
    path = Path(name.lower())
    return "".join(path.suffixes[-2:]) if path.suffix in _PACKED else path.suffix


def passed_over(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the report's entry for each kind of file that is not read, the most frequent first."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        kinds[suffix(file.name) or "without an ending"].append(file)
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {"suffix": kind, "count": len(those), "files": [str(file) for file in sorted(those)[:_LISTED]]}
        for kind, those in ordered
    ]


def passed_over_text(files: Iterable[Path]) -> str:
    """Return a line on files that are not read: "4 files of kinds that are not read: 3 .txt, 1 .jpg"."""
    kinds = passed_over(files)
    total = sum(kind["count"] for kind in kinds)
    listed = ", ".join(f"{kind['count']} {kind['suffix']}" for kind in kinds[:12])
    more = f" and {len(kinds) - 12} other kinds" if len(kinds) > 12 else ""
    return f"{total} file{'s' * (total != 1)} of kinds that are not read: {listed}{more}"


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
    return unicodedata.normalize("NFC", file.name[: len(file.name) - len(suffix(file.name))])


def path_stem(file: Path, root: Path) -> str:
    """Return the path of a file below `root` without its extension, with "/" and in one Unicode form."""
    folder = file.parent.relative_to(root).as_posix()
    name = stem(file)
    return name if folder == "." else f"{unicodedata.normalize('NFC', folder)}/{name}"


def alike(audio_files: Sequence[Path], midi_files: Sequence[Path]) -> list[Pair]:
    """Return the audio and MIDI files whose stems differ in case, spaces and the like alone."""

    def key(file: Path) -> str:
        return "".join(letter for letter in stem(file).casefold() if letter.isalnum())

    notes = {key(file): file for file in midi_files}
    return [Pair(wave, notes[key(wave)]) for wave in audio_files if key(wave) and key(wave) in notes]


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
