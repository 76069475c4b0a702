"""Measure the rhythm of a clip: its tempo, the events of its bass, the sixteenths above 3 kHz.

Times are in seconds, tempo in beats a minute. The tempo is octave-folded into [80, 160): whether a pulse or
its double is the beat is a convention, and no feature should depend on it.

A log drum is a low tone that glides down at its start and rings for 300 to 600 ms; a kick sweeps through the
octaves and is gone in 150. Both are events here, told apart by how steady the pitch is once it has been
struck.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

FRAME = 0.01  # seconds between frames
SLOWEST, FASTEST = 80.0, 160.0
PERIODS = 60 / np.arange(SLOWEST, FASTEST, 0.25)  # seconds of a beat
LOW_RATE = 1000  # Hz to which a clip is brought for the bass
BAND = (38.0, 180.0)  # Hz
STEADY = 1.0  # semitones of wander, under which an event is a tone
RINGS = 0.15  # seconds to fall 20 dB, from which an event may be a tone
LONGEST = 1.5  # seconds: a decay is capped here (a drone never falls)


def onsets(magnitude: np.ndarray, edges: tuple[int, ...]) -> np.ndarray:
    """Return the onset strength of each band: the rise of log magnitude, (bands, frames), never negative.

    magnitude: (frames, bins), of a clip at equal loudness. edges: the bins between which bands lie. Silence
    gives 0.
    """
    loud = np.stack([magnitude[:, a:b].mean(1) for a, b in itertools.pairwise(edges)])
    rise = np.diff(np.log1p(50 * loud), axis=1, prepend=np.log1p(50 * loud[:, :1]))
    return np.maximum(0, rise)


def tempo(strength: np.ndarray) -> tuple[float, float]:
    """Return (tempo, clarity) of onset strength (frames,): the beat at which it repeats best.

    clarity: mean autocorrelation over two, four and eight beats, in [-1, 1]. (0, 0) where nothing starts.
    Lags over 0.7 of the clip are left out, because too little of it overlaps: of 10 s all are used, of 5 s
    those up to four beats.
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

    longest = 0.7 * len(flat) * FRAME
    used = [beats for beats in (1, 2, 4, 8) if beats * PERIODS.max() <= longest] or [1]
    score = sum(at(beats) for beats in used) + 0.5 * (at(0.5) + at(0.25))
    score = score * np.exp(-0.5 * (np.log2(60 / PERIODS / 113) / 0.6) ** 2)  # of two metres, the middling
    best = int(np.argmax(score))
    return float(60 / PERIODS[best]), float(np.mean([at(beats)[best] for beats in used[1:] or used]))


@dataclass(frozen=True)
class Events:
    """Events of the bass, each an element of arrays (N,).

    time: s of its peak. strength: amplitude over the strongest's. decay: s to fall 20 dB. pitch: Hz after the
    start. glide: semitones by which it starts higher. tonal: bool.
    """

    time: np.ndarray
    strength: np.ndarray
    decay: np.ndarray
    pitch: np.ndarray
    glide: np.ndarray
    tonal: np.ndarray


def band(wave: np.ndarray, rate: int) -> np.ndarray:
    """Return the bass of `wave` at 1 kHz, float64.

    It is filtered forwards and backwards, so that nothing moves in time.
    """
    from scipy.signal import butter, resample_poly, sosfiltfilt

    slow = resample_poly(wave.astype(np.float64), LOW_RATE, rate)
    return sosfiltfilt(butter(3, BAND, "bandpass", fs=LOW_RATE, output="sos"), slow)


def events(low: np.ndarray, audible: float) -> Events:
    """Return the events of a bass signal at 1 kHz.

    Their amplitude reaches `audible` and an eighth of the strongest event's.
    """
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import find_peaks, hilbert

    ringing = hilbert(low)
    swell = uniform_filter1d(np.abs(ringing), 25)
    top = float(swell.max(initial=0.0))
    if top < audible:
        none = np.zeros(0)
        return Events(none, none, none, none, none, none.astype(bool))
    # Frequency between neighbouring samples, weighted by power wherever it is averaged.
    turn = np.diff(np.unwrap(np.angle(ringing)), append=0.0) * LOW_RATE / (2 * np.pi)
    tune = np.log2(np.clip(turn, 20.0, 400.0))  # octaves
    weight = np.abs(ringing) ** 2 + 1e-20
    level = 20 * np.log10(swell + 1e-9)
    least = max(audible, top / 8)
    peaks, _ = find_peaks(level, height=20 * np.log10(least), distance=70, prominence=4.0)
    rows = [_event(k, peaks, level, tune, weight) for k in range(len(peaks))]
    decay, pitch, glide, wander = np.array(rows).reshape(-1, 4).T
    return Events(
        peaks / LOW_RATE, swell[peaks] / top, decay, pitch, glide, (wander < STEADY) & (decay >= RINGS)
    )


