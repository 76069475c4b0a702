"""Songs as windows of ids that start at a bar, with the context of each id: what a model is shown, and in what batches.

Training and validation see songs the way sampling does: a window starts at BOS or at a BAR, at position 0, and knows
nothing of what came before it. Pure functions: those who score a model use them, too.
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
    path: Path
    ids: np.ndarray  # int16, BOS ... EOS
    emotion: np.ndarray  # float32 (64,)
    context: Mapping[str, Any] = field(default_factory=dict)  # a manifest row's "context"


def context_of(ids: np.ndarray, context: Mapping[str, Any]) -> np.ndarray:
    """int64 (N, 4): key, chord root, chord quality, style of each id's bar; 0 = absent. `ids` start at BOS."""
    out = np.zeros((len(ids), 4), np.int64)
    out[:, 0], out[:, 3] = context.get("key", 0), context.get("style", 0)
    chords = np.zeros((int((ids == tokens.BAR).sum()) + 1, 2), np.int64)  # row 0: before the first bar
    given = np.asarray(context.get("chords", []), np.int64).reshape(-1, 2)[: len(chords) - 1]
    chords[1 : 1 + len(given)] = given
    out[:, 1:3] = chords[np.cumsum(ids == tokens.BAR)]
    return out


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


def collate(items: Sequence[Item]) -> dict[str, Tensor]:
    """Pads to the longest item. input_ids, targets (B, T) int64, context (B, T, 4) int64, emotion (B, 64) float32."""
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
