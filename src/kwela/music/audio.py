"""Read audio files as mono samples, and compute log-mel spectrograms.

- The length of a file is what decodes; `audio_files.facts` finds it, and how the file is read.
- A segment is read by seeking: an hour-long file costs no more than its 1.5 seconds.
- The log-mel is part of the contract with the C++ host: a change here needs a change of the export metadata.
- Only `log_mel` imports torch, so that a corpus scan over thousands of files starts without it.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from kwela.music.audio_files.facts import Facts, UnreadableAudio, facts, mix, not_sound, unreadable
from kwela.music.audio_files.ffmpeg import LONGEST
from kwela.music.audio_files.part import Damaged, NotAudio, Part

__all__ = ["AUDIO_SUFFIXES", "UnreadableAudio", "check", "duration", "load", "log_mel", "probe", "whole"]

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 44_100  # Hz
SEGMENT = 65_536  # samples of one log-mel, 1.486 s
FRAMES, MELS = 64, 128
N_FFT, HOP, PAD = 2048, 1024, 512
LOW_HZ, HIGH_HZ = 20.0, 20_000.0
FLOOR = 1e-5  # power below this is silence: log10 gives -5
# The endings of the files that are looked for as audio, in lower case. What a file is, its content decides.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aiff", ".aif", ".aifc", ".au", ".caf"}
    | {".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".m4a", ".m4b", ".aac"}
    | {".mka", ".webm", ".mp4", ".snd"}
)

_MARGIN = 0.1  # seconds read on each side of a segment, because the filters of resampling need time to settle


def probe(path: Path) -> None:
    """Check that `path` is audio that a row may have: find its length, and decode its first second.

    Raises UnreadableAudio (a UserError) naming the file: empty, not audio, no audio stream, cut short, or
    holding samples that are no sound; UserError if it is missing.
    """
    check(path)
    found = facts(Path(path))
    if found.cut is not None:
        raise unreadable(found.path, found.cut)
    try:
        first = next(found.parts[0].blocks(0, found.parts[0].rate), np.zeros(0))
    except (NotAudio, Damaged) as error:
        raise unreadable(found.path, str(error)) from None
    why = not_sound(first, found.parts[0].rate, 0) if len(first) else "its first second does not decode"
    if why is not None:
        raise unreadable(found.path, why)


def check(path: Path) -> None:
    """Check that `path` can be read to where it ends. Raises as `probe`, but takes a file that is cut."""
    found = facts(Path(path))
    if found.fault is not None:
        raise unreadable(found.path, found.fault)


def duration(path: Path) -> float:
    """Return the length of `path` in seconds: what decodes, whatever its header says.

    It is found once for each path, size and time of change. Raises UnreadableAudio if nothing decodes.
    """
    return facts(Path(path)).seconds


def load(path: Path, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Return mono float32 samples at 44.1 kHz from `start` (s), `seconds` long or to the end.

    They are the same samples as that stretch of the whole. Channels are averaged; if they cancel each other
    somewhere in the file (a polarity is turned round), the strongest one is taken. Where the file ends early,
    there are fewer samples, or none. Raises UnreadableAudio, also for samples that are no sound: NaN,
    infinite, or over 40 dB above full scale.
    """
    count = None if seconds is None else round(seconds * SAMPLE_RATE)
    return _read(facts(Path(path)), SAMPLE_RATE, max(0, round(start * SAMPLE_RATE)), count)


def whole(path: Path, rate: int) -> tuple[np.ndarray, int]:
    """Return all of a file as mono float32 samples at `rate` Hz, and the file's own rate.

    Raises as `load`.
    """
    found = facts(Path(path))
    return _read(found, rate, 0, None), found.parts[0].rate


