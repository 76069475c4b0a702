"""Pieces of a MIDI generator for given emotions and seeds, on every core; what can't be made is None, never dropped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.engine import checkpoint
from kwela.judge.shared.parallel_map import Failure, map_items
from kwela.midi_generator import generate, model
from kwela.music import tokens

TOP_P = 0.95  # as `kwela generate midi` samples unless told otherwise
NONE = (float("nan"),) * 64  # no emotion


class Job(NamedTuple):
    emotion: tuple[float, ...]  # 3 numbers, or 64; NaN is not given
    seed: int
    bars: int


# Turns jobs into scores, in order; None where a piece could not be made. A judge asks for nothing else of a generator.
Maker = Callable[[Sequence[Job]], list[ScoreTick | None]]


class Loaded(NamedTuple):
    network: model.MidiGenerator
    window: int  # in ids
    data_hash: str  # of the manifests that it was trained with
    manifest: Path  # of its training rows


def load(path: Path) -> Loaded:
    """The network of a checkpoint. Raises UserError as `checkpoint.load` and `rebuild`."""
    state = checkpoint.load(path)
    network = checkpoint.rebuild(path, state, "midi_generator", model.build, tokens.tokenizer_hash())
    trained = Path(state["config"]["data"]["train_manifest"])
    return Loaded(network, int(state["config"]["model"]["window"]), state["meta"]["data_hash"], trained)


def maker(path: Path) -> Maker:
    """A Maker of the checkpoint at `path`."""

    def make(jobs: Sequence[Job]) -> list[ScoreTick | None]:
        made = map_items(_play, [(path, job) for job in jobs], "Generating")
        return [None if isinstance(ids, Failure) else tokens.decode(np.array(ids, np.int16)) for ids in made]

    return make


def _play(asked: tuple[Path, Job]) -> list[int]:
    path, job = asked
    return generate.generate(_backend(path), job.emotion, bars=job.bars, seed=job.seed, top_p=TOP_P).tolist()


@functools.lru_cache(1)
def _backend(path: Path) -> generate.TorchBackend:
    loaded = load(path)
    return generate.TorchBackend(loaded.network, loaded.window)
