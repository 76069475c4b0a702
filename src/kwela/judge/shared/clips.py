"""Clips for the audio judges: found in a folder, decoded, and brought into one form, so that only music differs.

- The form: mono, 16 kHz, the middle 10 s, -23 LUFS, through MP3 at 32 kbit/s and back. What a format, a level or a
  bandwidth could give away is taken from every clip alike.
- The middle, because openings of songs are thin. A clip of less than 10 s is repeated to fill them.
- Two files are one clip if the audio that they decode to is equal (`digest`), whatever their names and formats.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr

from kwela import tables
from kwela.errors import UserError
from kwela.judge.shared.measure import Failed, spread
from kwela.music import audio
from kwela.music.loudness import SILENT, loudness

RATE = 16_000  # Hz
SECONDS = 10.0
LUFS = -23.0  # EBU R 128
BITS = 32_000  # a second, of the MP3


def find(folder: Path) -> list[Path]:
    """The audio files below `folder`, sorted by name; hidden ones are passed over.

    Raises UserError if it isn't a folder or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name a folder of audio")
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place) / n
            for n in names
            if not n.startswith(".") and Path(n).suffix.lower() in audio.FORMATS
        ]
    if not found:
        raise UserError(f"{folder}: no audio in it ({', '.join(sorted(audio.FORMATS))})")
    return sorted(found)


def load(path: Path, rate: int = RATE, seconds: float | None = SECONDS) -> np.ndarray:
    """The middle `seconds` of a file (all of it: None) as mono float32 at `rate` Hz; shorter where the file is.

    Raises UserError naming the file if it can't be decoded or holds no samples.
    """
    start = 0.0 if seconds is None else max(0.0, (audio.duration(path) - seconds) / 2)
    wave = audio.load(path, start, seconds)
    if not len(wave):
        raise UserError(f"{path}: not readable as audio: it holds no samples; replace or remove it")
    if not np.isfinite(wave).all():
        raise UserError(f"{path}: not readable as audio: it holds NaN or infinity; replace or remove it")
    return (
        wave if rate == audio.SAMPLE_RATE else soxr.resample(wave, audio.SAMPLE_RATE, rate).astype(np.float32)
    )


def standard(path: Path) -> np.ndarray:
    """A file in the judges' one form: float32 (160000,). Raises as `load`."""
    return alike(load(path))


def alike(wave: np.ndarray) -> np.ndarray:
    """Samples at 16 kHz, of any length but none, in the judges' one form: float32 (160000,)."""
    return through_mp3(equally_loud(fill(wave)))


def fill(wave: np.ndarray, samples: int = round(RATE * SECONDS)) -> np.ndarray:
    """`wave` cut to `samples`, or repeated up to them."""
    return np.resize(wave, samples) if len(wave) < samples else wave[:samples]


def digest(wave: np.ndarray) -> str:
    """A hash of decoded audio to 16 bits a sample: equal for one recording in two lossless formats."""
    return hashlib.sha256((np.clip(wave, -1, 1) * 32767).round().astype("<i2").tobytes()).hexdigest()


def equally_loud(wave: np.ndarray) -> np.ndarray:
    """`wave` (float32, mono, 16 kHz) at -23 LUFS; what is below -70 LUFS stays as it is."""
    level = loudness(wave, RATE)
    return wave if level < SILENT else (wave * 10 ** ((LUFS - level) / 20)).astype(np.float32)


def through_mp3(wave: np.ndarray, bits: int = BITS) -> np.ndarray:
    """`wave` (float32, mono, 16 kHz) through MP3 at `bits` a second and back: as many samples, in place in time."""
    coded = io.BytesIO()
    with av.open(coded, "w", format="mp3") as file:
        options = {"compression_level": "7"}  # LAME's quality: half the time of its default
        stream = file.add_stream("libmp3lame", rate=RATE, layout="mono", bit_rate=bits, options=options)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    coded.seek(0)
    with av.open(coded, "r", format="mp3") as file:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    return np.pad(decoded[: len(wave)], (0, max(0, len(wave) - len(decoded)))).astype(np.float32)


def artist(path: Path, listed: dict[str, str] | None = None) -> str:
    """Who made a clip: as `listed` under its name, else its name before the first "-".

    A listed name may have the folders above it ("house/001.wav") and may lack its extension. A name without "-" is an
    artist of its own.
    """
    for name in (path, path.with_suffix("")):
        for tail in ("/".join(name.parts[k:]) for k in range(len(name.parts))):
            if listed and tail in listed:
                return listed[tail]
    return path.stem.split("-")[0].strip().casefold()


def read_artists(path: Path) -> dict[str, str]:
    """{file: artist} of a CSV with the columns `file` and `artist`. Raises UserError naming the file and row."""
    listed: dict[str, str] = {}
    for where, row in tables.read(path, ("file", "artist"), "artists"):
        name, who = row["file"], row["artist"].casefold()
        if not name or not who:
            raise UserError(f"{where}: a file or its artist is missing")
        if listed.setdefault(name, who) != who:
            raise UserError(f"{where}: {name} has two artists")
    return listed


def each(
    function: Callable[[Path], Any], paths: Sequence[Path], label: str, folder: Path | None = None
) -> tuple[dict[Path, Any], dict[Path, str]]:
    """function(path) of every path, as `spread`; and {path: why} of those that failed.

    folder: raises UserError naming it if all failed.
    """
    got = dict(zip(paths, spread(function, paths, label), strict=True))
    bad = {path: str(result) for path, result in got.items() if isinstance(result, Failed)}
    if folder and len(bad) == len(got):
        raise UserError(f"{folder}: none of its files could be read, the first: {next(iter(bad.values()))}")
    return {path: result for path, result in got.items() if path not in bad}, bad


def some(
    paths: Sequence[Path], most: int | None, seed: int, by: Callable[[Path], str] | None = None
) -> list[Path]:
    """Up to `most` by a hash of seed and name, so that two folders of the same prompts keep the same ones.

    by: who made a clip: everyone's first comes before anyone's second.
    """
    order = sorted(paths, key=lambda path: hashlib.sha256(f"{seed}\0{path.stem}".encode()).digest())
    turn: Counter[str] = Counter()
    rank = {}
    for path in order:
        who = by(path) if by else path.as_posix()
        rank[path] = turn[who]
        turn[who] += 1
    return sorted(sorted(order, key=lambda path: rank[path])[:most])
