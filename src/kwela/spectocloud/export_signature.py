"""What an exported Spectocloud takes and gives."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from kwela.music import audio, midi
from kwela.signature import EMOTION, Signature, Sizes, emotion_example


def _example(model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    """Make noise, and notes with overtones over near silence, in turn. In the latter small errors grow."""
    generator = torch.Generator().manual_seed(1)
    batch = sizes["batch"]
    spectrogram = torch.rand(batch, audio.MELS, audio.FRAMES, generator=generator) * 8 - 5
    for row in spectrogram[1::2]:
        row.mul_(0.01).sub_(4.95)
        for _ in range(12):
            band, onset, length = (int(torch.randint(size, (), generator=generator)) for size in (60, 50, 20))
            for overtone in (1, 2):
                row[band * overtone, onset : onset + length + 4] += 5 / overtone
    return {
        "spectrogram": spectrogram,
        "emotion": emotion_example(batch, generator),
        "midi_features": torch.rand(batch, len(midi.FEATURE_NAMES), generator=generator),
    }


LOG_MEL = {
    "sample_rate": audio.SAMPLE_RATE,
    "channels": "mean of all",
    "samples": audio.SEGMENT,
    "pad": audio.PAD,
    "pad_mode": "reflect",
    "center": False,
    "window": "hann, periodic",
    "n_fft": audio.N_FFT,
    "hop": audio.HOP,
    "frames": audio.FRAMES,
    "mels": audio.MELS,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "low_hz": audio.LOW_HZ,
    "high_hz": audio.HIGH_HZ,
    "power": 2,
    "log": f"log10(max(x, {audio.FLOOR:g}))",
}

SIGNATURE = Signature(
    lengths={"spectrogram": {0: "batch"}, "emotion": {0: "batch"}, "midi_features": {0: "batch"}},
    outputs=("positions", "colors", "properties"),
    example=_example,
    traced={"batch": 2},
    tested=({"batch": 1}, {"batch": 2}, {"batch": 16}),
    timed=({"batch": 1},),
    meaning={
        "spectrogram": f"(batch, {audio.MELS}, {audio.FRAMES}) float32: the log-mel of 1.486 s",
        "log_mel": json.dumps(LOG_MEL),
        "emotion": EMOTION,
        "midi_features": json.dumps(list(midi.FEATURE_NAMES)),
        "positions": "(batch, 1200, 3) in 0..1: x = time, y = frequency or pitch, "
        "z = tension, dynamics, texture",
        "colors": "(batch, 1200, 4) in 0..1: red, green, blue, alpha",
        "properties": "(batch, 1200, 3) in 0..1: size, glow, depth",
    },
)
