"""Audio files as the world makes them: open lengths, lies in headers, joined streams. Everything is made here."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import av
import numpy as np
import soundfile

RATE = 22_050


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, noise: float = 0.02) -> np.ndarray:
    """A tone that comes and goes, and some noise, so that no stretch is like another; float32."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * hertz * t) * (0.6 + 0.4 * np.sin(5 * t))
    return (wave + noise * np.random.default_rng(1).standard_normal(len(t))).astype(np.float32)


def wav(
    wave: np.ndarray,
    rate: int = RATE,
    *,
    size: int | None = None,
    riff: bytes = b"RIFF",
    kind: str = "<i2",
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV of samples (n) or (n, channels). size: what the data chunk claims; before, after: whole chunks."""
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    dtype = np.dtype(kind)
    data = (wave if dtype.kind == "f" else wave * 32767).astype(dtype).tobytes()
    block = channels * dtype.itemsize
    tag = 3 if dtype.kind == "f" else 1
    form = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * block, block, 8 * dtype.itemsize
    )
    head = struct.pack("<4sI", b"data", len(data) if size is None else size)
    body = b"WAVE" + before + form + head + data + b"\0" * (len(data) % 2) + after
    return riff + struct.pack("<I", 0xFFFF_FFFF if riff != b"RIFF" else len(body) & 0xFFFF_FFFF) + body


def chunk(name: bytes, data: bytes, pad: bool = True) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2 and pad)


def encoded(
    waves: np.ndarray,
    rate: int,
    codec: str,
    container: str,
    bit_rate: int = 0,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> bytes:
    """Samples (n) or (n, channels) in a codec and container of FFmpeg's."""
    planes = np.ascontiguousarray(np.atleast_2d(waves.T), np.float32)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(planes)]
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as out:
        extra = {"bit_rate": bit_rate} if bit_rate else {}
        stream = out.add_stream(codec, rate=rate, layout=layout, options=codec_options or {}, **extra)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        cut = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1152
        )
        for part in [*cut.resample(frame), *cut.resample(None), None]:
            out.mux(stream.encode(part))
    return file.getvalue()


def mp3(wave: np.ndarray, rate: int = RATE, kbps: int = 64, xing: bool = True) -> bytes:
    options = {} if xing else {"write_xing": "0", "id3v2_version": "0"}
    return encoded(wave, rate, "libmp3lame", "mp3", kbps * 1000, options)


def by_sndfile(wave: np.ndarray, rate: int = RATE, kind: str = "FLAC", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def flac_claiming(data: bytes, samples: int) -> bytes:
    """A FLAC whose header claims a number of samples; 0 leaves it open."""
    fields = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    return data[:18] + fields.to_bytes(8, "big") + data[26:]


def ogg_pages(data: bytes) -> list[bytes]:
    pages, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        pages.append(data[at:end])
        at = end
    return pages


def ogg_page(page: bytes, granule: int | None = None, serial: int | None = None) -> bytes:
    """A page with another granule position or serial number, and its checksum made right again."""
    new = bytearray(page)
    if granule is not None:
        new[6:14] = struct.pack("<q", granule)
    if serial is not None:
        new[14:18] = struct.pack("<I", serial)
    new[22:26] = bytes(4)
    crc = 0
    for byte in new:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x8000_0000 else crc << 1) & 0xFFFF_FFFF
    new[22:26] = struct.pack("<I", crc)
    return bytes(new)


def chained(links: Sequence[bytes]) -> bytes:
    return b"".join(
        ogg_page(page, serial=number + 1) for number, link in enumerate(links) for page in ogg_pages(link)
    )


def id3v2(size: int = 300) -> bytes:
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + length + bytes(size)


def ape_tag(size: int = 200) -> bytes:
    head = struct.pack("<8sIIII8x", b"APETAGEX", 2000, size + 32, 0, 1 << 31 | 1 << 29)
    return head + bytes(size) + struct.pack("<8sIIII8x", b"APETAGEX", 2000, size + 32, 0, 1 << 31)


ID3V1 = b"TAG" + bytes(125)
