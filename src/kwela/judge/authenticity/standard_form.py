"""Bring clips into one form, so that they differ in music only.

Reference, contrast, samples and base are all brought to what the poorest of their clips has:

- *Channels* are mixed to one.
- *Silence at the ends* is cut off, and the constant offset (DC) is removed.
- *Length*: as many seconds of each as the shortest clip gives, from its middle. The window moves by up to a
  quarter of a second, by a hash of its levels, so that it does not begin on the first note of the short clips
  alone.
- *Bandwidth*: nothing above 7 kHz, or above the frequency at which the dullest folder was cut off.
- *Loudness*: -23 LUFS.
- *Noise floor*: noise is added until all have as much as the noisier folder, at least 40 dB below the music.
  Dither, rounding and hiss disappear in it.
- *Codec*: encoded as MP3 at 32 kbit/s and decoded again.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from kwela.judge.authenticity import stereo
from kwela.judge.shared import clips
from kwela.judge.shared.spectrum import magnitudes
from kwela.music.audio_files.facts import facts
from kwela.music.loudness import loudness

RATE = clips.RATE
READ_SECONDS = 30.0  # of a file's middle, of which the silence at the ends is cut off
MIN_SECONDS = 5.0  # of sound that can be judged
MAX_SECONDS = 10.0  # that are judged
SPARE_SECONDS = 0.5  # of the shortest clip: room for the window to move
SILENT_PEAK = 1e-4  # of full scale: a clip under it is silence
SILENCE = -40.0  # dB below a clip's loud frames: what is softer at an end is cut off
FRAME = RATE // 50  # samples: 20 ms
LOWEST_HZ = 25.0
MAX_BANDWIDTH = 7000.0  # Hz: what every resampler to 16 kHz keeps
MIN_BANDWIDTH = 3000.0  # Hz: below, too little of the music is left
LEAST_NOISE, MOST_NOISE = -40.0, -20.0  # dB below the loudness of a clip: what is added
NOISE_MARGIN = 3.0  # dB above the noise that was found
TRANSITION = 250.0  # Hz over which a filter closes
DROP = 20.0  # dB within a quarter of a kilohertz: no music falls so steeply, a filter does


class StandardForm(NamedTuple):
    """What all clips of a judgement are brought to.

    seconds: of each clip. bandwidth: Hz. noise: dB below the clip's loudness.
    """

    seconds: float = MAX_SECONDS
    bandwidth: float = MAX_BANDWIDTH
    noise: float = LEAST_NOISE


FULL_FORM = StandardForm()


class Recording(NamedTuple):
    """What a file has besides its music.

    seconds: of sound. bandwidth: Hz, at most 7000. noise: dB below the loudness, as `noise_floor`.
    """

    seconds: float
    bandwidth: float
    noise: float


def common_form(folders: Iterable[Sequence[Recording]]) -> StandardForm:
    """Return the form that the shortest clip and the dullest and noisiest folder can take.

    folders: the clips of each. A folder's bandwidth and noise are what three quarters of its clips keep: a
    few dull or dense clips, which may be so by their music, do not hide the music of the others.
    """
    sides = [list(folder) for folder in folders]
    known = [recording for side in sides for recording in side]
    if not known:
        return FULL_FORM
    shortest = max(min(recording.seconds for recording in known), MIN_SECONDS) - SPARE_SECONDS
    noise = max(usual_noise(side) for side in sides if side)
    return StandardForm(
        math.floor(10 * min(MAX_SECONDS, shortest) + 1e-6) / 10,
        min(usual_bandwidth(side) for side in sides if side),
        round(float(np.clip(noise + NOISE_MARGIN, LEAST_NOISE, MOST_NOISE)), 1),
    )


def usual_bandwidth(recordings: Sequence[Recording]) -> float:
    """Return the bandwidth in Hz that three quarters of the recordings, one at least, have."""
    return float(np.quantile([recording.bandwidth for recording in recordings], 0.25, method="lower"))


def usual_noise(recordings: Sequence[Recording]) -> float:
    """Return the noise in dB that three quarters of the recordings, one at least, stay below."""
    return float(np.quantile([recording.noise for recording in recordings], 0.75))


def load(path: Path, form: StandardForm) -> np.ndarray:
    """Return a file in the standard form. Raises as `clips.load_middle`."""
    return standardise(read(path), form)


def read(path: Path) -> np.ndarray:
    """Return the middle 30 s of a file, mono at 16 kHz. Raises as `clips.load_middle`.

    Channels are mixed. If two channels are one another's copies, late or turned round, the louder one is
    taken: their mix would be coloured by a comb filter.
    """
    wave = clips.load_middle(path, RATE, READ_SECONDS)
    alone = stereo.channel_of_copies(path, READ_SECONDS)
    return wave if alone is None else soxr.resample(*alone, RATE).astype(np.float32)


def standardise(wave: np.ndarray, form: StandardForm = FULL_FORM) -> np.ndarray:
    """Bring samples at 16 kHz, at least one, into the standard form: float32 (16,000 * form.seconds,).

    A wave that is shorter is repeated. Silence stays silence.
    """
    sound = trim(wave)
    own_noise = noise_floor(sound)
    sound = _filtered(_cut_window(sound, round(form.seconds * RATE)), form.bandwidth)
    peak = np.abs(sound).max()
    if peak < SILENT_PEAK:
        return np.zeros_like(sound)
    # First to full scale: clips under -70 LUFS are music too.
    level = clips.normalise_loudness(sound / peak)
    return clips.encode_and_decode_mp3(level + _missing_noise(len(level), form, own_noise))


def describe(wave: np.ndarray) -> Recording:
    """Return what samples at 16 kHz, at least one, have besides their music."""
    sound = trim(wave)
    return Recording(len(sound) / RATE, bandwidth(sound), noise_floor(sound))


def describe_file(path: Path) -> Recording:
    """Return what a file has besides its music. Raises as `read`."""
    found = describe(read(path))
    nyquist = 0.5 * min(part.rate for part in facts(path).parts)
    return found._replace(bandwidth=min(found.bandwidth, nyquist - TRANSITION))


def trim(wave: np.ndarray) -> np.ndarray:
    """Return samples at 16 kHz without constant offset and without the silence at their ends.

    Silence is softer than 40 dB below the loud frames (95th percentile of their level). A wave that is silent
    throughout stays as long as it is.
    """
    wave = _filtered(wave - np.float32(wave.mean(dtype=np.float64)), RATE)
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.square(frames).mean(1)
    if not len(power) or power.max() <= 0:
        return wave
    sounding = np.flatnonzero(
        power > np.quantile(power[power > power.max() * 1e-4], 0.95) * 10 ** (SILENCE / 10)
    )
    last = (sounding[-1] + 1) * FRAME
    return wave[sounding[0] * FRAME : len(wave) if sounding[-1] == len(power) - 1 else last]


def bandwidth(wave: np.ndarray) -> float:
    """Return the frequency in Hz at which a filter cut the highs off, from MIN_ to MAX_BANDWIDTH.

    wave: samples at 16 kHz. The mean power in bands of 125 Hz falls by DROP or more within 250 Hz and stays
    there. MAX_BANDWIDTH where nothing was cut off.
    """
    power = np.square(magnitudes(wave, 1024, 512), dtype=np.float64).mean(0)[:-1].reshape(-1, 8).sum(1)
    level = 10 * np.log10(power + 1e-15 + power.sum() * 1e-9)  # (64,) bands of 125 Hz
    for edge in range(int(MIN_BANDWIDTH / 125), int(MAX_BANDWIDTH / 125)):
        below, above = np.median(level[edge - 4 : edge]), level[edge + 2 : 60].max()
        if below - above >= DROP:
            return edge * 125.0
    return MAX_BANDWIDTH


def noise_floor(wave: np.ndarray) -> float:
    """Return the most white noise (0 to 8 kHz) that can be in samples at 16 kHz, in dB below their loudness.

    It is what a tenth of the bands (125 Hz wide, from 250 Hz up to the bandwidth) have in the softest tenth
    of the frames. In dense music it is music, since noise below it can't be heard. -120 for silence.
    """
    power = np.square(magnitudes(wave, 1024, 512), dtype=np.float64)[:, :-1]
    bands = power.reshape(len(power), -1, 8).mean(2)[:, 2 : int((bandwidth(wave) - 500) / 125)]
    soft = float(np.quantile(np.quantile(bands, 0.1, axis=0), 0.1))
    # A Hann window of n samples turns noise of variance v into 6 v / n. Its quantiles are 3 dB lower.
    level = 10 * math.log10(soft * 1024 / 6 * 2 + 1e-20)
    peak = float(np.abs(wave).max(initial=0))
    if peak < SILENT_PEAK:
        return -120.0
    return max(-120.0, level - loudness(wave / peak, RATE) - 20 * math.log10(peak))


def _cut_window(sound: np.ndarray, count: int) -> np.ndarray:
    """Cut `count` samples from about the middle, moved by up to 0.25 s; repeat a wave that is shorter."""
    spare = len(sound) - count
    if spare <= 0:
        return clips.cut_or_repeat(sound, count)
    # By the levels of the halves, not by the samples, whose last bits differ from machine to machine.
    halves = [float(np.square(half, dtype=np.float64).mean()) for half in np.array_split(sound, 2)]
    balance = round(1e4 * math.log10((halves[0] + 1e-12) / (halves[1] + 1e-12)))
    place = zlib.crc32(str(balance).encode()) / 2**32
    reach = min(spare, round(SPARE_SECONDS * RATE))
    start = (spare - reach) // 2 + int(place * reach)
    return sound[start : start + count]


def _filtered(wave: np.ndarray, highest: float) -> np.ndarray:
    """Return `wave` without what lies under 25 Hz and over `highest` Hz."""
    from scipy.fft import irfft, next_fast_len, rfft

    size = next_fast_len(len(wave), True)
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    keep = np.clip((hertz - LOWEST_HZ) / 5, 0, 1) * np.clip((highest - hertz) / TRANSITION, 0, 1)
    return irfft(rfft(wave, size) * keep.astype(np.float32), size)[: len(wave)].astype(np.float32)


def _missing_noise(count: int, form: StandardForm, own: float) -> np.ndarray:
    """Return the noise that a clip at -23 LUFS lacks: white, (count,) float32.

    own: dB below its loudness that it has of its own, below the bandwidth alone.
    """
    wanted = 10 ** ((clips.LUFS + form.noise) / 20)
    lacking = math.sqrt(max(0.0, wanted**2 - 10 ** ((clips.LUFS + own) / 10)))
    noise, low = _unit_noise(count, form.bandwidth)
    return wanted * noise - np.float32(wanted - lacking) * low


@functools.lru_cache(4)
def _unit_noise(count: int, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Return white noise of variance 1, and what of it is below `highest` Hz: (count,) float32 each."""
    noise = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    return noise, _filtered(noise, highest)
