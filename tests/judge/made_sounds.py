"""Sounds from a short description, as the fixtures of known answers hold them."""

from __future__ import annotations

from typing import Any

import numpy as np


def made_wave(rate: int, seconds: float, parts: list[dict[str, Any]]) -> np.ndarray:
    """The sum of `parts`, float64. Each part has a kind, and may have `level` (amplitude), `start` and `end`
    (seconds).

    sine: `hertz`. noise: white and normal, `level` is its standard deviation. pulses: a sound each `every`
    seconds, of `hertz` (0: one sample), that falls by 20 dB in `decay` seconds.
    """
    t = np.arange(round(rate * seconds)) / rate
    whole = np.zeros(len(t))
    for part in parts:
        level, start, end = part.get("level", 0.5), part.get("start", 0.0), part.get("end", seconds)
        if part["kind"] == "sine":
            sound = np.sin(2 * np.pi * part["hertz"] * t)
        elif part["kind"] == "noise":
            sound = np.random.default_rng(part.get("seed", 0)).standard_normal(len(t))
        else:
            sound = pulses(t, rate, part.get("hertz", 0.0), part["every"], part.get("decay", 0.1), start)
        whole += level * sound * ((t >= start) & (t < end))
    return whole


def pulses(t: np.ndarray, rate: int, hertz: float, every: float, decay: float, start: float) -> np.ndarray:
    """Pulses from `start` on, each of which ends where the next begins."""
    if not hertz:
        sound = np.zeros(len(t))
        sound[np.round(np.arange(start, len(t) / rate - 1 / rate, every) * rate).astype(int)] = 1
        return sound
    age = np.mod(t - start, every)
    return np.sin(2 * np.pi * hertz * age) * 10 ** (-age / decay) * (t >= start)
