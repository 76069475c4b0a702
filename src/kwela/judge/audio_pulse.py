"""The beat of a clip: its tempo, how plain it is, and what the sixteenths above 3 kHz do.

Times are in seconds, tempo in beats a minute. The tempo is octave-folded into [80, 160): which of a pulse and its
double is the beat is a convention, and no feature here should hang on it.
"""

from __future__ import annotations

import itertools

import numpy as np

FRAME = 0.01  # seconds between frames
SLOWEST, FASTEST = 80.0, 160.0
PERIODS = 60 / np.arange(SLOWEST, FASTEST, 0.25)  # seconds of a beat


def onsets(magnitude: np.ndarray, edges: tuple[int, ...]) -> np.ndarray:
    """Onset strength of each band: the rise of log magnitude, (bands, frames), never negative.

    magnitude: (frames, bins), of a clip at equal loudness. edges: the bins between which bands lie. Silence gives 0.
    """
    loud = np.stack([magnitude[:, a:b].mean(1) for a, b in itertools.pairwise(edges)])
    rise = np.diff(np.log1p(50 * loud), axis=1, prepend=np.log1p(50 * loud[:, :1]))
    return np.maximum(0, rise)


def tempo(strength: np.ndarray) -> tuple[float, float]:
    """(tempo, clarity) of onset strength (frames,): the beat whose multiples and parts it repeats at best.

    clarity: mean autocorrelation over two, four and eight beats, in [-1, 1]. (0, 0) where nothing starts.
    """
    flat = strength - strength.mean()
    if strength.max(initial=0.0) < 1e-3:
        return 0.0, 0.0
    size = 2 * len(flat)
    again = np.fft.irfft(np.abs(np.fft.rfft(flat, size)) ** 2)[: len(flat)]
    again /= again[0] * (1 - np.arange(len(flat)) / len(flat))  # each lag by what overlaps
    again = np.convolve(again, [0.25, 0.5, 0.25], "same")
    lags = np.arange(len(again)) * FRAME

    def at(beats: float) -> np.ndarray:
        return np.interp(PERIODS * beats, lags, again)

    score = at(1) + at(2) + at(4) + at(8) + 0.5 * (at(0.5) + at(0.25))
    score = score * np.exp(-0.5 * (np.log2(60 / PERIODS / 113) / 0.6) ** 2)  # of two metres, the middling
    best = int(np.argmax(score))
    return float(60 / PERIODS[best]), float((at(2) + at(4) + at(8))[best] / 3)


def sixteenths(envelope: np.ndarray, period: float) -> float:
    """The share of an envelope's movement (0.8 to 20 Hz) that is at the sixteenths of a beat of `period` s, [0, 1]."""
    power = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope)))) ** 2
    hertz = np.fft.rfftfreq(len(envelope), FRAME)
    moving = power[(hertz > 0.8) & (hertz < 20)].sum()
    return float(power[np.abs(hertz * period / 4 - 1) < 0.03].sum() / moving) if moving > 1e-12 else 0.0


def swing(strength: np.ndarray, period: float) -> float:
    """Long over short of the sixteenth pairs in onset strength (frames,), in [1, 2.6]: 1 is straight, 2 a triplet's.

    Strength is laid over one eighth note; the second peak's place in it is the ratio. 1 where there is none.
    """
    cells = 32
    place = (np.arange(len(strength)) * FRAME / (period / 2) % 1 * cells).astype(int)
    laid = np.bincount(place, strength, cells)
    laid = laid - laid.min()
    laid = np.convolve(np.tile(laid, 3), [0.25, 0.5, 0.25], "same")[cells : 2 * cells]
    if laid.max() <= 1e-6:
        return 1.0
    laid = np.roll(laid, -int(np.argmax(laid)))
    middle = laid[cells * 9 // 32 : cells * 23 // 32 + 1]
    if middle.max() < 0.15 * laid[0]:
        return 1.0
    part = (cells * 9 // 32 + int(np.argmax(middle))) / cells
    return float(max(part, 1 - part) / min(part, 1 - part))  # which of the two is the first isn't known
