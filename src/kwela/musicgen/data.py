"""Read the training table, and make batches of crops of its clips with their prompts.

The table is `training_metadata.csv`, as `kwela dataset` writes it: clip_id, file_path (relative to the
table's folder), amapiano_proxy_score, tags (separated by commas), duration, split, artist. Other columns are
ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from kwela import files, tables
from kwela.engine.row_faults import Row
from kwela.engine.task import Batch
from kwela.errors import UserError
from kwela.musicgen import code_cache
from kwela.musicgen.config import LONGEST_PROMPT
from kwela.musicgen.delay import delay

COLUMNS = ("clip_id", "file_path", "tags", "split")
TRAIN, VAL = "train", "val"
SILENCE = -60.0  # dB of full scale, RMS of a frame; a quieter frame counts as silent


@dataclass(frozen=True)
class TaggedClip:
    """One row of the training table. split: train, val or test. row: as the engine records it."""

    clip_id: str
    path: Path
    tags: tuple[str, ...]
    split: str
    artist: str
    row: Row = field(default=Row("", "", {}), compare=False)


def read_table(table: Path) -> list[TaggedClip]:
    """Return the rows of a training table, in order.

    Raises UserError that names the table, and the row and column at fault.
    """
    if not table.exists():
        raise UserError(f"{table}: no such table (kwela dataset, or dataset_setup.py, writes it)")
    clips = [_clip(where, row, table.parent) for where, row in tables.read(table, COLUMNS, "clips")]
    for side in (TRAIN, VAL):
        if not any(clip.split == side for clip in clips):
            raise UserError(f"{table}: no row of split {side!r} (both {TRAIN} and {VAL} are needed)")
    return clips


def _clip(where: str, row: dict[str, str], folder: Path) -> TaggedClip:
    if not row["file_path"]:
        raise UserError(f"{where}: file_path is empty")
    if row["split"] not in (TRAIN, VAL, "test"):
        raise UserError(f"{where}: split {row['split']!r} is none of {TRAIN}, {VAL}, test")
    if len(row["tags"]) > LONGEST_PROMPT:
        size = f"{len(row['tags']):,} characters, at most {LONGEST_PROMPT:,} are read"
        raise UserError(f"{where}: the tags are too long: {size}")
    tags = tuple(tag.strip() for tag in row["tags"].split(",") if tag.strip())
    path = folder / row["file_path"]
    row_hash = files.sha256(json.dumps(row, sort_keys=True).encode())[:16]
    of_engine = Row(row_hash, where, {"file_path": str(path)})
    return TaggedClip(row["clip_id"], path, tags, row["split"], row.get("artist", ""), of_engine)


def make_prompts(tags: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return one prompt for each template: the clip's tags take the place of `{tags}`.

    Tags of absence ("no piano") are left out, because a prompt asks for what is present. Raises UserError if
    a prompt is empty.
    """
    present = ", ".join(tag for tag in tags if not tag.startswith("no "))
    prompts = [template.replace("{tags}", present).strip(" ,") for template in templates]
    for template, prompt in zip(templates, prompts, strict=True):
        if not prompt:
            raise UserError(
                f"prompt_templates: {template!r} gives an empty prompt for the tags {', '.join(tags)!r}"
            )
    return prompts


@dataclass(frozen=True)
class Crop:
    """A training item: the codes of a part of a clip, and the states of its prompt."""

    codes: np.ndarray  # int16 (K, frames)
    states: np.ndarray  # float16 (length, text width); length 0 if the prompt was dropped
    text_width: int


class Crops:
    """Crops of `frames` frames, one of each clip, each with one of the clip's prompts.

    A crop starts on a frame boundary and is never all silent. condition_dropout: how often, in 0..1, an item
    comes without its prompt. The item's own random generator draws the crop, the prompt and the dropout.
    """

    def __init__(
        self,
        clips: Sequence[TaggedClip],
        cache: code_cache.CodeCache,
        templates: Sequence[str],
        frames: int,
        condition_dropout: float,
    ) -> None:
        self.frames, self.condition_dropout = frames, condition_dropout
        self.codes, self.states = cache.codes, cache.states
        self.items = [(cache.keys[clip.path], make_prompts(clip.tags, templates)) for clip in clips]
        self.places = [clip.row.place for clip in clips]  # for messages
        self.numbers: np.ndarray | None = None  # see engine.order.read_item

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Crop:
        """Return a crop of clip `index`."""
        key, prompts = self.items[index]
        clip_codes = self.codes.get(key)
        starts = crop_starts(self.codes.get(key, "level"), self.frames)
        start = int(starts[rng.integers(len(starts))])
        states = code_cache.prompt_states(self.states, prompts[rng.integers(len(prompts))])
        dropped = rng.random() < self.condition_dropout
        crop_codes = clip_codes[:, start : start + self.frames]
        return Crop(crop_codes, states[:0] if dropped else states, states.shape[1])


def crop_starts(level: np.ndarray, frames: int) -> np.ndarray:
    """Return the frames, int64, at which a crop of `frames` frames may start.

    The crop must hold a frame above SILENCE. level: dB of full scale of each frame. A clip no longer than a
    crop has one start; a silent clip has none.
    """
    loud_before = np.concatenate([[0], np.cumsum(level > SILENCE)])
    last_start = max(0, len(level) - frames)
    starts = np.arange(last_start + 1)
    return starts[loud_before[np.minimum(starts + frames, len(level))] > loud_before[starts]]


def collate(crops: Sequence[Crop], pad: int) -> Batch:
    """Return the batch of the crops.

    It has inputs and targets (B, K, T + K - 1) int64, delayed; states (B, S, width) float32; mask (B, S)
    int64. pad: the id past the end of a shorter crop.
    """
    frames = max(crop.codes.shape[1] for crop in crops)
    length = max(1, *(len(crop.states) for crop in crops))
    codes = np.full((len(crops), crops[0].codes.shape[0], frames), pad, np.int64)
    states = np.zeros((len(crops), length, crops[0].text_width), np.float32)
    mask = np.zeros((len(crops), length), np.int64)
    for row, crop in enumerate(crops):
        codes[row, :, : crop.codes.shape[1]] = crop.codes
        states[row, : len(crop.states)] = crop.states
        mask[row, : len(crop.states)] = 1
    inputs, targets = delay(torch.from_numpy(codes), pad)
    return {
        "inputs": inputs,
        "targets": targets,
        "states": torch.from_numpy(states),
        "mask": torch.from_numpy(mask),
    }
