"""The MIDI generator's settings: defaults, bounds and presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from kwela.config import Data, SettingsGroup, TrainConfig


class MidiGeneratorData(Data):
    """Where the rows come from, and how they are batched."""

    row_keys: ClassVar[tuple[str, ...]] = ("midi_path", "emotion")

    train_manifest: Path = Path("data/manifests/midi_train.jsonl")
    val_manifest: Path = Path("data/manifests/midi_val.jsonl")
    batch_size: int = Field(64, ge=1)
    cache_dir: Path = Path("cache/midi_tokens")


class MidiGeneratorModelSettings(SettingsGroup):
    """The model's size. Its bounds, far above use, keep a foreign checkpoint from filling the memory."""

    layers: int = Field(8, ge=1, le=32)
    width: int = Field(384, ge=16, le=2048)
    heads: int = Field(6, ge=1, le=64)
    window: int = Field(1024, ge=16, le=2**16)  # ids that the model may see in a call, with the past
    cross_every: int = Field(2, ge=1, le=32)  # emotion cross-attention on layers 0, 2, 4, ...
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _even_head_width(self) -> MidiGeneratorModelSettings:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x heads ({2 * self.heads}) for rotary pairs"
            )
        return self


class MidiGeneratorAugment(SettingsGroup):
    """How a training item is varied at random."""

    enabled: bool = True
    transpose: int = Field(6, ge=0, le=11)  # semitones either way; drums excepted
    tempo: float = Field(0.1, ge=0, lt=1)  # relative change either way
    velocity: int = Field(8, ge=0)  # MIDI velocity units either way
    emotion_dropout: float = Field(0.15, ge=0, le=1)  # chance that a training item forgets all its emotion
    context_dropout: float = Field(0.2, ge=0, le=1)  # the same for the context


class MidiGeneratorConfig(TrainConfig):
    """All settings of the MIDI generator's training."""

    shipped_file: ClassVar[Path | None] = Path("training/cuda_session/midi_generator_training_config.yaml")
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {
        "full": {},  # the shipped file as it is
        "demo": {  # for two CPU cores and a few minutes
            "training": {"epochs": 7, "min_epochs": 7, "amp_dtype": "auto", "save_every": 7},
            "data": {"batch_size": 8, "num_workers": 0},
            "model": {"layers": 6, "width": 256, "heads": 4, "window": 512, "dropout": 0.0},
            "optim": {"lr": 2e-3, "weight_decay": 0.1},
            "scheduler": {"warmup_steps": 20, "min_lr_ratio": 0.05},
        },
        "tiny": {  # for tests
            "training": {"epochs": 2, "min_epochs": 0, "amp": False, "save_every": 1},
            "data": {"batch_size": 2, "num_workers": 0},
            "model": {"layers": 2, "width": 32, "heads": 2, "window": 128},
        },
    }

    data: MidiGeneratorData = MidiGeneratorData()
    model: MidiGeneratorModelSettings = MidiGeneratorModelSettings()
    augment: MidiGeneratorAugment = MidiGeneratorAugment()
