"""Sampling: grammatical from any weights, the bars asked for, the same song for the same seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from midi_songs import a_song, check_grammar

from kwela.errors import KwelaError, UserError
from kwela.midi_generator.generate import Sampling, TorchBackend, choose, first_bars, generate, parse_emotion
from kwela.midi_generator.model import MidiGenerator
from kwela.music import emotion, tokens

ANY = Sampling()
EVERY = np.ones(tokens.VOCAB, bool)


class Noise:
    """A backend of no model: logits drawn from a seed and the number of ids so far. Notes what it is
    asked.
    """

    def __init__(self, seed: int, window: int = 1024, spread: float = 3.0) -> None:
        self.seed, self.window, self.spread = seed, window, spread
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []

    def step(
        self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
    ) -> tuple[np.ndarray, Any]:
        before = past or 0
        self.calls.append((ids, emotion, context, before))
        rng = np.random.default_rng((self.seed, before, int(ids.sum())))
        return rng.normal(0, self.spread, (len(ids), tokens.VOCAB)), before + ids.shape[1]


def bars_of(ids: np.ndarray) -> int:
    return int((ids == tokens.BAR).sum())


@pytest.mark.parametrize("seed", range(12))
def test_any_weights_and_any_seed_give_a_grammatical_song_of_the_bars_asked_for(seed: int) -> None:
    bars = 1 + seed % 5
    ids = generate(Noise(seed), [0, 0, 0.5], bars=bars, seed=seed, temperature=(0, 0.5, 1, 5)[seed % 4])
    check_grammar(ids)
    assert ids[0] == tokens.BOS and ids[-1] == tokens.EOS and bars_of(ids) == bars
    assert not np.isin(ids, [tokens.PAD, 176, *range(358, 384)]).any()
    tokens.decode(ids)


def test_the_network_itself_does_so_too(network: MidiGenerator) -> None:
    ids = generate(TorchBackend(network, 128), [0.5, 0.5, 0.5], bars=3, seed=1, guidance=2.0)
    check_grammar(ids)
    assert bars_of(ids) == 3


def test_the_seed_is_the_song(network: MidiGenerator) -> None:
    def song(seed: int) -> list[int]:
        return generate(network, [0, 0, 0.5], bars=2, seed=seed).tolist()

    assert song(4) == song(4) != song(5)


def test_greedy_needs_no_seed_and_a_cache_no_faith(network: MidiGenerator) -> None:
    """Every id of a greedy song is the likeliest allowed one by an uncached forward pass."""
    feeling = emotion.to_64d([0.3, -0.2, 0.5])
    ids = generate(TorchBackend(network, 1024), feeling, bars=2, temperature=0, seed=1)
    assert np.array_equal(ids, generate(TorchBackend(network, 1024), feeling, bars=2, temperature=0, seed=2))
    state = tokens.start()
    for at in range(1, min(len(ids), 60)):
        state = tokens.advance(state, int(ids[at - 1]))
        prefix = ids[None, :at].astype(np.int64)
        logits, _ = TorchBackend(network).step(prefix, feeling[None], np.zeros((1, at, 4), np.int64), None)
        allowed = tokens.allowed(state)
        if not allowed[[tokens.BAR, tokens.EOS]].any():  # bar and end share their weight: see generate
            assert np.where(allowed, logits[0], -np.inf).argmax() == ids[at]


def test_emotion_changes_at_its_bar_and_nothing_is_fed_twice() -> None:
    curve = [(0, [0.1, 0, 0]), (2, [0.2, 0, 0]), (3, [0.3, 0, 0])]
    backend = Noise(1)
    ids = generate(backend, curve, bars=5, seed=3)
    fed = np.concatenate([call[0][0] for call in backend.calls])
    assert np.array_equal(fed, ids[:-1])
    valence = np.concatenate([np.full(call[0].shape[1], call[1][0, 0]) for call in backend.calls])
    bar = np.cumsum(fed == tokens.BAR)
    assert valence == pytest.approx(np.array([0.1, 0.1, 0.1, 0.2, 0.3, 0.3])[bar])


def test_context_is_that_of_each_id_s_bar() -> None:
    context = np.arange(12).reshape(3, 4)
    backend = Noise(2)
    ids = generate(backend, [0, 0, 0], bars=3, seed=3, context=context)
    fed = np.concatenate([call[2][0] for call in backend.calls])
    rows = np.concatenate((np.zeros((1, 4), np.int64), context))
    assert np.array_equal(fed, rows[np.cumsum(ids[:-1] == tokens.BAR)])


def test_guidance_adds_a_row_that_is_not_told_the_emotion() -> None:
    class Told(Noise):
        def step(
            self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
        ) -> tuple[np.ndarray, Any]:
            logits, past = super().step(ids, emotion, context, past)
            assert np.isnan(emotion[1]).all() and not np.isnan(emotion[0]).any()
            logits[:] = 0
            logits[0, 62] = 1.0
            return logits, past

    def share_of_62(guidance: float) -> float:
        ids = generate(Told(0), [0.5, 0, 0], bars=8, seed=0, guidance=guidance)
        return float((ids[ids < 128] == 62).mean())

    assert share_of_62(12.0) > 0.9 > 0.1 > share_of_62(0.0)


def test_a_full_window_is_primed_again_from_the_bar_nearest_half_of_it() -> None:
    backend = Noise(3, window=64)
    ids = generate(backend, [0, 0, 0.5], bars=20, seed=1)
    assert bars_of(ids) == 20
    held = 0
    for fed, _, _, past in backend.calls:
        assert past + fed.shape[1] <= 64
        if past == 0 and held:  # primed again
            start = held + 1 - fed.shape[1]
            assert ids[start] == tokens.BAR
            others = [at for at in range(held + 2 - 64, held + 1) if ids[at] == tokens.BAR]
            assert abs(start - (held + 1 - 32)) == min(abs(at - (held + 1 - 32)) for at in others)
        held = held + fed.shape[1] if past or not held else held + 1
    assert sum(past == 0 for *_, past in backend.calls) > 3


def test_a_bar_that_would_never_end_is_ended() -> None:
    class Endless(Noise):
        def step(
            self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
        ) -> tuple[np.ndarray, Any]:
            logits, past = super().step(ids, emotion, context, past)
            logits[:, [tokens.BAR, tokens.EOS]] = -1e9
            logits[:, 160:200] = -1e9
            return logits, past

    ids = generate(Endless(0, window=100), [0, 0, 0], bars=3, seed=0)
    assert np.diff(np.flatnonzero(np.isin(ids, [tokens.BAR, tokens.EOS]))).max() < 60


def test_a_prompt_is_kept_and_its_bars_count() -> None:
    prompt = first_bars(a_song(3), 4)
    assert bars_of(prompt) == 4 and prompt[-1] != tokens.EOS
    ids = generate(Noise(0), [0, 0, 0], bars=6, seed=0, prompt=prompt)
    check_grammar(ids)
    assert np.array_equal(ids[: len(prompt)], prompt) and ids[len(prompt)] == tokens.BAR and bars_of(ids) == 6
    with pytest.raises(UserError, match="--bars asks for 4"):
        generate(Noise(0), [0, 0, 0], bars=4, prompt=prompt)
    assert np.array_equal(first_bars(a_song(3), None), a_song(3)[:-1])


def test_the_filters_keep_what_they_say() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1] + [1e-12] * 384))

    def drawn(how: Sampling, recent: tuple[int, ...] = ()) -> set[int]:
        return {choose(logits, EVERY, recent, how, draw) for draw in np.linspace(0, 1, 200, endpoint=False)}

    assert drawn(Sampling(temperature=0)) == {0}
    assert drawn(ANY) >= {0, 1, 2, 3}
    assert drawn(Sampling(top_k=2)) == {0, 1}
    assert drawn(Sampling(top_p=0.65)) == {0, 1}
    assert drawn(Sampling(min_p=0.4)) == {0, 1, 2}
    assert drawn(Sampling(temperature=0.01)) == {0}
    assert drawn(Sampling(temperature=0, repetition_penalty=3.0), (0, 1)) == {2}
    odd = EVERY.copy()
    odd[[0, 2]] = False
    assert choose(logits, odd, (), Sampling(temperature=0), 0.0) == 1
    shares = np.bincount(
        [choose(logits, EVERY, (), ANY, draw) for draw in np.linspace(0, 1, 1000, endpoint=False)]
    )
    assert shares[:4] / 1000 == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"bars": 0},
            {"temperature": -1},
            {"top_p": 0},
            {"top_k": -2},
            {"min_p": 1},
            {"repetition_penalty": 0},
        ),
        *(
            {"seed": -1},
            {"temperature": math.inf},
            {"temperature": math.nan},
            {"repetition_penalty": math.inf},
        ),
        *({"guidance": math.nan}, {"guidance": -math.inf}, {"top_p": math.nan}, {"min_p": math.nan}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--" + next(iter(wrong)).replace("_", "-")):
        generate(Noise(0), [0, 0, 0], **({"bars": 1} | wrong))


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_model_of_no_use_is_one_line(network: MidiGenerator, temperature: float) -> None:
    with torch.no_grad():
        network.head.weight[5] = torch.nan
    with pytest.raises(KwelaError, match="scores are not finite at id 1") as caught:
        generate(network, [0, 0, 0.5], bars=1, temperature=temperature)
    assert caught.value.status == 1


def test_emotion_is_a_word_numbers_or_a_curve() -> None:
    grief, calm = emotion.lookup("grief").emotion, emotion.lookup("calm").emotion
    assert parse_emotion("grief") == [(0, grief)]
    assert parse_emotion("0.5,-0.25,1") == [(0, (0.5, -0.25, 1.0))]
    assert parse_emotion("0:grief;8:calm; 16:0.5,0.5,0.5") == [(0, grief), (8, calm), (16, (0.5, 0.5, 0.5))]
    for wrong in (
        "xyzzy",
        "0.5,0.5",
        "0.5,two,1",
        "2,0,0",
        "4:grief",
        "0:grief;0:calm",
        "0:grief;calm",
        "0:grief;-1:calm",
    ):
        with pytest.raises(UserError):
            parse_emotion(wrong)
