"""Build the stand-in called `tiny`: a folder with MusicGen's three models, small and with random weights.

It serves tests, a first look on a laptop, and machines without network. Its text tokenizer reads bytes, so it
needs no vocabulary. Its codec is a random projection: the codes depend on the sound, and the decoded sound is
noise that follows the codes. It says nothing about quality.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from filelock import FileLock

from kwela.musicgen.transformers_output import silence_transformers

VERSION = 3  # raise it when the weights change: it names the folder
RATE, RATIOS = 32_000, [8, 5, 4, 4]  # as in EnCodec for 32 kHz: 50 frames a second
CODEBOOKS, SIZE = 4, 64
WIDTH = 64


def build(folder: Path) -> Path:
    """Write the stand-in into `folder` if it is not there yet, and return its own folder.

    The weights are the same everywhere.
    """
    folder = folder / f"tiny-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            draft = folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.rmtree(draft, ignore_errors=True)
            _write(draft)
            draft.replace(folder)
    return folder


def _write(folder: Path) -> None:
    import torch
    from transformers import (
        ByT5Tokenizer,
        EncodecConfig,
        EncodecModel,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForCausalLM,
        MusicgenForConditionalGeneration,
        T5Config,
        T5EncoderModel,
    )

    silence_transformers()
    text = T5Config(vocab_size=384, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    codec = EncodecConfig(
        target_bandwidths=[CODEBOOKS * 6 * 50 / 1000],
        sampling_rate=RATE,
        upsampling_ratios=RATIOS,
        num_filters=4,
        hidden_size=16,
        codebook_size=SIZE,
        codebook_dim=16,
        num_lstm_layers=1,
        use_causal_conv=False,
        normalize=False,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=SIZE,
        num_codebooks=CODEBOOKS,
        hidden_size=WIDTH,
        ffn_dim=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        dropout=0.0,
        pad_token_id=SIZE,
        bos_token_id=SIZE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(VERSION)
        audio_encoder = EncodecModel(codec)
        _scale_codec(audio_encoder)
        model = MusicgenForConditionalGeneration(
            MusicgenConfig(
                text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
            ),
            text_encoder=T5EncoderModel(text),
            audio_encoder=audio_encoder,
            decoder=MusicgenForCausalLM(decoder),
        )
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = SIZE
    model.save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)


def _scale_codec(codec) -> None:  # type: ignore[no-untyped-def]
    """Make codes depend on the sound and the sound on the codes: remove biases, and set an audible level."""
    import torch

    with torch.no_grad():
        for name, weight in codec.named_parameters():
            if "bias" in name:
                weight.zero_()
        _fill_codebooks(codec)
        output_gain = codec.decoder.layers[-1].conv.parametrizations.weight.original0
        codes = torch.randint(SIZE, (1, CODEBOOKS, 500))
        sound = codec.decoder(codec.quantizer.decode(codes.transpose(0, 1)))
        output_gain.mul_(0.2 / sound.std())


def _fill_codebooks(codec) -> None:  # type: ignore[no-untyped-def]
    """Fill the codebooks with the encoder's output for coloured noise.

    An untrained codec has empty codebooks. Each later codebook gets what the codebooks before it leave over,
    so all of them are in use.
    """
    import torch

    noise = torch.randn(1, 1, 20 * RATE)
    level = (
        torch.rand(1, 1, 20 * 8).repeat_interleave(RATE // 8, -1) ** 3
    )  # one level for an eighth of a second
    wave = torch.nn.functional.avg_pool1d(noise, 31, 1, 15) * level + 0.05 * noise * level.flip(-1)
    with torch.no_grad():
        residue = codec.encoder(wave)[0].T  # (frames, width)
        for layer in codec.quantizer.layers:
            book = layer.codebook
            book.embed.copy_(residue[torch.randperm(len(residue))[: book.embed.shape[0]]])
            book.embed_avg.copy_(book.embed)
            residue = residue - book.embed[torch.cdist(residue, book.embed).argmin(1)]
