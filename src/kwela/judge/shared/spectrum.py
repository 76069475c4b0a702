"""Compute the spectrogram and the pitch classes that all audio features of the judges are made from.

This is the judges' one spectral front end. No model reads it: training has a log-mel of its own
(`kwela.music.audio`), so a judge and the model that it judges share no representation of sound.
"""

from __future__ import annotations

import functools

import numpy as np

_FRAMES_PER_CHUNK = 256  # more frames at a time only take more memory


def magnitudes(wave: np.ndarray, size: int, hop: int, centred: bool = False) -> np.ndarray:
    """Return the magnitude spectrogram with Hann windows, float32 (frames, size / 2 + 1).

    A sine of amplitude 1 gives 1. wave: float mono, padded with silence up to one window. size, hop: samples.
    centred: the middle of the first window is the first sample.
    """
    from scipy.fft import rfft

    wave = np.pad(np.asarray(wave, np.float32), size // 2 if centred else (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    chunks = (
        frames[first : first + _FRAMES_PER_CHUNK] * _hann_window(size)
        for first in range(0, len(frames), _FRAMES_PER_CHUNK)
    )
    return np.concatenate([np.abs(rfft(chunk, axis=1)) for chunk in chunks]) * np.float32(4 / size)


def pitch_class(hertz: np.ndarray) -> np.ndarray:
    """Return the pitch class (0 to 11, C = 0) nearest to each frequency over 0 Hz, at A = 440 Hz."""
    return np.round(69 + 12 * np.log2(hertz / 440)).astype(int) % 12


def chroma(spectrogram: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Sum a spectrogram by pitch class: (frames, bins) -> (frames, 12), C first (Fujishima 1999).

    hertz: (bins,) the frequency of each bin, over 0. A bin counts for the pitch class that it is nearest to.
    """
    return spectrogram @ np.eye(12, dtype=spectrogram.dtype)[pitch_class(hertz)]


@functools.cache
def _hann_window(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
