"""The training task of MusicGen, as the engine asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from kwela import terminal
from kwela.engine import order, precision, ranks, row_faults
from kwela.engine.row_faults import Fault, Row
from kwela.engine.task import Batch, Mean, Share, Sides
from kwela.errors import UserError
from kwela.music import audio
from kwela.musicgen import base_model, baselines, code_cache, data, memory_plan, model
from kwela.musicgen.config import MusicgenConfig
from kwela.musicgen.delay import IGNORED

MAX_LEFT_OUT_LINES = 5  # clips that are left out and named one by one


class CachedClips(NamedTuple):
    """The training and validation clips that can be used, and the cache that holds their codes.

    faults: why each of the other clips can't be used.
    """

    train: list[data.TaggedClip]
    held_out: list[data.TaggedClip]
    cache: code_cache.CodeCache
    faults: dict[Path, Fault]


class MusicgenTask:
    """Fine-tuning of MusicGen: the model, its crops of clips, its losses and its baselines.

    workers: processes that fill the cache. device: as the session's. say: prints the memory plan and the
    clips that are left out. Raises UserError if the base model is missing, or for crops shorter than a frame.
    """

    name = "musicgen"

    def __init__(
        self,
        config: MusicgenConfig,
        *,
        workers: int | None = None,
        device: str | None = None,
        say: Callable[[str], None] = terminal.say,
    ) -> None:
        self.config, self.workers, self.say = config, workers, say
        self.left_out: set[str] = set()  # places of clips
        self.device = ranks.pick(device, 0, 1)
        self.tiny_folder = config.data.cache_dir / "base"
        self.base_folder = base_model.find(config.model.base, self.tiny_folder)
        self.codec_shape = base_model.codec_shape(self.base_folder)
        self.fingerprint = base_model.fingerprint(self.base_folder)
        self.frames = round(config.data.seconds * self.codec_shape.frame_rate)
        if self.frames < 1:
            raise UserError(f"data.seconds: {config.data.seconds} is shorter than one frame of the codec")

    def model(self) -> nn.Module:
        """Return the language model with its pretrained weights, and say how much memory training takes."""
        half = self.config.training.amp and self.device.type == "cuda"
        chosen = precision.choose(self.config.training, self.device)[0] if half else None
        lm = model.build(self.config.model.model_dump(), self.tiny_folder, chosen or torch.float32)
        if self.config.training.gradient_checkpointing:
            lm.decoder.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        plan = memory_plan.estimate(lm, self.config, self.frames, self.device)
        self.say(plan.describe(self.config))
        return lm

    @cached_property
    def clips(self) -> Sides[list[data.TaggedClip]]:
        """The clips of both splits, whether they can be used or not."""
        table = data.read_table(self.config.data.train_manifest)
        train, held_out = ([clip for clip in table if clip.split == side] for side in (data.TRAIN, data.VAL))
        return train, held_out

    @cached_property
    def missing(self) -> dict[Path, Fault]:
        """Why each of the clips that is not there can't be read."""
        found = {
            clip.path: row_faults.fault_in(Path.stat, str(clip.path), "file_path")
            for clip in (*self.clips[0], *self.clips[1])
        }
        return {path: fault for path, fault in found.items() if fault}

    @cached_property
    def cached_clips(self) -> CachedClips:
        """The clips of both splits. The first access fills the cache and says which clips are left out."""
        settings, missing = self.config.data, self.missing
        clips = [clip for clip in (*self.clips[0], *self.clips[1]) if clip.path not in missing]
        templates = settings.prompt_templates
        prompts = {prompt for clip in clips for prompt in data.make_prompts(clip.tags, templates)}
        cache = code_cache.fill(
            [clip.path for clip in clips],
            sorted(prompts),
            self.base_folder,
            settings.cache_dir,
            workers=self.workers,
            say=self.say,
        )
        left_out = dict(cache.left_out)
        for clip in clips:
            if clip.path not in left_out:
                level = cache.codes.get(cache.keys[clip.path], "level")
                if not len(data.crop_starts(level, self.frames)):
                    left_out[clip.path] = f"{clip.path}: silence"
        for reason in list(left_out.values())[:MAX_LEFT_OUT_LINES]:
            self.say(f"left out: {reason}")
        if len(left_out) > MAX_LEFT_OUT_LINES:
            self.say(f"left out: {len(left_out) - MAX_LEFT_OUT_LINES} clips more")
        faults = missing | {path: Fault(reason) for path, reason in left_out.items()}
        train, held_out = ([clip for clip in side if clip.path not in faults] for side in self.clips)
        return CachedClips(train, held_out, cache, faults)

    def rows(self) -> Sides[list[Row]]:
        """Return the rows of both splits; see engine.task.RowTask."""
        train, held_out = self.clips
        return [clip.row for clip in train], [clip.row for clip in held_out]

    def read_rows(self) -> Sides[list[int | Fault]]:
        """Return 1 for each clip that can be used, or its fault."""
        faults, (train, held_out) = self.cached_clips.faults, self.clips
        return (
            [faults.get(clip.path, 1) for clip in train],
            [faults.get(clip.path, 1) for clip in held_out],
        )

    def examine(self, row: Row) -> Fault | None:
        """Return why a clip can't be read; None if it can."""
        rate = self.codec_shape.sample_rate
        return row_faults.fault_in(lambda path: audio.whole(path, rate), row.files["file_path"], "file_path")

    def leave_out(self, left_out: Sides[set[int]]) -> None:
        """Use the clips from now on without these."""
        self.left_out = {self.clips[side][index].row.place for side in range(2) for index in left_out[side]}
        self.__dict__.pop("crops", None)

    @property
    def used_clips(self) -> Sides[list[data.TaggedClip]]:
        """The clips that are used: they are cached, and were not left out."""
        train, held_out, *_ = self.cached_clips
        return (
            [clip for clip in train if clip.row.place not in self.left_out],
            [clip for clip in held_out if clip.row.place not in self.left_out],
        )

    @cached_property
    def crops(self) -> Sides[data.Crops]:
        """The crops to train on, and those of the held-out clips, which keep their prompts."""
        for clip in (*self.clips[0], *self.clips[1]):
            if clip.path in self.missing and clip.row.place not in self.left_out:
                raise UserError(f"{clip.path}: no such clip; build the data set again (kwela dataset)")
        (train, held_out), cache = self.used_clips, self.cached_clips.cache
        templates, dropout = self.config.data.prompt_templates, self.config.augment.condition_dropout
        return (
            data.Crops(train, cache, templates, self.frames, dropout),
            data.Crops(held_out, cache, templates, self.frames, 0.0),
        )

    def datasets(self) -> tuple[data.Crops, data.Crops]:
        """Return the crops to train on, and those of the held-out clips."""
        return self.crops

    def collate(self, items: Sequence[data.Crop]) -> Batch:
        """Return the batch of these crops, delayed and padded."""
        return data.collate(items, self.codec_shape.codebook_size)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """Return the cross-entropy in nats a code, over all codebooks and of each, and the accuracy."""
        logits, targets = model(batch["inputs"], batch["states"], batch["mask"]), batch["targets"]
        known = targets != IGNORED
        nats = F.cross_entropy(
            logits.flatten(0, 2).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(targets)
        correct = (logits.detach().argmax(-1) == targets) & known
        totals, counts = nats.detach().sum((0, 2)), known.sum((0, 2))
        return {
            "loss": Mean(nats.sum(), known.sum()),
            "accuracy": Share(correct.sum(), known.sum()),
            **{f"ce_{book + 1}": Mean(totals[book], counts[book]) for book in range(len(totals))},
        }

    def baselines(self) -> dict[str, float]:
        """Return the nats a code of the best constant and a bigram, on the crops that validation uses."""
        cache, crops = self.cached_clips.cache, self.crops[1]
        held_out = [order.held_out_item(crops, index, self.config.seed).codes for index in range(len(crops))]
        train_codes = (cache.codes.get(cache.keys[clip.path]) for clip in self.used_clips[0])
        return baselines.measure(train_codes, held_out, self.codec_shape.codebook_size)

    def preview(self, model: nn.Module, folder: Path) -> None:
        """Write a sample as long as a crop, of a validation clip's prompt, and its spectrogram."""
        from kwela.musicgen import generation

        held_out, cache = self.used_clips[1], self.cached_clips.cache
        prompt = data.make_prompts(held_out[0].tags, self.config.data.prompt_templates)[0]
        states = code_cache.prompt_states(cache.states, prompt)
        generation.write_preview(
            model, self.base_folder, prompt, states, self.frames, self.config.seed, folder
        )


def count_table(task: MusicgenTask) -> dict[str, int]:
    """Return how many rows and unique tags the training table has. All clips are encoded first."""
    _ = task.cached_clips
    table = data.read_table(task.config.data.train_manifest)
    return {"rows": len(table), "tags": len({tag for clip in table for tag in clip.tags})}
