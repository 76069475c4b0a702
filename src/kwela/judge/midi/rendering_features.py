"""Compute from a spectrogram the thirty or so features of a rendered score that an evaluator sees.

- They use the sound alone: nothing of the score, and no log-mel or other feature that a model here trains on.
- The synthesiser brings every rendering to one peak, so loudness is relative to the piece's own loudest
  moment.
- A feature that the sound doesn't define is NaN.
- The spectral shape follows Peeters 2004; `key_profiles` gives the keys.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import soxr
from scipy.signal import find_peaks

from kwela.judge.midi.key_profiles import from_best_tonic, key_correlations, lean_to_major
from kwela.judge.midi.symbolic_features import FeatureValues
from kwela.judge.shared.spectrum import chroma, magnitudes
from kwela.stats import entropy

RATE = 22_050  # Hz
N_FFT, HOP = 2048, 512  # samples
BANDS = (0, 125, 250, 500, 1000, 2000, 4000, 11_025)  # Hz, the edges of the bands
SILENT = -50.0  # dB; a frame this far below the loudest one is silent
_BIN_HERTZ = np.fft.rfftfreq(N_FFT, 1 / RATE)
_FRAMES_IN_4_S = 172


def features(samples: np.ndarray, rate: int) -> FeatureValues:
    """Return {name: number}; the names are always the same.

    samples: (N,) float mono at `rate` Hz. For silence, or a sound of at most four frames, each number is NaN.
    """
    wave = soxr.resample(np.asarray(samples, np.float32), rate, RATE) if rate != RATE else samples
    spectrogram = magnitudes(wave, N_FFT, HOP)
    if len(spectrogram) <= 4 or spectrogram.max() <= 1e-6:
        return dict.fromkeys(NAMES, math.nan)
    return _loudness(wave, spectrogram) | _shape(spectrogram) | _pulse(spectrogram) | _harmony(spectrogram)


def _loudness(wave: np.ndarray, spectrogram: np.ndarray) -> FeatureValues:
    """Measure level in dB: crest factor, and the frames' levels below the loudest frame."""
    power = (spectrogram**2).sum(1)
    level = 10 * np.log10(np.maximum(power / power.max(), 1e-9))
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    return {
        "crest": 20 * math.log10(float(np.abs(wave).max()) / max(rms, 1e-9)),
        "level_mean": float(level.mean()),
        "level_spread": float(level.std()),
        "level_low": float(np.quantile(level, 0.1)),
        "level_high": float(np.quantile(level, 0.9)),
        "silence": float((level < SILENT).mean()),
    }


