"""Compute thirty features of a clip in standard form (`standard_form`), with unit and meaning.

They are computed from decoded audio alone and share nothing with any model's input. There is no NaN: where a
thing is absent (no beat, no bass) its feature has the value that `DOCUMENTED` states, mostly 0, which lies
far from any music's. All are blind to level, since every clip is equally loud.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from kwela.judge.authenticity import rhythm
from kwela.judge.shared.clips import RATE
from kwela.judge.shared.spectrum import magnitudes
from kwela.stats import entropy

# Raised by hand when a feature or the standard form changes: figures of two versions do not compare.
# Version 1 took 10 s of each clip, repeated shorter ones, and heard how long a clip is.
FEATURES_VERSION = 2
SHORT, HOP = 512, 160  # samples: 32 ms every 10 ms, for rhythm
LONG, LONG_HOP = 4096, 2048  # samples: 256 ms every 128 ms, for harmony
BLOCK = RATE // 10  # samples, in which the level is measured
AUDIBLE = 1e-3  # amplitude: -60 dB of full scale, some 37 dB below a standard clip
_SHORT_BIN, _LONG_BIN = RATE / SHORT, RATE / LONG  # Hz


@dataclass(frozen=True)
class Feature:
    """What a feature measures.

    family: what an ablation leaves out together. resolution: a difference as small as a codec or another cut
    of the same music makes. expected: the range that producers' pages name for amapiano, a prior to test;
    None where they name none.
    """

    family: str
    resolution: float
    unit: str
    meaning: str
    expected: tuple[float, float] | None = None


DOCUMENTED: dict[str, Feature] = {
    "tempo": Feature("tempo", 0.5, "BPM, 80..160, 0 without a beat", "octave-folded tempo", (108, 114)),
    "tempo_near": Feature(
        "tempo", 0.03, "0..1", "nearness of the tempo to 111 BPM: exp(-(octaves / 0.06)^2 / 2)"
    ),
    "pulse": Feature(
        "tempo", 0.03, "-1..1", "how well onsets repeat after 2, 4 and 8 beats (autocorrelation)"
    ),
    "low_rate": Feature("low", 0.1, "a second", "events at 38-180 Hz", (1.5, 5)),
    "low_decay": Feature("low", 0.02, "s, 0..1.5", "their median time to fall 20 dB", (0.3, 0.6)),
    "low_pitch": Feature("low", 0.03, "octaves over 20 Hz", "their median pitch", (1.3, 2.9)),
    "low_spread": Feature(
        "low", 0.2, "semitones", "standard deviation of their pitches: a bass line, or one note"
    ),
    "low_glide": Feature(
        "low", 0.2, "semitones", "how much higher the tones among them start, median", (1, 12)
    ),
    "low_tonal": Feature("low", 0.05, "0..1", "share that are tones, not kicks", (0.5, 1)),
    "kick_rate": Feature(
        "low", 0.1, "a second", "those that are kicks: no steady pitch, or gone within 150 ms", (0, 1.5)
    ),
    "low_energy": Feature("timbre", 0.5, "dB", "energy at 38-180 Hz over that of all"),
    "off_beat": Feature(
        "rhythm", 0.03, "0..1", "strength of low events away from the beats that hold most of it", (0.3, 1)
    ),
    "four_on_floor": Feature("rhythm", 0.03, "0..1", "share of beats with a low event", (0, 0.8)),
    "syncopation": Feature(
        "rhythm", 0.05, "a beat", "low events on weak sixteenths (Longuet-Higgins and Lee 1984)"
    ),
    "swing": Feature("rhythm", 0.05, "1..2.6", "long over short sixteenth, 3-8 kHz"),
    "sixteenths": Feature(
        "rhythm", 0.03, "0..1", "share of the movement at 3-8 kHz that is at sixteenths", (0.1, 1)
    ),
    "onset_rate": Feature("rhythm", 0.1, "a second", "onsets over all bands"),
    "high_energy": Feature("timbre", 1, "dB", "energy at 3-8 kHz over that of all"),
    "sevenths": Feature(
        "harmony", 0.03, "0..1", "share of frames that match a 7th or 9th chord best", (0.4, 1)
    ),
    "seventh_margin": Feature(
        "harmony", 0.005, "-1..1", "mean match of the best 7th or 9th over that of the best triad"
    ),
    "chroma_change": Feature("harmony", 0.01, "0..1", "mean cosine distance of chroma half a second apart"),
    "chroma_entropy": Feature("harmony", 0.05, "bits, 0..3.6", "entropy of the mean chroma"),
    "harmonic": Feature(
        "timbre", 0.5, "dB", "harmonic over percussive energy (median filters, Fitzgerald 2010)"
    ),
    "contrast_1": Feature("timbre", 1, "dB", "spectral contrast at 200-500 Hz (Jiang et al. 2002)"),
    "contrast_2": Feature("timbre", 1, "dB", "the same at 500-1250 Hz"),
    "contrast_3": Feature("timbre", 1, "dB", "the same at 1250-3100 Hz"),
    "contrast_4": Feature("timbre", 1.5, "dB", "the same at 3100-7000 Hz"),
    "flatness": Feature(
        "timbre", 1, "dB", "geometric over arithmetic mean of the spectrum, median over frames"
    ),
    "centroid": Feature(
        "timbre", 0.1, "octaves over 20 Hz", "centre of the mean power spectrum, 0 for silence"
    ),
    "loudness_range": Feature(
        "timbre", 0.5, "dB", "90th less 10th percentile of level in blocks of 100 ms, at most 60"
    ),
}
NAMES = tuple(DOCUMENTED)
RESOLUTIONS = np.array([feature.resolution for feature in DOCUMENTED.values()])  # (30,)
_TOLD_BY = ("high_energy", "low_energy", "contrast_2", "centroid")  # what tells clips from one another
FAMILIES = tuple(dict.fromkeys(feature.family for feature in DOCUMENTED.values()))


def features(wave: np.ndarray) -> np.ndarray:
    """Return the features of a clip in standard form, float64 (30,) in the order of NAMES; always finite.

    wave: mono, 16 kHz, whole tenths of a second. Features of clips of different length do not compare.
    Raises ValueError for another shape, or under 4 s.
    """
    if wave.ndim != 1 or len(wave) % BLOCK or len(wave) < 4 * RATE:
        raise ValueError(f"a standard clip is 4 s or more in whole tenths at {RATE} Hz, got {wave.shape}")
    short = magnitudes(wave, SHORT, HOP, centred=True)  # (frames of 10 ms, 257)
    long = magnitudes(wave, LONG, LONG_HOP, centred=True)  # (frames of 128 ms, 2049)
    values = _rhythm(wave, short) | _harmony(long) | _timbre(wave, short, long)
    return np.array([values[name] for name in NAMES], np.float64)


def blurred_features(wave: np.ndarray) -> np.ndarray:
    """Return the features with noise of their resolution added, float64 (30,): what clips are judged by.

    Music that is much alike differs less from clip to clip than a codec changes it, and standardising would
    make that change as large as a style's. The noise is drawn by some of the values, rounded: equal audio has
    equal values, on other machines too, whose samples differ in their last bits.
    """
    values = features(wave)
    told = [round(100 * values[k] / RESOLUTIONS[k]) for k in map(NAMES.index, _TOLD_BY)]
    rng = np.random.default_rng(zlib.crc32(repr(told).encode()))
    return values + RESOLUTIONS * rng.standard_normal(len(NAMES))


def _rhythm(wave: np.ndarray, short: np.ndarray) -> dict[str, float]:
    bins = tuple(round(hz / _SHORT_BIN) for hz in (150, 400, 1000, 3000, 8000))
    low = rhythm.band(wave, RATE)
    bass = rhythm.events(low, AUDIBLE)
    above = rhythm.onsets(short, bins)  # (4, frames)
    struck = np.zeros(short.shape[0])
    np.maximum.at(struck, np.minimum((bass.time / rhythm.FRAME).astype(int), len(struck) - 1), bass.strength)
    struck = np.convolve(struck, [0.25, 0.5, 1.0, 0.5, 0.25], "same")
    top = above.max(1, keepdims=True)
    even = np.where(
        top > 1e-2, above / np.maximum(top, 1e-2), 0.0
    )  # each band that sounds, scaled to its peak
    strength = even.mean(0) + 0.5 * struck
    bpm, clarity = rhythm.tempo(strength)
    period = 60 / bpm if bpm else 60 / 111
    phase = rhythm.beat_phase(bass.time, bass.strength, period) if len(bass.time) else 0.0
    high = short[:, bins[3] :].mean(1)
    seconds = len(wave) / RATE
    tones = bass.tonal
    return {
        "tempo": bpm,
        "tempo_near": float(np.exp(-0.5 * (np.log2(bpm / 111) / 0.06) ** 2)) if bpm else 0.0,
        "pulse": clarity,
        "low_rate": len(bass.time) / seconds,
        "low_decay": _median(bass.decay),
        "low_pitch": float(np.log2(max(20.0, _median(bass.pitch)) / 20)),
        "low_spread": float(np.std(12 * np.log2(bass.pitch[tones]))) if tones.sum() > 1 else 0.0,
        "low_glide": _median(bass.glide[tones]),
        "low_tonal": float(tones.mean()) if len(tones) else 0.0,
        "kick_rate": float((~tones).sum() / seconds),
        "low_energy": _decibels(np.mean(low**2), np.mean(np.square(wave, dtype=np.float64))),
        "off_beat": rhythm.off_beat(bass.time, bass.strength, period, phase),
        "four_on_floor": rhythm.four_on_the_floor(bass.time, period, phase, seconds),
        "syncopation": rhythm.syncopation(bass.time, period, phase, seconds),
        "swing": rhythm.swing(above[3], period),
        "sixteenths": rhythm.sixteenths(np.log1p(50 * high), period) if bpm else 0.0,
        "onset_rate": _count_onsets(strength) / seconds,
    }


def _count_onsets(strength: np.ndarray) -> int:
    from scipy.signal import find_peaks

    if strength.max() < 1e-2:
        return 0
    return len(find_peaks(strength, height=0.25 * float(np.quantile(strength, 0.99)), distance=6)[0])


def _harmony(long: np.ndarray) -> dict[str, float]:
    from scipy.ndimage import median_filter

    steady = median_filter(long[:, _PITCHED], (5, 1))  # what lasts half a second: no drums
    chroma = steady @ _CLASSES  # (frames, 12)
    power = np.linalg.norm(chroma, axis=1)
    audible = power > AUDIBLE
    if audible.sum() < 8:
        return dict.fromkeys(("sevenths", "seventh_margin", "chroma_change", "chroma_entropy"), 0.0)
    chroma = chroma[audible] / power[audible, None]
    best, richer = (chroma @ _TRIADS.T).max(1), (chroma @ _EXTENDED.T).max(1)
    mean = chroma.mean(0) / chroma.mean(0).sum()
    return {
        "sevenths": float((richer > best).mean()),
        "seventh_margin": float((richer - best).mean()),
        "chroma_change": float(1 - (chroma[4:] * chroma[:-4]).sum(1).mean()),
        "chroma_entropy": entropy(mean),
    }


def _turned(*chords: tuple[int, ...]) -> np.ndarray:
    """Return unit chroma (12 * chords, 12) of chords on each root."""
    rows = [[float((p - root) % 12 in chord) for p in range(12)] for chord in chords for root in range(12)]
    return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


_HERTZ = np.arange(LONG // 2 + 1) * _LONG_BIN
_PITCHED = np.flatnonzero((_HERTZ >= 160) & (_HERTZ <= 1500))
_AWAY = np.abs((69 + 12 * np.log2(_HERTZ[_PITCHED, None] / 440) - np.arange(12) + 6) % 12 - 6)  # semitones
_CLASSES = np.exp(-0.5 * (_AWAY / 0.35) ** 2) / np.sqrt(_HERTZ[_PITCHED, None] / 160)  # (bins, 12), C first
_TRIADS = _turned((0, 4, 7), (0, 3, 7))
_EXTENDED = _turned((0, 4, 7, 11), (0, 3, 7, 10), (0, 4, 7, 10), (0, 4, 7, 11, 2), (0, 3, 7, 10, 2))


def _timbre(wave: np.ndarray, short: np.ndarray, long: np.ndarray) -> dict[str, float]:
    power = np.square(long, dtype=np.float64)  # (77, 2049)
    whole = power.sum()
    audible = power[:, 8:].mean(1) > 1e-12
    lively = power[audible][:, 8 : int(7000 / _LONG_BIN)] + 1e-14
    flat = np.exp(np.log(lively).mean(1)) / lively.mean(1) if len(lively) else np.ones(1)
    mean = power.mean(0)
    centre = float((_HERTZ * mean).sum() / mean.sum()) if whole > 1e-12 else 0.0
    return {
        "high_energy": _decibels(power[:, _HERTZ >= 3000].sum(), whole),
        "harmonic": _harmonic(short),
        **{f"contrast_{k}": _contrast(long, *edges) for k, edges in enumerate(_CONTRAST, 1)},
        "flatness": float(10 * np.log10(np.median(flat))),
        "centroid": float(np.log2(max(centre, 20.0) / 20)),
        "loudness_range": _range(wave),
    }


_CONTRAST = ((200, 500), (500, 1250), (1250, 3100), (3100, 7000))


def _contrast(long: np.ndarray, low: float, high: float) -> float:
    """Return a band's mean level of its strongest fifth of bins over its weakest, in dB; 0 for silence."""
    rows = np.sort(long[:, int(low / _LONG_BIN) : int(high / _LONG_BIN)], axis=1) + 1e-7
    some = rows.shape[1] // 5
    return float(20 * np.log10(rows[:, -some:].mean(1) / rows[:, :some].mean(1)).mean())


