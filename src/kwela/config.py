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
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kwela import files, tables, terminal
from kwela.errors import UserError


class SettingsGroup(BaseModel):
    """A group of settings. An unknown key is an error, and a value is checked when it is assigned too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


class Data(SettingsGroup):
    """Where the rows come from, and how they are batched."""

    # The keys that each row of the manifests must have; empty if a family's rows have a format of their own.
    row_keys: ClassVar[tuple[str, ...]] = ()

    train_manifest: Path
    val_manifest: Path
    batch_size: int = Field(ge=1)  # per GPU
    num_workers: int = Field(2, ge=0)  # per GPU; the data order does not depend on it
    prefetch_factor: int = Field(2, ge=1)
    cache_features: bool = True
    cache_dir: Path


class EarlyStopping(SettingsGroup):
    """The rule that ends a run before its last epoch."""

    enabled: bool = True
    patience: int = Field(10, ge=1)  # validations without improvement
    min_delta: float = Field(0.001, ge=0)  # a smaller improvement of `monitor` does not count; absolute
    monitor: str = "val_loss"


class Ema(SettingsGroup):
    """The exponential moving average of the weights."""

    enabled: bool = False
    decay: float = Field(0.999, gt=0, lt=1)  # warmed up as min(decay, (1 + step) / (10 + step))


class Training(SettingsGroup):
    """The training loop: its length, its precision, and how often it saves and validates."""

    epochs: int = Field(150, ge=1)
    min_epochs: int = Field(50, ge=0)  # early stopping never ends a run before this
    max_steps: int | None = Field(None, ge=1)  # optimiser steps; None: no limit besides `epochs`
    early_stopping: EarlyStopping = EarlyStopping()
    amp: bool = True
    # "auto": what this machine multiplies fastest in. A resumed run keeps what it began with.
    amp_dtype: Literal["auto", "float16", "bfloat16"] = "float16"
    grad_accum_steps: int = Field(1, ge=1)
    log_every: int = Field(10, ge=1)  # optimiser steps
    save_every: int = Field(5, ge=1)  # epochs between two checkpoint_epoch_N.pt, each with a preview
    save_every_steps: int | None = Field(None, ge=1)  # optimiser steps between two last.pt inside an epoch
    eval_every_steps: int | None = Field(None, ge=1)  # optimiser steps between validations inside an epoch
    evaluate_first: bool = False  # validate before the first step too; the result is logged as base_loss
    resume_from: Path | None = None
    compile: bool = False
    ema: Ema = Ema()


class Optim(SettingsGroup):
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


class Scheduler(SettingsGroup):
    """The learning rate rises linearly, then falls along half a cosine."""

    warmup_steps: int = Field(100, ge=0)
    min_lr_ratio: float = Field(0.1, ge=0, le=1)  # the last learning rate is lr * min_lr_ratio


class TrainConfig(SettingsGroup):
    """What every family's training reads. A family adds its own `data`, `model` and `augment`."""

    # The file that is read if the user gives no --config. Its path is relative to the repository's root.
    shipped_file: ClassVar[Path | None] = None
    # {name: settings that replace those of the file}
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {}

    data: Data
    training: Training = Training()
    optim: Optim = Optim()
    scheduler: Scheduler = Scheduler()
    seed: int = Field(42, ge=0, lt=2**32)
    deterministic: bool = False


Config = TypeVar("Config", bound=TrainConfig)

_LARGEST = 1 << 24  # bytes of a config file

# Pydantic's kinds of errors, and the beginnings of such names.
_FAULTS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "does not look as it must (pattern {pattern})",
    "extra_forbidden": "is an unknown key",
}
_FAULT_KINDS = {
    "int_": "must be a whole number",
    "float_": "must be a number",
    "bool_": "must be true or false",
    "string_": "must be text",
    "list_": "must be a list",
    "tuple_": "must be a list",
    "dict_": "must be a group of keys",
    "model_": "must be a group of keys",
    "path_": "must be a path",
    "datetime_": "must be a date and time, such as 2026-11-01T09:00:00Z",
}

# PyYAML raises these for a value that its tag cannot read, such as `!!int word`.
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
    """Find the config `file` in the working directory, or else in the folder of the shipped config.

    Raises UserError if neither has it.
    """
    candidates = [file, *([repo_root() / shipped.parent / file] if shipped else [])]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    searched = " or ".join(dict.fromkeys(str(candidate.absolute().parent) for candidate in candidates))
    raise UserError(f"{file}: no such config file (searched in {searched})")


