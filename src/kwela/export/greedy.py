"""A whole song, greedily, through onnxruntime and through PyTorch: the same ids, or the export is wrong."""

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
    48  # ids: a greedy song that goes round in circles moves on, so 16 bars stay inside a window of 1,024
)
EMOTION = (0.5, 0.5, 0.5)


def compare(file: Path, model: MidiGenerator, window: int, threads: int, tolerance: float) -> dict[str, Any]:
    """Generate BARS bars with both. Returns what the evidence says of it.

    Where the songs part, PyTorch must hold both ids for equally likely, within twice `tolerance`; else KwelaError.
    """
    ours, theirs = _Paced(OnnxBackend(file, window, threads)), _Paced(TorchBackend(model, window))
    songs = [generate(backend, EMOTION, bars=BARS, temperature=0) for backend in (ours, theirs)]
    at = next((i for i, (a, b) in enumerate(zip(*songs, strict=False)) if a != b), None)
    if at is not None:
        scores = theirs.scores[at - 1]  # one call an id, the first after BOS
        if abs(scores[songs[0][at]] - scores[songs[1][at]]) > 2 * tolerance:
            raise KwelaError(
                f"{file.name}: greedy generation leaves PyTorch's at id {at} of {len(songs[1])}; nothing was exported"
            )
    return {"bars": BARS, "ids": len(songs[0]), "equal_to_pytorch": at is None, "tie_at": at}


class _Paced:
    """A backend whose bars end, where the grammar lets them, after LONGEST_BAR ids; it keeps its scores."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.window, self.since = backend, backend.window, 0
        self.scores: list[np.ndarray] = []

    def step(
        self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
    ) -> tuple[np.ndarray, Any]:
        logits, past = self.backend.step(ids, emotion, context, past)
        self.since = 0 if ids[0, -1] == tokens.BAR else self.since + 1
        if self.since >= LONGEST_BAR:
            logits = logits.copy()
            logits[:, [tokens.BAR, tokens.EOS]] += 1e6
        self.scores.append(logits[0].copy())
        return logits, past
