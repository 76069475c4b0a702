"""Measure how much better a model predicts held-out songs when it is given their emotion.

This is the teacher-forced gain. For each held-out song, the nats of every id are summed under several
conditions: the true emotion, another song's, none, the training mean; and with one dimension alone taken from
another song. Gain = nats per id under a condition less those under the true emotion; over 0, the true emotion
helps. A gain over "none" alone may come from a model that was never taught to do without an emotion; a gain
over "shuffled" can't.

This is the model's own likelihood, so it uses the model's own ids and windows. No evaluator has a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from kwela.judge.shared.scorecard import ScorecardRow
from kwela.midi_generator import windows
from kwela.music import tokens
from kwela.music.emotion import DIMENSION_NAMES
from kwela.stats import NOT_MEASURED, Interval, bootstrap
from kwela.terminal import with_progress_bar

BATCH_SIZE = 8  # windows


class HeldOutNats(NamedTuple):
    """Sums over the ids of each held-out song."""

    by_condition: dict[str, np.ndarray]  # nats, (songs,) each
    ids: np.ndarray  # how many ids, (songs,)


def emotion_conditions(
    emotions: np.ndarray, mean: np.ndarray, shuffles: int, seed: int
) -> dict[str, list[np.ndarray]]:
    """Return {condition: emotions (songs, 64) to give the model}, "true" first.

    There are several where they are shuffled. emotions: (songs, 64); mean: (64,), of the training rows. A
    shuffled song gets the emotion of another song that differs from its own, wherever there is one. A
    dimension's shuffle draws among songs that differ in that dimension, and is absent where all songs agree
    on it.
    """
    rng = np.random.default_rng(seed)
    conditions = {
        "true": [emotions],
        "none": [np.full_like(emotions, np.nan)],
        "constant": [np.broadcast_to(mean, emotions.shape).copy()],
    }
    spans = {f"shuffled {name}": slice(d, d + 1) for d, name in enumerate(DIMENSION_NAMES)}
    for condition, span in ({"shuffled": slice(None)} | spans).items():
        values = emotions[:, span]
        if (values == values[0]).all():
            continue
        different_songs = [np.flatnonzero((values != value).any(1)) for value in values]
        conditions[condition] = [emotions.copy() for _ in range(shuffles)]
        for shuffled in conditions[condition]:
            shuffled[:, span] = values[[rng.choice(songs) for songs in different_songs]]
    return conditions


@torch.inference_mode()
def measure_nats(
    network: nn.Module,
    window: int,
    rows: Sequence[Mapping[str, Any]],
    mean: np.ndarray,
    shuffles: int = 4,
    seed: int = 0,
    max_ids: int | None = None,
) -> HeldOutNats:
    """Return the nats of held-out rows under each condition.

    window: of the network, in ids. rows: of `corpus.pairs.rows.read`, with "score". max_ids: of each song,
    from its start; None: all.
    """
    ids = [tokens.encode(row["score"])[:max_ids] for row in rows]
    songs = [
        windows.Song(Path(row["midi_path"]), song_ids, row["emotion64"], row.get("context") or {})
        for row, song_ids in zip(rows, ids, strict=True)
    ]
    conditions = emotion_conditions(np.stack([song.emotion for song in songs]), mean, shuffles, seed)
    dataset = windows.WholeSongs(songs, window)
    song_of_item = np.repeat(np.arange(len(songs)), [len(windows.cover(song.ids, window)) for song in songs])
    # A held-out item draws nothing from its random generator.
    items = [dataset.item(index, np.random.default_rng(0)) for index in range(len(dataset))]
    shortest_first = np.argsort([len(item["input_ids"]) for item in items], kind="stable")
    nats = {condition: np.zeros(len(songs)) for condition in conditions}
    network.eval()
    for first in with_progress_bar(range(0, len(items), BATCH_SIZE), "Scoring held-out songs"):
        indexes = shortest_first[first : first + BATCH_SIZE]
        batch = windows.collate([items[index] for index in indexes])
        for condition, shuffled in conditions.items():
            for emotions in shuffled:
                emotion = torch.from_numpy(emotions[song_of_item[indexes]].astype(np.float32))
                np.add.at(
                    nats[condition], song_of_item[indexes], _nats_of(network, batch, emotion) / len(shuffled)
                )
    return HeldOutNats(nats, np.array([len(song_ids) - 1 for song_ids in ids], float))


def _nats_of(network: nn.Module, batch: Mapping[str, torch.Tensor], emotion: torch.Tensor) -> np.ndarray:
    """Return the sum of each item's nats, (batch,)."""
    logits = network(batch["input_ids"], emotion, batch["context"])[0]
    nats = F.cross_entropy(
        logits.flatten(0, 1).float(), batch["targets"].flatten(), ignore_index=tokens.PAD, reduction="none"
    )
    return nats.view_as(batch["targets"]).double().sum(1).numpy()


def nats_rows(nats: HeldOutNats, groups: Sequence[str], seed: int = 0, label: str = "") -> list[ScorecardRow]:
    """Return a row for each condition: nats per id, with intervals by song. label: after each row's name."""
    return [
        ScorecardRow.from_interval(
            f"{_ROW_NAMES[condition]}{label}", _per_id(sums, nats.ids, groups, seed), len(sums)
        )
        for condition, sums in nats.by_condition.items()
    ]


def nats_saved(nats: HeldOutNats, groups: Sequence[str], seed: int = 0) -> dict[str, Interval]:
    """Return {condition: nats per id that the true emotion saves over it}, with intervals by song."""
    true = nats.by_condition["true"]
    return {
        condition: _per_id(sums - true, nats.ids, groups, seed)
        for condition, sums in nats.by_condition.items()
        if condition != "true"
    }


def nats_saved_rows(saved: dict[str, Interval], songs: int, label: str = "") -> list[ScorecardRow]:
    """Return a row for each condition of `nats_saved`, and one without a value for each that is absent."""
    missing = "the held-out songs all have one value"
    return [
        ScorecardRow.from_interval(
            f"over {name}{label}",
            saved.get(condition, NOT_MEASURED),
            songs,
            "" if condition in saved else missing,
        )
        for condition, name in _ROW_NAMES.items()
        if condition != "true"
    ]


_ROW_NAMES = {
    "true": "the true emotion",
    "shuffled": "shuffled emotions",
    "none": "no emotion",
    "constant": "one constant emotion",
    **{f"shuffled {name}": f"shuffled {name} alone" for name in DIMENSION_NAMES},
}


def _per_id(sums: np.ndarray, ids: np.ndarray, groups: Sequence[str], seed: int) -> Interval:
    return bootstrap(groups, lambda index: float(sums[index].sum() / ids[index].sum()), seed=seed)
