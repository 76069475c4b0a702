"""The network: cached or not it is one function; what each input can and can't reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from midi_songs import SETTINGS

from kwela.midi_generator import attention
from kwela.midi_generator.config import MidiGeneratorModelSettings
from kwela.midi_generator.model import CONTEXT, VOCAB, EmotionTokens, MidiGenerator, build
from kwela.music.emotion import PADDED_SIZE


def inputs(batch: int = 2, length: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCAB, (batch, length), generator=draw)
    context = torch.stack([torch.randint(0, size, (batch, length), generator=draw) for size in CONTEXT], -1)
    return ids, torch.rand(batch, PADDED_SIZE, generator=draw), context


def test_full_size_is_the_contract_s() -> None:
    made = build(MidiGeneratorModelSettings().model_dump())
    assert (made.layers, made.heads, made.head_dim) == (8, 6, 64)
    assert [block.cross for block in made.blocks] == [True, False] * 4
    assert 14e6 < sum(p.numel() for p in made.parameters()) < 18e6


@pytest.mark.parametrize("cuts", [[24], [1] * 24, [7, 1, 1, 15], [23, 1]])
def test_cached_calls_of_any_length_equal_one_full_forward(network: MidiGenerator, cuts: list[int]) -> None:
    ids, emotion, context = inputs()
    whole = network(ids, emotion, context)[0]
    past = network.empty_past(2)
    parts, at = [], 0
    for size in cuts:
        piece = slice(at, at + size)
        logits, *past = network(ids[:, piece], emotion, context[:, piece], *past)
        parts.append(logits)
        at += size
        assert past[0].shape == (3, 2, 2, at, 16) and past[0].dtype == torch.float32
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


def test_a_past_at_the_wrong_place_would_show(network: MidiGenerator) -> None:
    """Negative control of the test above: dropping one cached position changes the logits."""
    ids, emotion, context = inputs()
    _, k, v = network(ids[:, :20], emotion, context[:, :20], *network.empty_past(2))
    whole = network(ids, emotion, context)[0][:, 20:]
    short = network(ids[:, 20:], emotion, context[:, 20:], k[..., 1:, :], v[..., 1:, :])[0]
    assert not torch.allclose(short, whole, atol=1e-3)


def test_later_ids_and_contexts_do_not_reach_back(network: MidiGenerator) -> None:
    ids, emotion, context = inputs()
    before = network(ids, emotion, context)[0]
    changed, other = ids.clone(), context.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % VOCAB
    other[:, 12:] = (other[:, 12:] + 1) % 13
    after = network(changed, emotion, other)[0]
    assert torch.equal(before[:, :12], after[:, :12])
    assert (before[:, 12:] - after[:, 12:]).abs().amax(-1).min() > 1e-3


def test_training_without_a_past_gives_no_cache_back(network: MidiGenerator) -> None:
    assert network(*inputs())[1:] == (None, None)


def test_absent_context_adds_nothing_and_each_of_its_columns_something(network: MidiGenerator) -> None:
    ids, emotion, context = inputs()
    none = network(ids, emotion, torch.zeros_like(context))[0]
    for table in network.context:
        assert torch.equal(table.weight[0], torch.zeros(SETTINGS["width"]))
    for column in range(4):
        one = torch.zeros_like(context)
        one[..., column] = 1
        assert (network(ids, emotion, one)[0] - none).abs().max() > 1e-3


def test_every_emotion_number_matters_and_so_does_its_absence(network: MidiGenerator) -> None:
    ids, emotion, context = inputs()
    before = network(ids, emotion, context)[0]
    for dimension in (0, 1, 2, 3, 63):
        other, absent = emotion.clone(), emotion.clone()
        other[:, dimension] = -other[:, dimension]
        absent[:, dimension] = torch.nan
        moved, missing = network(ids, other, context)[0], network(ids, absent, context)[0]
        assert (moved - before).abs().max() > 1e-4
        assert (missing - before).abs().max() > 1e-4 and not torch.allclose(missing, moved)
        assert torch.isfinite(missing).all()


def test_emotion_enters_by_cross_attention_alone(network: MidiGenerator) -> None:
    ids, emotion, context = inputs()
    with torch.no_grad():
        for block in network.blocks:
            if block.cross:
                block.cross_out.weight.zero_()
    assert torch.equal(network(ids, emotion, context)[0], network(ids, -emotion, context)[0])


def test_an_absent_number_takes_its_own_null_whatever_it_was() -> None:
    torch.manual_seed(0)
    made = EmotionTokens(16)
    given = torch.rand(1, PADDED_SIZE)
    for dimension in (0, 1, 2):
        absent = given.clone()
        absent[0, dimension] = torch.nan
        same = (made(absent) == made(given)).all(-1)[0]
        assert same.tolist() == [index != dimension for index in range(5)]
        loss = made(absent)[0, dimension].square().sum()
        (grad,) = torch.autograd.grad(loss, made.null)
        assert grad[dimension].abs().sum() > 0 and grad.abs().sum() == grad[dimension].abs().sum()


def test_emotion_changes_positions_differently_but_a_single_token_could_not(network: MidiGenerator) -> None:
    """With one condition token the softmax is 1, so cross-attention adds one vector to every position
    alike.
    """
    block = network.blocks[0]
    x = torch.randn(1, 10, SETTINGS["width"])
    five = network.emotion(torch.rand(1, PADDED_SIZE))

    def spread(emotion: torch.Tensor) -> float:
        return float(block.cross_attend(x, emotion).detach().std(1).max())

    assert spread(five) > 1e-3
    assert spread(five[:, :1]) < 1e-6


@pytest.mark.parametrize("length", [1, 127, 128, 300])
def test_block_attention_is_sdpa_and_so_is_its_gradient(length: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 16, requires_grad=True) for _ in range(3))
    grad = torch.randn(2, 3, length, 16)
    ours, theirs = (
        attention.BlockCausal.apply(q, k, v),
        F.scaled_dot_product_attention(q, k, v, is_causal=True),
    )
    assert torch.allclose(ours, theirs, atol=1e-5)
    mine, peer = (torch.autograd.grad(out, (q, k, v), grad) for out in (ours, theirs))
    for a, b in zip(mine, peer, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_bfloat16_training_takes_the_block_attention_and_stays_near_float32(network: MidiGenerator) -> None:
    exact = network(*inputs())[0].detach()
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*inputs())[0].detach()
    error = (rough.float() - exact).norm() / exact.norm()
    assert 1e-5 < float(error) < 0.05


def test_a_small_model_learns_a_song_by_heart() -> None:
    torch.manual_seed(0)
    made = build(SETTINGS)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, VOCAB, (1, 33)))
    emotion, context = torch.zeros(1, PADDED_SIZE), torch.zeros(1, 32, 4, dtype=torch.int64)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    for _ in range(40):
        loss = F.cross_entropy(made(ids[:, :-1], emotion, context)[0][0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1  # a uniform guess costs 6 nats
