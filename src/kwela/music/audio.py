"""Read audio files as mono samples, and compute log-mel spectrograms.

- libsndfile reads wav, flac and ogg where it can, FFmpeg (PyAV) reads everything else.
- A segment is read by seeking: an hour-long file costs no more than its 1.5 seconds.
- The log-mel is part of the contract with the C++ host: a change here needs a change of the export metadata.
- Only `log_mel` imports torch, so that a corpus scan over thousands of files starts without it.
"""

from __future__ import annotations

import contextlib
import functools
import stat
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np
import soundfile
import soxr
from av.container import InputContainer

from kwela.errors import UserError

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
    | {".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac"}
)

_SNDFILE = frozenset({".wav", ".flac", ".ogg"})
# The containers that FFmpeg may recognise. Without this list it would open the files that a playlist names.
_FFMPEG = {
    "format_whitelist": "wav,w64,mp3,flac,ogg,mov,aac,aiff,au,caf,matroska",
    "protocol_whitelist": "file",
}
_MARGIN = 0.1  # seconds decoded on each side of a segment, because filters and codecs need time to settle


def probe(path: Path) -> None:
    """Check that `path` is audio: read its header and decode its first second.

    Raises UserError naming the file: missing, empty, not audio, no audio stream, or a WAV cut short.
    """
    _duration_or_probe(Path(path), decode=True)


def duration(path: Path) -> float:
    """Return the length of `path` in seconds, from its header.

    Raw AAC has no header, so its packets are counted. Raises as `probe`.
    """
    return _duration_or_probe(Path(path), decode=False)


