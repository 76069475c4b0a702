"""Read the events of a file's tracks as columns.

- One loop finds where each event begins, because that depends on every event before it. All else is computed
  for all events at once.
- A status holds until the next one of its kind (running status), also over meta and system exclusive events:
  SMF forbids that, but programs write it, and it can't be misunderstood.
- A byte that no player could take as meant ends the reading: NotReadable says which.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np

from kwela.music.smf_container import Container, NotReadable, is_name

MAX_EVENTS = 2_000_000
META, SYSEX, ESCAPE = 0xFF, 0xF0, 0xF7
END_OF_TRACK = 0x2F
_NAMES = {
    0x8: ("a note off", "pitch", "velocity"),
    0x9: ("a note on", "pitch", "velocity"),
    0xA: ("a key pressure", "pitch", "pressure"),
    0xB: ("a controller", "number", "value"),
    0xC: ("a program change", "program", ""),
    0xD: ("a channel pressure", "pressure", ""),
    0xE: ("a pitch bend", "low byte", "high byte"),
}
# By status byte: 128 where a message has a first and a second data byte, else 0.
_STATUS = np.arange(256)
_HAS_FIRST = np.where(_STATUS < SYSEX, 128, 0).astype(np.uint8)
_HAS_SECOND = np.where(np.isin(_STATUS >> 4, (0xC, 0xD)), 0, _HAS_FIRST)
# Bytes from the last byte of the delta time to the next event, under running status.
_STEP = [0] * 8 + [3, 3, 3, 3, 2, 2, 3, 0]


class Special(NamedTuple):
    """A meta or system exclusive event."""

    event: int  # its index among all events
    status: int  # META, SYSEX or ESCAPE
    kind: int  # of a meta event, else 0
    body: bytes


class Events(NamedTuple):
    """The events of all tracks, track by track, as columns (N,)."""

    track: np.ndarray  # int64, from 0
    time: np.ndarray  # int64, ticks from the start
    status: np.ndarray  # uint8; running status is filled in
    first: np.ndarray  # uint8, the data bytes of channel messages
    second: np.ndarray  # uint8, meaningless where a message has one
    specials: list[Special]
    last_time: list[int]  # of each track, its end
    counts: dict[str, int]  # tracks_without_end, bytes_after_end


def read_events(container: Container) -> Events:
    """Read all tracks. Raises NotReadable, naming the track, for broken events or too many of them."""
    data = container.data + bytes(16)  # so that a look ahead needs no check
    starts = array("q")
    specials: list[Special] = []
    sizes = []
    counts = {"tracks_without_end": 0, "bytes_after_end": 0}
    for number, (begin, end) in enumerate(container.tracks, 1):
        before = len(starts)
        try:
            at, ended = _walk(data, begin, end, starts, specials)
            _check_end(container, at, end, ended)
        except NotReadable as error:
            raise NotReadable(f"track {number}: {error}") from None
        counts["tracks_without_end"] += not ended
        counts["bytes_after_end"] += end - at
        sizes.append(len(starts) - before)
        if len(starts) > MAX_EVENTS:
            raise NotReadable(f"over {MAX_EVENTS} events")
    track = np.repeat(np.arange(len(sizes)), sizes)
    place, delta = _read_deltas(data, np.array(starts), track)
    time = np.cumsum(delta)
    ends = np.cumsum(sizes)
    if len(sizes) > 1:
        before_track = np.append(0, time)[ends - sizes]
        time -= before_track[track]
    status, first, second = _read_messages(data, place, track)
    last_time = [int(time[end - 1]) if size else 0 for end, size in zip(ends, sizes, strict=True)]
    return Events(track, time, status, first, second, specials, last_time, counts)


def _walk(data: bytes, at: int, end: int, starts: array[int], specials: list[Special]) -> tuple[int, bool]:
    """Append where each event of a track begins, and its specials.

    Returns the byte after the last event, and whether that is an end of track. It may lie beyond `end`.
    """
    running = 0
    append = starts.append
    while at < end:
        append(at)
        while data[at] > 127:
            at += 1
        status = data[at + 1]
        if status < 128:
            if not running:
                raise NotReadable(f"a data byte stands at byte {at + 1} where a status is needed")
            at += running
        elif status < SYSEX:
            running = _STEP[status >> 4]
            at += running + 1
        elif status in (META, SYSEX, ESCAPE):
            kind = data[at + 2] if status == META else 0
            length, at = _read_length(data, at + 2 + (status == META))
            if at + length > end:
                raise NotReadable(
                    f"it ends inside an event of {length} bytes at byte {at}: a length is wrong"
                )
            specials.append(Special(len(starts) - 1, status, kind, data[at : at + length]))
            at += length
            if status == META and kind == END_OF_TRACK:
                return at, True
        else:
            raise NotReadable(f"status {status:#x} at byte {at + 1} can't stand in a MIDI file")
    return at, False


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length, at most four bytes; return it and the byte after it."""
    length = 0
    for byte in data[at : at + 4]:
        at += 1
        length = length << 7 | byte & 127
        if byte < 128:
            return length, at
    raise NotReadable(f"a length of over four bytes ends at byte {at}")


def _check_end(container: Container, at: int, end: int, ended: bool) -> None:
    """Raise NotReadable if a track goes on beyond its chunk, or ends before it and hides another."""
    if at > end:
        raise NotReadable("it ends inside an event: it was cut, or the length of its chunk is wrong")
    if b"MTrk" in container.data[at:end]:
        raise NotReadable("another track stands inside its chunk: the length of the chunk is wrong")
    follows = container.data[end : end + 4]
    if not ended and follows and not is_name(follows):
        raise NotReadable("its chunk ends without an end of track, and no chunk follows: its length is wrong")


def _read_deltas(data: bytes, at: np.ndarray, track: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read the delta times from `at`; return the byte after each, and the times (int64)."""
    buffer = np.frombuffer(data, np.uint8)
    byte = buffer[at]
    delta = (byte & 127).astype(np.int64)
    longer = np.flatnonzero(byte > 127)
    for _ in range(3):
        at[longer] += 1
        byte = buffer[at[longer]]
        delta[longer] = delta[longer] << 7 | byte & 127
        longer = longer[byte > 127]
        if not len(longer):
            break
    else:
        raise NotReadable(f"track {track[longer[0]] + 1}: a delta time of over four bytes")
    return at + 1, delta


def _read_messages(
    data: bytes, at: np.ndarray, track: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read status (running status filled in) and data bytes of the messages from `at`, and check them."""
    buffer = np.frombuffer(data, np.uint8)
    status = buffer[at]
    running = status < 128
    at = at + ~running
    if running.any():
        of_channel = (status >= 128) & (status < SYSEX)
        last = np.maximum.accumulate(np.where(of_channel, np.arange(len(at)), 0))
        status = np.where(running, status[last], status)
    first, second = buffer[at], buffer[at + 1]
    bad = (first & _HAS_FIRST[status] | second & _HAS_SECOND[status]) > 127
    if bad.any():
        event = int(np.flatnonzero(bad)[0])
        name, *fields = _NAMES[int(status[event]) >> 4]
        which = int(first[event] < 128)
        value = int((first, second)[which][event])
        raise NotReadable(f"track {track[event] + 1}: {name} has the {fields[which]} {value}, over 127")
    return status, first, second
