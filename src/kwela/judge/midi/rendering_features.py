"""What a judge hears in the rendering of a score: some thirty numbers from a plain spectrogram.

No symbol of the score is seen, and neither the log-mel nor any feature that a model here trains on is used. The
synthesiser brings every render to one peak, so loudness is relative to the piece's own loudest moment. A number that
the sound doesn't define is NaN. Spectral shape after Peeters 2004, key profiles by Krumhansl and Kessler 1982.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import soxr
from scipy.signal import find_peaks

from kwela.judge.midi.symbolic_features import key_fit
from kwela.judge.shared.spectrum import magnitudes, pitch_class
from kwela.stats import entropy

RATE = 22_050  # Hz
FFT, HOP = 2048, 512
BANDS = (0, 125, 250, 500, 1000, 2000, 4000, 11_025)  # Hz, edges
SILENT = -50.0  # dB below the loudest frame


def features(samples: np.ndarray, rate: int) -> dict[str, float]:
    """Name -> number, always the same names. samples: (N,) float mono; shorter than a frame, or silence: all NaN."""
    audio = soxr.resample(np.asarray(samples, np.float32), rate, RATE) if rate != RATE else samples
    magnitude = magnitudes(audio, FFT, HOP)
    if len(magnitude) <= 4 or magnitude.max() <= 1e-6:
        return dict.fromkeys(NAMES, math.nan)
    return _loudness(audio, magnitude) | _shape(magnitude) | _pulse(magnitude) | _harmony(magnitude)


_HERTZ = np.fft.rfftfreq(FFT, 1 / RATE)


def _loudness(audio: np.ndarray, magnitude: np.ndarray) -> dict[str, float]:
    power = (magnitude**2).sum(1)
    level = 10 * np.log10(np.maximum(power / power.max(), 1e-9))  # dB, 0 at the loudest frame
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return {
        "crest": 20 * math.log10(float(np.abs(audio).max()) / max(rms, 1e-9)),
        "level_mean": float(level.mean()),
        "level_spread": float(level.std()),
        "level_low": float(np.quantile(level, 0.1)),
        "level_high": float(np.quantile(level, 0.9)),
        "silence": float((level < SILENT).mean()),
    }


def _shape(magnitude: np.ndarray) -> dict[str, float]:
    """The spectrum of frames that sound: centre, roll-off (log2 Hz), flatness, and shares of bands (dB)."""
    frames = magnitude[magnitude.max(1) > 1e-3 * magnitude.max()]
    power = frames**2
    total = power.sum(1) + 1e-12
    centre = np.log2((power @ _HERTZ) / total + 1)
    rolled = np.log2(_HERTZ[(np.cumsum(power, 1) < 0.85 * total[:, None]).sum(1).clip(0, FFT // 2)] + 1)
    flat = np.exp(np.log(power + 4e-16).mean(1)) / (power.mean(1) + 4e-16)
    out = {
        "centre_mean": float(centre.mean()),
        "centre_spread": float(centre.std()),
        "rolloff_mean": float(rolled.mean()),
        "rolloff_spread": float(rolled.std()),
        "flatness": float(np.log10(flat + 1e-9).mean()),
    }
    share = power.mean(0)
    for low, high in itertools.pairwise(BANDS):
        inside = share[(low <= _HERTZ) & (high > _HERTZ)].sum()
        out[f"band_{low}"] = float(10 * np.log10(inside / share.sum() + 1e-6))
    return out


def _pulse(magnitude: np.ndarray) -> dict[str, float]:
    """Attacks a second, how even they are, and the strongest period of their strength between 40 and 240 BPM."""
    level = np.log1p(100 * magnitude / magnitude.max())
    flux = np.maximum(np.diff(level, axis=0), 0).sum(1)
    seconds = len(flux) * HOP / RATE
    peaks, _ = find_peaks(flux, height=flux.mean() + 0.5 * flux.std(), distance=3)
    gaps = np.diff(peaks) * HOP / RATE
    centred = flux - flux.mean()
    lags = np.arange(round(60 / 240 * RATE / HOP), min(len(flux) - 1, round(60 / 40 * RATE / HOP)) + 1)
    power = float(centred @ centred)
    strength = (
        np.array([centred[lag:] @ centred[:-lag] for lag in lags]) / power if power > 0 else np.zeros(0)
    )
    best = int(lags[strength.argmax()]) if len(strength) else 0
    return {
        "attack_rate": math.log2(max(len(peaks), 0.5) / seconds),
        "attack_mean": float(np.log10(flux.mean() + 1e-6)),
        "attack_spread": float(flux.std() / (flux.mean() + 1e-6)),
        "gap_mean": float(np.log2(gaps).mean()) if len(gaps) else math.nan,
        "gap_variation": float(gaps.std() / gaps.mean()) if len(gaps) else math.nan,
        "pulse": math.log2(60 * RATE / HOP / best) if best else math.nan,
        "pulse_clarity": float(strength.max()) if len(strength) else math.nan,
    }


def _harmony(magnitude: np.ndarray) -> dict[str, float]:
    """Chroma of 100 to 2,000 Hz: its key, its lean to major, how it moves."""
    heard = (_HERTZ >= 100) & (_HERTZ <= 2000)
    classes = pitch_class(_HERTZ[heard])
    lines = magnitude[:, heard]
    # Peaks alone: a chord's partials stand out of the skirts that the window gives them.
    peak = np.zeros_like(lines, bool)
    peak[:, 1:-1] = (lines[:, 1:-1] > lines[:, :-2]) & (lines[:, 1:-1] >= lines[:, 2:])
    strength = np.sqrt(lines * peak)
    chroma = np.stack([strength[:, classes == one].sum(1) for one in range(12)], 1)  # (frames, 12)
    whole = chroma.sum(0)
    fit = key_fit(whole.astype(float))
    tonic = np.roll(whole, -(int(fit.argmax()) % 12))
    local = [
        key_fit(part.sum(0).astype(float)) for part in np.array_split(chroma, max(1, len(chroma) // 172))
    ]  # 4 s
    lean = np.array([one[:12].max() - one[12:].max() for one in local])
    share = chroma / (chroma.sum(1, keepdims=True) + 1e-9)
    return {
        "mode": float(fit[:12].max() - fit[12:].max()),
        "local_mode": float(lean.mean()),
        "key_clarity": float(fit.max()),
        "third": float(tonic[4] / (tonic[3] + tonic[4] + 1e-9)),
        "sixth": float(tonic[9] / (tonic[8] + tonic[9] + 1e-9)),
        "class_entropy": entropy(whole.astype(float)),
        "frame_entropy": float(np.mean([entropy(one) for one in chroma[::8].astype(float) if one.sum() > 0])),
        "harmony_moves": float(np.abs(np.diff(share[::8], axis=0)).sum(1).mean())
        if len(share) > 16
        else math.nan,
    }


NAMES = tuple(features(np.sin(np.arange(4 * RATE) * 0.06), RATE))
