"""What each exported model takes and gives: names, shapes, meaning, and the sizes it is checked and timed at.

The names and shapes are the contract with the C++ host. A length that may differ from call to call is named here once;
ONNX gets it as a symbolic dimension, Core ML as a range.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kwela.midi_generator import model as midigen
from kwela.music import audio, emotion, midi
from kwela.spectocloud import model as spectocloud

Sizes = Mapping[str, int]  # length's name -> its value


class Signature(NamedTuple):
    build: Callable[[dict[str, Any]], nn.Module]  # the model of a checkpoint's config["model"]
    lengths: Mapping[str, Mapping[int, str]]  # each input, in order: axis -> name of its length
    outputs: tuple[str, ...]
    example: Callable[[nn.Module, Sizes], dict[str, Tensor]]  # inputs of these sizes, the same each time
    traced: Sizes  # no length 0 or 1, and no two alike: torch.export would take them for constants
    tested: tuple[Sizes, ...]
    timed: tuple[Sizes, ...]
    writes_ids: bool  # true of a model of the 388 ids, which is bound to the tokenizer
    meaning: Mapping[str, str]  # what a host must know, for the metadata


EMOTION = f"(batch, {emotion.PADDED_SIZE}) float32: {emotion.PADDED_TEXT}; NaN emotion dimension = absent"


def _emotion(batch: int, draw: torch.Generator) -> Tensor:
    """Rows that are given, partly given and absent, in turn."""
    named = len(emotion.DIMENSION_NAMES)
    rows = torch.rand(batch, emotion.PADDED_SIZE, generator=draw) * 2 - 1
    rows[0::3, named:] = 0
    rows[1::3, [0, named - 1, named + 2]] = torch.nan
    rows[2::3] = torch.nan
    return rows


def _midi_example(model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    """The past is the model's own, of `past` random ids, so that its numbers are those of real use."""
    assert isinstance(model, midigen.MidiGenerator)
    draw = torch.Generator().manual_seed(1)
    batch, length, past = sizes["batch"], sizes["length"], sizes["past"]
    ids = torch.randint(0, midigen.VOCAB, (batch, past + length), generator=draw)
    context = torch.stack(
        [torch.randint(0, size, (batch, past + length), generator=draw) for size in midigen.CONTEXT], -1
    )
    emotions = _emotion(batch, draw)
    past_k, past_v = model.empty_past(batch)
    if past:
        _, past_k, past_v = model(ids[:, :past], emotions, context[:, :past], past_k, past_v)
    return {
        "input_ids": ids[:, past:],
        "emotion": emotions,
        "context": context[:, past:],
        "past_k": past_k,
        "past_v": past_v,
    }


def _cloud_example(model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    """Noise, and notes with overtones over near silence, in turn: the second is where small errors grow."""
    draw = torch.Generator().manual_seed(1)
    batch = sizes["batch"]
    spectrogram = torch.rand(batch, audio.MELS, audio.FRAMES, generator=draw) * 8 - 5
    for row in spectrogram[1::2]:
        row.mul_(0.01).sub_(4.95)
        for _ in range(12):
            band, onset, length = (int(torch.randint(size, (), generator=draw)) for size in (60, 50, 20))
            for overtone in (1, 2):
                row[band * overtone, onset : onset + length + 4] += 5 / overtone
    return {
        "spectrogram": spectrogram,
        "emotion": _emotion(batch, draw),
        "midi_features": torch.rand(batch, len(midi.FEATURE_NAMES), generator=draw),
    }


SIGNATURES = {
    "spectocloud": Signature(
        build=spectocloud.build,
        lengths={"spectrogram": {0: "batch"}, "emotion": {0: "batch"}, "midi_features": {0: "batch"}},
        outputs=("positions", "colors", "properties"),
        example=_cloud_example,
        traced={"batch": 2},
        tested=({"batch": 1}, {"batch": 2}, {"batch": 16}),
        timed=({"batch": 1},),
        writes_ids=False,
        meaning={
            "spectrogram": f"(batch, {audio.MELS}, {audio.FRAMES}) float32: the log-mel of 1.486 s",
            "log_mel": json.dumps(
                {
                    "sample_rate": audio.SAMPLE_RATE,
                    "channels": "mean of all",
                    "samples": audio.SEGMENT,
                    "pad": audio.PAD,
                    "pad_mode": "reflect",
                    "center": False,
                    "window": "hann, periodic",
                    "n_fft": audio.N_FFT,
                    "hop": audio.HOP,
                    "frames": audio.FRAMES,
                    "mels": audio.MELS,
                    "mel_scale": "slaney",
                    "mel_norm": "slaney",
                    "low_hz": audio.LOW_HZ,
                    "high_hz": audio.HIGH_HZ,
                    "power": 2,
                    "log": f"log10(max(x, {audio.FLOOR:g}))",
                }
            ),
            "emotion": EMOTION,
            "midi_features": json.dumps(list(midi.FEATURE_NAMES)),
            "positions": "(batch, 1200, 3) in 0..1: x = time, y = frequency or pitch, z = tension, dynamics, texture",
            "colors": "(batch, 1200, 4) in 0..1: red, green, blue, alpha",
            "properties": "(batch, 1200, 3) in 0..1: size, glow, depth",
        },
    ),
    "midi_generator": Signature(
        build=midigen.build,
        lengths={
            "input_ids": {0: "batch", 1: "length"},
            "emotion": {0: "batch"},
            "context": {0: "batch", 1: "length"},
            "past_k": {1: "batch", 3: "past"},
            "past_v": {1: "batch", 3: "past"},
        },
        outputs=("logits", "present_k", "present_v"),
        example=_midi_example,
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
            "context": "(batch, length, 4) int64: key 0-24, chord root 0-12, chord quality 0-16, style 0-64 of each "
            "id's bar; 0 = absent",
            "past_k, past_v": "(layers, batch, heads, past, head_dim) float32, keys already rotated, past >= 0; "
            "the position of input i is past + i",
            "logits": "(batch, length, 388) float32, of the id after each input",
            "present_k, present_v": "the past with the inputs' entries after it",
        },
    ),
}
