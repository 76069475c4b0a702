"""Find out what is in an audio file, once: its parts, how much of each decodes, and how to mix it to mono.

- What a file is, its first bytes decide and not its name.
- The facts of a file are kept by its path, size and time of change, for the life of the process.
"""

from __future__ import annotations

import functools
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kwela.errors import UserError
from kwela.music.audio_files import ffmpeg, mpeg, ogg, pcm, sndfile
from kwela.music.audio_files.mpeg import id3v2_size
from kwela.music.audio_files.part import Damaged, NotAudio, NothingKnown, Part

LOUDEST = 100.0  # full scale is 1: a sample beyond 40 dB above it is no sound
RATES = range(1000, 1_000_001)  # Hz
_PLACES = 8  # short stretches that tell whether channels cancel
_STRETCH = 2048  # samples of each
_CANCELS = 0.05  # the energy of the mean over the mean energy, below which channels cancel (-13 dB)
_AUDIBLE = 0.01  # of the loudest stretch's energy


class UnreadableAudio(UserError):
    """An audio file, or the segment of it that is asked for, can't be read; the message names the file."""


def unreadable(path: Path, why: str | None) -> UnreadableAudio:
    """Return the error for a file that can't be used. why: a clause with a small letter."""
    return UnreadableAudio(f"{path}: not readable as audio: {why}; replace or remove it")


@dataclass(frozen=True)
class Facts:
    """What is in an audio file."""

    path: Path
    parts: tuple[Part, ...]
    fault: str | None  # why its samples are no sound
    cut: str | None  # how much of it is missing, by its header
    mixes: dict[int, np.ndarray] = field(default_factory=dict)  # what `mix` has found

    @property
    def seconds(self) -> float:
        """The length that decodes."""
        return float(sum(part.frames / part.rate for part in self.parts))


def facts(path: Path) -> Facts:
    """Return the facts of a file. Raises UnreadableAudio, or UserError if it is missing."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise unreadable(path, "not a regular file")
        if status.st_size == 0:
            raise unreadable(path, "the file is empty")
        found = _facts(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise UserError(f"{path}: audio file not readable ({error.strerror}); check the path") from None
    if isinstance(found, str):
        raise unreadable(path, found)
    return found


@functools.lru_cache(maxsize=1 << 14)
def _facts(path: Path, mtime_ns: int, size: int) -> Facts | str:
    try:
        parts = [part for part in _parts(path) if part.frames]
        if not parts:
            return "it holds no samples"
        for part in parts:
            if part.rate not in RATES:
                return f"its sample rate is {part.rate} Hz"
        return Facts(path, tuple(parts), _fault(parts), _cut(parts))
    except NothingKnown:
        return _nothing_known(path)
    except (NotAudio, Damaged) as error:
        return str(error)


# The first bytes of what libsndfile is asked to read. With other files it complains on the terminal.
_SNDFILE = (b"RIFF", b"RIFX", b"riff", b"FORM", b"fLaC")


def _parts(path: Path) -> Sequence[Part]:
    with path.open("rb") as file:
        head = file.read(12)
        if head[:3] == b"ID3":  # FLAC files may have such a tag too
            file.seek(id3v2_size(head))
            head = file.read(12)
    if head[:4] == b"OggS":
        return _ogg(path)
    if (samples := pcm.find(path)) is not None:
        return [samples]
    if head[:4] in _SNDFILE:
        part = sndfile.find(path)
        return [part if part is not None else ffmpeg.find(path)]
    if (
        head[:4] not in (b".snd", b"caff", b"\x1aE\xdf\xa3")
        and head[4:8] != b"ftyp"
        and (runs := mpeg.find(path))
    ):
        return runs
    return [ffmpeg.find(path)]


def _nothing_known(path: Path) -> str:
    """Return in words what is wrong with a file that no reader takes."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "truncated: its index (moov) is missing, or damaged"
    if head[:4] in (*_SNDFILE, b"caff", b".snd", b"OggS"):
        return "truncated before its samples, or damaged"
    if path.suffix.lower() == ".wav":
        return "it has no RIFF/WAVE header"
    return "its content is no audio that kwela knows"