def log_mel(wave: Tensor | np.ndarray) -> Tensor:
    """Compute the log-mel spectrogram of one segment, in log10 of power.

    wave: (..., 65536) samples. Returns (..., 128 mels, 64 frames) float32. 512 samples are reflected at each
    side, without centring; periodic Hann of 2048, hop 1024; 128 Slaney mels of 20 to 20,000 Hz with unit
    area; log10(max(power, 1e-5)), so silence is -5. Raises ValueError for another length.
    """
    import torch

    wave = torch.as_tensor(wave, dtype=torch.float32)
    if wave.shape[-1] != SEGMENT:
        raise ValueError(f"a segment is {SEGMENT} samples, got {wave.shape[-1]}")
    head = wave[..., 1 : PAD + 1].flip(-1)
    tail = wave[..., -PAD - 1 : -1].flip(-1)
    frames = torch.cat([head, wave, tail], -1).unfold(-1, N_FFT, HOP)  # (..., 64, 2048)
    window = torch.hann_window(N_FFT, device=wave.device)
    power = torch.view_as_real(torch.fft.rfft(frames * window)).square().sum(-1)  # (..., 64, 1025)
    mel = power @ torch.from_numpy(mel_filters()).to(wave.device)
    return mel.clamp_min(FLOOR).log10().transpose(-1, -2)


@functools.cache
def mel_filters(higher: float = 1.0) -> np.ndarray:
    """Return triangular filters (1025, 128) float32, each of unit area over frequency (Slaney 1998).

    higher: a tone f counts as one of f x higher, and as loud, because the triangles lie lower by this factor.
    """
    edges = mel_edges_hz() / higher
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)[:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return (np.clip(np.minimum(rising, falling), 0, None) * 2 / ((high - low) * higher)).astype(np.float32)


def mel_edges_hz() -> np.ndarray:
    """Return the 130 edges in Hz of the 128 triangles; centres are [1:-1]."""
    return _mel_to_hz(np.linspace(hz_to_mel(LOW_HZ), hz_to_mel(HIGH_HZ), MELS + 2))


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Convert Hz to Slaney's mels: linear (200/3 Hz a mel) to 1 kHz, then 27 mels for each factor of 6.4."""
    hz = np.asarray(hz, dtype=np.float64)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


# ------------------------------------------------------------------- decoding


def _read(found: Facts, rate: int, first: int, count: int | None) -> np.ndarray:
    """Return mono samples at `rate` from number `first` on, `count` of them or to the end."""
    waves: list[np.ndarray] = []
    begins = 0  # the number of the part's first sample
    stop = None if count is None else first + count
    if min(found.seconds, math.inf if count is None else count / rate) > LONGEST:
        raise unreadable(found.path, f"{LONGEST // 3600} hours are the most that is read at once")
    try:
        for number, part in enumerate(found.parts):
            length = -(-part.frames * rate // part.rate)
            low, high = max(first - begins, 0), length if stop is None else min(stop - begins, length)
            if low < high:
                waves.append(_read_part(part, mix(found, number), rate, low, high))
            begins += length
    except (NotAudio, Damaged) as error:
        raise unreadable(found.path, str(error)) from None
    return np.concatenate(waves) if waves else np.zeros(0, np.float32)


def _read_part(part: Part, weights: np.ndarray, rate: int, low: int, high: int) -> np.ndarray:
    """Return a part's samples from number `low` to `high` at `rate`, mixed to mono.

    Decoding begins where a sample of the file and one of the result stand at the same time, so that a segment
    is resampled as the whole is.
    """
    common = math.gcd(rate, part.rate)
    step_in, step_out = part.rate // common, rate // common
    margin = 0 if part.rate == rate else math.ceil(_MARGIN * common)
    begin = max(0, low // step_out - margin)
    first, stop = begin * step_in, min(part.frames, (-(-high // step_out) + margin) * step_in)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are refused below
        blocks = [block @ weights for block in part.blocks(first, stop)]  # 20 times as fast as mean
    wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if (missing := stop - first - len(wave)) > part.rate / 10:
        raise Damaged(f"damaged: {missing / part.rate:.2f} s after {first / part.rate:.2f} s do not decode")
    if (why := not_sound(wave, part.rate, first)) is not None:
        raise Damaged(why)
    if part.rate != rate and len(wave):
        wave = soxr.resample(wave, part.rate, rate)
    low, high = low - begin * step_out, high - begin * step_out
    return np.ascontiguousarray(wave[low:high], np.float32)
