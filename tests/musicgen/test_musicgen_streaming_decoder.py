"""Sound in pieces, as the codes come, is the sound of one pass over all of them."""

from __future__ import annotations

import pytest
import torch

from kwela.musicgen import streaming_decoder
from kwela.musicgen.streaming_decoder import StreamingDecoder


@pytest.fixture(scope="module")
def released():
    """An EnCodec with all that reaches beyond a frame as in facebook/encodec_32khz: kernels, ratios, two
    LSTMs.
    """
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    shape = EncodecConfig(
        sampling_rate=32_000, target_bandwidths=[2.2], upsampling_ratios=[8, 5, 4, 4], num_filters=8, hidden_size=32,
        codebook_size=2048, codebook_dim=32, num_lstm_layers=2, use_causal_conv=False, normalize=False,
    )  # fmt: skip
    codec = EncodecModel(shape).eval()
    with torch.no_grad():
        for name, weight in codec.named_parameters():
            if "bias" in name:
                weight.zero_()  # else they are most of what sounds
        for layer in codec.quantizer.layers:
            layer.codebook.embed.normal_()
        sound = codec.decode(some_codes(2048, 1, 50)[None], [None]).audio_values
        codec.decoder.layers[-1].conv.parametrizations.weight.original0.mul_(0.3 / sound.std())
    return codec


def some_codes(size: int, batch: int, frames: int) -> torch.Tensor:
    return torch.randint(size, (batch, 4, frames), generator=torch.Generator().manual_seed(frames))


def in_pieces(codec, codes: torch.Tensor, pieces: list[int]) -> tuple[torch.Tensor, list[int]]:
    """Samples, and how many of them came with each piece. The last piece takes what is left."""
    decoder, out, at = StreamingDecoder(codec, 640), [], 0
    for number, piece in enumerate([*pieces, codes.shape[-1] - sum(pieces)]):
        out.append(decoder.decode(codes[..., at : at + piece], last=number == len(pieces)))
        at += piece
    return torch.cat(out, -1), [part.shape[-1] for part in out]


@pytest.mark.parametrize("pieces", [[], [12, 12, 12, 12, 12], [1] * 60, [50, 1, 2, 3], [3, 40, 7]])
@pytest.mark.parametrize("kind", ["tiny", "released"])
def test_pieces_of_any_size_are_one_pass(whole, released, kind, pieces):
    codec = whole.audio_encoder if kind == "tiny" else released
    codes = some_codes(64, 2, 70)
    with torch.no_grad():
        expected = codec.decode(codes[None], [None]).audio_values[:, 0]
    got, counts = in_pieces(codec, codes, pieces)
    assert got.shape == expected.shape == (2, 70 * 640)
    assert expected.std() > 0.01
    assert (got - expected).abs().max() < 1e-5
    if len(pieces) == 5:
        assert counts[0] == 640 and counts[1] == 12 * 640  # eleven frames behind, then as fast as they come


@pytest.mark.parametrize("frames", [1, 2, 4, 9, 14])
def test_few_frames_are_sounded_too(released, frames):
    codes = some_codes(2048, 1, frames)
    with torch.no_grad():
        expected = released.decode(codes[None], [None]).audio_values[:, 0]
    for pieces in ([], [1] * (frames - 1)):
        assert (in_pieces(released, codes, pieces)[0] - expected).abs().max() < 1e-5


def test_too_small_a_reach_changes_the_sound(released, monkeypatch):
    codes = some_codes(2048, 1, 60)
    with torch.no_grad():
        expected = released.decode(codes[None], [None]).audio_values[:, 0]
    for reach, differs in ((8, False), (0, True)):
        monkeypatch.setattr(streaming_decoder, "_UPSAMPLING_REACH", reach)
        assert bool((in_pieces(released, codes, [10] * 5)[0] - expected).abs().max() > 1e-4) == differs


def test_memory_does_not_grow_with_the_sound_behind_it(whole):
    decoder = StreamingDecoder(whole.audio_encoder, 640)
    for at in range(30):
        decoder.decode(some_codes(64, 1, 20 + at % 2))
    assert sum(part.shape[-1] for part in decoder.hidden) < 60 and decoder.embeddings.shape[-1] < 60
