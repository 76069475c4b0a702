"""Correlate weights of the pitch classes with the key profiles, for the features of notes and of sound alike.

The probe-tone profiles are Krumhansl and Kessler's (1982). Pitch classes are in order, C first.
"""

from __future__ import annotations

import numpy as np

from kwela.music.midi import KEY_PROFILES

# (24, 12): majors on C, C#, ..., then minors, each with mean 0 and standard deviation 1.
_KEYS = np.array([np.roll(profile, tonic) for profile in KEY_PROFILES for tonic in range(12)])
_KEYS = (_KEYS - _KEYS.mean(1, keepdims=True)) / _KEYS.std(1, keepdims=True)


def key_correlations(weight: np.ndarray) -> np.ndarray:
    """Return the correlations of weights (12,) with the 24 keys, majors first.

    Zeros where the weights are even or empty.
    """
    spread = weight.std()
    return _KEYS @ (weight - weight.mean()) / 12 / spread if spread > 1e-9 else np.zeros(24)


def lean_to_major(correlations: np.ndarray) -> float:
    """Return the best correlation with a major key less the best with a minor key, in [-2, 2]."""
    return float(correlations[:12].max() - correlations[12:].max())


def from_best_tonic(weight: np.ndarray, correlations: np.ndarray) -> np.ndarray:
    """Turn weights (12,) so that the tonic of the best key comes first."""
    return np.roll(weight, -(int(correlations.argmax()) % 12))
