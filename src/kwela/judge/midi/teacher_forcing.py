"""Teacher-forced gain: how much better a model foresees held-out songs when it is told their emotion.

For each held-out song the nats of every id are summed under several tellings: the true emotion, another song's, none,
the training mean; and with one dimension alone taken from another song. Gain = nats per id of a telling less those of
the truth; > 0 means that the truth helps. A gain over "none" alone may come from a model that was never taught to do
without; over "shuffled" it can't.

This is the model's own likelihood, so it runs on the model's own ids and windows; no evaluator has a part in it.
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
from kwela.stats import NOT_MEASURED, Interval, bootstrap
from kwela.terminal import with_progress_bar

DIMENSIONS = ("valence", "arousal", "intensity")
BATCH = 8


class Nats(NamedTuple):
    """Sums over the ids of each held-out song, in nats: by telling (songs,); and how many ids (songs,)."""

    by_telling: dict[str, np.ndarray]
    ids: np.ndarray


def tellings(emotions: np.ndarray, mean: np.ndarray, draws: int, seed: int) -> dict[str, list[np.ndarray]]:
    """name -> emotions (songs, 64) to tell, several where they are drawn; "true" is first.

    emotions: (songs, 64); mean: (64,), of the training rows. A shuffled song is told the emotion of another song that
    differs from its own wherever there is one; a dimension's shuffle draws among songs that differ in that dimension,
    and is absent where all songs agree on it.
    """
    rng = np.random.default_rng(seed)
    out = {
        "true": [emotions],
        "none": [np.full_like(emotions, np.nan)],
        "constant": [np.broadcast_to(mean, emotions.shape).copy()],
    }
    columns = {f"shuffled {name}": slice(d, d + 1) for d, name in enumerate(DIMENSIONS)}
    for name, span in ({"shuffled": slice(None)} | columns).items():
        part = emotions[:, span]
        if (part == part[0]).all():
            continue
        others = [np.flatnonzero((part != own).any(1)) for own in part]
        out[name] = [emotions.copy() for _ in range(draws)]
        for told in out[name]:
            told[:, span] = part[[rng.choice(one) for one in others]]
    return out


@torch.inference_mode()
def measure(
    network: nn.Module,
    window: int,
    rows: Sequence[Mapping[str, Any]],
    mean: np.ndarray,
    draws: int = 4,
    seed: int = 0,
    most_ids: int | None = None,
) -> Nats:
    """The nats of held-out rows (`corpus.rows.read`) under each telling. most_ids: of each song, from its start."""
    ids = [tokens.encode(row["score"])[:most_ids] for row in rows]
    songs = [
        windows.Song(Path(row["midi_path"]), one, row["emotion64"], row.get("context") or {})
        for row, one in zip(rows, ids, strict=True)
    ]
    told = tellings(np.stack([song.emotion for song in songs]), mean, draws, seed)
    whole = windows.WholeSongs(songs, window)
    which = np.repeat(np.arange(len(songs)), [len(windows.cover(song.ids, window)) for song in songs])
    items = [
        whole.item(at, np.random.default_rng(0)) for at in range(len(whole))
    ]  # held-out items draw nothing
    order = np.argsort([len(item["input_ids"]) for item in items], kind="stable")
    nats = {name: np.zeros(len(songs)) for name in told}
    network.eval()
    for first in with_progress_bar(range(0, len(items), BATCH), "Scoring held-out songs"):
        part = order[first : first + BATCH]
        batch = windows.collate([items[at] for at in part])
        for name, drawn in told.items():
            for emotions in drawn:
                feeling = torch.from_numpy(emotions[which[part]].astype(np.float32))
                np.add.at(nats[name], which[part], _surprise(network, batch, feeling) / len(drawn))
    return Nats(nats, np.array([len(one) - 1 for one in ids], float))


def _surprise(network: nn.Module, batch: Mapping[str, torch.Tensor], feeling: torch.Tensor) -> np.ndarray:
    logits = network(batch["input_ids"], feeling, batch["context"])[0]
    nats = F.cross_entropy(
        logits.flatten(0, 1).float(), batch["targets"].flatten(), ignore_index=tokens.PAD, reduction="none"
    )
    return nats.view_as(batch["targets"]).double().sum(1).numpy()


def levels(nats: Nats, groups: Sequence[str], seed: int = 0, label: str = "") -> list[ScorecardRow]:
    """Nats per id under each telling, with intervals by song. label: after each row's name."""
    return [
        ScorecardRow.from_interval(f"{_SAID[name]}{label}", _per_id(sums, nats.ids, groups, seed), len(sums))
        for name, sums in nats.by_telling.items()
    ]


def gains(nats: Nats, groups: Sequence[str], seed: int = 0) -> dict[str, Interval]:
    """Telling -> nats per id that the truth saves over it, with intervals by song."""
    true = nats.by_telling["true"]
    return {
        name: _per_id(sums - true, nats.ids, groups, seed)
        for name, sums in nats.by_telling.items()
        if name != "true"
    }


def gain_rows(found: dict[str, Interval], songs: int, label: str = "") -> list[ScorecardRow]:
    missing = "the held-out songs all have one value"
    return [
        ScorecardRow.from_interval(
            f"over {said}{label}", found.get(name, NOT_MEASURED), songs, "" if name in found else missing
        )
        for name, said in _SAID.items()
        if name != "true"
    ]


_SAID = {
    "true": "the true emotion",
    "shuffled": "shuffled emotions",
    "none": "no emotion",
    "constant": "one constant emotion",
    **{f"shuffled {name}": f"shuffled {name} alone" for name in DIMENSIONS},
}


def _per_id(sums: np.ndarray, ids: np.ndarray, groups: Sequence[str], seed: int) -> Interval:
    return bootstrap(groups, lambda index: float(sums[index].sum() / ids[index].sum()), seed=seed)
