"""Read by libsndfile: Vorbis, FLAC, and the compressed codecs of WAV and AIFF.

A file whose end disagrees with its header is left to FFmpeg.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from kwela.music.audio_files import part
from kwela.music.audio_files.mpeg import id3v2_size

_BLOCK = 1 << 20  # samples decoded at once
_MOST_FRAME = 1 << 19  # bytes in which a FLAC's last frame is looked for


@dataclass(frozen=True)
class SndfilePart:
    """What libsndfile reads of a file, or of the bytes `span` of it."""

    path: Path
    span: tuple[int, int] | None
    rate: int
    channels: int
    frames: int
    claimed: int | None
    surest: int  # the last sample at which a seek ends where it should

    def blocks(self, first: int, stop: int) -> Iterator[np.ndarray]:
        """Yield samples, as `Part.blocks`. Raises Damaged."""
        stop = min(stop, self.frames)
        with self._opened() as file:
            if first:
                self._seek(file, first)
            step = max(1, _BLOCK // self.channels)
            while first < stop:
                block = file.read(min(step, stop - first), dtype="float32", always_2d=True)
                if not len(block):
                    return
                yield block
                first += len(block)

    def glimpses(self, places: Sequence[int], count: int) -> Iterator[np.ndarray]:
        """Yield samples, as `Part.glimpses`. Raises Damaged."""
        with self._opened() as file:
            for place in places:
                self._seek(file, place)
                yield file.read(count, dtype="float32", always_2d=True)

    def _seek(self, file: soundfile.SoundFile, place: int) -> None:
        file.seek(min(place, self.surest))
        if place > self.surest:
            file.read(place - self.surest, dtype="float32", always_2d=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[soundfile.SoundFile]:
        try:
            with part.source(self.path, self.span) as source, soundfile.SoundFile(source) as file:
                yield file
        except soundfile.LibsndfileError:
            raise part.Damaged("damaged in its middle") from None


def find(path: Path, span: tuple[int, int] | None = None, last_page: int | None = None) -> SndfilePart | None:
    """Return the part that libsndfile reads, or None if it can't, or if the end disagrees with the header.

    last_page: the samples of an Ogg's last page. The last packet may be cut there, which libsndfile takes for
    a shift of the whole page when it seeks: so it seeks to the page before, and reads on.
    """
    try:
        with part.source(path, span) as source, soundfile.SoundFile(source) as file:
            frames = file.frames
            if (
                "MPEG" in file.subtype
                or not 0 < frames < 1 << 48
                or (file.format == "FLAC" and _flac_end(path) != frames)
            ):
                return None
            last = min(frames, 1 << 13)
            file.seek(frames - last)
            if len(file.read(last, dtype="int16", always_2d=True)) != last:
                return None
            surest = max(0, frames - last_page) if last_page is not None else frames
            return SndfilePart(path, span, file.samplerate, file.channels, frames, frames, surest)
    except soundfile.LibsndfileError:
        return None  # a codec that it lacks: FFmpeg decides


def _flac_end(path: Path) -> int | None:
    """Return the sample at which a FLAC's last frame ends, by the frame's own header, or None.

    Also None where the frames' numbers don't rise through the file, as in one that two files were joined to.
    """
    with path.open("rb") as file:
        begin = id3v2_size(file.read(10))
        file.seek(begin)
        info = file.read(42)
        if info[:4] != b"fLaC" or len(info) < 42:
            return None
        fixed, largest = struct.unpack(">H", info[10:12])[0], int.from_bytes(info[15:18], "big")
        size = file.seek(0, 2)
        ends: list[int] = []
        for quarter in (2, 3, 4):
            stop = begin + 42 + (size - begin - 42) * quarter // 4
            start = max(begin + 42, stop - min(max(1 << 16, 2 * largest), _MOST_FRAME))
            file.seek(start)
            end = _last_flac_frame_end(file.read(stop - start), fixed)
            if end is not None:
                if ends and end < ends[-1]:
                    return None
                ends.append(end)
    return ends[-1] if ends else None


def _last_flac_frame_end(data: bytes, fixed: int) -> int | None:
    at = len(data)
    while (at := data.rfind(b"\xff", 0, at)) >= 0:
        end = _flac_frame_end(data[at : at + 16], fixed)
        if end is not None:
            return end
    return None


def _flac_frame_end(head: bytes, fixed: int) -> int | None:
    """Return the sample at which the FLAC frame with this header ends (RFC 9639, 9.1), or None."""
    if len(head) < 7 or head[1] & 0xFE != 0xF8 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return None
    lead = head[4]
    more = 0 if lead < 0x80 else next((n for n in range(1, 7) if not lead << (n + 1) & 0x80), 7)
    if 0x80 <= lead < 0xC0 or more > 6:
        return None
    number = lead if not more else lead & (0x3F >> more)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at = 5 + more
    code, rate = head[2] >> 4, head[2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    length = int.from_bytes(head[at : at + extra], "big") + 1 if extra else 0
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    length = length or (192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8))
    return (number if head[1] & 1 else number * fixed) + length


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x107 if value & 0x80 else value << 1) & 0x1FF
    return value
