"""The MusicGen fine-tune's settings. Its shipped file is the playbook's: see `kwela.playbook`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from kwela.config import Data, SettingsGroup, TrainConfig, Training

LONGEST_PROMPT = 2000  # characters; the text encoder's memory grows with the square of a prompt's length
MAX_SECONDS = 300.0  # of audio that one prompt may ask for


class MusicgenData(Data):
    """Where the clips come from. One table holds both sides, apart in its column `split`."""

    train_manifest: Path = Path("ai-service/datasets/amapiano_proxy/training_metadata.csv")
    val_manifest: Path = Path("ai-service/datasets/amapiano_proxy/training_metadata.csv")
    batch_size: int = Field(8, ge=1)
    cache_dir: Path = Path("cache/musicgen")
    seconds: float = Field(10.0, gt=0, le=30)  # of a clip in an item, a whole number of codec frames
    prompt_templates: list[str] = Field(["{tags}"], min_length=1)


class MusicgenModelSettings(SettingsGroup):
    """Which model is tuned, and how."""

    base: str = "facebook/musicgen-small"  # a hub id, a folder, or "tiny": a small random stand-in
    tuning: Literal["lora", "full"] = "lora"
    rank: int = Field(16, ge=1, le=1024)  # LoRA's, of its two factors
    alpha: float = Field(32.0, gt=0)  # LoRA's output is scaled by alpha / rank
    dropout: float = Field(0.05, ge=0, lt=1)  # of LoRA's input


class MusicgenTraining(Training):
    """The loop's settings, and one of memory."""

    gradient_checkpointing: bool = False  # half the memory for activations, a third more time


class MusicgenAugment(SettingsGroup):
    """How a training item is varied at random."""

    condition_dropout: float = Field(0.1, ge=0, le=1)  # chance that a training item forgets its prompt


class MusicgenConfig(TrainConfig):
    """All settings of the MusicGen fine-tune."""

    presets: ClassVar[Mapping[str, dict[str, Any]]] = {
        "full": {},  # the shipped file as it is
        "tiny": {  # for tests
            "training": {"amp": False, "grad_accum_steps": 1},
            "data": {"batch_size": 8, "num_workers": 0, "seconds": 4.0},
            "model": {"base": "tiny", "tuning": "full"},
            "optim": {"lr": 3e-3},
            "scheduler": {"warmup_steps": 20},
        },
    }

    data: MusicgenData = MusicgenData()
    model: MusicgenModelSettings = MusicgenModelSettings()
    training: MusicgenTraining = MusicgenTraining()
    augment: MusicgenAugment = MusicgenAugment()
