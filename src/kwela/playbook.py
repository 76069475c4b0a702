"""The Phase 2.5 playbook's settings: flat JSON, as its users have them (`ai-service/config.json`).

Relative folders resolve against the file's own folder. An unknown key is an error that names the nearest
known one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from kwela import config
from kwela.config import SettingsGroup
from kwela.errors import UserError

SHIPPED = Path("ai-service/config.json")

Share = Annotated[float, Field(ge=0, le=1)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Thresholds(SettingsGroup):
    """What the gate of week 5 asks for."""

    min_authenticity_score: Share = 0.35  # of the lower end of its interval
    max_cost_usd: Dollars = 600.0
    max_val_loss: float = Field(3.5, gt=0)
    min_gain_over_base: float = Field(0.0, ge=0)  # nats below the untuned model on the same clips


class Flag(SettingsGroup):
    """What a red flag does when it is seen."""

    action: Literal["warn", "stop"] = "warn"


class Fatal(Flag):
    """A flag that stops the campaign unless the config says otherwise."""

    action: Literal["warn", "stop"] = "stop"


class Stalled(Flag):
    """The loss does not fall."""

    hours: float = Field(72, gt=0)  # of training, in which the loss must have fallen


class Spike(Flag):
    """The loss jumps."""

    mads: float = Field(8, gt=0)  # median absolute deviations above the median of the windows before


class Idle(Flag):
    """The GPU is hardly used."""

    percent: float = Field(50, ge=0, le=100)  # mean use of the GPU below this
    minutes: float = Field(30, gt=0, le=7 * 24 * 60)


class Stuck(Flag):
    """The training makes no step."""

    minutes: float = Field(60, gt=0)  # without a step


class Disk(Flag):
    """The disk is nearly full."""

    free_gb: float = Field(10, ge=0)


class Overfit(Flag):
    """The validation loss rises while the training loss falls."""

    evaluations: int = Field(3, ge=2)  # in a row with a higher validation loss and a lower training loss


class Flags(SettingsGroup):
    """The red flags of a campaign: thresholds, and what each does."""

    loss_not_falling: Stalled = Stalled()
    nan: Fatal = Fatal()
    loss_spike: Spike = Spike()
    gpu_idle: Idle = Idle()
    no_step: Stuck = Stuck()
    cost_before_gate: Flag = Flag()  # past flag_cost_usd
    instance_stopped: Flag = Flag()
    disk_filling: Disk = Disk()
    overfitting: Overfit = Overfit()


class Notify(SettingsGroup):
    """Where flags and verdicts are sent, beside the log."""

    webhook: str = Field(
        "", pattern=r"^(https?://.+)?$"
    )  # a URL that takes JSON by POST: {"text", "campaign", ...}
    sns_topic: str = Field("", pattern=r"^(arn:[^:]+:sns:[^:]+:[^:]+:.+)?$")  # an ARN


class Evaluation(SettingsGroup):
    """What the gate and the report judge samples by."""

    reference_dir: Path | None = None  # music of the style
    contrast_dir: Path | None = None  # music that is not
    prompts: list[str] = Field(
        [
            "Traditional amapiano with log drums and soulful piano",
            "Modern amapiano house with jazzy chord progressions",
        ],
        min_length=1,
    )
    samples: int = Field(82, ge=1)  # clips, prompts in turn; 82 tell 20 % from 40 % at 80 % power
    seconds: float = Field(30, gt=0)
    seed: int = Field(0, ge=0)


class PlaybookConfig(SettingsGroup):
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
    week_5_threshold_days: float = Field(35, gt=0, allow_inf_nan=False)
    gate_at_fraction: float | None = Field(
        None, gt=0, lt=1
    )  # of the planned steps: the gate is then, if that is sooner
    go_nogo_thresholds: Thresholds = Thresholds()
    # Tag groups near the style (the data set's words, synonyms together), and tags that speak against it.
    proxy_groups: dict[str, list[str]] = Field(min_length=1)
    negative_tags: list[str] = Field(default_factory=list)
    tag_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict
    )  # 1 unless given; rank ties
    max_clips_per_artist: int = Field(150, ge=1)
    prompt_templates: list[str] = Field(["{tags}"], min_length=1)
    plan_days: float = Field(56, gt=0, allow_inf_nan=False)
    hours_per_day: float = Field(20, gt=0, le=24)
    setup_cost_usd: Dollars = 25.0
    started: datetime | None = (
        None  # when the first instance was billed (UTC): day 1; None: when training first ran
    )
    market: Literal["on-demand", "spot"] = "on-demand"
    disk_gb: float = Field(500, ge=0, allow_inf_nan=False)
    disk_usd_per_gb_month: Dollars = 0.08
    # Of machine time kept back: 30 for the last save and the report, 120 until idle-watch stops the machine.
    reserve_minutes: float = Field(150, ge=0, allow_inf_nan=False)
    evaluation: Evaluation = Evaluation()
    notify: Notify = Notify()
    flags: Flags = Flags()

    @field_validator("started")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        if value is not None and value > datetime.now(UTC):
            raise ValueError("is in the future")
        return value

    @model_validator(mode="after")
    def _gate_before_the_end(self) -> PlaybookConfig:
        if self.week_5_threshold_days > self.plan_days:
            days = f"week_5_threshold_days {self.week_5_threshold_days:g}, plan_days {self.plan_days:g}"
            raise ValueError(f"the gate would come after the end: {days}")
        return self


def find(file: Path | None) -> Path:
    """Find the settings: `file` as `config.find` seeks it, or the shipped one. Raises UserError."""
    return config.find(file or config.repo_root() / SHIPPED, SHIPPED)


def load(file: Path | None = None) -> PlaybookConfig:
    """Read the settings of `find(file)`; folders come back absolute. Raises UserError naming file and key."""
    path = find(file)
    values = config.read_file(path)
    config.check_keys(PlaybookConfig, values, str(path))
    try:
        settings = PlaybookConfig.model_validate(values)
    except ValidationError as error:
        key, message = config.first_error(error)
        whole = key == "config"  # of several keys together: what was given is the whole file
        raise UserError(
            f"{path}: {message.partition(' (got')[0]}" if whole else f"{path}: {key}: {message}"
        ) from None
    folder = path.absolute().parent
    for name in ("dataset_dir", "checkpoint_dir", "tensorboard_dir"):
        setattr(settings, name, folder / getattr(settings, name))
    for name in ("reference_dir", "contrast_dir"):
        if given := getattr(settings.evaluation, name):
            setattr(settings.evaluation, name, folder / given)
    return settings


def training(settings: PlaybookConfig, folder: Path) -> dict[str, Any]:
    """Translate the settings into the words of the training schema, musicgen.config.MusicgenConfig.

    folder: the config file's, which a relative `model_name` folder resolves against.
    """
    table = settings.dataset_dir / "amapiano_proxy" / "training_metadata.csv"
    beside = folder / settings.model_name
    return {
        "data": {
            "train_manifest": str(table),
            "val_manifest": str(table),
            "batch_size": settings.batch_size,
            "prompt_templates": settings.prompt_templates,
        },
        "model": {"base": str(beside) if beside.is_dir() else settings.model_name},
        "training": {
            "epochs": settings.num_epochs,
            "min_epochs": 0,
            "early_stopping": {"enabled": False},  # the gate and the budget end a campaign
            "grad_accum_steps": settings.gradient_accumulation_steps,
            "log_every": settings.log_every_n_steps,
            "save_every_steps": settings.save_every_n_steps,
            "eval_every_steps": settings.eval_every_n_steps,
            "evaluate_first": True,
        },
        "optim": {"lr": settings.learning_rate, "weight_decay": 0.01},
        "scheduler": {"warmup_steps": settings.warmup_steps},
    }
