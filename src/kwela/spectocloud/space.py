"""The unit cube that holds the clouds of targets and model: its axes, its anchors, its quasi-random numbers.

- x is time: 0 and 1 are the start and end of the 1.486 s segment.
- y is pitch, one twelfth of an octave a row: row r of 120 is centred on MIDI pitch 16 + r, from 20.6 Hz to
  19.9 kHz.
- z is dynamics, tension and texture: 0 is soft, consonant and thin; 1 is loud, dissonant and full.
"""

from __future__ import annotations

import functools

import numpy as np

from kwela.music import audio

POINTS = 1200
ROWS = 120  # semitones
LOWEST = 15.5  # MIDI pitch at y = 0
SECONDS = audio.SEGMENT / audio.SAMPLE_RATE
RANGE = 6.0  # decades of power (60 dB) below the segment's peak that count as sound
SILENCE = -2.0  # log10 power; a segment whose loudest cell is below (about -60 dB full scale) is silent

# The place that glows for each family of musical qualities when the segment is strong in it.
ANCHORS = {
    "harmony": (0.50, 0.40, 0.80),
    "rhythm": (0.20, 0.25, 0.55),
    "dynamics": (0.80, 0.45, 0.60),
    "timbre": (0.50, 0.75, 0.35),
    "texture": (0.75, 0.20, 0.30),
}


def pitch_to_y(pitch: np.ndarray) -> np.ndarray:
    """Return y in [0, 1] of MIDI pitches, which may be fractional."""
    return np.clip((np.asarray(pitch) - LOWEST) / ROWS, 0, 1)


@functools.cache
def semitone_places() -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the mel band below its pitch (int64) and the fraction (0..1) to the next band."""
    pitches = 69 + 12 * np.log2(audio.mel_edges_hz()[1:-1] / 440)
    bands = np.interp(LOWEST + 0.5 + np.arange(ROWS), pitches, np.arange(audio.MELS))
    low = np.minimum(bands.astype(np.int64), audio.MELS - 2)
    return low, bands - low


def semitone_rows(log_mel: np.ndarray) -> np.ndarray:
    """Return a log-mel (128, 64) as semitone rows (120, 64), interpolated linearly between mel bands."""
    low, fraction = semitone_places()
    return log_mel[low] + fraction[:, None].astype(np.float32) * (log_mel[low + 1] - log_mel[low])


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Return the log-mel (128, 64) of up to 65,536 samples; silence is added up to that length."""
    return audio.log_mel(np.pad(wave[: audio.SEGMENT], (0, max(0, audio.SEGMENT - len(wave))))).numpy()


def quasi_random(count: int, dimensions: int) -> np.ndarray:
    """Return Roberts' quasi-random sequence, (count, dimensions) float64 in [0, 1).

    It fills a cube more evenly than independent random numbers. Each column is a Kronecker sequence on powers
    of the generalised golden ratio (Roberts 2018). Shifting all points by one vector modulo 1 keeps them as
    even; that is how another draw of a cloud is made (Cranley and Patterson 1976).
    """
    phi = 1.5
    for _ in range(60):  # the root of x^(d+1) = x + 1
        phi = (1 + phi) ** (1 / (dimensions + 1))
    return (np.arange(1, count + 1)[:, None] * phi ** -np.arange(1.0, dimensions + 1)) % 1
