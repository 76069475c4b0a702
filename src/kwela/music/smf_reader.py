"""Read a MIDI file's bytes as tracks of one instrument each, and count what is left out.

The result is plain: a JSON-able header and arrays, which the sandbox sends to its parent (see `sandbox`).

- A track of the score holds the notes of one track of the file, one channel and one program.
- Every such track has all pedals, controllers and pitch bends of its channel. Those of a channel without
  notes stand in a track without notes.
- Every note on with a velocity gives a note; `smf_channels` says when it ends.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from kwela.music.score_events import differs, sorted_with_order
from kwela.music.smf_channels import (
    BEND,
    CONTROL,
    NOTE_ON,
    PEDAL,
    RESET_CONTROLLERS,
    Messages,
    in_playing_order,
    instruments,
    note_ends,
    standard_of_reset,
    whole_sysex,
)
from kwela.music.smf_container import NotReadable, open_container
from kwela.music.smf_events import MAX_EVENTS, META, SYSEX, Events, Special, read_events

_LAST_TICK = 2**31 - 1
_MAX_TRACKS = 16_384  # of one instrument each; every one costs the parent an object
_TEXTS = {0x01, 0x02, 0x04, 0x07}  # text, copyright, instrument name, cue point
_PRESSURES = (0xA, 0xD)
_VOICE_BITS = 16 + 12 + 8  # track, channel, program, drums


def read(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Read a file's bytes. Raises NotReadable with the reason."""
    container = open_container(data)
    events = read_events(container)
    if not len(events.time):
        header = {"tpq": container.ticks_per_quarter, "score": [0, 0, 0], "markers": [], "tracks": []}
        return {**header, "counts": container.counts | events.counts}, []
    if max(events.last_time) > _LAST_TICK:
        raise NotReadable("its times run past 2^31 ticks")
    messages = in_playing_order(events)
    meta = _Meta(events)
    sysex, meta.counts["escapes"] = whole_sysex(events, messages)
    tracks, arrays, counts = _read_tracks(messages, events, meta, sysex)
    header = {
        "tpq": container.ticks_per_quarter,
        "score": meta.sizes(),
        "markers": meta.markers,
        "tracks": tracks,
        "counts": container.counts | events.counts | meta.counts | counts,
    }
    return header, meta.arrays() + arrays


class _Meta:
    """The meta events of a file, sorted out; those that are left out are counted."""

    def __init__(self, events: Events) -> None:
        self.tempos: list[tuple[int, int]] = []
        self.meters: list[tuple[int, int, int]] = []
        self.keys: list[tuple[int, int, int]] = []
        self.markers: list[tuple[int, str]] = []
        self.names: dict[int, str] = {}
        self.lyrics: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("sysex", "texts", "metas_malformed", "tempos_zero"), 0)
        )
        for special in events.specials:
            if special.status == META:
                self._read(special, int(events.track[special.event]), int(events.time[special.event]))
            else:
                self.counts["sysex"] += special.status == SYSEX
        for kind in (self.tempos, self.meters, self.keys, self.markers):
            kind.sort(key=lambda event: event[0])  # stable: of one tick, the file's order

    def _read(self, special: Special, track: int, time: int) -> None:
        body = special.body
        match special.kind:
            case 0x51 if len(body) == 3:
                mspq = int.from_bytes(body, "big")
                if mspq:
                    self.tempos.append((time, mspq))
                self.counts["tempos_zero"] += not mspq
            case 0x51:
                raise NotReadable(f"track {track + 1}: a tempo of {len(body)} bytes instead of 3")
            case 0x58 if len(body) >= 2:
                self.meters.append((time, body[0], 1 << min(body[1], 7)))
            case 0x59 if len(body) >= 2 and body[0] in (*range(8), *range(249, 256)) and body[1] < 2:
                self.keys.append((time, body[0] - 256 * (body[0] > 127), body[1]))
            case 0x58 | 0x59:
                self.counts["metas_malformed"] += 1
            case 0x03:
                self.names[track] = _text(body)
            case 0x05 if text := _text(body):
                self.lyrics[track].append((time, text))
            case 0x06 if text := _text(body):
                self.markers.append((time, text))
            case kind if kind in _TEXTS:
                self.counts["texts"] += 1

    def sizes(self) -> list[int]:
        return [len(self.tempos), len(self.meters), len(self.keys)]

    def arrays(self) -> list[bytes]:
        """Return the columns of tempos, meters and keys that are not empty."""
        kinds = (
            (self.tempos, ("i4", "i4")),
            (self.meters, ("i4", "u1", "u1")),
            (self.keys, ("i4", "i1", "u1")),
        )
        return [
            np.array(column, dtype).tobytes()
            for rows, dtypes in kinds
            if rows
            for column, dtype in zip(zip(*rows, strict=True), dtypes, strict=True)
        ]


def _text(body: bytes) -> str:
    return body.decode("utf-8", "ignore")


