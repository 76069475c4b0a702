"""Training items of Spectocloud from manifest rows: log-mel, emotion and note features, and the target cloud.

- A row with `start` stands for that segment. Without it, the segment is drawn at random and its target
  computed.
- Log-mel and features are cached by the files' content, the segment and the settings; processes may share the
  folder.
- Where the target exists already, augmentation changes the log-mel alone, and only in ways that leave the
  target as it is: gain (the target depends on loudness relative to the peak), noise and masks. Where the
  segment is drawn, speed and pitch change too, in sound, notes and target alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from symusic.core import ScoreTick

from kwela import files
from kwela.engine import row_faults
from kwela.engine.row_faults import Fault
from kwela.engine.task import Batch
from kwela.errors import UserError
from kwela.music import audio, midi, warp
from kwela.spectocloud import space, target
from kwela.spectocloud.config import SpectocloudAugment

Row = Mapping[str, Any]
Item = dict[str, np.ndarray]

_AUDIO = (audio.SAMPLE_RATE, audio.SEGMENT, audio.N_FFT, audio.HOP, audio.MELS, audio.FLOOR)
SETTINGS = repr((2, *_AUDIO, midi.FEATURE_NAMES, midi.READER_VERSION))


def faults(rows: Sequence[Row]) -> list[Fault | None]:
    """Open the header of each row's files. Return for each row why it can't be used; None where it can."""
    known: dict[str, Fault | None] = {}

    def fault_of_file(key: str, path: str, check_header: Callable[[Path], Any]) -> Fault | None:
        if path not in known:
            known[path] = row_faults.fault_in(check_header, path, key)
        return known[path]

    return [
        row["fault"]
        or fault_of_file("audio_path", row["audio_path"], audio.check)
        or fault_of_file("midi_path", row["midi_path"], midi.check_header)
        for row in rows
    ]


def examine(paths: Mapping[str, str]) -> Fault | None:
    """Read a row's files, key -> path, to their end. Return why one can't be read; None if all can."""
    readers: dict[str, Callable[[Path], Any]] = {
        "audio_path": lambda path: audio.whole(path, audio.SAMPLE_RATE),
        "midi_path": midi.read,
        "target_pointcloud_path": target.read_cloud,
    }
    found = (row_faults.fault_in(readers[key], path, key) for key, path in paths.items())
    return next((fault for fault in found if fault), None)


class Segments:
    """The segments of one side of a manifest. augment: None leaves the log-mel unchanged (validation)."""

    def __init__(
        self, rows: Sequence[Row], cache_dir: Path | None, augment: SpectocloudAugment | None = None
    ) -> None:
        self.rows, self.cache_dir = rows, cache_dir
        self.augment = augment if augment and augment.enabled else None
        self.places = [row.get("where", "") for row in rows]  # for messages
        self.numbers: np.ndarray | None = None  # see engine.order.read_item

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        """Return the item's arrays, float32.

        spectrogram (128, 64), emotion (64), midi_features (32), positions (1200, 3), attributes (1200, 7),
        and has_attributes, which is 0 for a hand-made cloud without them and 1 otherwise. Raises UserError
        with the file.
        """
        row = self.rows[index]
        random_segment = self.augment is not None and not is_fixed(row)
        change = random_warp(self.augment, rng) if self.augment and random_segment else warp.NONE
        start = segment_start(row, rng, change.rate)
        log_mel, features = segment_features(row, start, None if random_segment else self.cache_dir, change)
        positions, attributes = target_cloud(row, start, log_mel, change=change)
        emotion = row["emotion64"]
        if self.augment:
            log_mel = augment_log_mel(log_mel, self.augment, rng)
            if rng.random() < self.augment.emotion_dropout:
                emotion = np.full_like(emotion, np.nan)
        return {
            "spectrogram": log_mel,
            "emotion": emotion,
            "midi_features": features,
            "positions": positions,
            "attributes": np.zeros((space.POINTS, 7), np.float32) if attributes is None else attributes,
            "has_attributes": np.float32(attributes is not None),
        }


def is_fixed(row: Row) -> bool:
    """Return whether the row names its segment: by a start, or by a hand-made cloud, which starts at 0."""
    return "start" in row or "target_pointcloud_path" in row


def segment_start(row: Row, rng: np.random.Generator, rate: float = 1.0) -> float:
    """Return where the segment begins (s): as the row says, 0 for a hand-made cloud, else at random.

    A random start is rounded to the millisecond. rate: how much faster than recorded the segment is played.
    """
    if is_fixed(row):
        return float(row.get("start", 0.0))
    return round(rng.uniform(0, max(0.0, _duration(row["audio_path"]) - space.SECONDS * rate)), 3)


def random_warp(settings: SpectocloudAugment, rng: np.random.Generator) -> warp.Warp:
    """Return a random change of speed, uniform on a log scale, and of pitch, within `settings`."""
    limit = np.log1p(settings.time_stretch)
    rate = float(np.exp(rng.uniform(-limit, limit)))
    return warp.Warp(rate, int(rng.integers(-settings.pitch_shift, settings.pitch_shift + 1)))


def segment_features(
    row: Row, start: float, cache_dir: Path | None, change: warp.Warp = warp.NONE
) -> tuple[np.ndarray, np.ndarray]:
    """Return the segment's log-mel (128, 64) and note features (32), float32, cached in `cache_dir`.

    change: of speed and pitch. A changed segment is not cached.
    """
    if cache_dir is None or change != warp.NONE:
        return _compute_features(row, start, change)
    times = np.array([row["offset"], start], "<f8").tobytes()
    content = target.file_hash(Path(row["audio_path"])) + target.file_hash(Path(row["midi_path"]))
    key = files.sha256(SETTINGS.encode() + content + times)

    def entry() -> bytes:
        log_mel, features = _compute_features(row, start, change)
        return np.concatenate([log_mel.ravel(), features]).astype("<f4").tobytes()

    values = np.frombuffer(files.cached(cache_dir, key, entry), "<f4").astype(np.float32)
    sound, features = np.split(values, [audio.MELS * audio.FRAMES])
    return sound.reshape(audio.MELS, audio.FRAMES), features


def _compute_features(row: Row, start: float, change: warp.Warp) -> tuple[np.ndarray, np.ndarray]:
    wave = audio.load(Path(row["audio_path"]), start, space.SECONDS * change.rate)
    if not len(wave):
        raise UserError(
            f"{row.get('where', row['audio_path'])}: start: {start} s is past the end of its audio"
        )
    log_mel = space.log_mel(wave) if change == warp.NONE else warp.log_mel(wave, change)
    if not np.isfinite(log_mel).all():
        raise UserError(f"{row['audio_path']}: its samples at {start} s are not finite; replace or remove it")
    score, midi_start = _warped_score(row, start, change)
    return log_mel, midi.features(score, midi_start, space.SECONDS)


def _warped_score(row: Row, start: float, change: warp.Warp) -> tuple[ScoreTick, float]:
    """Return the changed score, and the time in it (s) at which the segment begins."""
    score = target.score(Path(row["midi_path"]))
    return warp.score(score, change) if change != warp.NONE else score, (start - row["offset"]) / change.rate


def target_cloud(
    row: Row, start: float, log_mel: np.ndarray, redraw: int = 0, change: warp.Warp = warp.NONE
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the row's target: positions (1200, 3) and attributes (1200, 7).

    The attributes are None if a hand-made cloud lacks them. log_mel: of the segment with its `change`.
    redraw: as in `target.compute`; the cloud is then computed even if the row names one.
    """
    if "target_pointcloud_path" in row and not redraw:
        path = Path(row["target_pointcloud_path"])
        positions, attributes = target.read_cloud(path)
        if len(positions) != space.POINTS:
            raise UserError(f"{path}: a target cloud has {space.POINTS} points, this one {len(positions)}")
        return positions, attributes
    paths = Path(row["audio_path"]), Path(row["midi_path"])
    score, midi_start = _warped_score(row, start, change)
    notes = midi.sounding(score, midi_start, space.SECONDS)
    segment = target.analyse_segment(log_mel, notes, midi_start)
    content = target.content_hash(*paths, row["emotion64"], row["offset"], start)
    return target.make_cloud(segment, row["emotion64"], target.seed_of(content, redraw))


def augment_log_mel(
    log_mel: np.ndarray, settings: SpectocloudAugment, rng: np.random.Generator
) -> np.ndarray:
    """Return the log-mel with random gain, noise, and one masked run of frames and one of mel bands.

    Masked cells get the segment's lowest value.
    """
    gain = rng.uniform(-settings.gain_db, settings.gain_db) / 10  # decibels -> log10 of power
    noise = settings.noise * rng.standard_normal(log_mel.shape, dtype=np.float32)
    augmented = np.maximum(log_mel + np.float32(gain) + noise, np.float32(np.log10(audio.FLOOR)))
    lowest = augmented.min()
    for axis, widest in ((0, settings.freq_mask), (1, settings.time_mask)):
        width = int(rng.integers(widest + 1))
        first = int(rng.integers(augmented.shape[axis] - width + 1))
        augmented[(slice(None),) * axis + (slice(first, first + width),)] = lowest
    return augmented


def collate(items: Sequence[Item]) -> Batch:
    """Return the items' arrays, stacked to (B, ...) float32."""
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


@functools.lru_cache(maxsize=4096)
def _duration(path: str) -> float:
    return audio.duration(Path(path))
