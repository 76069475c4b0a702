"""Check an exported MIDI generator by a whole song: greedily, it must generate the ids that PyTorch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kwela.errors import KwelaError
from kwela.midi_generator.generate import Backend, OnnxBackend, TorchBackend, generate
from kwela.midi_generator.model import MidiGenerator
from kwela.music import tokens

BARS = 16
LONGEST_BAR = (
    48  # ids: a greedy song that repeats itself for ever is cut, so that 16 bars fit a window of 1,024
)
EMOTION = (0.5, 0.5, 0.5)


def compare(file: Path, model: MidiGenerator, window: int, threads: int, tolerance: float) -> dict[str, Any]:
    """Generate BARS bars with both, and return the entry of the evidence.

    Where the songs first differ, PyTorch must score both ids alike, within twice `tolerance`; else
    KwelaError.
    """
    onnx = _BoundedBars(OnnxBackend(file, window, threads))
    torch = _BoundedBars(TorchBackend(model, window))
    onnx_song, torch_song = (
        generate(backend, EMOTION, bars=BARS, temperature=0) for backend in (onnx, torch)
    )
    pairs = enumerate(zip(onnx_song, torch_song, strict=False))
    position = next((i for i, (onnx_id, torch_id) in pairs if onnx_id != torch_id), None)
    if position is not None:
        scores = torch.scores[position - 1]  # of the call that gave this id; BOS needed none
        if abs(scores[onnx_song[position]] - scores[torch_song[position]]) > 2 * tolerance:
            raise KwelaError(
                f"greedy generation leaves PyTorch's at id {position} of {len(torch_song)}; "
                "nothing was exported"
            )
    return {
        "bars": BARS,
        "ids": len(onnx_song),
        "equal_to_pytorch": position is None,
        "tie_at": position,
    }


class _BoundedBars:
    """A backend that ends a bar after LONGEST_BAR ids, where the grammar allows it. It keeps its scores."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.window = backend, backend.window
        self.ids_in_bar = 0
        self.scores: list[np.ndarray] = []

    def step(
        self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
    ) -> tuple[np.ndarray, Any]:
        logits, past = self.backend.step(ids, emotion, context, past)
        self.ids_in_bar = 0 if ids[0, -1] == tokens.BAR else self.ids_in_bar + 1
        if self.ids_in_bar >= LONGEST_BAR:
            logits = logits.copy()
            logits[:, [tokens.BAR, tokens.EOS]] += 1e6
        self.scores.append(logits[0].copy())
        return logits, past
