"""From manifest rows to training items: a segment's log-mel, emotion and note features, and the cloud it should give.

- A row with `start` speaks of that segment; without, the segment is drawn and its target computed on the fly.
- Log-mel and features are cached by the files' content, the segment and the settings; processes may share the folder.
- Augmentation of a segment whose target is at hand touches the log-mel alone, and only as the target allows: that
  depends on loudness relative to the segment's peak (gain), and on what sounds rather than on what can be heard of it
  (masks, noise). Where the segment is drawn, speed and pitch change too, of sound, notes and target.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from symusic.core import ScoreTick

from kwela import files
from kwela.config import SpectocloudAugment
from kwela.engine.task import Batch
from kwela.errors import UserError
from kwela.music import audio, midi, warp
from kwela.spectocloud import space, target

Row = Mapping[str, Any]
Item = dict[str, np.ndarray]

SETTINGS = repr(
    (1, audio.SAMPLE_RATE, audio.SEGMENT, audio.N_FFT, audio.HOP, audio.MELS, audio.FLOOR, midi.FEATURE_NAMES)
)


def check(rows: Sequence[Row]) -> None:
    """Open each file's header: a bad one is worth knowing before the first step. Raises UserError naming the row."""
    seen = set()
    for row in rows:
        for key, look in (("audio_path", audio.duration), ("midi_path", midi.check_header)):
            if row[key] not in seen:
                seen.add(row[key])
                try:
                    look(Path(row[key]))
                except UserError as error:
                    raise UserError(f"{row['where']}: {key}: {error}") from None


class Segments:
    """The rows of one side of a manifest. augment: None leaves the log-mel as it is (validation)."""

    def __init__(
        self, rows: Sequence[Row], cache_dir: Path | None, augment: SpectocloudAugment | None = None
    ) -> None:
        self.rows, self.cache_dir = rows, cache_dir
        self.augment = augment if augment and augment.enabled else None

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        """spectrogram (128, 64), emotion (64), midi_features (32), positions (1200, 3), attributes (1200, 7); float32.

        has_attributes is 0 for a hand-made cloud without them, else 1. Raises UserError naming the file.
        """
        row = self.rows[index]
        drawn_anew = self.augment is not None and not is_given(row)
        change = draw_warp(self.augment, rng) if self.augment and drawn_anew else warp.NONE
        start = segment_start(row, rng, change.rate)
        log_mel, features = hear(row, start, None if drawn_anew else self.cache_dir, change)
        positions, attributes = wanted(row, start, log_mel, change=change)
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


def is_given(row: Row) -> bool:
    """Whether the row says which segment it speaks of: by its start, or by a cloud made by hand, which starts at 0."""
    return "start" in row or "target_pointcloud_path" in row


def segment_start(row: Row, rng: np.random.Generator, rate: float = 1.0) -> float:
    """Where the segment begins (s): as the row says, 0 for a hand-made cloud, else drawn, to the millisecond.

    rate: how much faster than recorded the segment will be heard.
    """
    if is_given(row):
        return float(row.get("start", 0.0))
    return round(rng.uniform(0, max(0.0, _duration(row["audio_path"]) - space.SECONDS * rate)), 3)


def draw_warp(settings: SpectocloudAugment, rng: np.random.Generator) -> warp.Warp:
    """A change of speed, even on a log scale, and one of pitch, as far as `settings` allow."""
    furthest = np.log1p(settings.time_stretch)
    rate = float(np.exp(rng.uniform(-furthest, furthest)))
    return warp.Warp(rate, int(rng.integers(-settings.pitch_shift, settings.pitch_shift + 1)))


def hear(
    row: Row, start: float, cache_dir: Path | None, change: warp.Warp = warp.NONE
) -> tuple[np.ndarray, np.ndarray]:
    """The segment's log-mel (128, 64) and note features (32), float32, from `cache_dir` if they are there.

    change: heard so, which the cache has no place for.
    """
    if cache_dir is None or change != warp.NONE:
        return _hear(row, start, change)
    times = np.array([row["offset"], start], "<f8").tobytes()
    content = target.file_hash(Path(row["audio_path"])) + target.file_hash(Path(row["midi_path"]))
    key = files.sha256(SETTINGS.encode() + content + times)

    def entry() -> bytes:
        log_mel, features = _hear(row, start, change)
        return np.concatenate([log_mel.ravel(), features]).astype("<f4").tobytes()

    values = np.frombuffer(files.cached(cache_dir, key, entry), "<f4").astype(np.float32)
    sound, features = np.split(values, [audio.MELS * audio.FRAMES])
    return sound.reshape(audio.MELS, audio.FRAMES), features


def _hear(row: Row, start: float, change: warp.Warp) -> tuple[np.ndarray, np.ndarray]:
    wave = audio.load(Path(row["audio_path"]), start, space.SECONDS * change.rate)
    if not len(wave):
        raise UserError(
            f"{row.get('where', row['audio_path'])}: start: {start} s is past the end of its audio"
        )
    log_mel = space.log_mel(wave) if change == warp.NONE else warp.log_mel(wave, change)
    notes, at = _notes(row, start, change)
    return log_mel, midi.features(notes, at, space.SECONDS)


def _notes(row: Row, start: float, change: warp.Warp) -> tuple[ScoreTick, float]:
    """The score as heard, and the time in it (s) at which the segment begins."""
    score = target.score(Path(row["midi_path"]))
    return warp.score(score, change) if change != warp.NONE else score, (start - row["offset"]) / change.rate


def wanted(
    row: Row, start: float, log_mel: np.ndarray, redraw: int = 0, change: warp.Warp = warp.NONE
) -> tuple[np.ndarray, np.ndarray | None]:
    """The row's target: positions (1200, 3) and attributes (1200, 7; None if a hand-made cloud lacks them).

    log_mel: as heard, with `change`. redraw: as in `target.compute`; the cloud is then computed even where the row
    names one.
    """
    if "target_pointcloud_path" in row and not redraw:
        path = Path(row["target_pointcloud_path"])
        positions, attributes = target.read_cloud(path)
        if len(positions) != space.POINTS:
            raise UserError(f"{path}: a target cloud has {space.POINTS} points, this one {len(positions)}")
        return positions, attributes
    files = Path(row["audio_path"]), Path(row["midi_path"])
    notes, at = _notes(row, start, change)
    segment = target.listen(log_mel, midi.sounding(notes, at, space.SECONDS), at)
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