def _shape(spectrogram: np.ndarray) -> FeatureValues:
    """Measure the spectrum of the frames that sound.

    Centre and roll-off are log2 of Hz, flatness is a log10, and the share of each band is in dB.
    """
    frames = spectrogram[spectrogram.max(1) > 1e-3 * spectrogram.max()]
    power = frames**2
    total = power.sum(1) + 1e-12
    centre = np.log2((power @ _BIN_HERTZ) / total + 1)
    rolloff_bin = (np.cumsum(power, 1) < 0.85 * total[:, None]).sum(1).clip(0, N_FFT // 2)
    rolloff = np.log2(_BIN_HERTZ[rolloff_bin] + 1)
    flatness = np.exp(np.log(power + 4e-16).mean(1)) / (power.mean(1) + 4e-16)
    mean_power = power.mean(0)
    bands = {
        f"band_{low}": float(
            10
            * np.log10(mean_power[(low <= _BIN_HERTZ) & (high > _BIN_HERTZ)].sum() / mean_power.sum() + 1e-6)
        )
        for low, high in itertools.pairwise(BANDS)
    }
    return {
        "centre_mean": float(centre.mean()),
        "centre_spread": float(centre.std()),
        "rolloff_mean": float(rolloff.mean()),
        "rolloff_spread": float(rolloff.std()),
        "flatness": float(np.log10(flatness + 1e-9).mean()),
        **bands,
    }


def _pulse(spectrogram: np.ndarray) -> FeatureValues:
    """Measure the attacks per second, how even they are, and the strongest pulse from 40 to 240 BPM."""
    level = np.log1p(100 * spectrogram / spectrogram.max())
    flux = np.maximum(np.diff(level, axis=0), 0).sum(1)
    seconds = len(flux) * HOP / RATE
    attacks, _ = find_peaks(flux, height=flux.mean() + 0.5 * flux.std(), distance=3)
    gaps = np.diff(attacks) * HOP / RATE
    centred = flux - flux.mean()
    shortest, longest = (round(60 / bpm * RATE / HOP) for bpm in (240, 40))
    lags = np.arange(shortest, min(len(flux) - 1, longest) + 1)
    power = float(centred @ centred)
    strength = (
        np.array([centred[lag:] @ centred[:-lag] for lag in lags]) / power if power > 0 else np.zeros(0)
    )
    best_lag = int(lags[strength.argmax()]) if len(strength) else 0
    return {
        "attack_rate": math.log2(max(len(attacks), 0.5) / seconds),
        "attack_mean": float(np.log10(flux.mean() + 1e-6)),
        "attack_spread": float(flux.std() / (flux.mean() + 1e-6)),
        "gap_mean": float(np.log2(gaps).mean()) if len(gaps) else math.nan,
        "gap_variation": float(gaps.std() / gaps.mean()) if len(gaps) else math.nan,
        "pulse": math.log2(60 * RATE / HOP / best_lag) if best_lag else math.nan,
        "pulse_clarity": float(strength.max()) if len(strength) else math.nan,
    }


def _harmony(spectrogram: np.ndarray) -> FeatureValues:
    """Measure the chroma of 100 to 2,000 Hz: its key, how much it leans to major, how much it moves."""
    chroma_frames = _chroma_of_peaks(spectrogram)
    chroma_sum = chroma_frames.sum(0).astype(float)
    correlations = key_correlations(chroma_sum)
    degrees = from_best_tonic(chroma_sum, correlations)
    parts = np.array_split(chroma_frames, max(1, len(chroma_frames) // _FRAMES_IN_4_S))
    lean = np.array([lean_to_major(key_correlations(part.sum(0).astype(float))) for part in parts])
    shares = chroma_frames / (chroma_frames.sum(1, keepdims=True) + 1e-9)
    entropies = [entropy(frame) for frame in chroma_frames[::8].astype(float) if frame.sum() > 0]
    moves = np.abs(np.diff(shares[::8], axis=0)).sum(1)
    return {
        "mode": lean_to_major(correlations),
        "local_mode": float(lean.mean()),
        "key_clarity": float(correlations.max()),
        # Degree 3 is the minor third and 4 the major one; 8 is the minor sixth and 9 the major one.
        "third": float(degrees[4] / (degrees[3] + degrees[4] + 1e-9)),
        "sixth": float(degrees[9] / (degrees[8] + degrees[9] + 1e-9)),
        "class_entropy": entropy(chroma_sum),
        "frame_entropy": float(np.mean(entropies)),
        "harmony_moves": float(moves.mean()) if len(shares) > 16 else math.nan,
    }


def _chroma_of_peaks(spectrogram: np.ndarray) -> np.ndarray:
    """Return the chroma of the spectrogram's peaks, (frames, 12).

    Peaks alone count, because the window of the transform blurs each partial into the bins beside it.
    """
    in_range = (_BIN_HERTZ >= 100) & (_BIN_HERTZ <= 2000)
    bins = spectrogram[:, in_range]
    is_peak = np.zeros_like(bins, bool)
    is_peak[:, 1:-1] = (bins[:, 1:-1] > bins[:, :-2]) & (bins[:, 1:-1] >= bins[:, 2:])
    return chroma(np.sqrt(bins * is_peak), _BIN_HERTZ[in_range])


NAMES = tuple(features(np.sin(np.arange(4 * RATE) * 0.06), RATE))
