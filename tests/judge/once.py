"""Work that several tests ask for alike is done once a session.

For functions of their arguments alone: their results are kept by the contents of the arguments, of a file by
its bytes. Results are shared, so a test may not change one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

_results: dict[Hashable, Any] = {}


def share(patch: pytest.MonkeyPatch, module: ModuleType, *names: str) -> None:
    """Keep what these functions of a module return while `patch` lasts."""
    for name in names:
        patch.setattr(module, name, _kept(getattr(module, name)))


def forget() -> None:
    """Compute anew from here on: for a test that a function returns the same twice."""
    _results.clear()


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def kept(*arguments: Any, **named: Any) -> Any:
        key = (function.__module__, function.__qualname__, _contents(arguments), _contents(named))
        if key not in _results:
            _results[key] = function(*arguments, **named)
        return _results[key]

    return kept


def _contents(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        whole = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
        return value.dtype.str, value.shape, hashlib.sha256(whole).digest()
    if isinstance(value, Path):
        return (value.suffix, hashlib.sha256(value.read_bytes()).digest()) if value.is_file() else value
    if isinstance(value, dict):
        return tuple((key, _contents(part)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_contents, value))
    if dataclasses.is_dataclass(value):
        return tuple(_contents(getattr(value, field.name)) for field in dataclasses.fields(value))
    if hasattr(value, "dumps_midi"):
        return value.dumps_midi()
    return value
