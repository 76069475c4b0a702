"""Which files hold the same bytes, found without reading more than needed.

Two names of one file, then files of one size, are compared: first by their beginnings, then in full. So a
corpus without copies costs a look at its sizes.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from kwela import files

_BEGINNING = 1 << 16  # bytes


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
    samples = (np.clip(np.nan_to_num(wave), -1, 1) * 32767).round().astype("<i2")
    return files.sha256(samples.tobytes()) if samples.any() else ""


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