def _event(
    k: int, peaks: np.ndarray, level: np.ndarray, tune: np.ndarray, weight: np.ndarray
) -> tuple[float, float, float, float]:
    at = int(peaks[k])
    end = int(peaks[k + 1]) if k + 1 < len(peaks) else len(level)
    end = min(at + max(40, int(np.argmin(level[at:end])) if end < len(level) else end - at), len(level))
    end = min(end, at + 600)
    fallen = level[at] - level[at:end]
    reach = int(np.argmax(fallen >= 20)) if fallen.max() >= 20 else len(fallen) - 1
    drop = float(fallen[reach])
    decay = min(LONGEST, reach / LOW_RATE * 20 / drop) if drop > 0.5 else LONGEST
    start, body = slice(max(0, at - 15), at + 20), slice(at + 40, max(at + 60, min(end, at + 240)))
    early = np.average(tune[start], weights=weight[start])
    late = np.average(tune[body], weights=weight[body]) if len(tune[body]) else early
    wander = np.sqrt(np.average((tune[body] - late) ** 2, weights=weight[body])) if len(tune[body]) else 9.0
    return decay, 2**late, 12 * float(early - late), 12 * float(wander)


def beat_phase(time: np.ndarray, strength: np.ndarray, period: float) -> float:
    """Return the offset in [0, period) s at which beats hold most of the events' strength.

    An event counts within an eighth of a beat.
    """
    tries = np.linspace(0, period, 32, endpoint=False)
    away = np.abs((time[None] - tries[:, None] + period / 2) % period - period / 2)
    return float(tries[np.argmax((np.maximum(0, 1 - away / (period / 8)) * strength).sum(1))])


def off_beat(time: np.ndarray, strength: np.ndarray, period: float, phase: float) -> float:
    """Return the share of strength over an eighth of a beat from any beat, in [0, 1]; 0 without events."""
    if not len(time):
        return 0.0
    away = np.abs((time - phase + period / 2) % period - period / 2)
    return float(strength[away > period / 8].sum() / strength.sum())


def four_on_the_floor(time: np.ndarray, period: float, phase: float, seconds: float) -> float:
    """Return the share of beats at which an event stands, within an eighth of a beat, in [0, 1]."""
    beats = np.arange(phase, seconds - period / 8, period)
    if not len(time) or not len(beats):
        return 0.0
    return float((np.abs(beats[:, None] - time[None]).min(1) <= period / 8).mean())


def syncopation(time: np.ndarray, period: float, phase: float, seconds: float) -> float:
    """Return the syncopation a beat.

    It adds up events on a weak sixteenth with none on the next stronger one, by how much stronger that one
    is.

    The weights of Longuet-Higgins and Lee 1984 below the bar (beat 0, eighth -1, sixteenths -2), since where
    a bar starts isn't known. 0 without events.
    """
    step = period / 4
    steps = int((seconds - phase) / step) // 4 * 4
    if steps < 4 or not len(time):
        return 0.0
    at = np.round((time - phase) / step).astype(int)
    struck = np.zeros(steps + 4, bool)
    struck[at[(at >= 0) & (at < steps)]] = True
    weights = np.tile([0, -2, -1, -2], steps // 4 + 1)
    total = 0
    for k in np.flatnonzero(struck[:steps]).tolist():
        after = next((j for j in range(k + 1, min(k + 4, steps)) if weights[j] > weights[k]), None)
        if after is not None and not struck[k + 1 : after + 1].any():
            total += int(weights[after] - weights[k])
    return total / (steps / 4)


def sixteenths(envelope: np.ndarray, period: float) -> float:
    """Return the share of an envelope's movement (0.8 to 20 Hz) at the sixteenths of a beat, in [0, 1].

    period: s of a beat.
    """
    power = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope)))) ** 2
    hertz = np.fft.rfftfreq(len(envelope), FRAME)
    moving = power[(hertz > 0.8) & (hertz < 20)].sum()
    return float(power[np.abs(hertz * period / 4 - 1) < 0.03].sum() / moving) if moving > 1e-12 else 0.0


def swing(strength: np.ndarray, period: float) -> float:
    """Return long over short of the sixteenth pairs in onset strength (frames,), in [1, 2.6].

    1 is straight, 2 a triplet's.

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
