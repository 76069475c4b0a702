"""The Phase 2.5 playbook's settings: flat JSON, as its users have them (`ai-service/config.json`).

Relative folders resolve against the file's own folder. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from kwela import config
from kwela.config import Strict
from kwela.errors import UserError

SHIPPED = Path("ai-service/config.json")

Share = Annotated[float, Field(ge=0, le=1)]
Dollars = Annotated[float, Field(ge=0)]


class Thresholds(Strict):
    """What the gate of week 5 asks for."""

    min_authenticity_score: Share = 0.35
    max_cost_usd: Dollars = 600.0
    max_val_loss: float = Field(3.5, gt=0)


class Flag(Strict):
    """What a red flag does when it is seen."""

    action: Literal["warn", "stop"] = "warn"


class PlaybookConfig(Strict):
    """Everything that `ai-service/config.json` may say."""

    model_name: str = "facebook/musicgen-small"
    dataset_dir: Path = Path("datasets")
    checkpoint_dir: Path = Path("checkpoints/phase_2_5")
    tensorboard_dir: Path = Path("runs/phase_2_5")
    num_epochs: int = Field(20, ge=1)
    batch_size: int = Field(8, ge=1)
    gradient_accumulation_steps: int = Field(4, ge=1)
    learning_rate: float = Field(1e-5, gt=0)
    warmup_steps: int = Field(500, ge=0)
    log_every_n_steps: int = Field(10, ge=1)
    eval_every_n_steps: int = Field(500, ge=1)
    save_every_n_steps: int = Field(1000, ge=1)
    gpu_cost_per_hour: Dollars = 1.30
    spot_cost_per_hour: Dollars = 0.39
    budget_usd: Dollars = 500.0
    flag_cost_usd: Dollars = 400.0
    week_5_threshold_days: float = Field(35, gt=0)
    go_nogo_thresholds: Thresholds = Thresholds()
    # Tag groups near the style (the data set's words, synonyms together), and tags that speak against it.
    proxy_groups: dict[str, list[str]] = Field(min_length=1)
    negative_tags: list[str] = Field(default_factory=list)
    tag_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)  # 1 unless given; rank ties
    max_clips_per_artist: int = Field(150, ge=1)
    prompt_templates: list[str] = Field(["{tags}"], min_length=1)
    plan_days: float = Field(56, gt=0)
    hours_per_day: float = Field(20, gt=0, le=24)
    setup_cost_usd: Dollars = 25.0
    flags: dict[str, Flag] = Field(default_factory=dict)


def load(file: Path | None = None) -> PlaybookConfig:
    """The settings of `file`, or of the shipped one; its folders absolute.

    Raises UserError naming the file and the key.
    """
    path = file or config.repo_root() / SHIPPED
    if not path.is_file():
        raise UserError(f"{path}: no such config file")
    values = config.read_file(path)
    config.check_keys(PlaybookConfig, values, str(path))
    try:
        settings = PlaybookConfig.model_validate(values)
    except ValidationError as error:
        key, message = config.first_error(error)
        raise UserError(f"{path}: {key}: {message}") from None
    for name in ("dataset_dir", "checkpoint_dir", "tensorboard_dir"):
        setattr(settings, name, path.absolute().parent / getattr(settings, name))
    return settings
