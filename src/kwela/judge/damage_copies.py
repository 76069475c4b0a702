"""Was a training clip copied? The longest stretch of music that a clip shares with any training clip.

Both are turned into chroma, twelve numbers a tenth of a second that say which pitch classes sound. Two frames match
where their chroma correlate; a shared stretch is a run of matching frames at one lag. Octave, timbre and level don't
count, so a copy is found through another codec, at another level and from another point in time. It isn't found
transposed or at another speed: a fine-tuned model that copies does so in place.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from kwela.judge import clips

RATE = 11_025  # Hz
N_FFT, HOP = 4096, 1102  # 0.37 s; 0.1 s
HOP_SECONDS = HOP / RATE
LOWEST, HIGHEST = 65.4, 2093.0  # Hz, C2 to C7: below, bins are wider than semitones; above, mostly overtones
QUIET = 1e-3  # root mean square of a frame that counts as silence (-60 dB full scale)
MATCH = 0.8  # correlation of two frames; see docs/judging/damage.md for what was measured
LONGEST = 600.0  # seconds read of a clip


class Shared(NamedTuple):
    """A stretch in seconds, which training clip it is shared with (index; -1: none), and where it begins in both."""

    seconds: float
    other: int
    start: float
    other_start: float


def chroma_of(path: Path) -> str:
    """The chroma of a file, packed. Raises UserError for a file that doesn't decode."""
    return pack(chroma(clips.load(path, RATE, LONGEST)))


def chroma(wave: np.ndarray) -> np.ndarray:
    """Samples at RATE -> (frames, 12) float32 in [0, 1], C first; the loudest class of a frame is 1, silence all 0.

    The sum of the magnitudes of a Hann-windowed spectrum from LOWEST to HIGHEST, each bin counted for the pitch
    class it is nearest to (Fujishima 1999).
    """
    wave = np.pad(wave, (N_FFT // 2, N_FFT // 2))
    frames = np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[::HOP]
    hertz = np.fft.rfftfreq(N_FFT, 1 / RATE)
    used = np.flatnonzero((hertz >= LOWEST) & (hertz <= HIGHEST))
    classes = np.round(69 + 12 * np.log2(hertz[used] / 440)).astype(int) % 12
    to_class = np.eye(12, dtype=np.float32)[classes]
    window = np.hanning(N_FFT).astype(np.float32)
    sums = [
        np.abs(np.fft.rfft(frames[k : k + 256] * window))[:, used].astype(np.float32) @ to_class
        for k in range(0, len(frames), 256)
    ]
    found = np.concatenate(sums)
    heard = np.sqrt(np.square(frames).mean(1)) > QUIET
    return np.where(heard[:, None], found / np.maximum(found.max(1, keepdims=True), 1e-9), 0).astype(np.float32)


def pack(values: np.ndarray) -> str:
    """(frames, 12) in [0, 1] as text, 8 bits a number."""
    return base64.b64encode(np.round(values * 255).astype(np.uint8).tobytes()).decode()


def unpack(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 12).astype(np.float32) / 255


def longest(asked: Sequence[np.ndarray], training: Sequence[np.ndarray], label: str = "") -> list[Shared]:
    """For each of `asked`, the longest stretch that it shares with any of `training`; all are chroma (frames, 12).
    label: of the progress bar.

    All of `asked` stand below one another, and each frame of a training clip is laid beside them at once: a run goes on
    where it ended one frame up, so time grows with the frames of both sides and memory with those of `asked`.
    """
    frames = np.concatenate([_standard(one) for one in asked])
    lengths = np.array([len(one) for one in asked])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    opens = np.zeros(len(frames), bool)
    opens[first[lengths > 0]] = True
    best = [Shared(0.0, -1, 0.0, 0.0)] * len(asked)
    record = np.zeros(len(frames), np.int32)  # the longest run that ends at each frame
    where = np.zeros((len(frames), 2), np.int32)  # with which clip and where in it
    bar = track(training, label, console=Console(stderr=True), transient=True, disable=not label)
    for other, clip in enumerate(bar):
        match = (frames @ _standard(clip).T >= MATCH).T  # (frames of the clip, frames asked)
        run = np.zeros(len(frames), np.int32)
        for at, hits in enumerate(match):
            before = np.concatenate([[0], run[:-1]])
            before[opens] = 0
            run = np.where(hits, before + 1, 0)
            longer = run > record
            if longer.any():
                record[longer] = run[longer]
                where[longer] = other, at
    for k, (start, length) in enumerate(zip(first, lengths, strict=True)):
        if length and (mine := record[start : start + length]).max() > 0:
            end = int(mine.argmax())
            run_length = int(mine[end])
            other, at = (int(number) for number in where[start + end])
            begin, other_begin = end - run_length + 1, at - run_length + 1
            best[k] = Shared(run_length * HOP_SECONDS, other, begin * HOP_SECONDS, other_begin * HOP_SECONDS)
    return best


def _standard(frames: np.ndarray) -> np.ndarray:
    """Each frame less its mean, at length 1: products are correlations. Silence stays 0, which matches nothing."""
    centred = frames - frames.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(size > 1e-6, centred / np.maximum(size, 1e-6), 0).astype(np.float32)