def _read_tracks(
    messages: Messages, events: Events, meta: _Meta, sysex: list[tuple[int, bytes]]
) -> tuple[list[dict[str, Any]], list[bytes], dict[str, int]]:
    """Sort notes, controllers and pitch bends into tracks; return their headers, columns and counts."""
    notes = np.flatnonzero((messages.kind == NOTE_ON) & (messages.second > 0))
    end, counts = note_ends(messages, notes, np.array(events.last_time))
    program, is_drum = instruments(messages, sysex, notes)
    voice = ((messages.track[notes] << 12 | messages.channel[notes]) << 7 | program) << 1 | is_drum
    voice, order = sorted_with_order(voice, _VOICE_BITS)
    begins = np.flatnonzero(differs(voice))
    voices, sizes = voice[begins], np.diff(np.append(begins, len(voice)))
    rows = notes[order]
    columns = [
        column.astype(dtype)
        for column, dtype in (
            (messages.time[rows], "i4"),
            ((end - messages.time[notes])[order], "i4"),
            (messages.first[rows], "i1"),
            (messages.second[rows], "i1"),
        )
    ]
    pedals = messages.numbers[CONTROL] and int(((messages.kind == CONTROL) & (messages.first == PEDAL)).sum())
    counts["controllers"] = messages.numbers[CONTROL] - pedals
    counts["pitch_bends"] = messages.numbers[BEND]
    counts["pressures"] = sum(messages.numbers[kind] for kind in _PRESSURES)
    controls = _Controls(messages, [row for row, body in sysex if standard_of_reset(body) is not None])
    channels = (voices >> 8 & 0xFFF).tolist()
    controls.check_caps(len(notes), channels)
    tracks, arrays = [], []
    begin = 0
    for key, channel, size in zip(voices.tolist(), channels, sizes.tolist(), strict=True):
        of_track = key >> 20
        tracks.append(
            {
                "of": [meta.names.get(of_track, ""), key >> 1 & 127, bool(key & 1)],
                "events": [size, *controls.sizes(channel)],
                "lyrics": meta.lyrics.pop(of_track, []),
            }
        )
        arrays += [column[begin : begin + size].tobytes() for column in columns]
        arrays += controls.columns(channel)
        begin += size
    for channel in controls.channels - set(channels):
        tracks.append({"of": ["", 0, False], "events": [0, *controls.sizes(channel)], "lyrics": []})
        arrays += controls.columns(channel)
    tracks += [
        {"of": [meta.names.get(track, ""), 0, False], "events": [0, 0, 0, 0], "lyrics": lyrics}
        for track, lyrics in meta.lyrics.items()
    ]
    return tracks, arrays, counts


class _Controls:
    """The controllers and pitch bends of each channel, as bytes of columns."""

    def __init__(self, messages: Messages, resets: list[int]) -> None:
        self._sizes: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._columns: defaultdict[int, list[bytes]] = defaultdict(list)
        pedals: list[tuple[int, np.ndarray, np.ndarray]] = []
        for channel, of_channel in _by_channel(messages, CONTROL):
            time, number, value = (
                column[of_channel] for column in (messages.time, messages.first, messages.second)
            )
            raised = _pedals_raised(number, value, of_channel, resets)
            if raised:
                at = np.searchsorted(of_channel, raised, side="right")
                time = np.insert(time, at, messages.time[raised])
                number, value = np.insert(number, at, PEDAL), np.insert(value, at, 0)
            self._add(channel, 0, time.astype("i4"), number, value)
            of_pedal = number == PEDAL
            pressed, released = _pedals_down(time[of_pedal], value[of_pedal] >= 64)
            pedals.append((channel, pressed.astype("i4"), (released - pressed).astype("i4")))
        for channel, of_channel in _by_channel(messages, BEND):
            value = messages.second[of_channel].astype("i4") << 7 | messages.first[of_channel]
            self._add(channel, 1, messages.time[of_channel].astype("i4"), value - 8192)
        for channel, *columns in pedals:
            self._add(channel, 2, *columns)
        self.channels = set(self._sizes)

    def _add(self, channel: int, kind: int, *columns: np.ndarray) -> None:
        self._sizes[channel][kind] = len(columns[0])
        self._columns[channel] += [column.tobytes() for column in columns]

    def sizes(self, channel: int) -> list[int]:
        """Return the numbers of controllers, of pitch bends and of stretches with the pedal down."""
        return self._sizes[channel] if channel in self.channels else [0, 0, 0]

    def columns(self, channel: int) -> list[bytes]:
        return self._columns[channel] if channel in self.channels else []

    def check_caps(self, notes: int, channels: list[int]) -> None:
        """Raise NotReadable if the tracks of these channels have too many events together."""
        if len(channels) > _MAX_TRACKS:
            raise NotReadable(f"{len(channels)} instruments, over {_MAX_TRACKS}")
        every = notes + sum(map(sum, self._sizes.values())) + sum(sum(self.sizes(c)) for c in channels)
        if every > MAX_EVENTS:
            raise NotReadable(f"over {MAX_EVENTS} events in its {len(channels)} instruments")


def _by_channel(messages: Messages, kind: int) -> list[tuple[int, np.ndarray]]:
    """Return the channels that have messages of a kind, each with their rows."""
    if not messages.numbers[kind]:
        return []
    rows = np.flatnonzero(messages.kind == kind)
    channel = messages.channel[rows]
    return [(one, rows[channel == one]) for one in np.unique(channel).tolist()]


def _pedals_down(time: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return when a pedal goes down and when it comes up again; a pedal that stays down is left out."""
    before = np.append(False, down[:-1])[: len(down)]
    released = time[~down & before]
    return time[down & ~before][: len(released)], released


def _pedals_raised(number: np.ndarray, value: np.ndarray, rows: np.ndarray, resets: list[int]) -> list[int]:
    """Return the rows at which Reset All Controllers or a reset of the synthesiser raises a pedal."""
    pedals = number == PEDAL
    if not (value[pedals] >= 64).any():
        return []
    pedal_rows, down = rows[pedals], value[pedals] >= 64
    raised = []
    for row in sorted([*rows[number == RESET_CONTROLLERS].tolist(), *resets]):
        last = int(np.searchsorted(pedal_rows, row)) - 1
        if last >= 0 and down[last]:
            raised.append(row)
    return raised
