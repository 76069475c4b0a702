"""Which song a file is a version of, and on which side of the split that song stands.

The side is a hash of (group, seed) alone: no other file, order or machine changes it, and every version of a
song stands on the same side, in every manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

# What a file name may end in and still be the same song. A bare number is not here: track_001 and track_002
# are two.
VERSION_SUFFIXES = (
    r"v\d+(\.\d+)*",  # v2, v1.3
    r"(ver|version|take|mix|copy|alt|edit|render|rendition|performance|perf|aug|augmented|crop)[\s_]?\d*",
    r"(live|demo|remix|remaster|remastered|mastered|final|draft|acoustic|instrumental|unplugged|karaoke)[\s_]?\d*",
    r"(cover|original|orig|extended|radio[\s_](edit|mix)|slowed|sped[\s_]up|reprise|clean|quanti[sz]ed)",
    r"transposed?|(transposed?|key|tempo|pitch|shift|stretch)[\s_]?[+-]?\d+(\.\d+)?",  # "up tempo" stays
)
_ANY = "|".join(VERSION_SUFFIXES)
# After a separator ("_v2"), or in brackets ("(live)", "[1]").
_LAST = re.compile(rf"([\s_.-]+({_ANY})|[\s_.-]*[(\[]\s*({_ANY}|\d+)\s*[)\]])$", re.IGNORECASE)


def group(stem: str) -> str:
    """Return the song's name: `stem` without any of VERSION_SUFFIXES ("Song (Live)_v2" -> "Song").

    A suffix counts after a separator or in brackets, so "Alive" stays; a name that is nothing else stays
    whole.
    """
    shorter = _LAST.sub("", stem)
    return stem if shorter in ("", stem) else group(shorter)


def position(group: str, seed: int) -> float:
    """Return a group's place in [0, 1), uniform over groups. The validation side lies below its share.

    Case and separators don't move it: "My Song" and "my_song_v2" stand on one side.
    """
    name = re.sub(r"[\s_.-]+", " ", group.casefold()).strip()
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def validation(groups: Iterable[str], seed: int, share: float) -> set[str]:
    """Return the groups of the validation side, `share` in [0, 1) of them on average.

    An empty side gets what stands nearest: validation the smallest hash and, of two or more, training the
    largest.
    """
    places = {name: position(name, seed) for name in groups}
    smallest, largest = min(places.values()), max(places.values())
    last = smallest == largest
    return {name for name, at in places.items() if at == smallest or (at < share and (last or at < largest))}
