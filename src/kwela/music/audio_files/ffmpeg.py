"""Read by FFmpeg (PyAV): MP4, Opus, Matroska, and all that nothing else here reads.

- A header's length is believed only where the file's end agrees: its last second is decoded, and stands where
  the header says. Otherwise the file is decoded once from end to end, and always from its beginning.
- Decoding begins before the wanted place, because codecs need time to settle. What AAC, Opus and QuickTime's
  ADPCM give depends a little on all that they decoded before, so their decoders begin anew at fixed places: a
  segment is then the same as in the whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from kwela.music.audio_files.part import Damaged, NotAudio, NothingKnown, source
from kwela.music.audio_files.pcm import OPEN_SIZES

LONGEST = 4 * 3600  # seconds that are decoded at once
# The containers that FFmpeg may recognise. Without this list it would open the files that a playlist names.
_FFMPEG = {
    "format_whitelist": "wav,w64,mp3,flac,ogg,mov,aac,aiff,au,caf,matroska",
    "protocol_whitelist": "file",
}
_EARLY, _EARLY_NOISY = 1.0, 0.5  # seconds decoded before the wanted place
_ANCHOR = 4.0  # seconds between the places at which the decoder of a noisy codec begins anew
_NOISY = frozenset({"aac", "opus", "libopus", "aac_latm", "adpcm_ima_qt"})
_BY_BYTES = ("wav", "w64", "aiff", "au")
_PACKETS, _SMALLEST = 5000, 32  # after so many packets, they have had so many samples each
_TAIL = 0.5  # seconds decoded at the end, to see whether the header is right


@dataclass(frozen=True)
class FfmpegPart:
    """What FFmpeg reads of a file, or of the bytes `span` of it."""

    path: Path
    span: tuple[int, int] | None
    rate: int
    channels: int
    frames: int
    claimed: int | None
    codec: str
    seekable: bool  # timestamps can be trusted; otherwise all is decoded from the beginning

    def blocks(self, first: int, stop: int) -> Iterator[np.ndarray]:
        """Yield samples, as `Part.blocks`. Raises Damaged and NotAudio."""
        anchor = round(_ANCHOR * self.rate)
        stop = min(stop, self.frames)
        while first < stop:
            end = min(stop, (first // anchor + 1) * anchor) if self._is_noisy() else stop
            place = first // anchor * anchor if self._is_noisy() else first
            early = round((_EARLY_NOISY if self._is_noisy() else _EARLY) * self.rate)
            begin = max(0, place - early) if self.seekable else 0
            with _opened(self.path, self.span) as container:
                got = 0
                for wave, at in _placed(container, begin, self.rate, self.channels):
                    if at > first + got and at > begin:
                        raise Damaged("its timestamps are wrong")
                    block = wave[max(0, first + got - at) : end - at]
                    if len(block):
                        yield block
                        got += len(block)
                    if first + got >= end:
                        break
            first = end

    def glimpses(self, places: Sequence[int], count: int) -> Iterator[np.ndarray]:
        """Yield about `count` samples from near each place, (n, channels). Raises Damaged and NotAudio."""
        if not self.seekable:
            first = 0
            for block in self.blocks(0, self.frames):
                yield from (block[:count] for place in places if first <= place < first + len(block))
                first += len(block)
            return
        with _opened(self.path, self.span) as container:
            for place in places:
                got = 0
                for wave, _ in _placed(container, place, self.rate, self.channels):
                    if got:  # the first frame lacks the one before it
                        yield wave
                    got += len(wave)
                    if got >= count:
                        break

    def _is_noisy(self) -> bool:
        return self.seekable and self.codec in _NOISY


def find(path: Path, span: tuple[int, int] | None = None, seekable: bool = True) -> FfmpegPart:
    """Return the part that FFmpeg reads. Raises NotAudio and Damaged.

    seekable: False decodes all of it to count its samples.
    """
    with _opened(path, span) as container:
        stream = container.streams.audio[0]
        first = next((wave for wave in _decoded(container)), None)
        if first is None:
            raise NotAudio("no audio could be decoded")
        rate, channels = first[2], first[0].shape[1]
        if _base(stream) * rate > 1 or container.format.name in _BY_BYTES:
            seekable = False  # timestamps are coarser than samples, or guessed from the bit rate
        duration = None if stream.duration is None else round(stream.duration * _base(stream) * rate)
        is_mov, is_flac = "mov" in container.format.name, container.format.name == "flac"
        claimed = duration if is_mov or is_flac else None  # elsewhere it is an estimate
        if is_flac and duration and _is_open(duration, channels):
            claimed = None
        part = FfmpegPart(path, span, rate, channels, 0, claimed, stream.codec_context.name, seekable)
        frames = _end(container, part, duration) if seekable and duration and not is_flac else None
    if frames is None and is_flac:  # its frames are numbered, so that seeking needs no header
        with contextlib.suppress(Damaged):
            frames = _count(part, strict=True)
    if frames is None:
        frames, part = _count(part), replace(part, seekable=False)
    if is_mov and duration and 0 < frames - duration < 4096:
        frames = duration  # an edit list cuts the padding of the last packet
    return replace(part, frames=frames)


def _is_open(samples: int, channels: int) -> bool:
    """Return whether a FLAC's total comes from a pipe of WAV of open length, at 8 to 32 bits."""
    return any(samples * channels * width in sizes for width in (1, 2, 3, 4) for sizes in OPEN_SIZES)


