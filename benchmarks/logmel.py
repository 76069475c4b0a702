"""Decoding a WAV and computing its log-mel segments, beside librosa where it is installed: seconds of music
a second.

One thread. Both read one minute of 44.1 kHz stereo and give 128 Slaney mels of n_fft 2048 at hop 1024;
librosa computes them over the whole minute, we segment by segment, as training does.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from common import write
from kwela.music import audio

SECONDS, RUNS = 60, 5


def ours(file: Path) -> None:
    wave = audio.load(file)
    whole = len(wave) // audio.SEGMENT * audio.SEGMENT
    audio.log_mel(wave[:whole].reshape(-1, audio.SEGMENT))


def peer() -> Callable[[Path], object] | None:
    try:
        import librosa
    except ImportError:
        return None

    def run(file: Path) -> object:
        wave, rate = librosa.load(file, sr=audio.SAMPLE_RATE, mono=True)
        power = librosa.feature.melspectrogram(
            y=wave, sr=rate, n_fft=audio.N_FFT, hop_length=audio.HOP, n_mels=audio.MELS, fmin=20, fmax=20_000
        )
        return np.log10(np.maximum(power, audio.FLOOR))

    return run


def speed(run: Callable[[Path], object], file: Path) -> float:
    run(file)
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run(file)
        seconds.append(time.perf_counter() - began)
    return SECONDS / statistics.median(seconds)


def main() -> None:
    torch.set_num_threads(1)
    other = peer()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "minute.wav"
        noise = np.random.default_rng(0).standard_normal((SECONDS * audio.SAMPLE_RATE, 2)) * 0.1
        soundfile.write(file, noise, audio.SAMPLE_RATE)
        theirs = speed(other, file) if other else None
        version = importlib.metadata.version("librosa") if other else None
        write("logmel", speed(ours, file), theirs, "x real time", "librosa" if other else None, version)


if __name__ == "__main__":
    main()
