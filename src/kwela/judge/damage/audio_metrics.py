"""Measure one clip: highs, silence, loops, clipping, loudness, and its mean spectrum.

Levels are dB full scale: a square wave from -1 to 1 has 0. As many seconds are measured of each clip as the
shortest one holds, at most LONGEST, from its middle: a longer clip has more lags at which it may repeat, and
more room for silence.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kwela.errors import UserError
from kwela.judge.shared import clips
from kwela.judge.shared.spectrum import magnitudes
from kwela.music import audio
from kwela.music.loudness import loudness

RATE = audio.SAMPLE_RATE
LONGEST = 60.0  # seconds
SHORTEST = 5.0  # seconds: a shorter clip is measured whole, and does not shorten the others
N_FFT, HOP = 2048, 1024
HIGH = 8000.0  # Hz: MagnaTagATune's 16 kHz files hold nothing above
NO_HIGHS = -100.0  # dB: what a share of nothing counts as
SILENT, FRAME = -60.0, 0.05  # dB full scale; seconds
FULL, FLAT = 0.999, 4  # of full scale; equal samples in a row at the top that make a flat one
CENTRES = 1000 * 2 ** (np.arange(-10, 14) / 3)  # Hz: 24 thirds of an octave, from 99 to 20,159
EDGES = 1000 * 2 ** ((np.arange(-10, 15) - 0.5) / 3)

# Loops: two moments are alike if a second of them differs by less than ALIKE dB in the mean of the bands that
# sound.
STEP, RUN, ALIKE = 0.025, 1.0, 2.0  # seconds, seconds, dB
LAGS = 0.5, 10.0  # seconds
AUDIBLE = -50.0  # dB under the clip's loudest band


def common_seconds(paths: Iterable[Path]) -> float:
    """Return the seconds that every clip holds: SHORTEST to LONGEST.

    Clips that are shorter or can't be read don't count.
    """
    lengths = [LONGEST]
    for path in paths:
        with contextlib.suppress(UserError):
            lengths.append(audio.duration(path))
    return min(seconds for seconds in lengths if seconds >= SHORTEST)


def describe(path: Path, seconds: float = LONGEST) -> dict[str, Any]:
    """Return all measurements of the middle `seconds` of a file as JSON values. Raises UserError.

    None stands where silence has no answer. digest and seconds are of the middle LONGEST.
    """
    whole = clips.load_middle(path, RATE, LONGEST)
    wave = clips.middle(whole, round(seconds * RATE))
    power, loud = spectrum(wave), loudness(wave, RATE)
    samples, rate = _native(path, wave)
    return {
        "highs": highs(power),
        "silent": silent_share(wave),
        "looping": looping_share(power),
        "clipping": clipping_share(samples),
        "loudness": loud if math.isfinite(loud) else None,
        "spectrum": _bands(power).mean(0).tolist(),
        "digest": clips.audio_hash(whole),
        "seconds": len(whole) / RATE,
        "rate": rate,
    }


def spectrum(wave: np.ndarray) -> np.ndarray:
    """Return the power (frames, 1025) of windows of 2048 samples, every 1024; at least one frame.

    The peak of a full sine is 1.
    """
    return np.square(magnitudes(wave, N_FFT, HOP))


def highs(power: np.ndarray) -> float | None:
    """Return 10 log10 of the share of energy above HIGH, in dB, at least NO_HIGHS; None for silence.

    power: as `spectrum`. A share, so it doesn't depend on level.
    """
    hertz = np.fft.rfftfreq(N_FFT, 1 / RATE)
    total = float(power.sum())
    if total / len(power) < 1e-11:
        return None
    return max(NO_HIGHS, 10 * math.log10(max(float(power[:, hertz > HIGH].sum()) / total, 1e-30)))


def silent_share(wave: np.ndarray) -> float:
    """Return the share of 50 ms frames whose root mean square lies below SILENT, in [0, 1]."""
    size = round(FRAME * RATE)
    wave = np.pad(wave, (0, -len(wave) % size))
    return float((np.square(wave.reshape(-1, size)).mean(1) < 10 ** (SILENT / 10)).mean())


def clipping_share(samples: np.ndarray) -> float:
    """Return the share of samples that are cut off, in [0, 1]; the worst channel counts.

    samples: (n, channels). Cut off: at or beyond FULL of full scale, or one of at least FLAT equal samples in
    a row within 1 % of the channel's peak (a top that was cut before the level was changed). A peak under
    0.001 has no tops.
    """
    return max(_cut(channel) for channel in samples.T)


def looping_share(power: np.ndarray) -> float | None:
    """Return the share of a clip that repeats itself, in [0, 1]: the most at any one lag.

    None if the clip is too short or silent. power: as `spectrum`. In steps of 25 ms, the level of 24 bands in
    dB. For each lag of LAGS, up to half of the clip, the share of moments whose RUN differs from the RUN one
    lag earlier by less than ALIKE dB, in the mean over the bands that are audible at either moment. Silence
    is not counted as repeating, a sound that stands still is.
    """
    levels, audible = _levels(power)
    run = round(RUN / STEP)
    most = min(round(LAGS[1] / STEP), len(levels) // 2)
    lags = range(round(LAGS[0] / STEP), most + 1)
    if not len(lags) or len(levels) - most < run or not audible.any():
        return None
    return max(_repeats(levels, audible, lag, run) for lag in lags)


def _repeats(levels: np.ndarray, audible: np.ndarray, lag: int, run: int) -> float:
    either = audible[lag:] | audible[:-lag]
    differs = np.where(either, np.abs(levels[lag:] - levels[:-lag]), 0)
    ones = np.ones(run)
    total, sounding = (np.convolve(values.sum(1), ones, "valid") for values in (differs, either))
    return float(((sounding >= run) & (total < ALIKE * np.maximum(sounding, 1))).mean())


def _levels(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return levels (steps, 24) in dB, and which lie above the floor: AUDIBLE under the loudest."""
    smooth = np.apply_along_axis(np.convolve, 0, _bands(power), np.hanning(11)[1:-1] / 5, "same")
    at = np.arange(0, len(power) * HOP / RATE, STEP) * RATE / HOP
    columns = [np.interp(at, np.arange(len(power)), column) for column in smooth.T]
    levels = 10 * np.log10(np.maximum(np.stack(columns, 1), 1e-20))
    floor = max(levels.max() + AUDIBLE, -98.0)
    return np.maximum(levels, floor), levels > floor


def _cut(channel: np.ndarray) -> float:
    from scipy.ndimage import binary_opening

    peak = float(np.abs(channel).max(initial=0))
    if peak < 1e-3:
        return 0.0
    full = np.abs(channel) >= FULL
    high = np.abs(channel) >= 0.99 * peak
    same = np.concatenate([[False], (np.abs(np.diff(channel)) < 1e-6) & high[1:] & high[:-1]])
    long = binary_opening(same, np.ones(FLAT - 1))  # equal to the sample before, FLAT - 1 times in a row
    flat = long | np.append(long[1:], False)
    return float((full | flat).mean())


def _native(path: Path, wave: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Return all samples (n, channels) as the file holds them, and its rate in Hz.

    Resampling would round flat tops. A file that libsndfile cannot read gives the decoded samples, and None.
    """
    try:
        return soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return wave[:, None], None


def _bands(power: np.ndarray) -> np.ndarray:
    """(frames, 24) power of the bands around CENTRES."""
    which = np.searchsorted(EDGES, np.fft.rfftfreq(N_FFT, 1 / RATE)) - 1
    return np.stack([power[:, which == k].sum(1) for k in range(len(CENTRES))], 1)
