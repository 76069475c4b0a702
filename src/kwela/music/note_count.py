"""Count the notes in the bytes of a MIDI file, independently of how they are read.

A plain loop over Standard MIDI Files 1.0, which shares nothing with `smf_events` and `smf_channels`: what a
reader loses shows as a difference between the two.
"""

from __future__ import annotations

_DATA_BYTES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}


def count_notes(data: bytes) -> tuple[int, int]:
    """Return how many note ons with a velocity the tracks hold, and how many stand after an end of track.

    data: from MThd on, as `smf_container.unwrap` returns it.
    """
    notes = late = 0
    at = 8 + int.from_bytes(data[4:8], "big")
    while len(name := data[at : at + 4]) == 4 and all(32 <= letter < 127 for letter in name):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if name == b"MTrk":
            found = _count_in_track(data[at + 8 : end])
            notes, late = notes + found[0], late + found[1]
        at = end
    return notes, late


def _count_in_track(data: bytes) -> tuple[int, int]:
    counts = [0, 0]  # before and after the end of track
    ended = False
    status = 0
    at = 0
    try:
        while at < len(data):
            _, at = _number(data, at)
            if data[at] >= 0x80:
                new, at = data[at], at + 1
            else:
                new = status
            if 0x80 <= new < 0xF0:
                status = new
                pair = data[at : at + 2]
                at += _DATA_BYTES[new >> 4]
                counts[ended] += new >> 4 == 9 and len(pair) == 2 and 0 < pair[1] < 0x80 and pair[0] < 0x80
            elif new in (0xF0, 0xF7, 0xFF):
                ended = ended or (new == 0xFF and data[at] == 0x2F)
                length, at = _number(data, at + (new == 0xFF))
                at += length
            else:
                break  # only after an end of track, where anything may stand
    except IndexError:
        pass
    return counts[0], counts[1]


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    while data[at] >= 0x80:
        value, at = (value << 7 | data[at] & 0x7F) & 0x1FFFFF, at + 1
    return value << 7 | data[at], at + 1
