"""Typed settings: one schema, read from YAML or JSON, overridden by a preset and then by `--set a.b=c`.

    defaults (here) < config file < preset < --set

A default is written once, in these classes. An unknown key is an error that names the nearest known one. Relative
paths in a config resolve against the repository's root, so a run gives the same folders from any working directory.
"""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kwela.errors import UserError
from kwela.presets import PRESETS


class Strict(BaseModel):
    """A settings group: unknown keys are refused, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


class Data(Strict):
    train_manifest: Path
    val_manifest: Path
    batch_size: int = Field(ge=1)  # per GPU
    num_workers: int = Field(2, ge=0)  # per GPU; the data order does not depend on it
    prefetch_factor: int = Field(2, ge=1)
    cache_features: bool = True
    cache_dir: Path


class EarlyStopping(Strict):
    enabled: bool = True
    patience: int = Field(10, ge=1)  # validations without improvement
    min_delta: float = Field(0.001, ge=0)  # absolute gain in `monitor` that counts as improvement
    monitor: str = "val_loss"


class Ema(Strict):
    enabled: bool = False
    decay: float = Field(0.999, gt=0, lt=1)  # warmed up as min(decay, (1 + step) / (10 + step))


class Training(Strict):
    epochs: int = Field(150, ge=1)
    min_epochs: int = Field(50, ge=0)  # early stopping never ends a run before this
    max_steps: int | None = Field(None, ge=1)  # optimiser steps; None: epochs alone decide
    early_stopping: EarlyStopping = EarlyStopping()
    amp: bool = True
    amp_dtype: Literal["float16", "bfloat16"] = "float16"
    grad_accum_steps: int = Field(1, ge=1)
    log_every: int = Field(10, ge=1)  # optimiser steps
    save_every: int = Field(5, ge=1)  # epochs: checkpoint_epoch_N.pt and a preview
    save_every_steps: int | None = Field(None, ge=1)  # last.pt between epochs
    eval_every_steps: int | None = Field(None, ge=1)  # validations besides those at the end of an epoch
    evaluate_first: bool = False  # and one before the first step, which the others stand beside as base_loss
    resume_from: Path | None = None
    compile: bool = False
    ema: Ema = Ema()


class Optim(Strict):
    lr: float = Field(3e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    grad_clip: float = Field(1.0, gt=0)  # global L2 norm

    @field_validator("betas")
    @classmethod
    def betas_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("each must be in [0, 1)")
        return value


class Scheduler(Strict):
    warmup_steps: int = Field(100, ge=0)
    min_lr_ratio: float = Field(0.1, ge=0, le=1)  # the cosine ends at lr x this


class TrainConfig(Strict):
    """What every family's training reads. A family adds `data`, `model` and `augment` of its own."""

    data: Data
    training: Training = Training()
    optim: Optim = Optim()
    scheduler: Scheduler = Scheduler()
    seed: int = Field(42, ge=0, lt=2**32)
    deterministic: bool = False


# ---------------------------------------------------------------- Spectocloud


class SpectocloudData(Data):
    train_manifest: Path = Path("data/manifests/spectocloud_train.jsonl")
    val_manifest: Path = Path("data/manifests/spectocloud_val.jsonl")
    batch_size: int = Field(32, ge=1)
    cache_dir: Path = Path("cache/spectrograms")


class SpectocloudModel(Strict):
    # The bounds here and below are far above use: they keep a foreign checkpoint from asking for a machine's memory.
    width: int = Field(
        40, ge=8, le=256
    )  # channels of the fine grid; the coarse grid has 4 x, the point network 2 x
    depth: int = Field(2, ge=1, le=16)  # residual blocks of each grid, and layers of the point network


class SpectocloudAugment(Strict):
    enabled: bool = True
    time_mask: int = Field(6, ge=0)  # widest masked run, frames
    freq_mask: int = Field(10, ge=0)  # widest masked run, mel bands
    noise: float = Field(0.02, ge=0)  # standard deviation of noise on the log-mel, in log10 units
    gain_db: float = Field(3.0, ge=0)  # largest gain either way
    time_stretch: float = Field(
        0.1, ge=0, lt=1
    )  # largest change of speed either way, where no target is at hand
    pitch_shift: int = Field(2, ge=0, le=12)  # semitones either way, likewise
    emotion_dropout: float = Field(0.05, ge=0, le=1)  # chance that a training item forgets its emotion


class SpectocloudConfig(TrainConfig):
    data: SpectocloudData = SpectocloudData()
    model: SpectocloudModel = SpectocloudModel()
    augment: SpectocloudAugment = SpectocloudAugment()


# ------------------------------------------------------------- MIDI generator


