"""Generate pieces with a MIDI generator for given emotions and seeds, on every core.

A piece that can't be made is None in its place; it is never dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela import families
from kwela.engine import checkpoint
from kwela.judge.shared.parallel_map import Failure, map_items
from kwela.midi_generator import generate, model
from kwela.music import tokens
from kwela.music.emotion import PADDED_SIZE

TOP_P = 0.95  # the default of `kwela generate midi`
NO_EMOTION = (float("nan"),) * PADDED_SIZE


class GenerationRequest(NamedTuple):
    """What one piece is generated for."""

    emotion: tuple[float, ...]  # 3 numbers, or 64; NaN stands for a value that is not given
    seed: int
    bars: int


# Turns requests into scores, in order; None where a piece could not be made. A judge asks nothing else of it.
PieceGenerator = Callable[[Sequence[GenerationRequest]], list[ScoreTick | None]]


class LoadedGenerator(NamedTuple):
    """The network of a checkpoint, and what it was trained on."""

    network: model.MidiGenerator
    window: int  # in ids
    data_hash: str  # of the manifests that it was trained with
    manifest: Path  # of its training rows


def load_generator(path: Path) -> LoadedGenerator:
    """Load the network of a checkpoint. Raises UserError as `checkpoint.load` and `checkpoint.rebuild`."""
    state = checkpoint.load(path)
    network = families.named("midi_generator").rebuild(path, state)
    assert isinstance(network, model.MidiGenerator)
    manifest = Path(state["config"]["data"]["train_manifest"])
    return LoadedGenerator(
        network, int(state["config"]["model"]["window"]), state["meta"]["data_hash"], manifest
    )


def checkpoint_generator(path: Path) -> PieceGenerator:
    """Return the PieceGenerator of the checkpoint at `path`."""

    def generate_pieces(requests: Sequence[GenerationRequest]) -> list[ScoreTick | None]:
        results = map_items(_generate_ids, [(path, request) for request in requests], "Generating")
        return [
            None if isinstance(ids, Failure) else tokens.decode(np.array(ids, np.int16)) for ids in results
        ]

    return generate_pieces


def _generate_ids(path_and_request: tuple[Path, GenerationRequest]) -> list[int]:
    path, request = path_and_request
    ids = generate.generate(
        _backend(path), request.emotion, bars=request.bars, seed=request.seed, top_p=TOP_P
    )
    return ids.tolist()


@functools.lru_cache(1)
def _backend(path: Path) -> generate.TorchBackend:
    loaded = load_generator(path)
    return generate.TorchBackend(loaded.network, loaded.window)
