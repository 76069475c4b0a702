"""The delay pattern is transformers' own, and so is the loss under it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kwela.musicgen.delay import IGNORED, delay

PAD = 64


def some_codes(batch: int, books: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(PAD, (batch, books, frames), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 20), st.integers(0, 1000))
def test_delay_loses_nothing_and_each_step_reads_what_the_one_before_predicted(batch, books, frames, seed):
    codes = some_codes(batch, books, frames, seed)
    inputs, targets = delay(codes, PAD)
    assert inputs.shape == targets.shape == (batch, books, frames + books - 1)
    undelayed = torch.stack([targets[:, book, book : book + frames] for book in range(books)], dim=1)
    assert torch.equal(undelayed, codes)
    assert (targets != IGNORED).sum() == codes.numel()  # every code once, and nothing else
    assert torch.equal(inputs[..., 0], torch.full((batch, books), PAD))
    read = inputs[..., 1:]
    assert torch.equal(read, targets[..., :-1].masked_fill(targets[..., :-1] == IGNORED, PAD))


def test_a_shorter_item_is_ignored_past_its_end():
    codes = some_codes(2, 4, 10)
    codes[1, :, 6:] = PAD
    inputs, targets = delay(codes, PAD)
    alone_inputs, alone_targets = delay(codes[1:, :, :6], PAD)
    assert torch.equal(targets[1:, :, :9], alone_targets) and (targets[1, :, 9:] == IGNORED).all()
    assert torch.equal(inputs[1:, :, :9], alone_inputs)
    assert (inputs[1, :, 10:] == PAD).all()


@pytest.mark.parametrize(("frames", "longest"), [(12, 40), (30, 34)])
def test_inputs_lie_where_transformers_generates_them(whole, frames, longest):
    """Its mask holds the known codes of a prompt, delayed behind a first step of pad, and -1 where it would
    draw.
    """
    codes = some_codes(3, 4, frames)
    inputs, _ = delay(codes, PAD)
    begin = torch.full((3 * 4, 1), PAD)
    _, mask = whole.decoder.build_delay_pattern_mask(
        torch.cat([begin, codes.reshape(12, frames)], -1), pad_token_id=PAD, max_length=longest
    )
    theirs = mask.view(3, 4, -1)[..., : inputs.shape[-1]]
    known = theirs != -1
    assert known.sum() > 3 * 4 * (frames - 4)
    assert torch.equal(theirs[known], inputs[known])
    undelayed = torch.cat([begin.view(3, 4, 1), codes], -1)[..., : theirs.shape[-1]]
    same = known[..., : undelayed.shape[-1]]
    assert not torch.equal(theirs[..., : undelayed.shape[-1]][same], undelayed[same])  # the control


def test_our_loss_is_transformers_own_with_delayed_labels_and_only_with_those(whole):
    """Its loss averages the codebooks' means; ours sums over codes. With equally many codes each, they
    agree.
    """
    model = copy.deepcopy(whole)
    model.config.decoder.decoder_start_token_id = PAD  # a forward with labels reads it there
    codes = some_codes(2, 4, 25)
    tokens = {
        "input_ids": torch.tensor([[5, 6, 7, 1], [9, 9, 1, 0]]),
        "attention_mask": torch.ones(2, 4).long(),
    }
    tokens["attention_mask"][1, 3] = 0
    states = whole.text_encoder(**tokens).last_hidden_state

    def theirs(labels: torch.Tensor) -> float:
        shown = labels.masked_fill(labels == PAD, IGNORED)
        return float(model(**tokens, labels=shown.transpose(1, 2)).loss)

    from kwela.musicgen.model import MusicLm

    inputs, targets = delay(codes, PAD)
    lm = MusicLm(model.decoder, model.enc_to_dec_proj, adapter_only=False)
    with torch.no_grad():
        logits = lm(inputs, states, tokens["attention_mask"])
        ours = float(F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=IGNORED))
        assert ours == pytest.approx(theirs(targets), rel=1e-5)
        assert abs(ours - theirs(codes)) > 1e-4  # what a run would minimise if the delay were left out
