"""Read MP3 (MPEG audio) and raw AAC (ADTS) by their own frame headers: exact lengths and exact segments.

- Neither format has a length that can be trusted. A frame's header says how long the frame is, so walking
  from header to header counts the sound (ISO 11172-3, 2.4.2.3; ISO 14496-3, 1.A.3).
- A frame may use bits of earlier ones (the bit reservoir), and each overlaps its neighbour, so decoding
  begins some frames early. AAC's noise depends on all that was decoded before: its decoder begins anew every
  ANCHOR frames, so that a segment has the same noise as the whole.
- Where rate or channels change, as in joined files, a new run begins.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from kwela.music.audio_files.part import Damaged

ANCHOR = 64  # frames between the places where decoding may begin
_EARLY = 48  # frames of MP3 decoded before the first one that is used: the reservoir holds at most 40
_EARLY_AAC = 16
_MOST_JUNK = 1 << 20  # bytes without a frame that are searched
_MOST_RUNS = 1000
_DECODER_DELAY = 529  # samples of MP3 that the decoder adds at the start
_BITRATES = {  # kbit/s by (MPEG-1?, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


class Kind(NamedTuple):
    """What all frames of a run have in common."""

    codec: str
    rate: int  # Hz
    channels: int
    samples: int  # a frame


@dataclass(frozen=True)
class Run:
    """Frames of one kind that follow each other. `anchors`: the byte at which every ANCHORth frame begins."""

    path: Path
    kind: Kind
    anchors: np.ndarray  # uint64
    coded: int  # frames of the codec
    skip: int = 0  # samples of the encoder's and decoder's delay before the sound
    drop: int = 0  # samples of padding after it
    claimed: None = None  # tools that cut files leave the first frame's count as it was

    @property
    def rate(self) -> int:
        """The sample rate in Hz."""
        return self.kind.rate

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.kind.channels

    @property
    def frames(self) -> int:
        """The samples a channel."""
        return max(0, self.coded * self.kind.samples - self.skip - self.drop)

    def blocks(self, first: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the samples from `first` to `stop` as float32 (n, channels). Raises Damaged."""
        stop = min(stop, self.frames)
        if first >= stop:
            return
        size, begin, end = self.kind.samples, first + self.skip, stop + self.skip
        with _mapped(self.path) as data:
            for wave, at in self._decoded(data, begin // size, (end - 1) // size + 1):
                block = wave[max(0, begin - at) : end - at]
                if len(block):
                    yield block

    def glimpses(self, places: Sequence[int], count: int) -> Iterator[np.ndarray]:
        """Yield about `count` samples from near each place, (n, channels)."""
        with _mapped(self.path) as data:
            for place in places:
                first = min(place // self.kind.samples // ANCHOR * ANCHOR, max(0, self.coded - 4))
                context = _decoder(self.kind.codec)
                waves = []
                for _, frame in self._coded(data, first, first + 1 + -(-count // self.kind.samples)):
                    with contextlib.suppress(av.error.FFmpegError):
                        waves += [_wave(one) for one in context.decode(av.Packet(frame))]
                yield _fit(waves[1:], self.kind, len(waves) - 1)

    def _decoded(self, data: mmap.mmap, first: int, stop: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yield (samples, place of the first one) of the codec's frames from `first` to `stop`."""
        is_aac = self.kind.codec == "aac"
        early = _EARLY_AAC if is_aac else _EARLY
        begin = first // ANCHOR * ANCHOR if is_aac else first
        while begin < stop:
            end = min(stop, begin + ANCHOR) if is_aac else stop
            context = _decoder(self.kind.codec)
            damaged = False
            for number, frame in self._coded(data, max(0, begin - early), end):
                try:
                    decoded = context.decode(av.Packet(frame))
                except av.error.FFmpegError:
                    damaged = damaged or number >= begin
                    decoded = []
                wave = _fit([_wave(one) for one in decoded], self.kind)
                if damaged and decoded and number >= begin:
                    raise Damaged("damaged in its middle")
                if number >= max(begin, first):
                    yield wave, number * self.kind.samples
            begin = end

    def _coded(self, data: mmap.mmap, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (number, bytes) of the coded frames from `first` to `stop`."""
        number = first // ANCHOR * ANCHOR
        header = _adts_header if self.kind.codec == "aac" else _mpeg_header
        begin = int(self.anchors[first // ANCHOR])
        frame = header(data, begin)
        for at, size, *_ in _follow(data, begin, header, frame and frame.kind):
            if number >= stop:
                return
            if number >= first:
                yield number, data[at : at + size]
            number += 1


def find(path: Path) -> list[Run] | None:
    """Return the runs of an MP3 or ADTS file, or None if it doesn't begin with a frame of either.

    Raises Damaged where more than a frame's bytes are lost between two frames, or where rate or channels
    change more than _MOST_RUNS times.
    """
    with _mapped(path) as data:
        begin = _past_tags(data, 0)
        starts = {
            at: header
            for header in (_mpeg_header, _adts_header)
            if (at := _resync(data, begin, header, 1 << 16)) >= 0
        }
        return _walk(path, data, min(starts), starts[min(starts)]) if starts else None


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


# ---------------------------------------------------------------- from frame to frame


class Frame(NamedTuple):
    """What a frame's header says."""

    kind: Kind
    size: int  # bytes


Header = Callable[[mmap.mmap, int], Frame | None]


def _follow(
    data: mmap.mmap, at: int, header: Header, kind: Kind | None = None
) -> Iterator[tuple[int, int, Kind, int]]:
    """Yield (first byte, bytes, kind, bytes of rubbish before it) of each whole frame from byte `at` on.

    kind: of the frame before.
    """
    expected, end = at, len(data)
    while at >= 0:
        frame = header(data, at)
        if frame and at + frame.size <= end and (frame.kind == kind or _is_chain(data, at, header)):
            yield at, frame.size, frame.kind, at - expected
            kind = frame.kind
            expected = at = at + frame.size
        elif (past := _past_tags(data, at)) != at:
            expected += past - at
            at = past
        else:
            at = _resync(data, at + 1, header)


def _resync(data: mmap.mmap, begin: int, header: Header, most: int = _MOST_JUNK) -> int:
    """Return the first byte from `begin` on at which frames follow each other, or -1."""
    at = begin
    while (at := data.find(b"\xff", at, begin + most)) >= 0:
        if header(data, at) and _is_chain(data, at, header):
            return at
        at += 1
    return -1


def _is_chain(data: mmap.mmap, at: int, header: Header) -> bool:
    """Return whether three frames of one kind follow each other at `at`, or fewer up to a tag or the end."""
    kind = None
    for _ in range(3):
        frame = header(data, at)
        if frame is None or kind not in (None, frame.kind):
            return kind is not None and (at == len(data) or _past_tags(data, at) != at)
        kind, at = frame.kind, at + frame.size
    return True


def _past_tags(data: mmap.mmap, at: int) -> int:
    """Return the byte behind the tags (ID3v1, ID3v2, APE, Lyrics3) that begin at `at`."""
    while True:
        head = data[at : at + 16]
        if size := id3v2_size(head):
            at += size
        elif head[:8] == b"APETAGEX" and len(head) == 16:
            at += 32 + struct.unpack("<I", head[12:])[0]
        elif head[:3] == b"TAG" and len(data) - at >= 128:
            at += 128
        elif head[:11] == b"LYRICSBEGIN" and (end := data.find(b"LYRICS200", at, at + _MOST_JUNK)) > 0:
            at = end + 9
        else:
            return min(at, len(data))


def id3v2_size(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag with these first bytes; 0 if it is none."""
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127:
        return 0
    size = sum(byte << (7 * place) for byte, place in zip(head[6:10], (3, 2, 1, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)


def _mpeg_header(data: mmap.mmap, at: int) -> Frame | None:
    if at + 4 > len(data):
        return None
    return _mpeg_frame(struct.unpack_from(">I", data, at)[0] & 0xFFFE_FEC0)


@functools.cache
def _mpeg_frame(word: int) -> Frame | None:
    """Return what a header says; its bits for checksum, private use, mode extension and rights are 0."""
    version, layer, bits, rate = word >> 19 & 3, 4 - (word >> 17 & 3), word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or not 0 < bits < 15 or rate == 3:
        return None
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    kbit = _BITRATES[version == 3, layer][bits - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    unit = 4 if layer == 1 else 1
    size = (samples // 8 * kbit * 1000 // unit // hertz + (word >> 9 & 1)) * unit
    channels = 1 if word >> 6 & 3 == 3 else 2
    return Frame(Kind(f"mp{layer}float", hertz, channels, samples), size)


def _adts_header(data: mmap.mmap, at: int) -> Frame | None:
    if at + 7 > len(data):
        return None
    first, rest = struct.unpack_from(">HI", data, at)
    rate, channels, size = rest >> 26 & 15, rest >> 22 & 7, rest >> 5 & 0x1FFF
    if first & 0xFFF6 != 0xFFF0 or rate >= len(_AAC_RATES) or size < 8:
        return None
    return _adts_frame(rate, channels, size)


@functools.lru_cache(maxsize=1 << 14)
def _adts_frame(rate: int, channels: int, size: int) -> Frame:
    return Frame(Kind("aac", _AAC_RATES[rate], 8 if channels == 7 else channels, 1024), size)


# ------------------------------------------------------------------------- the runs


def _walk(path: Path, data: mmap.mmap, begin: int, header: Header) -> list[Run]:
    """Return the runs of a file. An MP3's first frame may be a table of contents (Xing, VBRI): no sound."""
    runs: list[Run] = []
    anchors: list[int] = []
    kind, count, size = None, 0, 0
    contents: _Contents | None = None

    def close() -> None:
        if kind and count:
            runs.append(_run(path, data, kind, anchors, count, contents))

    for at, size, found, rubbish in _follow(data, begin, header):
        if kind and rubbish > size:
            raise Damaged(f"damaged in its middle: {rubbish} bytes before byte {at} are no sound")
        table = _contents(data, at, size, found)
        if found != kind or table:
            close()
            kind, anchors, count, contents = found, [], 0, table
            if len(runs) > _MOST_RUNS:
                raise Damaged("its sample rate or its channels change without end")
            if table:
                continue
        if count % ANCHOR == 0:
            anchors.append(at)
        count += 1
    close()
    return runs


class _Contents(NamedTuple):
    """A table of contents: the codec's frames, and the samples that encoder and padding add."""

    coded: int | None
    delay: int | None
    padding: int


def _contents(data: mmap.mmap, at: int, size: int, kind: Kind) -> _Contents | None:
    """Return the table of contents that a frame of MP3 is, or None for a frame of sound."""
    if kind.codec != "mp3float":
        return None
    side = (17 if kind.channels == 1 else 32) if kind.samples == 1152 else (9 if kind.channels == 1 else 17)
    if data[at + 36 : at + 40] == b"VBRI" and size >= 54:
        return _Contents(struct.unpack(">I", data[at + 50 : at + 54])[0], None, 0)
    if data[at + 4 + side : at + 8 + side] not in (b"Xing", b"Info") or size < 12 + side:
        return None
    frame = data[at : at + size]
    flags = struct.unpack(">I", frame[8 + side : 12 + side])[0]
    at = 12 + side
    coded = struct.unpack(">I", frame[at : at + 4])[0] if flags & 1 and len(frame) >= at + 4 else None
    at += 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    if frame[at : at + 4] not in (b"LAME", b"Lavf", b"Lavc") or len(frame) < at + 24:
        return _Contents(coded, None, 0)
    delays = int.from_bytes(frame[at + 21 : at + 24], "big")
    return _Contents(coded, delays >> 12, delays & 0xFFF)


def _run(
    path: Path, data: mmap.mmap, kind: Kind, anchors: list[int], count: int, contents: _Contents | None
) -> Run:
    run = Run(path, kind, np.array(anchors, np.uint64), count)
    if kind.codec == "aac":
        return replace(run, kind=_decoded_kind(run, data))
    if contents is None:
        return run
    if contents.delay is None:
        return run
    skip = contents.delay + _DECODER_DELAY
    drop = max(0, contents.padding - _DECODER_DELAY) if contents.coded == count else 0
    return replace(run, skip=skip, drop=drop)


def _decoded_kind(run: Run, data: mmap.mmap) -> Kind:
    """Return what decoding gives: the header of an AAC with band replication tells half its rate."""
    context = _decoder("aac")
    kind = run.kind
    for _, frame in run._coded(data, 0, min(run.coded, 8)):
        with contextlib.suppress(av.error.FFmpegError):
            for one in context.decode(av.Packet(frame)):
                kind = Kind("aac", one.sample_rate, len(one.layout.channels), one.samples)
    return kind


def _fit(waves: list[np.ndarray], kind: Kind, frames: int = 1) -> np.ndarray:
    """Return the samples of coded frames: zeros where they gave none, so that the rest keeps its place."""
    length = max(0, frames) * kind.samples
    wave = np.concatenate(waves) if waves else np.zeros((0, kind.channels), np.float32)
    if wave.shape == (length, kind.channels):
        return wave
    if wave.shape[1] != kind.channels:
        wave = np.repeat(wave.mean(1, keepdims=True, dtype=np.float32), kind.channels, 1)
    return np.pad(wave[:length], ((0, max(0, length - len(wave))), (0, 0)))


def _decoder(codec: str) -> av.AudioCodecContext:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.AudioCodecContext)
    return context


def _wave(frame: av.AudioFrame) -> np.ndarray:
    return frame.to_ndarray().T
