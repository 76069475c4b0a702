"""MIDI files written byte by byte, so that a test can write what no library would."""

from __future__ import annotations

END = b"\xff\x2f\0"
QUARTER = 480


def number(value: int, size: int = 0) -> bytes:
    """A number of variable length, padded to `size` bytes with leading zeros."""
    data = [value & 127]
    while (value := value >> 7) or len(data) < size:
        data.insert(0, value & 127 | 128)
    return bytes(data)


def track(*events: tuple[int, bytes] | bytes, end: bytes | None = END, claims: int | None = None) -> bytes:
    """A track of (delta, message) pairs or ready bytes. claims: the length in the chunk's head, if wrong."""
    body = b"".join(e if isinstance(e, bytes) else number(e[0]) + e[1] for e in events)
    if end is not None:
        body += b"\0" + end
    return b"MTrk" + (len(body) if claims is None else claims).to_bytes(4, "big") + body


def midi(*chunks: bytes, form: int = 1, announced: int | None = None, division: int = QUARTER) -> bytes:
    tracks = sum(chunk[:4] == b"MTrk" for chunk in chunks) if announced is None else announced
    header = form.to_bytes(2, "big") + tracks.to_bytes(2, "big") + division.to_bytes(2, "big")
    return b"MThd\0\0\0\6" + header + b"".join(chunks)


def on(pitch: int, channel: int = 0, velocity: int = 80) -> bytes:
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 64])


def control(number: int, value: int, channel: int = 0) -> bytes:
    return bytes([0xB0 | channel, number, value])


def program(value: int, channel: int = 0) -> bytes:
    return bytes([0xC0 | channel, value])


def meta(kind: int, body: bytes) -> bytes:
    return bytes([0xFF, kind]) + number(len(body)) + body


def sysex(body: bytes, status: int = 0xF0) -> bytes:
    return bytes([status]) + number(len(body)) + body


def quarters(*pitches: int, channel: int = 0) -> list[tuple[int, bytes]]:
    """One note after the other, each a quarter long."""
    events = []
    for pitch in pitches:
        events += [(0, on(pitch, channel)), (QUARTER, off(pitch, channel))]
    return events
