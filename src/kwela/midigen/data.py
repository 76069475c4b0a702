"""From manifest rows to training items: ids from a cache, windows that start at a bar, context for each id.

Training and validation see songs the way sampling does: a window starts at BOS or at a BAR, at position 0, and knows
nothing of what came before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from kwela import files
from kwela.config import MidiAugment
from kwela.engine.task import Batch
from kwela.midigen import augment
from kwela.music import midi, tokens

Item = dict[str, np.ndarray]


@dataclass(frozen=True)
class Song:
    path: Path
    ids: np.ndarray  # int16, BOS ... EOS
    emotion: np.ndarray  # float32 (64,)
    context: Mapping[str, Any] = field(default_factory=dict)  # a manifest row's "context"


def songs(rows: Sequence[Mapping[str, Any]], cache_dir: Path | None) -> list[Song]:
    """The rows of a MIDI manifest (`corpus.rows.read`) as songs, in order. Raises UserError naming a bad file.

    cache_dir: None reads every file anew.
    """
    paths = [Path(row["midi_path"]) for row in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading waits for a child process: threads suffice
        read = pool.map(lambda path: cached_ids(path, cache_dir) if cache_dir else read_ids(path), paths)
        ids = list(track(read, "Reading MIDI", len(paths), transient=True, disable=len(paths) < 50))
    return [
        Song(path, one, row["emotion64"], row.get("context") or {})
        for path, one, row in zip(paths, ids, rows, strict=True)
    ]


def read_ids(path: Path) -> np.ndarray:
    """The song's ids, int16."""
    return tokens.encode(midi.read(path))


def cached_ids(path: Path, cache_dir: Path) -> np.ndarray:
    """The song's ids, int16, from `cache_dir` if they are there.

    An entry is keyed by the file's bytes and the tokenizer, and opens with the SHA-256 of the rest: a damaged one is
    made again. Entries are renamed into place, so that any number of processes may share the folder. Raises KwelaError
    or, where the folder can't be written, UserError, naming the entry.
    """
    key = hashlib.sha256(path.read_bytes() + tokens.tokenizer_hash().encode()).hexdigest()
    entry = cache_dir / key[:2] / key[2:]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        digest, body = (raw := entry.read_bytes())[:32], raw[32:]
        if hashlib.sha256(body).digest() == digest:
            return np.frombuffer(body, "<i2").astype(np.int16)
    ids = read_ids(path)
    body = ids.astype("<i2").tobytes()
    hint = "; see data.cache_dir, data.cache_features"
    files.write(entry, hashlib.sha256(body).digest() + body, durable=False, what="not cached", then=hint)
    return ids


def context_of(ids: np.ndarray, context: Mapping[str, Any]) -> np.ndarray:
    """int64 (N, 4): key, chord root, chord quality, style of each id's bar; 0 = absent. `ids` start at BOS."""
    out = np.zeros((len(ids), 4), np.int64)
    out[:, 0], out[:, 3] = context.get("key", 0), context.get("style", 0)
    chords = np.zeros((int((ids == tokens.BAR).sum()) + 1, 2), np.int64)  # row 0: before the first bar
    given = np.asarray(context.get("chords", []), np.int64).reshape(-1, 2)[: len(chords) - 1]
    chords[1 : 1 + len(given)] = given
    out[:, 1:3] = chords[np.cumsum(ids == tokens.BAR)]
    return out


class TrainWindows:
    """An epoch has one item for each `window` ids of a song, begun: a random stretch from BOS or a BAR, augmented."""

    def __init__(self, songs: Sequence[Song], window: int, settings: MidiAugment) -> None:
        self.window, self.settings = window, settings
        counts = [-(-(len(song.ids) - 1) // window) for song in songs]
        # (song, j, n): item j of n draws its start from the j-th n-th of the song's bars, so an epoch covers it all.
        self.items = [(song, j, n) for song, n in zip(songs, counts, strict=True) for j in range(n)]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        song, part, parts = self.items[index]
        ids, context, feeling = song.ids, song.context, song.emotion
        shift = augment.Shift(0, 0, 0)
        if self.settings.enabled:
            shift = augment.draw(ids, self.settings, rng)
            ids = augment.apply(ids, shift)
            if rng.random() < self.settings.emotion_dropout:
                feeling = np.full_like(feeling, np.nan)
            if rng.random() < self.settings.context_dropout:
                context = {}
        starts = window_starts(ids)
        last = int(np.searchsorted(starts, len(ids) - 1 - self.window))  # the first from which the window reaches EOS
        choices = starts[: last + 1]
        start = int(choices[int((part + rng.random()) / parts * len(choices))])
        placed = augment.transpose_context(context_of(ids, context), shift.semitones)
        return make_item(ids, placed, feeling, start, start + self.window)


class WholeSongs:
    """Every id of every song but BOS, scored exactly once.

    Windows overlap: each begins at the bar nearest above half a window before the first id still to score (the song's
    first window at BOS), and ids that an earlier window scored are not scored again. An id past the first window
    thus sees about half a window of its song or more.
    """

    def __init__(self, songs: Sequence[Song], window: int) -> None:
        self.items = [(song, *span) for song in songs for span in cover(song.ids, window)]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        song, start, scored, end = self.items[index]
        item = make_item(song.ids, context_of(song.ids, song.context), song.emotion, start, end)
        item["targets"][: scored - start] = tokens.PAD
        return item


def window_starts(ids: np.ndarray) -> np.ndarray:
    """Where a window may start: BOS, then each BAR but the first."""
    bars = np.flatnonzero(ids == tokens.BAR)
    return np.concatenate(([0], bars[1:]))


def cover(ids: np.ndarray, window: int) -> list[tuple[int, int, int]]:
    """(start, scored, end) of windows over a song: inputs ids[start:end], targets from the one after `scored` on."""
    starts, spans, scored = window_starts(ids), [], 0
    while scored < len(ids) - 1:
        wanted = max(0, scored - window // 2)
        near = starts[(starts >= wanted) & (starts <= scored)]
        start = int(near[0]) if len(near) else wanted  # no bar line in half a window: cut there all the same
        end = min(start + window, len(ids) - 1)
        spans.append((start, scored, end))
        scored = end
    return spans


def make_item(ids: np.ndarray, context: np.ndarray, feeling: np.ndarray, start: int, end: int) -> Item:
    """Inputs ids[start:end] and the id after each; `end` may lie past the song."""
    end = min(end, len(ids) - 1)
    return {
        "input_ids": ids[start:end].astype(np.int64),
        "targets": ids[start + 1 : end + 1].astype(np.int64),
        "context": context[start:end],
        "emotion": feeling,
    }


def collate(items: Sequence[Item]) -> Batch:
    """Pads to the longest item. input_ids, targets (B, T) int64, context (B, T, 4) int64, emotion (B, 64) float32."""
    length = max(len(item["input_ids"]) for item in items)

    def padded(name: str, value: int) -> torch.Tensor:
        first = items[0][name]
        out = np.full((len(items), length, *first.shape[1:]), value, np.int64)
        for row, item in zip(out, items, strict=True):
            row[: len(item[name])] = item[name]
        return torch.from_numpy(out)

    return {
        "input_ids": padded("input_ids", tokens.PAD),
        "targets": padded("targets", tokens.PAD),
        "context": padded("context", 0),
        "emotion": torch.from_numpy(np.stack([item["emotion"] for item in items])),
    }
