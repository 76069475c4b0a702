"""Was a clip copied? The longest stretch of music that it shares with any of those it was learnt from.

Both are turned into chroma, twelve numbers a tenth of a second that say which pitch classes sound. Two frames match
where their chroma correlate; a shared stretch is a run of matching frames at one lag. Octave, timbre and level don't
count, so a copy is found through another codec, at another level and from another point in time. It isn't found
transposed or at another speed: a fine-tuned model that copies does so in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kwela.judge.shared import clips
from kwela.judge.shared.measure import progress
from kwela.judge.shared.spectrum import magnitudes, pitch_class

RATE = 11_025  # Hz
N_FFT, HOP = 4096, 1102  # 0.37 s; 0.1 s
HOP_SECONDS = HOP / RATE
LOWEST, HIGHEST = 65.4, 2093.0  # Hz, C2 to C7: below, bins are wider than semitones; above, mostly overtones
QUIET = 1e-3  # root mean square of a frame that counts as silence (-60 dB full scale)
MATCH = 0.8  # correlation of two frames; see docs/judging/damage.md for what was measured
LONGEST = 600.0  # seconds read of a clip
QUICK = 600  # clips searched with --quick
SHORTEST = 3.0  # seconds: a shared stretch below is no copy
MARGIN = 1.5  # times the longest stretch that is shared by chance
WHOLE = 0.8  # of a clip: where chance shares as much, copies can't be told from it


class Shared(NamedTuple):
    """A stretch in seconds, which clip it is shared with (index; -1: none), and where it begins in both."""

    seconds: float
    other: int
    start: float
    other_start: float


def bar(chance: Sequence[float]) -> float:
    """The seconds above which a shared stretch is a copy. chance: what clips share that can't have been copied."""
    return max(SHORTEST, MARGIN * max(chance, default=0.0))


def chroma_of(path: Path) -> list[list[int]]:
    """The chroma of a file in 255ths, for `longest`. Raises UserError for a file that doesn't decode."""
    return np.round(chroma(clips.load(path, RATE, LONGEST)) * 255).astype(int).tolist()


def chroma(wave: np.ndarray) -> np.ndarray:
    """Samples at RATE -> (frames, 12) float32 in [0, 1], C first; the loudest class of a frame is 1, silence all 0.

    The sum of the magnitudes from LOWEST to HIGHEST, each bin counted for the pitch class it is nearest to (Fujishima
    1999).
    """
    hertz = np.fft.rfftfreq(N_FFT, 1 / RATE)
    used = np.flatnonzero((hertz >= LOWEST) & (hertz <= HIGHEST))
    found = (
        magnitudes(wave, N_FFT, HOP, centred=True)[:, used]
        @ np.eye(12, dtype=np.float32)[pitch_class(hertz[used])]
    )
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, N_FFT // 2), N_FFT)[::HOP]
    heard = np.sqrt(np.square(frames).mean(1)) > QUIET
    return np.where(heard[:, None], found / np.maximum(found.max(1, keepdims=True), 1e-9), 0).astype(
        np.float32
    )


def longest(asked: Sequence[Any], training: Sequence[Any], label: str = "") -> list[Shared]:
    """For each of `asked`, the longest stretch that it shares with any of `training`; all are chroma (frames, 12).

    label: of the progress bar.

    All of `asked` stand below one another, and each frame of a training clip is laid beside them at once: a run goes on
    where it ended one frame up, so time grows with the frames of both sides and memory with those of `asked`.
    """
    width = 1 + max(
        map(len, asked), default=0
    )  # silence ends each clip, so that no run goes on into the next
    apart = np.zeros((len(asked), width, 12), np.float32)
    for mine, one in zip(apart, asked, strict=True):
        mine[: len(one)] = _standard(one)
    frames = apart.reshape(-1, 12)
    record = np.zeros(len(frames), np.int32)  # the longest run that ends at each frame
    where = np.zeros((len(frames), 2), np.int32)  # with which clip and where in it
    for other, clip in enumerate(progress(training, label)):
        run = np.zeros(len(frames), np.int32)
        for at, hits in enumerate((frames @ _standard(clip).T >= MATCH).T):
            run = np.where(hits, np.concatenate([[0], run[:-1]]) + 1, 0)
            longer = run > record
            if longer.any():
                record[longer] = run[longer]
                where[longer] = other, at
    best = []
    for lengths, places in zip(record.reshape(-1, width), where.reshape(-1, width, 2), strict=True):
        end = int(lengths.argmax())
        length, (other, at) = int(lengths[end]), places[end].tolist()
        starts = [(last - length + 1) * HOP_SECONDS for last in (end, at)]
        best.append(Shared(length * HOP_SECONDS, other, *starts) if length else Shared(0.0, -1, 0.0, 0.0))
    return best


def _standard(chroma: Any) -> np.ndarray:
    """Each frame less its mean, at length 1: products are correlations. Silence stays 0, which matches nothing."""
    frames = np.asarray(chroma, np.float32).reshape(-1, 12)
    centred = frames - frames.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(size > 1e-6, centred / np.maximum(size, 1e-6), 0).astype(np.float32)
