"""Sampling is transformers' own where nothing is drawn; what is drawn is a prompt's own; windows keep their
context.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from kwela.errors import KwelaError
from kwela.musicgen import base_model, model, sampling
from kwela.musicgen.delay import delay
from kwela.musicgen.sampling import SamplingSettings

GREEDY, SAMPLED = SamplingSettings(guidance=3.0, top_k=1), SamplingSettings()
SHAPE = base_model.CodecShape(4, 64, 32_000, 640)
TEXTS = ["log drums, soulful piano and a shaker", "bass", "slow piano"]


@pytest.fixture(scope="module")
def lm(stand_in):
    """With larger weights in its attention to the prompt, so that it shows in what is drawn."""
    made = model.build({"base": "tiny", "tuning": "full"}, stand_in).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "encoder_attn" in name or "enc_to_dec" in name or "lm_heads" in name:
                weight.mul_(8)
    return made


@pytest.fixture(scope="module")
def states(whole, folder):
    tokenizer = base_model.load_tokenizer(folder)
    with torch.no_grad():
        return [
            whole.text_encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
            for text in TEXTS
        ]


def codes(lm, states, count, seeds=(1, 2, 3), settings=SAMPLED) -> torch.Tensor:
    frames = sampling.sample_frames(lm, states, count, list(seeds)[: len(states)], SHAPE, settings)
    return torch.stack(list(frames), -1)


def test_greedy_codes_are_transformers_own(lm, whole, states, folder):
    theirs = copy.deepcopy(whole)
    theirs.decoder.load_state_dict(lm.decoder.state_dict())
    theirs.enc_to_dec_proj.load_state_dict(lm.enc_to_dec_proj.state_dict())
    heard = []
    decode = theirs.audio_encoder.decode
    theirs.audio_encoder.decode = lambda audio_codes, *more, **named: heard.append(audio_codes) or decode(
        audio_codes, *more, **named)  # fmt: skip
    tokens = base_model.load_tokenizer(folder)(TEXTS[:2], return_tensors="pt", padding=True)
    theirs.generate(**tokens, do_sample=False, guidance_scale=3.0, max_new_tokens=60)
    expected = heard[0][0]  # (B, K, frames)
    frames = expected.shape[-1]
    assert frames >= 55 and len(expected.unique()) > 5
    assert torch.equal(codes(lm, states[:2], frames, settings=GREEDY), expected)
    assert not torch.equal(
        codes(lm, states[:2], frames, settings=SamplingSettings(1.0, 1)), expected
    )  # without guidance
    assert not torch.equal(codes(lm, states[1:], frames, settings=GREEDY), expected)  # other prompts


def test_a_prompts_codes_depend_on_its_seed_and_on_nothing_beside_it(lm, states):
    together = codes(lm, states, 40)
    for row in range(3):
        assert torch.equal(codes(lm, [states[row]], 40, [row + 1])[0], together[row])
    swapped = codes(lm, [states[2], states[0]], 40, [3, 1])
    assert torch.equal(swapped[0], together[2]) and torch.equal(swapped[1], together[0])
    assert torch.equal(
        codes(lm, states, 25)[..., :22], together[..., :22]
    )  # nor on frames that the pattern hasn't met
    other = codes(lm, states, 40, [9, 2, 3])
    assert not torch.equal(other[0], together[0]) and torch.equal(other[1], together[1])
    assert not torch.equal(codes(lm, [states[1]], 40, [1])[0], together[0])  # the prompt is heard


def test_frames_come_one_by_one_before_the_last_is_known(lm, states):
    frames = sampling.sample_frames(lm, states[:1], 500, [1], SHAPE, SAMPLED)
    first = next(frames)
    assert first.shape == (1, 4) and set(first.flatten().tolist()) <= set(range(64))
    frames.close()


def slow_greedy(lm, states, before: torch.Tensor, length: int) -> torch.Tensor:
    """The frames (B, K, length) that begin with `before`, each step by a whole pass over all steps so far."""
    prompt, mask = sampling._conditions(states, torch.device("cpu"), True)
    batch, books, known = before.shape
    laid = torch.full((batch, books, length), 64)
    laid[..., :known] = before
    for step in range(known, length + books - 1):
        inputs = delay(laid, 64)[0][..., : step + 1]
        with torch.no_grad():
            prompted, null = lm(inputs.repeat(2, 1, 1), prompt, mask)[:, :, -1].chunk(2)
        best = (null + 3.0 * (prompted - null)).argmax(-1)
        for book in range(books):
            if known <= step - book < length:
                laid[:, book, step - book] = best[:, book]
    return laid


def test_windows_slide_and_keep_their_context(lm, states, monkeypatch):
    monkeypatch.setattr(sampling, "WINDOW", 0.6)
    monkeypatch.setattr(sampling, "STRIDE", 0.4)  # 30 frames, of which 10 are known and 20 new
    got = codes(lm, states[:2], 62, settings=GREEDY)
    assert got.shape == (2, 4, 62)
    expected = slow_greedy(lm, states[:2], torch.zeros(2, 4, 0).long(), 30)
    assert torch.equal(got[..., :30], expected)
    for begin, length in ((20, 30), (40, 22)):
        window = slow_greedy(lm, states[:2], expected[..., begin:], length)
        expected = torch.cat([expected, window[..., 10:]], -1)
    assert torch.equal(got, expected)
    forgetful = slow_greedy(lm, states[:2], torch.zeros(2, 4, 0).long(), 20)
    assert not torch.equal(got[..., 30:50], forgetful)  # the control: it does hear what came before


def test_top_k_and_temperature_bound_what_is_drawn():
    logits = torch.tensor([5.0, 4.0, 3.0, 2.0]).expand(1, 2, 4)
    rng = [np.random.default_rng(0)]
    drawn = torch.cat([sampling._draw_codes(logits, rng, SamplingSettings(top_k=2)) for _ in range(300)])
    assert set(drawn.flatten().tolist()) == {0, 1}
    share = float((drawn == 0).float().mean())
    assert share == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.05)
    cold = torch.cat(
        [sampling._draw_codes(logits, rng, SamplingSettings(temperature=0.05)) for _ in range(100)]
    )
    assert (cold == 0).all()
    hot = torch.cat(
        [sampling._draw_codes(logits, rng, SamplingSettings(temperature=50.0)) for _ in range(300)]
    )
    assert hot.flatten().bincount(minlength=4).min() > 100


def test_a_model_that_gives_no_numbers_is_an_error_and_not_noise(stand_in, states):
    broken = model.build({"base": "tiny", "tuning": "full"}, stand_in).eval()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(KwelaError, match="not finite"):
        codes(broken, states[:1], 5)
