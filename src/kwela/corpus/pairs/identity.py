"""Which files hold the same bytes or the same sound, found without reading more than needed.

- Bytes: two names of one file, then files of one size, are compared, first by their beginnings, then in full.
  So a corpus without copies costs a look at its sizes.
- Sound: files of one length whose middles are alike are compared in full, sample by sample at 16 bits. So a
  WAV and a FLAC of one recording are the same, and two MP3s that differ in their tags alone.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from kwela import files
from kwela.errors import UserError
from kwela.music.audio_files.facts import facts
from kwela.music.audio_files.part import Damaged, NotAudio

_BEGINNING = 1 << 16  # bytes
_MIDDLE = 4096  # samples


def same_bytes(paths: Sequence[Path]) -> list[list[int]]:
    """Return the indexes of files with the same bytes, for each set of several. Empty files are no copies.

    A file that can't be read is the same as no other.
    """
    nodes: dict[tuple[int, int], list[int]] = defaultdict(list)
    sizes: dict[int, list[int]] = defaultdict(list)  # size -> one index of each file
    for index, path in enumerate(paths):
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_size:
            node = nodes[status.st_dev, status.st_ino]
            node.append(index)
            if len(node) == 1:
                sizes[status.st_size].append(index)
    of_first = {node[0]: node for node in nodes.values()}
    sets: Iterable[list[int]] = sizes.values()
    for digest in (_beginning, _whole):
        sets = [part for one in sets for part in (_parts(one, paths, digest) if len(one) > 1 else [one])]
    joined = [[index for first in one for index in of_first[first]] for one in sets]
    return sorted(sorted(one) for one in joined if len(one) > 1)


def sound_hash(wave: np.ndarray) -> str:
    """Return a hash of samples in [-1, 1] at 16 bits each: equal for one recording in two lossless formats.

    Silence has the hash "": it is the same as nothing.
    """
    samples = _sixteen_bits(wave)
    return files.sha256(samples.tobytes()) if samples.any() else ""


def sound_key(path: Path) -> str:
    """Return the length of a file's sound and a hash of its middle; "" where the middle is silent.

    Files of the same sound have the same key. Raises UserError if the file can't be read.
    """
    parts = facts(path).parts
    part = parts[len(parts) // 2]
    first = part.frames // 2
    try:
        blocks = list(part.blocks(first, min(first + _MIDDLE, part.frames)))
    except (Damaged, NotAudio):
        return ""  # the row is of a file that can be read elsewhere: it is no copy
    samples = _sixteen_bits(np.concatenate(blocks)) if blocks else np.zeros(0, "<i2")
    length = "+".join(f"{one.frames}@{one.rate}" for one in parts)
    return f"{length} {files.sha256(samples.tobytes())[:16]}" if samples.any() else ""


def same_sound(paths: Sequence[Path], keys: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Return the indexes of files with the same sound, for each set of several.

    keys: of `sound_key`. names: the files' songs; files of one song are not compared. Silence is no copy.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key:
            found[key].append(index)
    sets = [one for one in found.values() if len({names[index] for index in one}) > 1]
    whole = [part for one in sets for part in _parts(one, paths, _sound)]
    return sorted(one for one in whole if len(one) > 1)


def is_silent(path: Path) -> bool:
    """Return whether a file holds nothing but zeros, or can't be read."""
    try:
        return not any(_sixteen_bits(block).any() for block in _blocks(path))
    except (Damaged, NotAudio, UserError):
        return True


def _blocks(path: Path) -> Iterator[np.ndarray]:
    for part in facts(path).parts:
        yield from part.blocks(0, part.frames)


def _sound(path: Path) -> Hashable:
    digest = hashlib.sha256()
    try:
        for block in _blocks(path):
            digest.update(_sixteen_bits(block).tobytes())
    except (Damaged, NotAudio, UserError):
        return object()  # the same as no other
    return digest.hexdigest()


def _sixteen_bits(samples: np.ndarray) -> np.ndarray:
    return (np.clip(np.nan_to_num(samples), -1, 1) * 32767).round().astype("<i2")


def _parts(
    indexes: Sequence[int], paths: Sequence[Path], digest: Callable[[Path], Hashable]
) -> list[list[int]]:
    """Split a set of files by what `digest` returns of each."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index in indexes:
        try:
            found[digest(paths[index])].append(index)
        except OSError:
            found[index].append(index)
    return list(found.values())


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_BEGINNING)).hexdigest()


def _whole(path: Path) -> str:
    if os.path.getsize(path) <= _BEGINNING:  # noqa: PTH202 - its beginning was all of it
        return ""
    return files.sha256(path)
