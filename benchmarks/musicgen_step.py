"""A fine-tuning step of MusicGen from cached codes beside one that encodes audio and text first: clips a
second.

Both: the same language model, LoRA of rank 16, bfloat16 autocast, two threads, 10-second crops of the same
clips, one optimiser step each in turn; the figures are medians. The encoding side reads a 29-second MP3,
resamples a crop and runs EnCodec and T5 without gradients, as fine-tuning scripts that encode on the fly do.

- `musicgen_step`: the stand-in of `--preset tiny`, what a CPU is tuned on, batch 8.
- `musicgen_step_small`: musicgen-small's true shapes (decoder 24 x 1024, EnCodec 32 kHz, T5-base) with random
  weights, since time doesn't depend on them, batch 2. There the decoder's own step takes most of a CPU's
  time.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
import transformers

import common
from kwela.music import audio
from kwela.musicgen import base_model, code_cache, data, model, tiny
from kwela.musicgen.delay import IGNORED
from kwela.musicgen.transformers_output import silence_transformers

CLIPS, SECONDS, CROP, ROUNDS = 8, 29.1, 10.0, 5
SETTINGS = {"tuning": "lora", "rank": 16, "alpha": 32.0, "dropout": 0.0}
PROMPT = "amapiano with drums, piano, jazzy, mellow"


def mp3(seed: int, seconds: float = SECONDS) -> bytes:
    """Plucked chords, 16 kHz mono at 32 kbit/s, as MagnaTagATune's clips are."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16_000)) / 16_000
    wave = sum(np.sin(2 * np.pi * hz * t) * np.exp(-4 * (t % 0.5)) for hz in rng.uniform(80, 1200, 5))
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("mp3", rate=16_000, layout="mono", bit_rate=32_000)
        frame = av.AudioFrame.from_ndarray(
            (0.1 * wave).astype(np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def small(folder: Path) -> Path:
    """A folder with musicgen-small's shapes and random weights."""
    text = transformers.T5Config(vocab_size=384, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    sound = transformers.EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], num_filters=64, hidden_size=128,
        codebook_size=2048, codebook_dim=128, use_causal_conv=False, normalize=False,
    )  # fmt: skip
    decoder = transformers.MusicgenDecoderConfig(
        pad_token_id=2048, bos_token_id=2048
    )  # the defaults are small's
    config = transformers.MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=sound.to_dict(), decoder=decoder.to_dict()
    )
    transformers.MusicgenForConditionalGeneration(config).save_pretrained(folder)
    transformers.ByT5Tokenizer().save_pretrained(folder)
    return folder


def compare(folder: Path, clips: list[Path], cache: Path, batch: int) -> tuple[float, float]:
    """Clips a second: from the cache, and encoding each step."""
    shape = base_model.codec_shape(folder)
    frames = round(CROP * shape.sample_rate / shape.hop)
    cached = code_cache.fill(clips, [PROMPT], folder, cache, quiet=True, workers=1, say=lambda line: None)
    listed = [data.TaggedClip(str(n), path, ("drums",), data.TRAIN, "") for n, path in enumerate(clips)]
    crops = data.Crops(listed, cached, [PROMPT], frames, 0.0)
    lm = model.build({"base": str(folder), **SETTINGS}, cache).train()
    whole, tokenizer = base_model.load(folder), base_model.load_tokenizer(folder)
    optimizer = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=1e-5, fused=True)
    rng = np.random.default_rng(0)

    def from_cache() -> dict[str, torch.Tensor]:
        return data.collate(
            [crops.item(int(i), rng) for i in rng.integers(len(clips), size=batch)], shape.codebook_size
        )

    @torch.inference_mode()
    def encoded() -> dict[str, torch.Tensor]:
        waves = []
        for index in rng.integers(len(clips), size=batch):
            wave = audio.whole(clips[index], shape.sample_rate)[0]
            start = int(rng.integers(len(wave) - frames * shape.hop))
            waves.append(wave[start : start + frames * shape.hop])
        laid = whole.audio_encoder.encode(torch.from_numpy(np.stack(waves))[:, None]).audio_codes[0]
        text = tokenizer([PROMPT] * batch, return_tensors="pt", padding=True)
        states = whole.text_encoder(**text).last_hidden_state.numpy().astype(np.float16)
        items = [
            data.Crop(one.numpy(), state, state.shape[1]) for one, state in zip(laid, states, strict=True)
        ]
        return data.collate(items, shape.codebook_size)

    def step(make) -> float:  # type: ignore[no-untyped-def]
        began = time.perf_counter()
        one = make()
        with torch.autocast("cpu", torch.bfloat16):
            logits = lm(one["inputs"].clone(), one["states"].clone(), one["mask"].clone())
            loss = F.cross_entropy(
                logits.flatten(0, 2).float(), one["targets"].flatten().clone(), ignore_index=IGNORED
            )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - began

    took: dict[str, list[float]] = {"cached": [], "encoded": []}
    for number in range(ROUNDS):
        for name, make in (("cached", from_cache), ("encoded", encoded)):
            seconds = step(make)
            if number:  # the first round allocates
                took[name].append(seconds)
    return batch / statistics.median(took["cached"]), batch / statistics.median(took["encoded"])


def main() -> None:
    torch.set_num_threads(2)
    silence_transformers()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        clips = [place / f"{number}.mp3" for number in range(CLIPS)]
        for number, path in enumerate(clips):
            path.write_bytes(mp3(number))
        for name, folder, batch in (
            ("musicgen_step", tiny.build(place), 8),
            ("musicgen_step_small", small(place / "small"), 2),
        ):
            ours, peer = compare(folder, clips, place / "cache", batch)
            common.write(
                name, ours, peer, "clips/s", "transformers, encoding each step,", transformers.__version__
            )


if __name__ == "__main__":
    main()
