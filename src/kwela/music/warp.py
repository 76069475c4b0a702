"""A segment heard as if the music were faster or slower, higher or lower: its log-mel and its score alike.

Nothing is resynthesised. Time is stretched by placing the log-mel's frames closer or further apart on the recording,
pitch is shifted by reading it through mel filters that lie lower or higher; so attacks stay as sharp as they were, and
the frames lie where the warped notes say, to the sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick, TempoTick

from kwela.music import audio, midi


class Warp(NamedTuple):
    rate: float = 1.0  # times as fast
    semitones: int = 0  # up


NONE = Warp()


def log_mel(wave: np.ndarray, warp: Warp) -> np.ndarray:
    """(128, 64) float32 log-mel, as `audio.log_mel`, of up to 65,536 x rate samples; silence where they end before.

    A tone f comes out where f x 2^(semitones / 12) would, as loud; a sound at t seconds where t / rate would.
    """
    length = round(audio.SEGMENT * warp.rate)
    wave = np.pad(wave[:length], (0, max(0, length - len(wave))))
    padded = np.pad(
        wave, audio.N_FFT // 2, mode="reflect"
    )  # so a frame's first sample is its centre in the wave
    centres = np.rint((audio.HOP / 2 + audio.HOP * np.arange(audio.FRAMES)) * warp.rate).astype(int)
    window = np.hanning(audio.N_FFT + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, audio.N_FFT)[centres] * window
    power = np.square(np.abs(np.fft.rfft(frames))).astype(np.float32) @ audio.mel_filters(
        2 ** (warp.semitones / 12)
    )
    return np.log10(np.maximum(power, np.float32(audio.FLOOR))).T.astype(np.float32)


def score(original: ScoreTick, warp: Warp) -> ScoreTick:
    """A copy in which what happened at t seconds happens at t / rate; drums keep their pitches.

    Notes that would leave 0..127 are left out.
    """
    warped = original.copy()
    tempos = midi.tempo_map(original)
    warped.tempos = type(original.tempos)(
        [
            TempoTick(int(tick), mspq=max(1, round(rate * 1e6 * original.tpq / warp.rate)))
            for tick, rate in zip(tempos.tick, tempos.rate, strict=True)
        ]
    )
    for track in warped.tracks:
        if not track.is_drum:
            track.notes = track.notes.filter(lambda note: 0 <= note.pitch + warp.semitones <= 127)
            track.shift_pitch(warp.semitones, inplace=True)
    return warped