def load(path: Path, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Return mono float32 samples at 44.1 kHz from `start` (s), `seconds` long or to the end.

    Channels are averaged. Where the file ends early, there are fewer samples, or none. Raises as `probe`.
    """
    path = Path(path)
    begin = max(0.0, start - _MARGIN)
    end = None if seconds is None else start + seconds + _MARGIN
    wave, rate = _read(path, begin, end)
    if rate != SAMPLE_RATE and len(wave):
        wave = soxr.resample(wave, rate, SAMPLE_RATE)
    skip = round(start * SAMPLE_RATE) - round(begin * SAMPLE_RATE)
    stop = None if seconds is None else skip + round(seconds * SAMPLE_RATE)
    return np.ascontiguousarray(wave[skip:stop], dtype=np.float32)


def whole(path: Path, rate: int) -> tuple[np.ndarray, int]:
    """Return all of a file as mono float32 samples at `rate` Hz, and the file's own rate.

    Channels are averaged. Raises as `probe`, and also for NaN or infinity among the samples.
    """
    wave, file_rate = _read(Path(path), 0.0, None)
    if not np.isfinite(wave).all():
        raise UserError(f"{path}: not readable as audio: it holds NaN or infinity")
    if file_rate != rate and len(wave):
        wave = soxr.resample(wave, file_rate, rate)
    return np.ascontiguousarray(wave, np.float32), file_rate


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


def _read(path: Path, begin: float, end: float | None) -> tuple[np.ndarray, int]:
    """Read mono samples, at the file's own rate, between two times in seconds."""
    _check_file(path)
    if path.suffix.lower() in _SNDFILE:
        try:
            with soundfile.SoundFile(path) as file:
                rate = file.samplerate
                first = min(round(begin * rate), file.frames)
                count = -1 if end is None else max(0, round(end * rate) - first)
                file.seek(first)
                samples = file.read(count, dtype="float32", always_2d=True)
                weights = np.full(file.channels, 1 / file.channels, np.float32)
                return samples @ weights, rate  # 20 times as fast as mean
        except soundfile.LibsndfileError:
            pass  # a codec libsndfile lacks (Opus in ogg, ADPCM variants): FFmpeg decides
    with _opened(path) as container:
        return _read_av(path, container, begin, end)


def _read_av(
    path: Path, container: InputContainer, begin: float, end: float | None
) -> tuple[np.ndarray, int]:
    stream = container.streams.audio[0]
    rate, base = stream.rate, _base(stream)
    origin = stream.start_time or 0
    if begin > 0:
        container.seek(int(begin / base) + origin, stream=stream, backward=True)
    parts: list[np.ndarray] = []
    opens = None  # file time in seconds of the first sample decoded, known from its timestamp
    have = 0
    for frame in _frames(path, container, stream):
        if opens is None:
            opens = float((frame.pts - origin) * base) if frame.pts is not None else 0.0
        parts.append(_mono(frame))
        have += len(parts[-1])
        if end is not None and opens + have / rate >= end:
            break
    if opens is None:
        return np.zeros(0, np.float32), rate
    at = round(opens * rate)
    stop = None if end is None else max(0, round(end * rate) - at)
    return np.concatenate(parts)[max(0, round(begin * rate) - at) : stop], rate


def _frames(path: Path, container: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Yield the frames that decode, and raise UserError for a file that is damaged in its middle.

    Damage after the last frame is ignored, because programs that write tags leave bytes there.
    """
    damaged = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged = True
            continue
        if damaged and packet.size and frames:
            raise _unreadable(path, "damaged in its middle")
        yield from frames


def _base(stream: av.AudioStream) -> Fraction:
    return stream.time_base or Fraction(1, stream.rate)


def _mono(frame: av.AudioFrame) -> np.ndarray:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind == "f":
        return samples.mean(axis=0, dtype=np.float32)
    middle = 2.0 ** (8 * samples.itemsize - 1)  # of an unsigned sample, and the full scale of a signed one
    wave = samples.mean(axis=0, dtype=np.float64) - (middle if samples.dtype.kind == "u" else 0.0)
    return (wave / middle).astype(np.float32)


# -------------------------------------------------------------------- checking


def _duration_or_probe(path: Path, *, decode: bool) -> float:
    _check_file(path)
    if path.suffix.lower() in _SNDFILE:
        try:
            with soundfile.SoundFile(path) as file:
                if file.frames == 0:
                    raise _unreadable(path, "it holds no samples")
                if decode and not len(file.read(file.samplerate, dtype="float32")):
                    raise _unreadable(path, "its first second does not decode")
                return float(file.frames / file.samplerate)
        except soundfile.LibsndfileError:
            pass  # as in _read
    with _opened(path) as container:
        stream = container.streams.audio[0]
        if decode:
            wanted = stream.rate
            for frame in _frames(path, container, stream):
                _mono(frame)
                wanted -= frame.samples
                if wanted <= 0:
                    break
            if wanted == stream.rate:
                raise _unreadable(path, "no audio could be decoded")
            return 0.0
        if path.suffix.lower() == ".aac":  # no header knows the length, and FFmpeg's guess is off by seconds
            return float(sum(packet.duration or 0 for packet in container.demux(stream)) * _base(stream))
        if stream.duration is not None:
            return float(stream.duration * _base(stream))
        return float((container.duration or 0) / av.time_base)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Open an FFmpeg container; every failure inside the block becomes a UserError about the file."""
    try:
        with av.open(str(path), options=_FFMPEG) as container:
            if not container.streams.audio:
                raise _unreadable(path, "it has no audio stream")
            # PyAV leaves the rate out where it does not know the codec.
            if not getattr(container.streams.audio[0], "rate", None):
                raise _unreadable(path, "its codec is not known")
            yield container
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error).split("\n")[0]) from None


def _check_file(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, "not a regular file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise _unreadable(path, "the file is empty")
            if path.suffix.lower() == ".wav":
                file.seek(0)
                _check_riff(path, file, size)
    except OSError as error:
        raise UserError(f"{path}: audio file not readable ({error.strerror}); check the path") from None


def _check_riff(path: Path, file: BinaryIO, size: int) -> None:
    """Compare a WAV's data chunk with the file's length: libsndfile reads a truncated file silently."""
    if file.read(12)[8:] != b"WAVE":
        raise _unreadable(path, "it has no RIFF/WAVE header")
    while len(head := file.read(8)) == 8:
        name, claimed = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            held = size - file.tell()
            if held < claimed < 0xFFFF_FFFF:  # all ones: a stream or RF64, with the length elsewhere
                claim = f"its header claims {claimed} bytes of samples, {held} are there"
                raise _unreadable(path, f"truncated: {claim}")
            return
        file.seek(claimed + claimed % 2, 1)
    raise _unreadable(path, "truncated: it has no data chunk")


def _unreadable(path: Path, why: str | None) -> UserError:
    return UserError(f"{path}: not readable as audio: {why}; replace or remove it")
