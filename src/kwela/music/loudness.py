"""Measure and set the perceived loudness of mono samples, in LUFS (ITU-R BS.1770-4)."""

from __future__ import annotations

import functools
import math

import numpy as np

SILENT = -70.0  # LUFS: the standard's absolute gate


def loudness(wave: np.ndarray, rate: int) -> float:
    """Return the gated loudness in LUFS; -inf for silence. wave: (samples,) in [-1, 1] at `rate` Hz."""
    from scipy.signal import sosfilt

    power = np.square(sosfilt(_k_weighting(rate), wave.astype(np.float64)))
    block, step = round(0.4 * rate), round(0.1 * rate)
    total = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, max(1, len(wave) - block + 1), step)
    ends = np.minimum(starts + block, len(wave))
    blocks = (total[ends] - total[starts]) / (ends - starts)
    loud = blocks[_lufs(blocks) > SILENT]
    if len(loud):
        loud = loud[_lufs(loud) > _lufs(loud.mean()) - 10]
    return float(_lufs(loud.mean())) if len(loud) else -math.inf


def normalised(wave: np.ndarray, rate: int, lufs: float, peak: float = 1.0) -> np.ndarray:
    """Return `wave` as float32 at a loudness of `lufs`; silence stays as it is.

    The loudness is lower where the largest sample would exceed `peak`.
    """
    level = loudness(wave, rate)
    if level < SILENT:
        return wave.astype(np.float32)
    gain = 10 ** ((lufs - level) / 20)
    return (wave * min(gain, peak / max(float(np.abs(wave).max()), 1e-9))).astype(np.float32)


def _lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-20))


@functools.cache
def _k_weighting(rate: int) -> np.ndarray:
    """Compute BS.1770's shelf and high-pass as second-order sections (De Man 2014)."""
    k, q = math.tan(math.pi * 1681.9744509555319 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    bend = high**0.4996667741545416
    a = 1 + k / q + k * k
    shelf = [high + bend * k / q + k * k, 2 * (k * k - high), high - bend * k / q + k * k, a, 2 * (k * k - 1)]
    shelf += [1 - k / q + k * k]
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    b = 1 + k / q + k * k
    return np.array([[c / a for c in shelf], [1, -2, 1, 1, 2 * (k * k - 1) / b, (1 - k / q + k * k) / b]])