def _end(container: InputContainer, part: FfmpegPart, duration: int) -> int | None:
    """Return the sample at which decoding ends, seen from the last second; None if timestamps don't fit."""
    begin = max(0, duration - round(_TAIL * part.rate))
    end = None
    with contextlib.suppress(Damaged):
        for wave, at in _placed(container, begin, part.rate, part.channels, strict=True):
            if end is None and at > max(begin, 1):
                return None
            end = at + len(wave)
    return end if end and abs(end - duration) <= part.rate // 2 else None


def _count(part: FfmpegPart, strict: bool = False) -> int:
    frames = 0
    with _opened(part.path, part.span) as container:
        for wave, _ in _placed(container, 0, part.rate, part.channels, strict):
            frames += len(wave)
            if frames > LONGEST * part.rate:
                raise NotAudio(f"it decodes to more than {LONGEST // 3600} hours; cut it into shorter files")
    return frames


def _placed(
    container: InputContainer, begin: int, rate: int, channels: int, strict: bool = False
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (samples, place of the first one) from `begin` or earlier on.

    strict: ends where a timestamp is not where the samples before it end. Raises Damaged.
    """
    stream = container.streams.audio[0]
    origin, base = stream.start_time or 0, _base(stream)
    if begin > 0:
        container.seek(int(begin / rate / base) + origin, stream=stream, backward=True)
    at = None
    for wave, pts, wave_rate in _decoded(container):
        place = at if pts is None else round((pts - origin) * base * rate)
        if wave_rate != rate:
            raise Damaged(f"its sample rate changes from {rate} to {wave_rate} Hz")
        if at is None:
            at = place or 0 if begin > 0 else 0
        elif strict and place is not None and abs(place - at) > 2 + rate // 1000:
            raise Damaged("its timestamps are wrong")
        if wave.shape[1] != channels:
            wave = np.repeat(wave.mean(1, keepdims=True, dtype=np.float32), channels, 1)
        yield wave, at
        at += len(wave)


def _decoded(container: InputContainer) -> Iterator[tuple[np.ndarray, int | None, int]]:
    """Yield (samples, timestamp, rate) of the frames that decode; raise Damaged for damage in the middle.

    Damage after the last frame is ignored, because programs that write tags leave bytes there.
    """
    damaged, samples = False, 0
    for number, packet in enumerate(container.demux(container.streams.audio[0])):
        if number > _PACKETS and samples < number * _SMALLEST:
            raise NotAudio("its packets are too short to hold sound")  # a header that lies, to take hours
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged = True
            continue
        if damaged and packet.size and frames:
            raise Damaged("damaged in its middle")
        for frame in frames:
            samples += frame.samples
            yield _channels(frame), frame.pts, frame.sample_rate


def _base(stream: av.AudioStream) -> Fraction:
    return stream.time_base or Fraction(1, stream.rate)


def _channels(frame: av.AudioFrame) -> np.ndarray:
    """Return a frame's samples as float32 (n, channels), full scale 1."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    full = np.float32(2.0 ** (8 * samples.itemsize - 1))
    wave = samples.astype(np.float32)
    return (wave - full if samples.dtype.kind == "u" else wave) / full


@contextlib.contextmanager
def _opened(path: Path, span: tuple[int, int] | None) -> Iterator[InputContainer]:
    """Open an FFmpeg container; every failure inside the block becomes NotAudio."""
    try:
        with (
            source(path, span) as opened,
            av.open(str(opened) if span is None else opened, options=_FFMPEG) as container,
        ):
            if not container.streams.audio:
                raise NotAudio("it has no audio stream")
            # PyAV leaves the rate out where it does not know the codec.
            if not getattr(container.streams.audio[0], "rate", None):
                raise NotAudio("its codec is not known")
            yield container
    except (av.error.InvalidDataError, av.error.EOFError, av.error.ArgumentError) as error:
        raise NothingKnown(str(error)) from None
    except (av.error.PatchWelcomeError, av.error.DecoderNotFoundError):
        raise NotAudio("its codec is not known") from None
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise NotAudio(getattr(error, "strerror", None) or str(error).split("\n")[0]) from None