class MidiData(Data):
    train_manifest: Path = Path("data/manifests/midi_train.jsonl")
    val_manifest: Path = Path("data/manifests/midi_val.jsonl")
    batch_size: int = Field(64, ge=1)
    cache_dir: Path = Path("cache/midi_tokens")


class MidiModel(Strict):
    layers: int = Field(8, ge=1, le=32)
    width: int = Field(384, ge=16, le=2048)
    heads: int = Field(6, ge=1, le=64)
    window: int = Field(1024, ge=16, le=2**16)  # ids a call may see, past included
    cross_every: int = Field(2, ge=1, le=32)  # emotion cross-attention on layers 0, 2, 4, ...
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def even_head_width(self) -> MidiModel:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x heads ({2 * self.heads}) for rotary pairs"
            )
        return self


class MidiAugment(Strict):
    enabled: bool = True
    transpose: int = Field(6, ge=0, le=11)  # semitones either way; drums excepted
    tempo: float = Field(0.1, ge=0, lt=1)  # relative change either way
    velocity: int = Field(8, ge=0)  # MIDI velocity units either way
    emotion_dropout: float = Field(0.15, ge=0, le=1)  # chance that a training item forgets all its emotion
    context_dropout: float = Field(0.2, ge=0, le=1)  # the same for the context


class MidiConfig(TrainConfig):
    data: MidiData = MidiData()
    model: MidiModel = MidiModel()
    augment: MidiAugment = MidiAugment()


# ------------------------------------------------------------------- MusicGen


class MusicgenData(Data):
    # One table holds both sides, apart in its column `split`.
    train_manifest: Path = Path("ai-service/datasets/amapiano_proxy/training_metadata.csv")
    val_manifest: Path = Path("ai-service/datasets/amapiano_proxy/training_metadata.csv")
    batch_size: int = Field(8, ge=1)
    cache_dir: Path = Path("cache/musicgen")
    seconds: float = Field(10.0, gt=0, le=30)  # of a clip that an item hears, a whole number of codec frames
    prompt_templates: list[str] = Field(["{tags}"], min_length=1)


class MusicgenModel(Strict):
    base: str = "facebook/musicgen-small"  # a hub id, a folder, or "tiny": a small random stand-in
    tuning: Literal["lora", "full"] = "lora"
    rank: int = Field(16, ge=1, le=1024)  # LoRA's, of its two factors
    alpha: float = Field(32.0, gt=0)  # LoRA's output is scaled by alpha / rank
    dropout: float = Field(0.05, ge=0, lt=1)  # of LoRA's input


class MusicgenTraining(Training):
    gradient_checkpointing: bool = False  # half the memory for activations, a third more time


class MusicgenAugment(Strict):
    condition_dropout: float = Field(0.1, ge=0, le=1)  # chance that a training item forgets its prompt


class MusicgenConfig(TrainConfig):
    data: MusicgenData = MusicgenData()
    model: MusicgenModel = MusicgenModel()
    training: MusicgenTraining = MusicgenTraining()
    augment: MusicgenAugment = MusicgenAugment()


FamilyConfig = SpectocloudConfig | MidiConfig | MusicgenConfig

SCHEMAS: dict[str, type[FamilyConfig]] = {
    "spectocloud": SpectocloudConfig,
    "midi": MidiConfig,
    "musicgen": MusicgenConfig,
}

# The schema of a checkpoint's config["model"], by the checkpoint's family.
MODELS: dict[str, type[Strict]] = {
    "spectocloud": SpectocloudModel,
    "midi_generator": MidiModel,
    "musicgen": MusicgenModel,
}

SHIPPED = {  # musicgen's is the playbook's, in its flat form: see playbook.py
    "spectocloud": Path("training/cuda_session/spectocloud_training_config.yaml"),
    "midi": Path("training/cuda_session/midi_generator_training_config.yaml"),
}


def repo_root(beside: Path | None = None) -> Path:
    """The repository: the nearest folder above `beside`, the working directory or this file that is kwela's checkout.

    Falls back to the working directory, so that an installed kwela writes where it is run.
    """
    starts = [beside.resolve()] if beside else []
    for start in [*starts, Path.cwd(), Path(__file__).resolve()]:
        for folder in [start, *start.parents]:
            project = folder / "pyproject.toml"
            if project.is_file() and 'name = "kwela"' in project.read_text(encoding="utf-8"):
                return folder
    return Path.cwd()


def find(file: Path, shipped: Path) -> Path:
    """Where a config `file` is: in the working directory, or else beside the shipped one. Raises UserError."""
    candidates = [file, repo_root() / shipped.parent / file]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    sought = " or ".join(dict.fromkeys(str(candidate.absolute().parent) for candidate in candidates))
    raise UserError(f"{file}: no such config file (sought in {sought})")


