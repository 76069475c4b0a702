"""What an exported MIDI generator takes and gives, and how its use is checked: by whole songs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kwela.midi_generator import greedy_check
from kwela.midi_generator.model import CONTEXT, VOCAB, MidiGenerator
from kwela.signature import EMOTION, Signature, Sizes, emotion_example


def _example(model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    """Make random ids, and the past that the model computes from `past` ids before them."""
    assert isinstance(model, MidiGenerator)
    generator = torch.Generator().manual_seed(1)
    batch, length, past = sizes["batch"], sizes["length"], sizes["past"]
    ids = torch.randint(0, VOCAB, (batch, past + length), generator=generator)
    context = torch.stack(
        [torch.randint(0, size, (batch, past + length), generator=generator) for size in CONTEXT], -1
    )
    emotion = emotion_example(batch, generator)
    past_k, past_v = model.empty_past(batch)
    if past:
        _, past_k, past_v = model(ids[:, :past], emotion, context[:, :past], past_k, past_v)
    return {
        "input_ids": ids[:, past:],
        "emotion": emotion,
        "context": context[:, past:],
        "past_k": past_k,
        "past_v": past_v,
    }


def _check_use(
    file: Path, model: nn.Module, settings: Mapping[str, Any], threads: int, tolerance: float
) -> dict[str, Any]:
    assert isinstance(model, MidiGenerator)
    return {"greedy": greedy_check.compare(file, model, settings["window"], threads, tolerance)}


SIGNATURE = Signature(
    lengths={
        "input_ids": {0: "batch", 1: "length"},
        "emotion": {0: "batch"},
        "context": {0: "batch", 1: "length"},
        "past_k": {1: "batch", 3: "past"},
        "past_v": {1: "batch", 3: "past"},
    },
    outputs=("logits", "present_k", "present_v"),
    example=_example,
    traced={"batch": 2, "length": 3, "past": 5},
    tested=(
        {"batch": 1, "length": 1, "past": 0},
        {"batch": 1, "length": 128, "past": 0},
        {"batch": 3, "length": 17, "past": 0},
        {"batch": 1, "length": 1, "past": 1},
        {"batch": 2, "length": 1, "past": 40},
        {"batch": 3, "length": 5, "past": 7},
        {"batch": 1, "length": 1, "past": 511},
    ),
    timed=tuple({"batch": 1, "length": 1, "past": past} for past in (0, 128, 512)),
    writes_ids=True,
    meaning={
        "input_ids": "(batch, length) int64, 0-387: grammar.json says which id may follow which",
        "emotion": EMOTION + "; a change affects later ids and keeps the cache",
        "context": "(batch, length, 4) int64: key 0-24, chord root 0-12, chord quality 0-16, style 0-64 "
        "of each id's bar; 0 = absent",
        "past_k, past_v": "(layers, batch, heads, past, head_dim) float32, keys already rotated, past >= 0; "
        "the position of input i is past + i",
        "logits": "(batch, length, 388) float32, of the id after each input",
        "present_k, present_v": "the past with the inputs' entries after it",
    },
    check_use=_check_use,
)
