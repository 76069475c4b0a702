"""Find uncompressed samples in WAV, RF64, W64, AIFF, AU and CAF files, and decode them.

- What a header says of the length is compared with the bytes that are there. Recorders and pipes leave the
  length open (0, or the largest number that fits), and copies are cut.
- Other codecs inside these containers (ADPCM, GSM, ALAC) are not read here.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

BLOCK = 1 << 22  # bytes decoded at once
MOST_CHANNELS = 255
_MOST_CHUNKS = 10_000
# A size this near to 2^31 or 2^32 is none: a recorder or a pipe wrote it before it knew the length.
OPEN_SIZES = (range(0x7FF0_0000, 0x8010_0000), range(0xFFF0_0000, 0x1_0000_0000))
_W64 = bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True)
class Samples:
    """Where the samples of a file lie, and what they are."""

    path: Path
    offset: int  # of the first byte
    frames: int  # whole frames that are there
    claimed: int | None  # frames by the header; None where it leaves them open
    channels: int
    rate: int  # Hz
    kind: str  # u i f: unsigned, signed, floating; a m: A-law, mu-law
    width: int  # bytes a sample
    order: str  # < or >

    def blocks(self, first: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the frames from `first` to `stop` (exclusive) as float32 (n, channels), full scale 1."""
        frame = self.channels * self.width
        with self.path.open("rb") as file:
            file.seek(self.offset + first * frame)
            while first < stop:
                data = file.read(min(max(1, BLOCK // frame), stop - first) * frame)
                if len(data) < frame:
                    return
                samples = self._decode(data[: len(data) // frame * frame])
                yield samples.reshape(-1, self.channels)
                first += len(data) // frame

    def glimpses(self, places: Sequence[int], count: int) -> Iterator[np.ndarray]:
        """Yield `count` frames from each place on, (n, channels)."""
        for place in places:
            yield from self.blocks(place, min(place + count, self.frames))

    def _decode(self, data: bytes) -> np.ndarray:
        if self.kind in "am":
            return _companded(self.kind)[np.frombuffer(data, np.uint8)]
        if self.kind == "f":
            with np.errstate(over="ignore"):  # 1e300 becomes infinite, which is refused by name
                return np.frombuffer(data, f"{self.order}f{self.width}").astype(np.float32)
        if self.width == 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, slice(1, 4) if self.order == "<" else slice(0, 3)] = np.frombuffer(
                data, np.uint8
            ).reshape(-1, 3)
            return wide.view(f"{self.order}i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
        whole = np.frombuffer(data, f"{self.order}{self.kind}{self.width}").astype(np.float32)
        full = np.float32(1 << (8 * self.width - 1))
        return (whole - full if self.kind == "u" else whole) / full


def find(path: Path) -> Samples | None:
    """Return where a file's samples lie, or None if it is no such container or holds another codec."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(12)
        try:
            if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and head[8:] == b"WAVE":
                return _riff(path, file, size, ">" if head[:4] == b"RIFX" else "<")
            if head[:4] == b"riff" and head[4:12] == _W64[0][:8]:
                return _w64(path, file, size)
            if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
                return _aiff(path, file, size)
            if head[:4] == b".snd":
                return _au(path, file, size)
            if head[:4] == b"caff":
                return _caf(path, file, size)
        except (struct.error, OverflowError, ValueError):
            pass  # cut inside its header, or with sizes that no file has: FFmpeg says what it thinks of it
    return None


def _samples(
    path: Path, at: int, room: int, claimed: int | None, shape: tuple[int, int, str, int, str]
) -> Samples | None:
    """Return the samples from byte `at` on. claimed: bytes by the header, None if open; room: bytes there."""
    channels, rate, kind, width, order = shape
    whole = {"u": (1,), "i": (1, 2, 3, 4), "f": (4, 8), "a": (1,), "m": (1,)}.get(kind, ())
    if not 0 < channels <= MOST_CHANNELS or width not in whole:
        return None
    frame = channels * width
    frames = max(0, room if claimed is None else min(room, claimed)) // frame
    return Samples(
        path, at, frames, None if claimed is None else claimed // frame, channels, rate, kind, width, order
    )


def _chunks(file: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, first byte, claimed bytes) of each chunk, also where an odd one has no pad byte."""
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        name, claimed = head[:4], struct.unpack(f"{order}I", head[4:])[0]
        at = file.tell()
        yield name, at, claimed
        if at + claimed >= size:
            return
        padded = claimed % 2
        file.seek(at + claimed)
        if padded and file.read(1) != b"\0" and not _is_name(file.read(4)):
            padded = 0
        file.seek(at + claimed + padded)


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _riff(path: Path, file: BinaryIO, size: int, order: str) -> Samples | None:
    shape, wide = None, None
    for name, at, claimed in _chunks(file, size, order):
        if name == b"ds64":
            wide = struct.unpack("<Q", file.read(16)[8:])[0]
        elif name == b"fmt ":
            shape = _wave_format(file.read(min(claimed, 40)), order)
        elif name == b"data":
            if shape is None:
                return None
            room: int = size - at
            length: int | None = claimed
            if claimed == 0xFFFF_FFFF and wide:
                length = wide if wide < 1 << 62 else None
            elif any(claimed in sizes for sizes in OPEN_SIZES) and claimed > room:
                length = None
            elif claimed < shape[0] * shape[3] and not _is_chunk_list(file, at + claimed, size, order):
                length = None  # 0: a recorder that was never told to stop
            elif claimed <= room:
                length = claimed + ((room - claimed) >> 32 << 32)  # over 4 GiB, the size has lost its top
            return _samples(path, at, room, length, shape)
    return None


def _is_chunk_list(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Return whether chunks alone, and at least one, stand between `at` and the file's end."""
    file.seek(at)
    last = None
    for last in _chunks(file, size, order):
        if not _is_name(last[0]):
            return False
    return (last is not None and last[1] + last[2] in (size, size - 1)) or at == size


def _wave_format(data: bytes, order: str) -> tuple[int, int, str, int, str]:
    tag, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", data[:16])
    if tag == 0xFFFE and len(data) >= 26:
        tag = struct.unpack(f"{order}H", data[24:26])[0]
    width = block // channels if channels else 0
    kind = {1: "u" if width == 1 else "i", 3: "f", 6: "a", 7: "m"}.get(tag, "")
    fits = kind in "am" or 8 * (width - 1) < bits <= 8 * width
    return channels, rate, kind if fits and width * channels == block else "", width, order


def _w64(path: Path, file: BinaryIO, size: int) -> Samples | None:
    file.seek(40)
    shape = None
    for _ in range(_MOST_CHUNKS):
        at = file.tell()
        head = file.read(24)
        if len(head) < 24:
            return None
        name, claimed = head[:4], struct.unpack("<Q", head[16:])[0]
        if name == b"fmt ":
            shape = _wave_format(file.read(min(claimed, 40)), "<")
        elif name == b"data":
            length = claimed - 24 if 24 < claimed < 1 << 62 else None
            return shape and _samples(path, at + 24, size - at - 24, length, shape)
        if claimed < 24:
            return None
        file.seek(at + (claimed + 7) // 8 * 8)
    return None


_AIFC = {
    **{
        b"NONE": ("i", ">"),
        b"twos": ("i", ">"),
        b"sowt": ("i", "<"),
        b"in24": ("i", ">"),
        b"in32": ("i", ">"),
    },
    **{b"fl32": ("f", ">"), b"FL32": ("f", ">"), b"fl64": ("f", ">"), b"FL64": ("f", ">")},
    **{
        b"alaw": ("a", ">"),
        b"ALAW": ("a", ">"),
        b"ulaw": ("m", ">"),
        b"ULAW": ("m", ">"),
        b"raw ": ("u", ">"),
    },
}


def _aiff(path: Path, file: BinaryIO, size: int) -> Samples | None:
    shape, data, frames = None, None, 0
    for name, at, claimed in _chunks(file, size, ">"):
        if name == b"COMM":
            common = file.read(min(claimed, 22))
            channels, frames, bits = struct.unpack(">hIh", common[:8])
            kind, order = _AIFC.get(common[18:22] or b"NONE", ("", ">"))
            width = 1 if kind in "am" else (bits + 7) // 8
            shape = channels, _extended(common[8:18]), kind, width, order
        elif name == b"SSND":
            begin = at + 8 + struct.unpack(">I", file.read(4))[0]
            open_ended = claimed <= 8 or (
                claimed > size - at and any(claimed in sizes for sizes in OPEN_SIZES)
            )
            data = begin, size - begin, None if open_ended else at + claimed - begin
        if shape and data:
            begin, room, length = data
            frame = shape[0] * shape[3]
            if length is not None and length > room and frames * frame <= room and frames:
                length = frames * frame  # the chunk's size is wrong and the number of frames is not
            elif length is not None and length <= room and frames * frame > room:
                length = frames * frame if frames < 0x7000_0000 else None
            return _samples(path, begin, room, length, shape)
    return None


def _extended(data: bytes) -> int:
    """Return an 80-bit floating number as an integer; 0 if it is none that a sample rate could be."""
    exponent, mantissa = struct.unpack(">hQ", data)
    return mantissa >> (63 - power) if 0 <= (power := exponent - 16383) < 32 else 0


def _au(path: Path, file: BinaryIO, size: int) -> Samples | None:
    file.seek(4)
    begin, claimed, code, rate, channels = struct.unpack(">5I", file.read(20))
    kinds = {
        1: ("m", 1),
        2: ("i", 1),
        3: ("i", 2),
        4: ("i", 3),
        5: ("i", 4),
        6: ("f", 4),
        7: ("f", 8),
        27: ("a", 1),
    }
    kind, width = kinds.get(code, ("", 0))
    is_open = claimed == 0 or any(claimed in sizes for sizes in OPEN_SIZES)
    length = None if is_open and claimed != size - begin else claimed
    return _samples(path, begin, size - begin, length, (channels, rate, kind, width, ">"))


def _caf(path: Path, file: BinaryIO, size: int) -> Samples | None:
    file.seek(8)
    shape = None
    for _ in range(_MOST_CHUNKS):
        name, claimed = struct.unpack(">4sq", file.read(12))
        at = file.tell()
        if name == b"desc":
            rate, code, flags, _, packet, channels, bits = struct.unpack(">d4sIIIII", file.read(32))
            kind = {b"lpcm": "f" if flags & 1 else "i", b"alaw": "a", b"ulaw": "m"}.get(code, "")
            width = (bits + 7) // 8 if code == b"lpcm" else 1
            kind = kind if packet == 1 else ""
            if not 0 < rate < 1e9:
                return None
            shape = channels, round(rate), kind, width, "<" if flags & 2 else ">"
        elif name == b"data":
            length = claimed - 4 if 4 < claimed < 1 << 62 else None
            return shape and _samples(path, at + 4, size - at - 4, length, shape)
        if claimed < 0:
            return None
        file.seek(at + claimed)
    return None


@functools.cache
def _companded(law: str) -> np.ndarray:
    """Return the 256 values of G.711's A-law or mu-law as float32, full scale 1."""
    code = np.arange(256)
    code = code ^ 0x55 if law == "a" else ~code & 0xFF
    step, low = (code >> 4) & 7, code & 15
    if law == "a":
        size = np.where(step, (2 * low + 33) << np.maximum(step - 1, 0), 2 * low + 1) << 3
        sign = np.where(code & 0x80, 1, -1)
    else:
        size = (((2 * low + 33) << step) - 33) << 2
        sign = np.where(code & 0x80, -1, 1)
    return (sign * size / 32768).astype(np.float32)
