"""From manifest rows to training items: a segment's log-mel, emotion and note features, and the cloud it should give.

- A row with `start` speaks of that segment; without, the segment is drawn and its target computed on the fly.
- Log-mel and features are cached by the files' content, the segment and the settings. An entry opens with the SHA-256
  of the rest, so a damaged one is made again; entries are renamed into place, so processes may share the folder.
- Augmentation touches the log-mel alone, and only as the target allows: it depends on loudness relative to the
  segment's peak (gain), and on what sounds rather than on what can be heard of it (masks, noise).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kwela.config import SpectocloudAugment
from kwela.engine.task import Batch
from kwela.errors import UserError
from kwela.music import audio, midi
from kwela.spectocloud import space, target

Row = Mapping[str, Any]
Item = dict[str, np.ndarray]

SETTINGS = repr(
    (1, audio.SAMPLE_RATE, audio.SEGMENT, audio.N_FFT, audio.HOP, audio.MELS, audio.FLOOR, midi.FEATURE_NAMES)
)


class Segments:
    """The rows of one side of a manifest. augment: None leaves the log-mel as it is (validation)."""

    def __init__(self, rows: Sequence[Row], cache_dir: Path | None, augment: SpectocloudAugment | None = None) -> None:
        self.rows, self.cache_dir = rows, cache_dir
        self.augment = augment if augment and augment.enabled else None

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        """spectrogram (128, 64), emotion (64), midi_features (32), positions (1200, 3), attributes (1200, 7); float32.

        has_attributes is 0 for a hand-made cloud without them, else 1. Raises UserError naming the file.
        """
        row = self.rows[index]
        start = segment_start(row, rng)
        drawn_anew = self.augment is not None and "start" not in row
        log_mel, features = hear(row, start, None if drawn_anew else self.cache_dir)
        positions, attributes = wanted(row, start, log_mel)
        emotion = row["emotion64"]
        if self.augment:
            log_mel = augmented(log_mel, self.augment, rng)
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


def segment_start(row: Row, rng: np.random.Generator) -> float:
    """Where the segment begins (s): as the row says, 0 for a hand-made cloud, else drawn, to the millisecond."""
    if "start" in row or "target_pointcloud_path" in row:
        return float(row.get("start", 0.0))
    return round(rng.uniform(0, max(0.0, _duration(row["audio_path"]) - space.SECONDS)), 3)


def hear(row: Row, start: float, cache_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The segment's log-mel (128, 64) and note features (32), float32, from `cache_dir` if they are there."""
    audio_path, midi_path = Path(row["audio_path"]), Path(row["midi_path"])
    entry = None
    if cache_dir is not None:
        times = np.array([row["offset"], start], "<f8").tobytes()
        content = target.file_hash(audio_path) + target.file_hash(midi_path)
        key = hashlib.sha256(SETTINGS.encode() + content + times).hexdigest()
        entry = cache_dir / key[:2] / key[2:]
        with contextlib.suppress(FileNotFoundError):
            digest, body = (raw := entry.read_bytes())[:32], raw[32:]
            if hashlib.sha256(body).digest() == digest:
                both = np.frombuffer(body, "<f4").astype(np.float32)
                return both[: -len(midi.FEATURE_NAMES)].reshape(audio.MELS, audio.FRAMES), both[
                    -len(midi.FEATURE_NAMES) :
                ]
    log_mel = space.log_mel(audio.load(audio_path, start, space.SECONDS))
    features = midi.features(target.score(midi_path), start - row["offset"], space.SECONDS)
    if entry is not None:
        body = np.concatenate([log_mel.ravel(), features]).astype("<f4").tobytes()
        entry.parent.mkdir(parents=True, exist_ok=True)
        draft = entry.with_name(f"{entry.name}.{os.getpid()}")
        draft.write_bytes(hashlib.sha256(body).digest() + body)
        draft.replace(entry)
    return log_mel, features


def wanted(row: Row, start: float, log_mel: np.ndarray, redraw: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """The row's target: positions (1200, 3) and attributes (1200, 7; None if a hand-made cloud lacks them).

    redraw: as in `target.compute`; the cloud is then computed even where the row names one.
    """
    if "target_pointcloud_path" in row and not redraw:
        path = Path(row["target_pointcloud_path"])
        positions, attributes = target.read_cloud(path)
        if len(positions) != space.POINTS:
            raise UserError(f"{path}: a target cloud has {space.POINTS} points, this one {len(positions)}")
        return positions, attributes
    files = Path(row["audio_path"]), Path(row["midi_path"])
    at = start - row["offset"]
    segment = target.listen(log_mel, midi.sounding(target.score(files[1]), at, space.SECONDS), at)
    content = target.content_hash(*files, row["emotion64"], row["offset"], start)
    return target.draw(segment, row["emotion64"], target.seed_of(content, redraw))


def augmented(log_mel: np.ndarray, settings: SpectocloudAugment, rng: np.random.Generator) -> np.ndarray:
    """Gain, noise, one masked run of frames and one of mel bands (at the segment's lowest value), as drawn."""
    gain = rng.uniform(-settings.gain_db, settings.gain_db) / 10  # decibels -> log10 of power
    noise = settings.noise * rng.standard_normal(log_mel.shape, dtype=np.float32)
    heard = np.maximum(log_mel + np.float32(gain) + noise, np.float32(np.log10(audio.FLOOR)))
    lowest = heard.min()
    for axis, widest in ((0, settings.freq_mask), (1, settings.time_mask)):
        width = int(rng.integers(widest + 1))
        first = int(rng.integers(heard.shape[axis] - width + 1))
        heard[(slice(None),) * axis + (slice(first, first + width),)] = lowest
    return heard


def collate(items: Sequence[Item]) -> Batch:
    """Each item's arrays stacked: (B, ...) float32."""
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


@functools.lru_cache(maxsize=4096)
def _duration(path: str) -> float:
    return audio.duration(Path(path))
