"""The audio judges' one spectral front end. No model here hears through it: training has its own log-mel."""

from __future__ import annotations

import functools

import numpy as np

AT_ONCE = 256  # frames; more at a time only take more memory


def magnitudes(wave: np.ndarray, size: int, hop: int, centred: bool = False) -> np.ndarray:
    """(frames, size / 2 + 1) float32 of Hann windows; a sine of amplitude 1 gives 1.

    wave: float mono, filled with silence up to one window. centred: the first window's middle is the first sample.
    """
    from scipy.fft import rfft

    wave = np.pad(np.asarray(wave, np.float32), size // 2 if centred else (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    parts = (frames[k : k + AT_ONCE] * _hann(size) for k in range(0, len(frames), AT_ONCE))
    return np.concatenate([np.abs(rfft(part, axis=1)) for part in parts]) * np.float32(4 / size)


def pitch_class(hertz: np.ndarray) -> np.ndarray:
    """The pitch class nearest to each frequency over 0 Hz, C = 0, at A = 440 Hz."""
    return np.round(69 + 12 * np.log2(hertz / 440)).astype(int) % 12


@functools.cache
def _hann(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
