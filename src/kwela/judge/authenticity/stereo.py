"""Find stereo whose two channels are copies of one another, late or turned round.

Mixed to mono they would give a comb filter or silence, which a mono file of the same music has not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kwela.music.audio_files.facts import facts, unreadable
from kwela.music.audio_files.part import Damaged, NotAudio

COMPARED = 5.0  # seconds
LATEST = 0.03  # seconds by which a copy may be late
ALIKE = 0.9  # correlation of the channels' differences from sample to sample


def channel_of_copies(path: Path, seconds: float) -> tuple[np.ndarray, int] | None:
    """Return the louder channel of the middle `seconds`, (samples,), and its rate in Hz.

    None for other files, and for a file that changes its format on the way. Raises UserError for a file that
    can't be read.
    """
    parts = facts(path).parts
    if len(parts) != 1 or parts[0].channels != 2:
        return None
    part = parts[0]
    count = min(part.frames, round(seconds * part.rate))
    first = (part.frames - count) // 2
    try:
        samples = np.concatenate(list(part.blocks(first, first + count)))
    except (NotAudio, Damaged) as error:
        raise unreadable(path, str(error)) from None
    left, right = samples[: round(COMPARED * part.rate)].T
    if not np.isfinite(samples).all() or not _are_copies(left, right, part.rate):
        return None
    return np.ascontiguousarray(samples[:, int(np.square(samples).sum(0).argmax())], np.float32), part.rate


def _are_copies(left: np.ndarray, right: np.ndarray, rate: int) -> bool:
    """Return whether one channel is the other, late or turned round, and not simply the same."""
    from scipy.fft import irfft, next_fast_len, rfft

    # Differences from sample to sample: in the bass, which is loudest, small delays can't be seen.
    first, second = np.diff(left.astype(np.float64)), np.diff(right.astype(np.float64))
    energy = float(np.sqrt(np.square(first).sum() * np.square(second).sum()))
    if energy <= 0:
        return False
    size = next_fast_len(2 * len(first), True)
    product = irfft(rfft(first, size) * np.conj(rfft(second, size)), size) / energy
    reach = min(round(LATEST * rate), len(first) - 1)
    lags = np.concatenate([product[: reach + 1], product[len(product) - reach :]])
    best = int(np.abs(lags).argmax())
    return bool(abs(lags[best]) >= ALIKE and (best != 0 or lags[best] < 0))
