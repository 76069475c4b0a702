"""Find the tracks of a MIDI file: take off what wraps it, then read its header and its chunks.

Standard MIDI Files 1.0 (SMF): a chunk is four letters, a 32-bit length, and that many bytes. The first chunk
is MThd, and the chunks named MTrk are tracks. What players pass over is passed over and counted. Where a
length is wrong, so that notes could be lost, the file is refused.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

MAX_BYTES = 16 << 20  # of a file, and of what it unpacks to
_HEADER, _TRACK = b"MThd", b"MTrk"
_MAC_HEADER = 128  # bytes of a MacBinary header, before the file itself

# What begins so isn't MIDI, or wraps it in a way that isn't read.
_OTHERS = {
    b"SMF2CLIP": "a MIDI 2.0 clip file, not a Standard MIDI File",
    b"FORM": "an IFF file (such as XMI), not a Standard MIDI File",
    b"MUS\x1a": "a MUS file, not a Standard MIDI File",
    b"HMIMIDI": "an HMI file, not a Standard MIDI File",
    b"XMF_": "an XMF file, which wraps MIDI: take the MIDI file out of it",
    b"PK\3\4": "a zip archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ": "an xz file: unpack it first",
    b"\0\5\x16\0": "an AppleSingle file, which wraps MIDI: take the MIDI file out of it",
    b"\0\5\x16\7": "an AppleDouble file, which a Mac writes beside the file itself",
    b"<": "a page of HTML or XML, not a MIDI file",
}


class NotReadable(ValueError):
    """The bytes can't be read as MIDI; the message is the reason, in words for the user."""


class Container(NamedTuple):
    """A MIDI file without its wrapper."""

    data: bytes  # from MThd on
    ticks_per_quarter: int
    tracks: list[tuple[int, int]]  # the first byte of the events of each track, and the byte after its chunk
    counts: dict[str, int]  # what was passed over: tracks_missing, chunks_passed_over, bytes_after_tracks


def unwrap(data: bytes) -> bytes:
    """Return the MIDI file inside `data`, from MThd on; gzip, RIFF (RMID) and MacBinary are taken off.

    Raises NotReadable with the reason if there is none, or if it unpacks to over MAX_BYTES.
    """
    if not data:
        raise NotReadable("empty (0 bytes)")
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(data)
    if data[:4] == b"RIFF":
        data = _from_riff(data)
    elif data[_MAC_HEADER : _MAC_HEADER + 4] == _HEADER and data[0] == 0 < data[1] < 64:
        length = int.from_bytes(data[83:87], "big")  # of the data fork; a resource fork may follow
        data = data[_MAC_HEADER:]
        data = data[:length] if length >= 14 else data
    if len(data) > MAX_BYTES:
        raise NotReadable(f"over {MAX_BYTES >> 20} MiB, too large for a MIDI file")
    if data[:4] != _HEADER:
        raise NotReadable(_name_other(data))
    return data


def _gunzip(data: bytes) -> bytes:
    unpacked = b""
    while data[:2] == b"\x1f\x8b":  # a gzip file may have several members
        stream = zlib.decompressobj(wbits=31)
        try:
            unpacked += stream.decompress(data, MAX_BYTES + 1 - len(unpacked))
        except zlib.error:
            raise NotReadable("its gzip data are damaged") from None
        if len(unpacked) > MAX_BYTES:
            raise NotReadable(f"unpacks to over {MAX_BYTES >> 20} MiB, too large for a MIDI file")
        if not stream.eof:
            raise NotReadable("truncated: its gzip data end early")
        data = stream.unused_data
    return unpacked


def _from_riff(data: bytes) -> bytes:
    """Return the chunk named `data` of a RIFF file, whose lengths are little-endian."""
    kind = data[8:12].decode("latin-1")
    if kind != "RMID":
        raise NotReadable(f"a RIFF file of kind {kind!r}, not MIDI (RMID)")
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            body = data[at + 8 : at + 8 + length]
            return body if len(body) >= 14 else data[at + 8 :]
        at += 8 + length
        if length % 2 and not is_name(data[at : at + 4]):  # some programs leave the pad byte out
            at += 1
    raise NotReadable("a RIFF file (RMID) without MIDI data")


def _name_other(data: bytes) -> str:
    for magic, name in _OTHERS.items():
        if data.startswith(magic):
            return name
    inside = data[:4096].find(_HEADER)
    if inside > 0:
        return f"not a MIDI file (it doesn't begin with MThd; {inside} unknown bytes stand before that)"
    return "not a MIDI file (it doesn't begin with MThd)"


def open_container(data: bytes) -> Container:
    """Find the tracks of a file's bytes. Raises NotReadable with the reason if its form is broken."""
    data = unwrap(data)
    if len(data) < 14:
        raise NotReadable("truncated inside its header")
    header, form, announced, division = (
        int.from_bytes(data[at:end], "big") for at, end in ((4, 8), (8, 10), (10, 12), (12, 14))
    )
    if header < 6:
        raise NotReadable(f"its header claims {header} bytes, under 6")
    if form > 2:
        raise NotReadable(f"format {form}: there are only 0, 1 and 2")
    if division & 0x8000:
        raise NotReadable("timed in SMPTE frames, not in ticks per quarter: its beats are unknown")
    if division == 0:
        raise NotReadable("0 ticks per quarter: its beats are unknown")
    tracks, counts = _find_tracks(data, 8 + header, announced)
    if form == 2 and len(tracks) > 1:
        raise NotReadable(
            f"format 2: its {len(tracks)} tracks are pieces of their own, not parts of one; save each alone"
        )
    return Container(data, division, tracks, counts)


def _find_tracks(data: bytes, at: int, announced: int) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Walk over the chunks from byte `at`, also beyond the announced number of tracks."""
    tracks: list[tuple[int, int]] = []
    passed_over = 0
    while at < len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        end = at + 8 + length
        fits = len(data) >= end and len(data) >= at + 8
        if not (len(tracks) < announced or name == _TRACK or (fits and is_name(name))):
            break
        if not fits:
            raise NotReadable(
                f"truncated: chunk {len(tracks) + (name == _TRACK)} claims {length} bytes, "
                f"{end - len(data)} more than there are"
            )
        if not is_name(name):
            raise NotReadable(f"no chunk begins at byte {at}, where one should: the file is damaged")
        if name == _TRACK:
            tracks.append((at + 8, end))
        else:
            _refuse_hidden_track(data[at + 8 : end], f"a chunk named {name.decode('latin-1')!a}")
            passed_over += 1
        at = end
    _refuse_hidden_track(data[at:], "what follows the last chunk")
    if not tracks:
        raise NotReadable("a MIDI header without any track")
    return tracks, {
        "tracks_missing": max(announced - len(tracks), 0),
        "chunks_passed_over": passed_over,
        "bytes_after_tracks": max(len(data) - at, 0),
    }


def is_name(letters: bytes) -> bool:
    """Tell whether four bytes can name a chunk: printable ASCII."""
    return len(letters) == 4 and all(32 <= letter < 127 for letter in letters)


def _refuse_hidden_track(data: bytes, where: str) -> None:
    if _TRACK in data:
        raise NotReadable(f"a track stands inside {where}: the length of a chunk is wrong")
