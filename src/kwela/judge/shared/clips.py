"""Find the clips of a folder, decode them, set their loudness, and encode them.

- The middle of a clip is used because songs often open thinly.
- Two files are the same clip if they decode to the same audio (`audio_hash`), whatever their names and
  formats.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr

from kwela import files, tables
from kwela.errors import UserError
from kwela.judge.shared.parallel_map import Failure, map_items
from kwela.music import audio
from kwela.music.loudness import SILENT, loudness

RATE = 16_000  # Hz
SECONDS = 10.0
LUFS = -23.0  # EBU R 128
MP3_BIT_RATE = 32_000  # bits a second


def find_audio_files(folder: Path) -> list[Path]:
    """Return the audio files below `folder`, sorted by name, without hidden ones.

    Raises UserError if it isn't a folder or holds no audio.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name a folder of audio")
    paths: list[Path] = []
    entered: set[tuple[int, int]] = set()  # a link to a folder above would give each file many times
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        visible = [Path(parent) / name for name in names if not name.startswith(".")]
        paths += [path for path in visible if path.suffix.lower() in audio.AUDIO_SUFFIXES]
    if not paths:
        raise UserError(f"{folder}: no audio in it ({', '.join(sorted(audio.AUDIO_SUFFIXES))})")
    return sorted(paths)


def load_middle(path: Path, rate: int = RATE, seconds: float | None = SECONDS) -> np.ndarray:
    """Return the middle `seconds` of a file as mono float32 at `rate` Hz.

    seconds: None returns the whole file. A file that is shorter is returned whole. Raises UserError naming
    the file if it can't be decoded, holds no samples, or holds NaN or infinity.
    """
    start = 0.0 if seconds is None else max(0.0, (audio.duration(path) - seconds) / 2)
    wave = audio.load(path, start, seconds)
    if not len(wave):
        raise UserError(f"{path}: not readable as audio: it holds no samples; replace or remove it")
    if not np.isfinite(wave).all():
        raise UserError(f"{path}: not readable as audio: it holds NaN or infinity; replace or remove it")
    if rate == audio.SAMPLE_RATE:
        return wave
    return soxr.resample(wave, audio.SAMPLE_RATE, rate).astype(np.float32)


def cut_or_repeat(wave: np.ndarray, sample_count: int) -> np.ndarray:
    """Cut `wave` to `sample_count` samples, or repeat it up to them."""
    return np.resize(wave, sample_count) if len(wave) < sample_count else wave[:sample_count]


def middle(wave: np.ndarray, sample_count: int) -> np.ndarray:
    """Return the middle `sample_count` samples or frames of `wave`; all of a shorter one."""
    first = max(0, len(wave) - sample_count) // 2
    return wave[first : first + sample_count]


def audio_hash(wave: np.ndarray) -> str:
    """Return a hash of decoded audio at 16 bits a sample: equal for one recording in two lossless formats."""
    return files.sha256((np.clip(wave, -1, 1) * 32767).round().astype("<i2").tobytes())


def normalise_loudness(wave: np.ndarray) -> np.ndarray:
    """Return `wave` (float32, mono, 16 kHz) at -23 LUFS; audio below -70 LUFS is returned as it is."""
    level = loudness(wave, RATE)
    return wave if level < SILENT else (wave * 10 ** ((LUFS - level) / 20)).astype(np.float32)


def encode_and_decode_mp3(wave: np.ndarray, bit_rate: int = MP3_BIT_RATE) -> np.ndarray:
    """Encode `wave` as MP3 and decode it: as many samples as before, at the same times.

    wave: float32, mono, 16 kHz. bit_rate: bits a second.
    """
    coded = io.BytesIO()
    with av.open(coded, "w", format="mp3") as file:
        options = {"compression_level": "7"}  # LAME's quality; it takes half the time of the default
        stream = file.add_stream("libmp3lame", rate=RATE, layout="mono", bit_rate=bit_rate, options=options)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    coded.seek(0)
    with av.open(coded, "r", format="mp3") as file:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    return np.pad(decoded[: len(wave)], (0, max(0, len(wave) - len(decoded)))).astype(np.float32)


def artist_of(path: Path, artists: dict[str, str] | None = None) -> str:
    """Return the artist of a clip: the one that `artists` lists, else the file's name before the first "-".

    artists: {file: artist}. A listed file may have the folders above it ("house/001.wav") and may lack its
    extension. A clip without a "-" in its name counts as an artist of its own.
    """
    for name in (path, path.with_suffix("")):
        for tail in ("/".join(name.parts[first:]) for first in range(len(name.parts))):
            if artists and tail in artists:
                return artists[tail]
    return path.stem.split("-")[0].strip().casefold()


def read_artists(path: Path) -> dict[str, str]:
    """Return {file: artist} of a CSV with the columns `file` and `artist`.

    Raises UserError naming the file and the row.
    """
    artists: dict[str, str] = {}
    for where, row in tables.read(path, ("file", "artist"), "artists"):
        name, artist = row["file"], row["artist"].casefold()
        if not name or not artist:
            raise UserError(f"{where}: a file or its artist is missing")
        if artists.setdefault(name, artist) != artist:
            raise UserError(f"{where}: {name} has two artists")
    return artists


def map_files(
    function: Callable[[Path], Any], paths: Sequence[Path], label: str, folder: Path | None = None
) -> tuple[dict[Path, Any], dict[Path, str]]:
    """Return {path: function(path)}, as `map_items` computes it, and {path: reason} of those that failed.

    folder: named in the UserError that is raised if all of its files failed; None raises nothing.
    """
    results = dict(zip(paths, map_items(function, paths, label), strict=True))
    reasons = {path: str(result) for path, result in results.items() if isinstance(result, Failure)}
    if folder and len(reasons) == len(results):
        raise UserError(
            f"{folder}: none of its files could be read, the first: {next(iter(reasons.values()))}"
        )
    return {path: result for path, result in results.items() if path not in reasons}, reasons


def choose_files(
    paths: Sequence[Path], most: int | None, seed: int, artist: Callable[[Path], str] | None = None
) -> list[Path]:
    """Choose up to `most` files by a hash of the seed and the name, without its extension.

    Two folders of the same prompts therefore keep the same ones. artist: gives the artist of a clip; with it,
    the first clip of every artist comes before the second of any.
    """
    order = sorted(paths, key=lambda path: files.sha256(f"{seed}\0{path.stem}".encode()))
    counts: Counter[str] = Counter()
    rank = {}
    for path in order:
        name = artist(path) if artist else path.as_posix()
        rank[path] = counts[name]
        counts[name] += 1
    return sorted(sorted(order, key=lambda path: rank[path])[:most])
