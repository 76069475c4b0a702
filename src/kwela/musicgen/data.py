"""From the training table to batches: clips, prompts, crops.

The table is `training_metadata.csv`, as `kwela dataset` writes it: clip_id, file_path (relative to the table's folder),
amapiano_proxy_score, tags (comma-joined), duration, split, artist. Other columns are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kwela import tables
from kwela.engine.task import Batch
from kwela.errors import UserError
from kwela.musicgen import codes
from kwela.musicgen.delay import delay

COLUMNS = ("clip_id", "file_path", "tags", "split")
TRAIN, VAL = "train", "val"


@dataclass(frozen=True)
class Clip:
    clip_id: str
    path: Path
    tags: tuple[str, ...]
    split: str
    artist: str


def read(table: Path) -> list[Clip]:
    """The rows of a training table, in order. Raises UserError naming the table, and the row and column at fault."""
    if not table.exists():
        raise UserError(f"{table}: no such table (kwela dataset, or dataset_setup.py, writes it)")
    clips = [_clip(where, row, table.parent) for where, row in tables.read(table, COLUMNS, "clips")]
    for side in (TRAIN, VAL):
        if not any(clip.split == side for clip in clips):
            raise UserError(f"{table}: no row of split {side!r} (both {TRAIN} and {VAL} are needed)")
    return clips


def _clip(where: str, row: dict[str, str], folder: Path) -> Clip:
    if not row["file_path"]:
        raise UserError(f"{where}: file_path is empty")
    if row["split"] not in (TRAIN, VAL, "test"):
        raise UserError(f"{where}: split {row['split']!r} is none of {TRAIN}, {VAL}, test")
    tags = tuple(tag.strip() for tag in row["tags"].split(",") if tag.strip())
    return Clip(row["clip_id"], folder / row["file_path"], tags, row["split"], row.get("artist", ""))


def prompts(tags: Sequence[str], templates: Sequence[str]) -> list[str]:
    """What a clip may be called, one for each template: its tags in place of `{tags}`.

    Tags of what isn't there ("no piano") say nothing that a prompt could ask for, and are left out. Raises UserError if
    a prompt is empty.
    """
    heard = ", ".join(tag for tag in tags if not tag.startswith("no "))
    made = [template.replace("{tags}", heard).strip(" ,") for template in templates]
    for template, prompt in zip(templates, made, strict=True):
        if not prompt:
            raise UserError(
                f"prompt_templates: {template!r} gives an empty prompt for the tags {', '.join(tags)!r}"
            )
    return made


@dataclass(frozen=True)
class Item:
    codes: np.ndarray  # int16 (K, frames)
    states: np.ndarray  # float16 (length, text width); none of it if the prompt is forgotten
    width: int  # of the text states


class Crops:
    """A crop of each clip, `frames` long, on a frame boundary, never of silence alone, with one of its prompts.

    Crop, prompt and whether the prompt is forgotten are drawn by the item's own generator.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        cached: codes.Cached,
        templates: Sequence[str],
        frames: int,
        forget: float,
    ) -> None:
        self.frames, self.forget = frames, forget
        self.store, self.states = cached.codes, cached.states
        self.items = [(cached.keys[clip.path], prompts(clip.tags, templates)) for clip in clips]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        key, names = self.items[index]
        whole = self.store.get(key)
        starts = crop_starts(self.store.get(key, "level"), self.frames)
        start = int(starts[rng.integers(len(starts))])
        state = codes.prompt_states(self.states, names[rng.integers(len(names))])
        forgotten = rng.random() < self.forget
        return Item(whole[:, start : start + self.frames], state[:0] if forgotten else state, state.shape[1])


def crop_starts(level: np.ndarray, frames: int) -> np.ndarray:
    """Where a crop may start: the frames (int64) from which `frames` of them, or all there are, hold a loud one.

    level: dB of full scale of each frame. A clip as short as a crop has one start; a silent clip has none.
    """
    heard = np.concatenate([[0], np.cumsum(level > codes.SILENT)])
    last = max(0, len(level) - frames)
    starts = np.arange(last + 1)
    return starts[heard[np.minimum(starts + frames, len(level))] > heard[starts]]


def collate(items: Sequence[Item], pad: int) -> Batch:
    """inputs, targets (B, K, T + K - 1) int64, delayed; states (B, S, width) float32; mask (B, S) int64."""
    frames = max(item.codes.shape[1] for item in items)
    length = max(1, *(len(item.states) for item in items))
    laid = np.full((len(items), items[0].codes.shape[0], frames), pad, np.int64)
    states = np.zeros((len(items), length, items[0].width), np.float32)
    mask = np.zeros((len(items), length), np.int64)
    for row, item in enumerate(items):
        laid[row, :, : item.codes.shape[1]] = item.codes
        states[row, : len(item.states)] = item.states
        mask[row, : len(item.states)] = 1
    inputs, targets = delay(torch.from_numpy(laid), pad)
    return {
        "inputs": inputs,
        "targets": targets,
        "states": torch.from_numpy(states),
        "mask": torch.from_numpy(mask),
    }
