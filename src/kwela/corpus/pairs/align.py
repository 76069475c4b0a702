"""Where a MIDI file sits in its recording: cross-correlation of their onsets.

- The audio's onset strength is its spectral flux (Dixon 2006) a hundred times a second; the MIDI's is its
  note onsets, weighted by velocity. Both are smoothed and freed of their local mean.
- The lag that wins maximises cosine similarity x share of the shorter piece that overlaps: without the second
  factor, music of a steady beat matches itself best with its ends alone. Music that loops decides for the
  smaller shift.
- Measured on 20 rendered pop and game pieces: right pairs match with 0.85 and up however they are shifted or
  cut (0.58 under the heaviest reverb), to within 5 ms; 95 % of their 380 wrong pairings stay below 0.3 and 99
  % below 0.5 (the rest share a strict pulse at one tempo, which onsets alone can't tell apart); a drift of
  0.3 % stays below 0.5 in 19 of 20, as it should: such a pair has no single offset.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage
from symusic.core import ScoreTick

from kwela.music import audio, midi

MAX_LAG = 30.0  # seconds either way
MATCH = 0.5  # a match below this is another piece, or one that drifts
RATE = 100  # frames a second
_LENGTH = 300.0  # seconds of each side that are compared
_HOP, _FFT = audio.SAMPLE_RATE // RATE, 2048
_BINS = 600  # up to 13 kHz


class Alignment(NamedTuple):
    """The offset of a MIDI file in its recording."""

    offset: float  # seconds: MIDI time = audio time - offset
    match: float  # 0..1: similarity x overlap at that offset


def align(audio_path: Path, score: ScoreTick) -> Alignment:
    """Find the offset of `score` in `audio_path` within MAX_LAG, to about 10 ms, and how well onsets agree.

    Silence, or a score without notes, matches with 0. Raises UserError if the audio can't be read.
    """
    heard = _prepare(flux(audio.load(audio_path, 0.0, _LENGTH)))
    written = _prepare(_onsets(score))
    if not heard.any() or not written.any():
        return Alignment(0.0, 0.0)
    size = fft.next_fast_len(len(heard) + len(written) + 2 * int(MAX_LAG * RATE), real=True)
    lags = np.arange(-int(MAX_LAG * RATE), int(MAX_LAG * RATE) + 1)

    def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the sum over t of a[t + lag] b[t], at every lag."""
        return fft.irfft(fft.rfft(a, size) * np.conj(fft.rfft(b, size)), size)[lags]

    here, there = np.ones(len(heard)), np.ones(len(written))
    energy = correlate(heard**2, there) * correlate(here, written**2)  # of what overlaps
    floor = 1e-6 * np.sum(heard**2) * np.sum(written**2)
    similarity = correlate(heard, written) / np.sqrt(np.maximum(energy, floor))
    overlap = np.clip(correlate(here, there), 0, None) / min(len(heard), len(written))
    merit = similarity * overlap * (1 - 0.05 * np.abs(lags) / lags[-1])
    best = int(merit.argmax())
    frames = lags[best] + _vertex(merit, best) - 0.5  # flux stands between two frames
    return Alignment(round(float(frames) / RATE, 3) + 0.0, float(np.clip(merit[best], 0, 1)))


def flux(wave: np.ndarray) -> np.ndarray:
    """Return the onset strength of mono samples at 44.1 kHz, RATE a second.

    It is the rise of log magnitude, summed over frequency.
    """
    padded = np.pad(wave, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    window = np.hanning(_FFT).astype(np.float32)
    out = np.zeros(len(frames), np.float32)
    before = np.zeros((1, _BINS), np.float32)
    for start in range(0, len(frames), 512):  # in pieces that stay in the cache
        now = np.log1p(np.abs(fft.rfft(frames[start : start + 512] * window)[:, :_BINS]))
        rise = np.diff(now, axis=0, prepend=before)
        out[start : start + 512] = np.maximum(rise, 0).sum(1)
        before = now[-1:]
    return out


def _onsets(score: ScoreTick) -> np.ndarray:
    found = midi.notes(score)
    found = found[found["onset_s"] < _LENGTH]
    frames = np.rint(found["onset_s"] * RATE).astype(int)
    return np.sqrt(np.bincount(frames, found["velocity"] / 127, minlength=1))


def _prepare(strength: np.ndarray) -> np.ndarray:
    smooth = ndimage.gaussian_filter1d(strength.astype(np.float64), 0.02 * RATE)
    return np.maximum(smooth - ndimage.uniform_filter1d(smooth, RATE), 0)


def _vertex(curve: np.ndarray, peak: int) -> float:
    """Where between the frames the parabola through `peak` and its neighbours has its top, in (-0.5, 0.5)."""
    if not 0 < peak < len(curve) - 1:
        return 0.0
    left, top, right = curve[peak - 1 : peak + 2]
    return float(0.5 * (left - right) / min(left - 2 * top + right, -1e-12))