def _harmonic(short: np.ndarray) -> float:
    """Return harmonic over percussive energy, -40 to 40 dB.

    Medians along time (0.34 s) keep tones, medians along frequency keep strokes. Fitzgerald 2010.
    """
    from scipy.ndimage import median_filter

    bands = (np.square(short[::2]) @ _BANDS).astype(np.float32)  # (frames, 48)
    tones, strokes = median_filter(bands, (17, 1)), median_filter(bands, (1, 9))
    return float(np.clip(_decibels(tones.sum(), strokes.sum()), -40, 40))


# (257, 48): which of 48 bands, even in octaves above 150 Hz, holds a bin.
_OCTAVES = np.log2(np.maximum(np.arange(SHORT // 2 + 1) * _SHORT_BIN, 1) / 150)
_BANDS = (np.floor(48 * _OCTAVES / np.log2(8001 / 150))[:, None] == np.arange(48)).astype(np.float32)


def _range(wave: np.ndarray) -> float:
    blocks = np.square(wave, dtype=np.float64).reshape(-1, BLOCK).mean(1)
    if blocks.max() < 1e-12:
        return 0.0
    high, low = np.quantile(10 * np.log10(blocks + blocks.max() * 1e-6), [0.9, 0.1])
    return float(high - low)


def _decibels(part: float, whole: float) -> float:
    return float(np.clip(10 * np.log10((part + 1e-12) / (whole + 1e-12)), -60, 60))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0
