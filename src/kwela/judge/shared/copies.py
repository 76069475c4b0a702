"""Find the longest stretch of music that a clip shares with any training clip.

- Both clips are turned into chroma: twelve numbers every tenth of a second, which say which pitch classes
  sound.
- Two frames match where their chroma correlate. A shared stretch is a run of matching frames at one lag.
- Octave, timbre and level do not count. A copy is found through another codec, at another level and from
  another point in time.
- A copy is not found transposed or at another speed: a fine-tuned model that copies does so in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kwela.judge.shared import clips
from kwela.judge.shared.spectrum import chroma, magnitudes
from kwela.terminal import with_progress_bar

RATE = 11_025  # Hz
N_FFT, HOP = 4096, 1102  # samples: 0.37 s and 0.1 s
HOP_SECONDS = HOP / RATE
LOWEST, HIGHEST = 65.4, 2093.0  # Hz, C2 to C7: below, bins are wider than semitones; above, mostly overtones
SILENCE_RMS = 1e-3  # root mean square of a frame, below which it counts as silent (-60 dB full scale)
MATCHING_CORRELATION = 0.8  # of two frames; docs/judging/damage.md tells what was measured
MAX_CLIP_SECONDS = 600.0  # what is read of a clip
QUICK_CLIP_COUNT = 600  # training clips that are searched with --quick
MIN_COPY_SECONDS = 3.0  # a shorter shared stretch is no copy
CHANCE_MARGIN = 1.5  # times the longest stretch that is shared by chance
MAX_CHANCE_SHARE = 0.8  # of a clip: where chance shares as much, copies can't be told from chance


class SharedStretch(NamedTuple):
    """A stretch of music that a clip shares with a training clip; times are seconds."""

    seconds: float
    other: int  # index of the training clip; -1 where nothing is shared
    start: float  # where the stretch begins in the clip
    other_start: float  # where it begins in the training clip


def copy_threshold(chance: Sequence[float]) -> float:
    """Return the length in seconds above which a shared stretch is a copy.

    chance: lengths in seconds of stretches that are shared by clips which cannot have been copied.
    """
    return max(MIN_COPY_SECONDS, CHANCE_MARGIN * max(chance, default=0.0))


def chroma_of_file(path: Path) -> list[list[int]]:
    """Return the chroma of a file in 255ths, for `longest_shared_stretches`.

    Raises UserError for a file that can't be decoded.
    """
    wave = clips.load_middle(path, RATE, MAX_CLIP_SECONDS)
    return np.round(chroma_frames(wave) * 255).astype(int).tolist()


def middle_seconds(chroma_of_clip: list[list[int]], seconds: float) -> list[list[int]]:
    """Return the chroma of the middle `seconds` of a clip.

    The stretch that a clip shares by chance grows with its length, so that clips which measure chance are cut
    to the length of those that are judged.
    """
    count = math.ceil(seconds / HOP_SECONDS) + 1
    first = max(0, len(chroma_of_clip) - count) // 2
    return chroma_of_clip[first : first + count]


def chroma_frames(wave: np.ndarray) -> np.ndarray:
    """Return the chroma of samples at RATE: (frames, 12) float32 in [0, 1], C first.

    The largest number of a frame is 1; a silent frame is all 0. Bins from LOWEST to HIGHEST count.
    """
    hertz = np.fft.rfftfreq(N_FFT, 1 / RATE)
    used = np.flatnonzero((hertz >= LOWEST) & (hertz <= HIGHEST))
    strength = chroma(magnitudes(wave, N_FFT, HOP, centred=True)[:, used], hertz[used])
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, N_FFT // 2), N_FFT)[::HOP]
    audible = np.sqrt(np.square(frames).mean(1)) > SILENCE_RMS
    relative = strength / np.maximum(strength.max(1, keepdims=True), 1e-9)
    return np.where(audible[:, None], relative, 0).astype(np.float32)


def longest_shared_stretches(
    queries: Sequence[Any], training: Sequence[Any], label: str = ""
) -> list[SharedStretch]:
    """Return for each query the longest stretch that it shares with any training clip.

    queries, training: chroma, (frames, 12) each. label: of the progress bar.

    All queries stand below one another, and each frame of a training clip is compared with all of them at
    once. A run goes on where one ended a frame earlier. Time grows with the frames of both sides, memory with
    those of `queries`.
    """
    # A silent frame after each query keeps a run from going on into the next.
    width = 1 + max(map(len, queries), default=0)
    stacked = np.zeros((len(queries), width, 12), np.float32)
    for place, query in zip(stacked, queries, strict=True):
        place[: len(query)] = _unit_frames(query)
    frames = stacked.reshape(-1, 12)
    longest = np.zeros(len(frames), np.int32)  # the longest run that ends at each frame
    end_in_training = np.zeros((len(frames), 2), np.int32)  # the clip and the frame in which that run ends
    for clip_number, clip in enumerate(with_progress_bar(training, label)):
        run = np.zeros(len(frames), np.int32)
        for frame_number, matches in enumerate((frames @ _unit_frames(clip).T >= MATCHING_CORRELATION).T):
            run = np.where(matches, np.concatenate([[0], run[:-1]]) + 1, 0)
            longer = run > longest
            if longer.any():
                longest[longer] = run[longer]
                end_in_training[longer] = clip_number, frame_number
    by_query = zip(longest.reshape(-1, width), end_in_training.reshape(-1, width, 2), strict=True)
    return [_best_stretch(lengths, ends) for lengths, ends in by_query]


def _best_stretch(lengths: np.ndarray, ends_in_training: np.ndarray) -> SharedStretch:
    """Choose the longest run that ends at a frame. ends_in_training: (frames, 2), clip and frame."""
    end = int(lengths.argmax())
    length, (clip_number, training_end) = int(lengths[end]), ends_in_training[end].tolist()
    if not length:
        return SharedStretch(0.0, -1, 0.0, 0.0)
    starts = [(last - length + 1) * HOP_SECONDS for last in (end, training_end)]
    return SharedStretch(length * HOP_SECONDS, clip_number, *starts)


def _unit_frames(chroma_of_clip: Any) -> np.ndarray:
    """Subtract each frame's mean and scale it to length 1: products are correlations. Silence stays 0."""
    frames = np.asarray(chroma_of_clip, np.float32).reshape(-1, 12)
    centred = frames - frames.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1e-6, centred / np.maximum(length, 1e-6), 0).astype(np.float32)
