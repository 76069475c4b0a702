"""Typed settings: read from YAML or JSON, overridden by a preset and then by `--set a.b=c`.

    defaults (the classes) < config file < preset < --set

- The classes here are what every family's training reads. A family's own settings are in its package's
  `config.py`.
- A default is written once, in these classes. An unknown key is an error that names the nearest known one.
- Relative paths in a config resolve against the repository's root, so a run uses the same folders from any
  working directory.
"""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kwela.errors import UserError


class Strict(BaseModel):
    """A group of settings. Unknown keys are refused; values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


class Data(Strict):
    """Where the rows come from, and how they are batched."""

    # What a row of the manifests that `kwela manifests` writes must hold; empty for a family with a format of
    # its own.
    row_keys: ClassVar[tuple[str, ...]] = ()

    train_manifest: Path
    val_manifest: Path
    batch_size: int = Field(ge=1)  # per GPU
    num_workers: int = Field(2, ge=0)  # per GPU; the data order does not depend on it
    prefetch_factor: int = Field(2, ge=1)
    cache_features: bool = True
    cache_dir: Path


class EarlyStopping(Strict):
    """When a run ends before its last epoch."""

    enabled: bool = True
    patience: int = Field(10, ge=1)  # validations without improvement
    min_delta: float = Field(0.001, ge=0)  # the smallest improvement of `monitor` that counts, absolute
    monitor: str = "val_loss"


class Ema(Strict):
    """The exponential moving average of the weights."""

    enabled: bool = False
    decay: float = Field(0.999, gt=0, lt=1)  # warmed up as min(decay, (1 + step) / (10 + step))


class Training(Strict):
    """The loop: how long it runs, how precisely, and what it writes when."""

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
    evaluate_first: bool = False  # validate before the first step too; later figures report it as base_loss
    resume_from: Path | None = None
    compile: bool = False
    ema: Ema = Ema()


class Optim(Strict):
    """AdamW's settings."""

    lr: float = Field(3e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    grad_clip: float = Field(1.0, gt=0)  # global L2 norm

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("each must be in [0, 1)")
        return value


class Scheduler(Strict):
    """The learning rate: a linear warm-up, then a cosine."""

    warmup_steps: int = Field(100, ge=0)
    min_lr_ratio: float = Field(0.1, ge=0, le=1)  # the cosine ends at lr x this


class TrainConfig(Strict):
    """What every family's training reads. A family adds its own `data`, `model` and `augment`."""

    shipped_file: ClassVar[Path | None] = None  # what is read without --config, from the repository's root
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {}  # by name: settings that are laid over the file's

    data: Data
    training: Training = Training()
    optim: Optim = Optim()
    scheduler: Scheduler = Scheduler()
    seed: int = Field(42, ge=0, lt=2**32)
    deterministic: bool = False


C = TypeVar("C", bound=TrainConfig)

# What PyYAML raises for a value that does not fit its !!tag.
_TAG_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError)


def repo_root(beside: Path | None = None) -> Path:
    """Find the repository: the nearest checkout of kwela above `beside`, the working directory or this file.

    Falls back to the working directory, so that an installed kwela writes where it is run.
    """
    starts = [beside.resolve()] if beside else []
    for start in [*starts, Path.cwd(), Path(__file__).resolve()]:
        for folder in [start, *start.parents]:
            project = folder / "pyproject.toml"
            if project.is_file() and 'name = "kwela"' in project.read_text(encoding="utf-8"):
                return folder
    return Path.cwd()


def find(file: Path, shipped: Path | None) -> Path:
    """Find a config: `file` in the working directory, or else beside the shipped one. Raises UserError."""
    candidates = [file, *([repo_root() / shipped.parent / file] if shipped else [])]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    sought = " or ".join(dict.fromkeys(str(candidate.absolute().parent) for candidate in candidates))
    raise UserError(f"{file}: no such config file (sought in {sought})")


def load(
    schema: type[C], file: Path | None = None, *, preset: str | None = None, overrides: Sequence[str] = ()
) -> C:
    """Read settings from defaults, `file`, `preset` and `overrides` ("a.b=c"); a later one wins.

    file: None reads the shipped one, if there is one; another is sought by `find`. Relative data and cache
    paths come back absolute, against the repository's root. Raises UserError naming the file and the key: an
    unreadable file, an unknown key (with the nearest), a bad value.
    """
    shipped = schema.shipped_file
    path = find(file, shipped) if file else repo_root() / (shipped or "defaults")
    values = read_file(path) if file or path.is_file() else {}
    check_keys(schema, values, str(path))
    return resolve(schema, values, path, preset=preset, overrides=overrides)


def resolve(
    schema: type[C],
    values: dict[str, Any],
    path: Path,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> C:
    """Do what `load` does, from the `values` that were read from `path`."""
    merged = values
    if preset is not None:
        if preset not in schema.presets:
            raise UserError(f"--preset {preset}: unknown preset (known: {', '.join(schema.presets)})")
        merged = _merge(merged, schema.presets[preset])
    for item in overrides:
        merged = _merge(merged, _override(schema, item))
    try:
        settings = schema.model_validate(merged)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"{_set_by(key, overrides) or path}: {key}: {message}") from None
    root = repo_root(path.parent)
    for name in ("train_manifest", "val_manifest", "cache_dir"):
        setattr(settings.data, name, root / getattr(settings.data, name))
    if settings.training.resume_from is not None:
        settings.training.resume_from = root / settings.training.resume_from
    return settings


def _override(schema: type[BaseModel], item: str) -> dict[str, Any]:
    """Return the tree of keys that `--set item` stands for."""
    key, sign, text = item.partition("=")
    if not sign:
        raise UserError(f"--set {item}: write it as a.b=value")
    tree: Any = _scalar(key, text)
    for part in reversed(key.split(".")):
        tree = {part: tree}
    check_keys(schema, tree, f"--set {item}")
    return tree


def first_error(error: ValidationError) -> tuple[str, str]:
    """Return the key that pydantic refused first, and the reason with the refused value."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "config"
    message = str(first["msg"]).removeprefix("Value error, ")
    return key, f"{message} (got {_short(first.get('input'))})"


def read_file(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML or JSON file. Raises UserError naming the file."""
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
    except _TAG_ERRORS:
        raise UserError(f"{path}: not readable as a config: a value does not fit its tag") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of keys, found {type(values).__name__}")
    return values


def _scalar(key: str, text: str) -> Any:
    try:
        return yaml.load(text, _Yaml)
    except (yaml.YAMLError, ValueError, RecursionError, *_TAG_ERRORS):
        raise UserError(f"--set {key}={_cut(text)}: not a YAML value") from None


class _Yaml(yaml.SafeLoader):
    """YAML without aliases. A few lines of them can stand for billions of values, and a config needs none."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"line {self.peek_event().start_mark.line + 1}: aliases (*name) are not supported"
            )
        return super().compose_node(parent, index)


def _set_by(key: str, overrides: Sequence[str]) -> str | None:
    """Return the last override that set `key`, a part of it or the group it is in."""
    for item in reversed(overrides):
        name = item.partition("=")[0]
        if f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}."):
            return f"--set {_cut(item)}"
    return None


def _short(value: Any) -> str:
    return _cut(reprlib.repr(value))  # reprlib stops at a few values and levels


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
    if get_origin(annotation) is dict:  # the user chooses its keys
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
