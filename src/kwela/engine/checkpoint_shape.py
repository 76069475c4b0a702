"""What a loaded checkpoint must hold, checked before anyone uses it.

A checksum proves that a file is undamaged; it does not prove that kwela wrote it. The checks here are what
later code relies on. What else `optimizer`, `scaler` and `stopping` must hold is checked by the code that
loads them.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from torch import Tensor

_PLAIN_PARTS = ("progress", "stopping", "config", "meta")  # what JSON could hold: no tensors
# Limits on the levels and values of those: a pickled list may hold another one many times, which may do the
# same.
_MAX_DEPTH, _MAX_VALUES = 16, 100_000


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class _Progress(_Shape):
    epoch: NonNegativeInt
    samples: NonNegativeInt
    step: NonNegativeInt


class _DataSettings(_Shape):
    train_manifest: str
    val_manifest: str
    batch_size: NonNegativeInt


class _EarlyStoppingSettings(_Shape):
    monitor: str


class _TrainingSettings(_Shape):
    grad_accum_steps: NonNegativeInt
    early_stopping: _EarlyStoppingSettings


class _Config(_Shape):
    seed: NonNegativeInt
    data: _DataSettings
    training: _TrainingSettings


class _Facts(_Shape):
    started: str
    resumes: list[Any]


class _Meta(_Shape):
    data_hash: str
    global_batch: NonNegativeInt
    val: dict[Any, Any]
    window: list[Any]
    seconds: float
    facts: _Facts


class _State(_Shape):
    family: str
    tokenizer_hash: str
    model: dict[Any, Any]
    ema: dict[Any, Any] | None
    optimizer: dict[Any, Any]
    scaler: dict[Any, Any]
    progress: _Progress
    stopping: dict[Any, Any]
    config: _Config
    extra: dict[Any, Any]
    meta: _Meta


def fault(state: dict[str, Any]) -> str | None:
    """Return what is wrong with a checkpoint's state, in words; None if its shape is right."""
    for part in _PLAIN_PARTS:
        if not _is_plain(state.get(part, {})):
            return f"{part} holds other things than plain values"
    try:
        _State.model_validate(state)
    except ValidationError as error:
        return _first_fault(error)
    if not isinstance(state["config"].get("model", {}), dict):
        return "config.model is not a group of settings"
    for part in ("model", "ema"):
        weights = (state[part] or {}).items()
        if not all(isinstance(name, str) and _is_whole_tensor(value) for name, value in weights):
            return f"{part} holds other things than named tensors"
    return None


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{place} is missing"
    if first["type"] == "greater_than_equal":
        return f"{place} is {first['input']}"
    return f"{place} is of type {type(first['input']).__name__}"


def _is_whole_tensor(value: Any) -> bool:
    """Return whether it is a tensor with memory for all its numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _is_plain(value: Any) -> bool:
    """Return whether it holds only numbers, strings, lists and dicts with string keys, within the limits."""
    level, count = [value], 0
    for _ in range(_MAX_DEPTH):
        next_level: list[Any] = []
        for item in level:
            if isinstance(item, dict) and all(isinstance(key, str) for key in item):
                next_level += item.values()
            elif isinstance(item, list):
                next_level += item
            elif not (item is None or isinstance(item, str | int | float)):
                return False
            if count + len(next_level) > _MAX_VALUES:
                return False
        level, count = next_level, count + len(next_level)
    return not level