def load(
    family: str, file: Path | None = None, *, preset: str | None = None, overrides: Sequence[str] = ()
) -> FamilyConfig:
    """Settings of `family` from defaults, `file`, `preset` and `overrides` ("a.b=c"), in that order of precedence.

    file: None reads the shipped YAML, another is sought by `find`.
    Relative data and cache paths come back absolute, against the repository's root.
    Raises UserError naming the file and the key: an unreadable file, an unknown key (with the nearest), a bad value.
    """
    path = find(file, SHIPPED[family]) if file else repo_root() / SHIPPED[family]
    given = read_file(path) if file or path.is_file() else {}
    check_keys(SCHEMAS[family], given, str(path))
    return resolve(family, given, path, preset=preset, overrides=overrides)


def resolve(
    family: str,
    given: dict[str, Any],
    path: Path,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> FamilyConfig:
    """`load`, from the settings `given` by the file `path`."""
    schema, merged = SCHEMAS[family], given
    if preset is not None:
        if preset not in PRESETS[family]:
            raise UserError(f"--preset {preset}: unknown preset (known: {', '.join(PRESETS[family])})")
        merged = _merge(merged, PRESETS[family][preset])
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign:
            raise UserError(f"--set {item}: write it as a.b=value")
        tree: Any = _scalar(key, text)
        for part in reversed(key.split(".")):
            tree = {part: tree}
        check_keys(schema, tree, f"--set {item}")
        merged = _merge(merged, tree)
    try:
        config = schema.model_validate(merged)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"{_set_by(key, overrides) or path}: {key}: {message}") from None
    root = repo_root(path.parent)
    for name in ("train_manifest", "val_manifest", "cache_dir"):
        setattr(config.data, name, root / getattr(config.data, name))
    if config.training.resume_from is not None:
        config.training.resume_from = root / config.training.resume_from
    return config


def first_error(error: ValidationError) -> tuple[str, str]:
    """The key that pydantic refused first, and why, with what was given."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "config"
    message = str(first["msg"]).removeprefix("Value error, ")
    return key, f"{message} (got {_short(first.get('input'))})"


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file. Raises UserError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, _Yaml)
    except RecursionError:
        raise UserError(f"{path}: not readable as a config: nested too deeply") from None
    except (
        OSError,
        ValueError,
        yaml.YAMLError,
    ) as error:  # ValueError: a date such as 2020-13-45, among others
        raise UserError(f"{path}: not readable as a config: {str(error).splitlines()[0]}") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
    ):  # PyYAML's own, for a value unlike its !!tag
        raise UserError(f"{path}: not readable as a config: a value does not fit its tag") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of keys, found {type(values).__name__}")
    return values


def _scalar(key: str, text: str) -> Any:
    try:
        return yaml.load(text, _Yaml)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
    ):
        raise UserError(f"--set {key}={_cut(text)}: not a YAML value") from None


class _Yaml(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for billions of values, and a config needs none."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"line {self.peek_event().start_mark.line + 1}: aliases (*name) are not supported"
            )
        return super().compose_node(parent, index)


def _set_by(key: str, overrides: Sequence[str]) -> str | None:
    """The last override that set `key`, a part of it or the group it is in."""
    for item in reversed(overrides):
        theirs = item.partition("=")[0]
        if f"{key}.".startswith(f"{theirs}.") or f"{theirs}.".startswith(f"{key}."):
            return f"--set {_cut(item)}"
    return None


def _short(value: Any) -> str:
    return _cut(reprlib.repr(value))  # which stops at a few values and levels


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:76]}..."


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


def check_keys(schema: type[BaseModel], values: dict[str, Any], where: str, prefix: str = "") -> None:
    """Refuse the first unknown key, naming the nearest known one anywhere in the schema."""
    for key, value in values.items():
        if key not in schema.model_fields:
            nearest = difflib.get_close_matches(f"{prefix}{key}", _paths(schema, prefix), n=1, cutoff=0.5)
            hint = (
                f" (did you mean {nearest[0]}?)" if nearest else f" (known: {', '.join(schema.model_fields)})"
            )
            raise UserError(f"{where}: {prefix}{key}: unknown key{hint}")
        if group := _group(schema, key):
            if not isinstance(value, dict):
                raise UserError(f"{where}: {prefix}{key}: expected a group of keys, found {_short(value)}")
            check_keys(group, value, where, f"{prefix}{key}.")


def _group(schema: type[BaseModel], key: str) -> type[BaseModel] | None:
    annotation = schema.model_fields[key].annotation
    if get_origin(annotation) is dict:  # whose keys are the user's own
        return None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _paths(schema: type[BaseModel], prefix: str) -> list[str]:
    out = []
    for key in schema.model_fields:
        out.append(f"{prefix}{key}")
        if group := _group(schema, key):
            out += _paths(group, f"{prefix}{key}.")
    return out
