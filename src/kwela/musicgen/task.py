"""What the engine asks of the MusicGen fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from kwela.engine import ranks
from kwela.engine.task import Batch, Mean, Share
from kwela.errors import UserError
from kwela.musicgen import base, codes, data, memory, model
from kwela.musicgen import baselines as predictors
from kwela.musicgen.config import MusicgenConfig
from kwela.musicgen.delay import IGNORED


class MusicgenTask:
    name = "musicgen"

    def __init__(
        self,
        config: MusicgenConfig,
        *,
        workers: int | None = None,
        device: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """workers: processes that fill the cache. device: as the session's. say: told what is left out."""
        self.config, self.workers, self.say = config, workers, say
        self.device = ranks.pick(device, 0, 1)
        self.tiny = config.data.cache_dir / "base"
        self.folder = base.find(config.model.base, self.tiny)
        self.codec, self.fingerprint = base.codec(self.folder), base.fingerprint(self.folder)
        self.frames = round(config.data.seconds * self.codec.rate / self.codec.hop)
        if self.frames < 1:
            raise UserError(f"data.seconds: {config.data.seconds} is shorter than one frame of the codec")

    def model(self) -> nn.Module:
        half = self.config.training.amp and self.device.type == "cuda"
        frozen = getattr(torch, self.config.training.amp_dtype) if half else torch.float32
        built = model.build(self.config.model.model_dump(), self.tiny, frozen)
        if self.config.training.gradient_checkpointing:
            built.decoder.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        self.say(memory.plan(built, self.config, self.frames, self.device).line(self.config))
        return built

    @cached_property
    def clips(self) -> tuple[list[data.Clip], list[data.Clip], codes.Cached]:
        """Train and validation clips that are in the cache, and the cache."""
        listed = data.read(self.config.data.train_manifest)
        used = [clip for clip in listed if clip.split in (data.TRAIN, data.VAL)]
        names = sorted(
            {p for clip in used for p in data.prompts(clip.tags, self.config.data.prompt_templates)}
        )
        place = self.config.data.cache_dir
        cached = codes.cache(
            [clip.path for clip in used], names, self.folder, place, workers=self.workers, say=self.say
        )
        left_out = dict(cached.left_out)
        for clip in used:
            if clip.path not in left_out:
                level = cached.codes.get(cached.keys[clip.path], "level")
                if not len(data.crop_starts(level, self.frames)):
                    left_out[clip.path] = f"{clip.path}: silence"
        for why in list(left_out.values())[:5]:
            self.say(f"left out: {why}")
        if len(left_out) > 5:
            self.say(f"left out: {len(left_out) - 5} clips more")
        kept = [clip for clip in used if clip.path not in left_out]
        train, held_out = ([clip for clip in kept if clip.split == side] for side in (data.TRAIN, data.VAL))
        return train, held_out, cached

    def datasets(self) -> tuple[data.Crops, data.Crops]:
        train, held_out, cached = self.clips
        templates, forget = self.config.data.prompt_templates, self.config.augment.condition_dropout
        return (
            data.Crops(train, cached, templates, self.frames, forget),
            data.Crops(held_out, cached, templates, self.frames, 0.0),
        )

    def collate(self, items: Sequence[data.Item]) -> Batch:
        return data.collate(items, self.codec.size)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """Cross-entropy in nats a code, over all codebooks and of each; accuracy."""
        logits, targets = model(batch["inputs"], batch["states"], batch["mask"]), batch["targets"]
        known = targets != IGNORED
        surprise = F.cross_entropy(
            logits.flatten(0, 2).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(targets)
        right = (logits.detach().argmax(-1) == targets) & known
        totals, counts = surprise.detach().sum((0, 2)), known.sum((0, 2))
        return {
            "loss": Mean(surprise.sum(), known.sum()),
            "accuracy": Share(right.sum(), known.sum()),
            **{f"ce_{book + 1}": Mean(totals[book], counts[book]) for book in range(len(totals))},
        }

    def baselines(self) -> dict[str, float]:
        """The best constant and a bigram per codebook, on the crops that validation hears."""
        from kwela.engine import order

        train, _, cached = self.clips
        items = self.datasets()[1]
        heard = [order.held_out_item(items, n, self.config.seed).codes for n in range(len(items))]
        known = (cached.codes.get(cached.keys[clip.path]) for clip in train)
        return predictors.baselines(known, heard, self.codec.size)

    def preview(self, model: nn.Module, folder: Path) -> None:
        """One sample of the length of a crop for the first validation clip's first prompt, and its spectrogram."""
        from kwela.musicgen import generation

        _, held_out, cached = self.clips
        prompt = data.prompts(held_out[0].tags, self.config.data.prompt_templates)[0]
        state = codes.prompt_states(cached.states, prompt)
        generation.preview(model, self.folder, prompt, state, self.frames, self.config.seed, folder)


def summary(task: MusicgenTask) -> dict[str, Any]:
    """What `--check` tells of the data, once all of it is encoded: rows and unique tags of the table."""
    _ = task.clips
    listed = data.read(task.config.data.train_manifest)
    return {"rows": len(listed), "tags": len({tag for clip in listed for tag in clip.tags})}
