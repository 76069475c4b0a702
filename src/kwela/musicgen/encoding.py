"""Encode audio as EnCodec's codes and prompts as states of the text encoder. Both models are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

WINDOW, MARGIN = 1500, 8  # frames that the codec's convolutions read at a time, and more frames to each side


def encode_audio(codec: Any, wave: np.ndarray, hop: int) -> np.ndarray:
    """Return EnCodec's codes, int16 (K, T), of mono samples at the codec's rate; `hop` samples are a frame.

    The codec's convolutions read windows of half a minute, with a margin as wide as they reach, so that an
    hour of audio takes no more memory than a minute. The layers from the LSTM on read all frames at once.
    """
    import torch

    layers = list(codec.encoder.layers)
    lstm = next(index for index, layer in enumerate(layers) if hasattr(layer, "lstm"))
    frames, windows = -(-len(wave) // hop), []
    with torch.inference_mode():
        for begin in range(0, frames, WINDOW):
            low = max(0, begin - MARGIN)
            hidden = torch.from_numpy(wave[low * hop : (begin + WINDOW + MARGIN) * hop])[None, None]
            for layer in layers[:lstm]:
                hidden = layer(hidden)
            windows.append(hidden[..., begin - low : begin - low + WINDOW])
        hidden = torch.cat(windows, dim=-1)
        for layer in layers[lstm:]:
            hidden = layer(hidden)
        codes = codec.quantizer.encode(hidden, codec.config.target_bandwidths[0])[:, 0]  # (K, T)
    return codes.numpy().astype(np.int16)


def frame_levels(wave: np.ndarray, hop: int, frames: int) -> np.ndarray:
    """Return the RMS of each frame in dB of full scale, float16 (frames,); digital silence is -100."""
    padded = np.zeros(frames * hop, np.float32)
    padded[: min(len(wave), len(padded))] = wave[: len(padded)]
    power = np.square(padded.reshape(frames, hop), dtype=np.float64).mean(1)
    return (10 * np.log10(np.maximum(power, 1e-10))).astype(np.float16)


def encode_prompts(tokenizer: Any, text_encoder: Any, prompts: Sequence[str]) -> list[np.ndarray]:
    """Return the text encoder's states of each prompt, float32 (length, text width)."""
    import torch

    tokens = tokenizer(list(prompts), return_tensors="pt", padding=True).to(text_encoder.device)
    with torch.inference_mode():
        output = text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    return [
        states[: int(mask.sum())].float().cpu().numpy()
        for states, mask in zip(output.last_hidden_state, tokens.attention_mask, strict=True)
    ]
