"""What an exported model takes and gives, as a family describes it, and the emotion input of all families.

The names and shapes are the contract with the C++ host. A length that may differ from call to call is named
once in a signature; ONNX gets it as a symbolic dimension, Core ML as a range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kwela.music import emotion

Sizes = Mapping[str, int]  # a length's name -> its value

# A check of (artefact, model, config["model"], onnxruntime's threads, tolerance). It returns further entries
# of the evidence, and raises KwelaError if the artefact does not do what the model does.
UseCheck = Callable[[Path, nn.Module, Mapping[str, Any], int, float], dict[str, Any]]

EMOTION = f"(batch, {emotion.PADDED_SIZE}) float32: {emotion.PADDED_TEXT}; NaN emotion dimension = absent"


class Signature(NamedTuple):
    """The inputs and outputs of a family's model, and the sizes it is checked and timed at."""

    lengths: Mapping[str, Mapping[int, str]]  # each input, in order: axis -> name of its length
    outputs: tuple[str, ...]  # names of what the model returns, which is a tuple
    example: Callable[[nn.Module, Sizes], dict[str, Tensor]]  # inputs of these sizes, the same at each call
    traced: Sizes  # no length 0 or 1, and no two alike: torch.export would take them for constants
    tested: tuple[Sizes, ...]
    timed: tuple[Sizes, ...]
    meaning: Mapping[str, str]  # what a host must know, for the metadata
    writes_ids: bool = False  # true of a model of the 388 ids: its host needs grammar.json and the window
    check_use: UseCheck | None = None  # a check beyond single calls, such as a whole song


def emotion_example(batch: int, generator: torch.Generator) -> Tensor:
    """Make emotions (batch, 64): rows that are given, partly given and absent, in turn."""
    named = len(emotion.DIMENSION_NAMES)
    rows = torch.rand(batch, emotion.PADDED_SIZE, generator=generator) * 2 - 1
    rows[0::3, named:] = 0
    rows[1::3, [0, named - 1, named + 2]] = torch.nan
    rows[2::3] = torch.nan
    return rows
