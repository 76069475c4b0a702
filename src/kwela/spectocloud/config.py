"""Spectocloud's settings: defaults, bounds and presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from kwela.config import Data, SettingsGroup, TrainConfig


class SpectocloudData(Data):
    """Where the rows come from, and how they are batched."""

    row_keys: ClassVar[tuple[str, ...]] = ("audio_path", "midi_path", "emotion")

    train_manifest: Path = Path("data/manifests/spectocloud_train.jsonl")
    val_manifest: Path = Path("data/manifests/spectocloud_val.jsonl")
    batch_size: int = Field(32, ge=1)
    cache_dir: Path = Path("cache/spectrograms")


class SpectocloudModelSettings(SettingsGroup):
    """The model's size. Its bounds, far above use, keep a foreign checkpoint from filling the memory."""

    width: int = Field(
        40, ge=8, le=256
    )  # channels of the fine grid; the coarse grid has 4 x, the point network 2 x
    depth: int = Field(2, ge=1, le=16)  # residual blocks of each grid, and layers of the point network


class SpectocloudAugment(SettingsGroup):
    """How a training item is varied at random."""

    enabled: bool = True
    time_mask: int = Field(6, ge=0)  # widest masked run, frames
    freq_mask: int = Field(10, ge=0)  # widest masked run, mel bands
    noise: float = Field(0.02, ge=0)  # standard deviation of noise on the log-mel, in log10 units
    gain_db: float = Field(3.0, ge=0)  # largest gain either way
    time_stretch: float = Field(
        0.1, ge=0, lt=1
    )  # largest change of speed either way, for rows without a target
    pitch_shift: int = Field(2, ge=0, le=12)  # semitones either way, for rows without a target
    emotion_dropout: float = Field(0.05, ge=0, le=1)  # chance that a training item forgets its emotion


class SpectocloudConfig(TrainConfig):
    """All settings of Spectocloud's training."""

    shipped_file: ClassVar[Path | None] = Path("training/cuda_session/spectocloud_training_config.yaml")
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {
        "full": {},  # the shipped file as it is
        "demo": {  # for two CPU cores and a few minutes
            "training": {"epochs": 10, "min_epochs": 10, "amp": False, "save_every": 5},
            "data": {"batch_size": 8, "num_workers": 0},
            "model": {"width": 32},
            "augment": {"time_mask": 2, "freq_mask": 3},
            "optim": {"lr": 5e-3},
            "scheduler": {"warmup_steps": 20, "min_lr_ratio": 0.02},
        },
        "tiny": {  # for tests
            "training": {"epochs": 2, "min_epochs": 0, "amp": False, "save_every": 1},
            "data": {"batch_size": 4, "num_workers": 0},
            "model": {"width": 8, "depth": 1},
        },
    }

    data: SpectocloudData = SpectocloudData()
    model: SpectocloudModelSettings = SpectocloudModelSettings()
    augment: SpectocloudAugment = SpectocloudAugment()
