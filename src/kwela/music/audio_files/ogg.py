"""Find the links of an Ogg: it may be a chain of files, each with a rate of its own (RFC 3533, 4)."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

from kwela.music.audio_files.part import Damaged

_MOST_LINKS = 1000


class Link(NamedTuple):
    """One file of a chain."""

    span: tuple[int, int]  # bytes
    codec: bytes  # the first packet's first bytes
    plausible: bool  # no page is lost, and none claims more sound than its packets can hold
    last_page: int  # samples of the last page, by its number and that of the page before


_OGG_LONGEST = {b"\x01vorbis": 4096, b"OpusHead": 5760}  # samples that a packet holds at most


def links(path: Path) -> list[Link]:
    """Return the links of an Ogg file. Raises Damaged for more than _MOST_LINKS."""
    found: list[Link] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, begin, size = 0, 0, len(data)
        codec, last, before, plausible, began = b"", 0, 0, True, False
        numbers: dict[bytes, int] = {}  # the next page's, by stream
        while at + 27 <= size:
            if data[at : at + 4] != b"OggS":
                at = data.find(b"OggS", at, at + (1 << 20))
                if at < 0:
                    break
                continue
            flags, granule, segments = data[at + 5], *struct.unpack_from("<q12xB", data, at + 6)
            lacing = data[at + 27 : at + 27 + segments]
            body, end = at + 27 + segments, at + 27 + segments + sum(lacing)
            if end > size:
                break  # cut inside a page
            if flags & 2 and began:
                found.append(Link((begin, at), codec, plausible, last - before))
                if len(found) > _MOST_LINKS:
                    raise Damaged(f"it is a chain of more than {_MOST_LINKS} files")
                begin, codec, last, before, plausible, began = at, b"", 0, 0, True, False
                numbers.clear()
            began = began or not flags & 2
            stream, number = data[at + 14 : at + 18], int.from_bytes(data[at + 18 : at + 22], "little")
            if last:  # before the sound, a recorded stream skips
                plausible = plausible and number == numbers.get(stream, number)
            numbers[stream] = number + 1 & 0xFFFF_FFFF
            if flags & 2 and not codec:
                codec = next((name for name in _OGG_LONGEST if data[body : body + len(name)] == name), b"")
            if granule >= 0 and codec:
                packets = segments - lacing.count(255) + 1
                most = packets * _OGG_LONGEST[codec] if last else 1 << 62  # a recorded stream begins anywhere
                plausible = plausible and 0 <= granule - last <= most
                before, last = last, granule
            at = end
        if began:
            found.append(Link((begin, at if at > begin else size), codec, plausible, last - before))
    return found
