"""Change the speed and the pitch of a segment, in its log-mel and in its score alike.

Nothing is resynthesised. Time is stretched by placing the log-mel's frames closer or further apart on the
recording, pitch is shifted by reading it through mel filters that lie lower or higher; so attacks stay as
sharp as they were, and the frames lie where the warped notes say, to the sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick, TempoTick

from kwela.music import audio, midi


class Warp(NamedTuple):
    """A change of speed and pitch."""

    rate: float = 1.0  # times as fast
    semitones: int = 0  # up


NONE = Warp()


def log_mel(wave: np.ndarray, warp: Warp) -> np.ndarray:
    """Return the log-mel (128, 64) float32 of up to 65,536 x rate samples, padded with silence.

    A tone f comes out where f x 2^(semitones / 12) would, as loud; a sound at t seconds where t / rate would.
    """
    length = round(audio.SEGMENT * warp.rate)
    wave = np.pad(wave[:length], (0, max(0, length - len(wave))))
    # With this padding, a frame's first sample is its centre in the wave.
    padded = np.pad(wave, audio.N_FFT // 2, mode="reflect")
    centres = np.rint((audio.HOP / 2 + audio.HOP * np.arange(audio.FRAMES)) * warp.rate).astype(int)
    window = np.hanning(audio.N_FFT + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, audio.N_FFT)[centres] * window
    filters = audio.mel_filters(2 ** (warp.semitones / 12))
    power = np.square(np.abs(np.fft.rfft(frames))).astype(np.float32) @ filters
    return np.log10(np.maximum(power, np.float32(audio.FLOOR))).T.astype(np.float32)


def score(original: ScoreTick, warp: Warp) -> ScoreTick:
    """Return a copy in which the events of t seconds happen at t / rate; drums keep their pitches.

    Notes are left out if their pitch would leave 0..127.
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