def _ogg(path: Path) -> list[Part]:
    parts: list[Part] = []
    links = ogg.links(path)
    for link in links:
        span = None if len(links) == 1 else link.span
        part: Part | None = None
        if link.plausible and link.codec == b"\x01vorbis":
            part = sndfile.find(path, span, link.last_page)
        # Vorbis would have been taken by libsndfile; with FLAC and Speex FFmpeg seeks to wrong places.
        is_honest = link.plausible and link.codec == b"OpusHead"
        parts.append(part or ffmpeg.find(path, span, seekable=is_honest))
    return parts


def _fault(parts: Sequence[Part]) -> str | None:
    """Return why samples of a file are no sound. Only floating samples can be anything; all are looked at."""
    for part in parts:
        in_ffmpeg = isinstance(part, ffmpeg.FfmpegPart) and part.codec.startswith("pcm_f")
        if in_ffmpeg or (isinstance(part, pcm.Samples) and part.kind == "f"):
            at = 0
            for block in part.blocks(0, part.frames):
                if (why := not_sound(block, part.rate, at)) is not None:
                    return why
                at += len(block)
    return None


def _cut(parts: Sequence[Part]) -> str | None:
    """Return how much less of a file is there than its header claims, None if nothing to speak of."""
    for part in parts:
        if part.claimed is not None and part.claimed - part.frames > part.rate / 10:
            claimed, held = part.claimed / part.rate, part.frames / part.rate
            return f"truncated: its header claims {claimed:.2f} s, {held:.2f} s are there"
    return None


def not_sound(wave: np.ndarray, rate: int, first: int) -> str | None:
    """Return why samples, (n) or (n, channels), are no sound, or None.

    first: the number of the first one in the file.
    """
    if not len(wave) or max(-wave.min(), wave.max()) <= LOUDEST:  # NaN compares as False
        return None
    rows = wave.reshape(len(wave), -1)
    bad = ~(np.abs(rows) <= LOUDEST)
    at = int(bad.any(1).argmax())
    value = float(rows[at, bad[at].argmax()])
    what = f"{value:.3g}, and full scale is 1" if np.isfinite(value) else "NaN or infinity"
    return f"its sample at {(first + at) / rate:.3f} s is {what}"


def mix(found: Facts, number: int) -> np.ndarray:
    """Return the weights of a part's channels in the mono mix, float32 (channels). number: the part's.

    They are those of the mean, or of the strongest channel alone where the channels cancel in any of a few
    stretches of the part. Raises Damaged and NotAudio.
    """
    if number not in found.mixes:
        found.mixes[number] = _weights(found.parts[number])
    return found.mixes[number]


def _weights(part: Part) -> np.ndarray:
    mean = np.full(part.channels, 1 / part.channels, np.float32)
    if part.channels == 1:
        return mean
    last = max(0, part.frames - _STRETCH)
    places = sorted({last * (2 * place + 1) // (2 * _PLACES) for place in range(_PLACES)})
    stretches = [block for block in part.glimpses(places, _STRETCH) if len(block)]
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are refused where they are read
        energy = np.array([np.square(block, dtype=np.float64).mean(0) for block in stretches])
        mixed = np.array([np.square(block @ mean, dtype=np.float64).mean() for block in stretches])
    if not np.isfinite(energy).all() or not energy.any():
        return mean
    audible = energy.mean(1) > _AUDIBLE * energy.mean(1).max()
    if (mixed[audible] >= _CANCELS * energy.mean(1)[audible]).all():
        return mean
    strongest = np.zeros(part.channels, np.float32)
    strongest[energy.sum(0).argmax()] = 1
    return strongest
