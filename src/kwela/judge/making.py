"""Pieces of a MIDI generator for given emotions and seeds, on every core; what can't be made is None, never dropped."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from symusic.core import ScoreTick

from kwela.engine import checkpoint
from kwela.errors import KwelaError
from kwela.midigen import generate, model
from kwela.music import tokens

TOP_P = 0.95  # as `kwela generate midi` samples unless told otherwise
NONE = (float("nan"),) * 64  # no emotion
T = TypeVar("T")


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


def load(path: Path) -> Loaded:
    """The network of a checkpoint. Raises UserError as `checkpoint.load` and `rebuild`."""
    state = checkpoint.load(path)
    network = checkpoint.rebuild(path, state, "midi_generator", model.build, tokens.tokenizer_hash())
    return Loaded(network, int(state["config"]["model"]["window"]), state["meta"]["data_hash"])


def maker(path: Path) -> Maker:
    """A Maker of the checkpoint at `path`."""

    def make(jobs: Sequence[Job]) -> list[ScoreTick | None]:
        ids = spread(_play, jobs, "Generating", _start, (path,))
        return [None if one is None else tokens.decode(one) for one in ids]

    return make


def spread(
    function: Callable[[Any], T],
    items: Sequence[Any],
    label: str,
    start: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
    least: int = 8,
) -> list[T]:
    """function of each item, in order, on all cores, with a progress bar on stderr.

    start: run once in each process. least: items that a pool's start pays for. Raises KwelaError where a process dies
    (out of memory).
    """
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, len(items))
    if workers < 2 or len(items) < least:
        if start:
            start(*given)
        return list(_shown(map(function, items), label, len(items)))
    spawn = multiprocessing.get_context("spawn")  # torch's threads don't survive a fork
    try:
        with ProcessPoolExecutor(workers, spawn, start, given) as pool:
            return list(_shown(pool.map(function, items, chunksize=2), label, len(items)))
    except BrokenProcessPool:
        raise KwelaError(f"{label.lower()}: a worker process died (out of memory?): run it again") from None


def _shown(results: Iterable[T], label: str, total: int) -> Iterable[T]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(results, total=total, description=label)


_backend: generate.TorchBackend | None = None


def _start(path: Path) -> None:
    global _backend
    torch.set_num_threads(1)
    loaded = load(path)
    _backend = generate.TorchBackend(loaded.network, loaded.window)


def _play(job: Job) -> np.ndarray | None:
    assert _backend is not None
    try:
        return generate.generate(_backend, job.emotion, bars=job.bars, seed=job.seed, top_p=TOP_P)
    except KwelaError:  # its scores are not finite
        return None
