"""Teacher-forced gain sees a model that uses the emotion, and none where the model is deaf or the labels are
wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_pieces import toy_rows

from kwela.judge.midi import teacher_forcing
from kwela.music import tokens


class ToyModel(nn.Module):
    """Says how likely short notes are by the arousal it is told: as the toy songs with arousal > 0 have
    them.
    """

    def __init__(self, listens: bool) -> None:
        super().__init__()
        self.listens = listens

    def forward(self, ids: Tensor, emotion: Tensor, context: Tensor) -> tuple[Tensor, None, None]:
        logits = torch.zeros(*ids.shape, tokens.VOCAB)
        arousal = torch.nan_to_num(emotion[:, 1]) if self.listens else torch.zeros(len(ids))
        logits[..., 188] = (2 * arousal)[:, None]  # the sub-beat of an eighth: fast songs alone have it
        return logits, None, None


def gains_of(listens: bool, songs: list[dict[str, Any]] | None = None) -> dict[str, teacher_forcing.Interval]:
    held_out = songs or toy_rows(12, 3)
    mean = np.stack([row["emotion64"] for row in held_out]).mean(0)
    nats = teacher_forcing.measure_nats(ToyModel(listens), 128, held_out, mean, shuffles=4)
    return teacher_forcing.nats_saved(nats, [row["group"] for row in held_out])


def test_a_model_that_listens_gains_over_every_telling_that_lies_about_what_it_hears() -> None:
    gains = gains_of(True)
    for telling in ("shuffled", "none", "constant", "shuffled arousal"):
        assert gains[telling].low > 0, telling


def test_a_dimension_that_it_does_not_hear_gains_nothing() -> None:
    gains = gains_of(True)
    assert gains["shuffled valence"].value == 0 and gains["shuffled intensity"].value == 0


def test_a_deaf_model_gains_nothing() -> None:
    assert all(one.value == pytest.approx(0, abs=1e-12) for one in gains_of(False).values())


def test_wrong_labels_lose() -> None:
    songs = [row | {"emotion64": -row["emotion64"]} for row in toy_rows(12, 3)]
    assert gains_of(True, songs)["shuffled"].high < 0


def test_a_dimension_in_which_the_songs_agree_is_not_measured() -> None:
    songs = toy_rows(8, 3)
    for row in songs:
        row["emotion64"][2] = 0.6
    gains = gains_of(True, songs)
    assert "shuffled intensity" not in gains
    row = next(one for one in teacher_forcing.nats_saved_rows(gains, 8) if "intensity" in one.label)
    assert row.value is None and "one value" in row.note


def test_every_shuffle_tells_another_emotion() -> None:
    emotions = np.stack([row["emotion64"] for row in toy_rows(12, 3)])
    told = teacher_forcing.emotion_conditions(emotions, emotions.mean(0), 5, 0)
    for drawn in told["shuffled"]:
        assert (drawn != emotions).any(1).all()
    for drawn in told["shuffled valence"]:
        assert (drawn[:, 0] != emotions[:, 0]).all() and (drawn[:, 1:] == emotions[:, 1:]).all()


def test_every_id_but_the_first_is_scored_once() -> None:
    held_out = toy_rows(4, 3)
    nats = teacher_forcing.measure_nats(ToyModel(False), 64, held_out, np.zeros(64, np.float32), shuffles=1)
    assert nats.ids.tolist() == [len(tokens.encode(row["score"])) - 1 for row in held_out]
    assert nats.by_condition["true"] == pytest.approx(nats.ids * np.log(tokens.VOCAB), rel=1e-6)
