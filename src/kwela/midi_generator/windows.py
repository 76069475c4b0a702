"""Cut songs into windows of ids that start at a bar, with the context of each id, and make batches of them.

Training and validation see songs as sampling does: a window starts at BOS or at a BAR, at position 0, and
does not contain what came before it. The judges use these functions too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kwela.music import tokens

Item = dict[str, np.ndarray]


@dataclass(frozen=True)
class Song:
    """A song as ids, with its emotion and its musical context."""

    path: Path
    ids: np.ndarray  # int16, BOS ... EOS
    emotion: np.ndarray  # float32 (64,)
    context: Mapping[str, Any] = field(default_factory=dict)  # a manifest row's "context"


def context_of(ids: np.ndarray, context: Mapping[str, Any]) -> np.ndarray:
    """Return key, chord root, chord quality, style of each id's bar, int64 (N, 4); 0 = absent.

    ids: (N,), from BOS on.
    """
    out = np.zeros((len(ids), 4), np.int64)
    out[:, 0], out[:, 3] = context.get("key", 0), context.get("style", 0)
    chords = np.zeros((int((ids == tokens.BAR).sum()) + 1, 2), np.int64)  # row 0: before the first bar
    of_bars = np.asarray(context.get("chords", []), np.int64).reshape(-1, 2)[: len(chords) - 1]
    chords[1 : 1 + len(of_bars)] = of_bars
    out[:, 1:3] = chords[np.cumsum(ids == tokens.BAR)]
    return out


class WholeSongs:
    """A data set that scores every id of every song, except BOS, exactly once.

    Windows overlap. The first window of a song begins at BOS. Each further one begins at the first bar after
    the place that lies half a window before the first id that is still to score. Ids that an earlier window
    scored are not scored again. So an id after the first window sees about half a window of its song, or
    more.
    """

    def __init__(self, songs: Sequence[Song], window: int) -> None:
        self.items = [(song, *span) for song in songs for span in cover(song.ids, window)]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        """Return one window; nothing is drawn from `rng`."""
        song, start, scored, end = self.items[index]
        item = make_item(song.ids, context_of(song.ids, song.context), song.emotion, start, end)
        item["targets"][: scored - start] = tokens.PAD
        return item


def window_starts(ids: np.ndarray) -> np.ndarray:
    """Return where a window may start: at BOS, and at each BAR except the first."""
    bars = np.flatnonzero(ids == tokens.BAR)
    return np.concatenate(([0], bars[1:]))


def cover(ids: np.ndarray, window: int) -> list[tuple[int, int, int]]:
    """Return (start, scored, end) of each window: inputs ids[start:end], targets from ids[scored + 1] on."""
    starts, spans, scored = window_starts(ids), [], 0
    while scored < len(ids) - 1:
        wanted = max(0, scored - window // 2)
        near = starts[(starts >= wanted) & (starts <= scored)]
        start = int(near[0]) if len(near) else wanted  # half a window without a bar line is cut there
        end = min(start + window, len(ids) - 1)
        spans.append((start, scored, end))
        scored = end
    return spans


def make_item(ids: np.ndarray, context: np.ndarray, emotion: np.ndarray, start: int, end: int) -> Item:
    """Make an item of the inputs ids[start:end] and the id after each; `end` may lie after the song."""
    end = min(end, len(ids) - 1)
    return {
        "input_ids": ids[start:end].astype(np.int64),
        "targets": ids[start + 1 : end + 1].astype(np.int64),
        "context": context[start:end],
        "emotion": emotion,
    }


def collate(items: Sequence[Item]) -> dict[str, Tensor]:
    """Make a batch of items, padded to the longest.

    Returns input_ids, targets (B, T) int64, context (B, T, 4) int64, emotion (B, 64) float32.
    """
    length = max(len(item["input_ids"]) for item in items)

    def padded(name: str, value: int) -> Tensor:
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