def load(
    schema: type[Config],
    file: Path | None = None,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """Read settings from the defaults, `file`, `preset` and `overrides` ("a.b=c"), in this order.

    A later source wins. file: `find` searches for it; None reads the shipped file, if the family has one. The
    paths of data and caches become absolute: a relative one starts at the repository's root. Raises UserError
    for a file that can't be read, an unknown key or a bad value. The message names the file and the key.
    """
    shipped = schema.shipped_file
    path = find(file, shipped) if file else repo_root() / (shipped or "defaults")
    values = read_file(path) if file or path.is_file() else {}
    check_keys(schema, values, str(path))
    return resolve(schema, values, path, preset=preset, overrides=overrides)


def resolve(
    schema: type[Config],
    values: dict[str, Any],
    path: Path,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """Return the settings as `load` does; `values` is the content of the file `path`."""
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
        raise UserError(f"{_override_of(key, overrides) or path}: {key}: {message}") from None
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
    tree: Any = _read_value(key, text)
    for part in reversed(key.split(".")):
        tree = {part: tree}
    check_keys(schema, tree, f"--set {item}")
    return tree


def first_error(error: ValidationError) -> tuple[str, str]:
    """Return the key that pydantic refused first, and the reason with the refused value."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "config"
    return key, f"{fault_words(first)} (got {_shortened_repr(first.get('input'))})"


def fault_words(fault: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors in plain words: "must be at least 1"."""
    words, kind = _FAULTS.get(fault["type"]), str(fault["type"])
    if words is None:
        words = next((text for start, text in _FAULT_KINDS.items() if kind.startswith(start)), None)
    if words is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    if "ctx" not in fault:
        return words
    limits = fault.get("ctx", {}).items()
    return words.format(
        **{name: f"{value:g}" if isinstance(value, float) else value for name, value in limits}
    )


def read_file(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML or JSON file. Raises UserError naming the file."""
    text = files.read_text(path, "settings", _LARGEST)
    try:
        values = (
            tables.parse_json(text, str(path))
            if path.suffix.lower() == ".json"
            else yaml.load(text, _YamlWithoutAliases)
        )
    except RecursionError:
        raise UserError(f"{path}: not readable as a config: nested too deeply") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not readable as a config: {_yaml_fault(error)}") from None
    except ValueError as error:  # a date such as 2020-13-45, among others
        raise UserError(f"{path}: not readable as a config: no such date or number: {error}") from None
    except _TAG_ERRORS:
        raise UserError(f"{path}: not readable as a config: a value does not fit its tag") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of keys, found {type(values).__name__}")
    for key, text in _texts(values):
        if re.search("[\0\ud800-\udfff]", text):  # no path and no model takes it
            raise UserError(f"{path}: {key}: holds a character that is no text: {_shortened_repr(text)}")
    return values


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a tree of settings with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _texts(part, f"{key}.{number}")


def _yaml_fault(error: yaml.YAMLError) -> str:
    """Say where YAML can't be read, and what the parser found there."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).splitlines()[0]
    mark = error.problem_mark
    return f"not YAML at line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _read_value(key: str, text: str) -> Any:
    try:
        return yaml.load(text, _YamlWithoutAliases)
    except (yaml.YAMLError, ValueError, RecursionError, *_TAG_ERRORS):
        raise UserError(f"--set {key}={_shorten(text)}: not a YAML value") from None


class _YamlWithoutAliases(yaml.SafeLoader):
    """Reads YAML without aliases: with them a few lines can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"line {self.peek_event().start_mark.line + 1}: aliases (*name) are not supported"
            )
        return super().compose_node(parent, index)


def _override_of(key: str, overrides: Sequence[str]) -> str | None:
    """Return the last override that sets `key`, a key inside it, or a group that contains it."""
    for item in reversed(overrides):
        name = item.partition("=")[0]
        if f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}."):
            return f"--set {_shorten(item)}"
    return None


def _shortened_repr(value: Any) -> str:
    return _shorten(reprlib.repr(value))  # reprlib.repr shows only the first values of each level.


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:76]}..."


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        are_groups = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if are_groups else value
    return out


def check_keys(schema: type[BaseModel], values: dict[str, Any], where: str, prefix: str = "") -> None:
    """Raise UserError for the first unknown key. The message names the most similar known key."""
    for key, value in values.items():
        if key not in schema.model_fields:
            nearest = difflib.get_close_matches(
                f"{prefix}{key}", _dotted_keys(schema, prefix), n=1, cutoff=0.5
            )
            hint = (
                f" (did you mean {nearest[0]}?)" if nearest else f" (known: {', '.join(schema.model_fields)})"
            )
            shown = _shorten(terminal.printable(f"{prefix}{key}").replace("\n", "\\n"))
            raise UserError(f"{where}: {shown}: unknown key{hint}")
        if group := _group_class(schema, key):
            if not isinstance(value, dict):
                raise UserError(
                    f"{where}: {prefix}{key}: expected a group of keys, found {_shortened_repr(value)}"
                )
            check_keys(group, value, where, f"{prefix}{key}.")


def _group_class(schema: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the class of the group `key`; None if `key` is a single setting."""
    annotation = schema.model_fields[key].annotation
    if get_origin(annotation) is dict:  # Its keys are the user's own, so none is unknown.
        return None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _dotted_keys(schema: type[BaseModel], prefix: str) -> list[str]:
    out = []
    for key in schema.model_fields:
        out.append(f"{prefix}{key}")
        if group := _group_class(schema, key):
            out += _dotted_keys(group, f"{prefix}{key}.")
    return out
