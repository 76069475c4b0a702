"""Follow the channels of a MIDI file as players do: which instrument plays each note, and when it ends.

- A channel's program, bank, pedal and controllers are its own, whichever track sets them. Events of one tick
  count in the order of the tracks, as FluidSynth plays them.
- Ports (meta event 0x21) multiply the 16 channels: channel = 16 port + the channel of the status byte.
- Drums are channel 10; what a bank makes drums at the next program change (XG 126 and 127, GM2 120); and the
  parts that GS and XG messages set to drums. GM, GM2, GS and XG resets put every channel back.
"""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from kwela.music.smf_events import ESCAPE, META, Events

NOTE_ON, CONTROL, PROGRAM, BEND = 0x9, 0xB, 0xC, 0xE
BANK, PEDAL, RESET_CONTROLLERS = 0, 64, 121
_PORT = 0x21
_RANK_BITS = 32
_RANK_MASK = (1 << _RANK_BITS - 1) - 1
_BEYOND = 1 << 60  # a key after those of all channels and pitches
_GM_RESETS = {1: "GM", 2: "", 3: "GM2"}


class Messages(NamedTuple):
    """Channel messages of a whole file in the order in which they are played, as columns (N,)."""

    track: np.ndarray
    time: np.ndarray
    kind: np.ndarray  # the high half of the status; 0xF for what is not a channel message
    channel: np.ndarray  # int64: 16 port + channel
    first: np.ndarray
    second: np.ndarray
    order: np.ndarray | None  # the index of each in `Events`; None where that is the same
    numbers: list[int]  # of the messages of each kind

    def at_channel(self, rows: np.ndarray) -> np.ndarray:
        """Return keys that sort rows by channel, then by order."""
        return self.channel[rows] << _RANK_BITS | rows


def in_playing_order(events: Events) -> Messages:
    """Merge the tracks: by time, then by track, then as they stand."""
    channel = (events.status & 15).astype(np.int64)
    ports = [s for s in events.specials if s.status == META and s.kind == _PORT and s.body[:1] > b"\0"]
    if ports:
        port = np.zeros(len(channel), np.int64)
        for special in (s for s in events.specials if s.kind == _PORT and s.body):
            track_end = np.searchsorted(events.track, events.track[special.event], side="right")
            port[special.event : track_end] = special.body[0] & 127
        channel += 16 * port
    kind = events.status >> 4
    numbers = np.bincount(kind, minlength=16).tolist()
    columns = (events.track, events.time, kind, channel, events.first, events.second)
    order = None
    if events.track[0] != events.track[-1]:
        order = np.argsort(events.time, kind="stable")
        columns = tuple(column[order] for column in columns)  # type: ignore[assignment]
    return Messages(*columns, order, numbers)


# ---- instruments


def instruments(
    messages: Messages, sysex: list[tuple[int, bytes]], notes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the program (int64) and whether it is drums, of the notes at the rows `notes`.

    sysex: as `whole_sysex` returns them.
    """
    is_setting = messages.kind == PROGRAM
    if messages.numbers[CONTROL]:
        is_setting |= (messages.kind == CONTROL) & (messages.first == BANK)
    rows = np.flatnonzero(is_setting)
    synth = _Synth()
    columns = (messages.kind, messages.channel, messages.first, messages.second)
    settings = list(zip(rows.tolist(), *(column[rows].tolist() for column in columns), strict=True))
    if sysex:
        synth.channels = np.unique(messages.channel[notes]).tolist()
        settings = sorted([*settings, *((row, 0xF, 0, 0, body) for row, body in sysex)], key=itemgetter(0))
    for row, kind, channel, first, second in settings:
        if kind == PROGRAM:
            synth.change_program(row, channel, first)
        elif kind == CONTROL:
            synth.bank[channel] = second
        else:
            synth.read_sysex(row, second)
    channel = messages.channel[notes]
    is_drum = channel & 15 == 9
    if not synth.changes or not len(notes):
        return np.zeros(len(notes), np.int64), is_drum
    changes = np.array(synth.changes, np.int64)
    if changes[-1, 1] < notes[0]:  # the usual file: each channel keeps its instrument
        size = max(int(changes[:, 0].max()), int(channel.max())) + 1
        programs, drums = np.zeros(size, np.int64), np.arange(size) & 15 == 9
        for changed, _, program, is_drums in synth.changes:
            programs[changed], drums[changed] = program, is_drums
        return programs[channel], drums[channel]
    key = changes[:, 0] << _RANK_BITS | changes[:, 1]
    order = np.argsort(key, kind="stable")
    key, changes = key[order], changes[order]
    last = np.searchsorted(key, messages.at_channel(notes)) - 1  # -1: the last change, of another row
    known = (last >= 0) & (changes[last, 0] == channel)
    return np.where(known, changes[last, 2], 0), np.where(known, changes[last, 3] > 0, is_drum)


def whole_sysex(events: Events, messages: Messages) -> tuple[list[tuple[int, bytes]], int]:
    """Put the packets of system exclusive messages together.

    Returns their rows and bodies, without F0 and F7, and how many F7 events are no packet of a message: these
    escapes hold what the file's author wanted sent as it is, which no player of files obeys.
    """
    if all(special.status == META for special in events.specials):
        return [], 0
    place = np.arange(len(messages.time))
    if messages.order is not None:
        place[messages.order] = np.arange(len(messages.time))
    whole = []
    open_body: dict[int, bytes] = {}
    escapes = 0
    for special in events.specials:
        if special.status == META:
            continue
        track = int(events.track[special.event])
        if special.status == ESCAPE and track not in open_body:
            escapes += 1
            continue
        body = open_body.pop(track, b"") * (special.status == ESCAPE) + special.body
        if body.endswith(b"\xf7"):
            whole.append((int(place[special.event]), body[:-1]))
        else:
            open_body[track] = body
    return sorted(whole), escapes


def standard_of_reset(body: bytes) -> str | None:
    """Return the standard to which a system exclusive message resets all channels, None for another message.

    body: without F0 and F7. "" stands for none.
    """
    match tuple(body[:3]), tuple(body[3:7]):
        case (0x7E, _, 0x09), (1 | 2 | 3 as what, *_):
            return _GM_RESETS[what]
        case (0x41, _, 0x42), (0x12, 0x40 | 0x00, 0x00, 0x7F):
            return "GS"
        case (0x43, _, 0x4C), (0x00, 0x00, 0x7E | 0x7F, *_):
            return "XG"
    return None


class _Synth:
    """The instruments of all channels, while the settings of a file are read in order."""

    def __init__(self) -> None:
        self.channels: list[int] = []  # those that a message to all channels sets
        self.standard = ""  # of the last reset
        self.program: dict[int, int] = defaultdict(int)
        self.bank: dict[int, int] = {}  # most significant byte
        self.part_mode: dict[int, bool] = {}  # drums or not, by a message to the part
        self.changes: list[tuple[int, int, int, bool]] = []  # channel, row, program, drums

    def change_program(self, row: int, channel: int, program: int) -> None:
        self.program[channel] = program
        self.changes.append((channel, row, program, self._is_drum(channel)))

    def _is_drum(self, channel: int) -> bool:
        bank = self.bank.get(channel)
        if bank is not None and self.standard != "GS":  # in GS a bank is a variation of the instrument
            if bank in (120, 126, 127):
                return True
            if bank == 121 or self.standard == "XG":
                return False
        return self.part_mode.get(channel, channel % 16 == 9)

    def read_sysex(self, row: int, body: bytes) -> None:
        """Obey a message that resets the synthesiser or sets a part to drums; pass over others."""
        standard = standard_of_reset(body)
        if standard is not None:
            self._reset(row, standard)
            return
        match tuple(body[:3]), tuple(body[3:7]):
            case (0x41, _, 0x42), (0x12, 0x40, address, 0x15) if address >> 4 == 1 and len(body) > 7:
                block = address & 15  # 0 is channel 10, 1 to 9 are channels 1 to 9, 10 to 15 are 11 to 16
                self._set_part(row, block if block > 9 else (block - 1) % 10, body[7] > 0)
            case (0x43, _, 0x4C), (0x08, part, 0x07, mode) if part < 16:
                self._set_part(row, part, mode > 0)

    def _reset(self, row: int, standard: str) -> None:
        self.standard = standard
        self.bank.clear()
        self.part_mode.clear()
        self.program.clear()
        self.changes += [(channel, row, 0, channel % 16 == 9) for channel in self.channels]

    def _set_part(self, row: int, part: int, drums: bool) -> None:
        for channel in self.channels:
            if channel % 16 == part:
                self.part_mode[channel] = drums
                self.bank.pop(channel, None)
                self.changes.append((channel, row, self.program[channel], drums))


# ---- the ends of notes

# By controller: All Sound Off, All Notes Off, and the modes, which end all notes too.
_ENDS_ALL = np.isin(np.arange(256), (120, *range(123, 128)))


def note_ends(
    messages: Messages, notes: np.ndarray, last_time: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    """Return when the notes at the rows `notes` end, in ticks, and how many were not ended by a note off.

    last_time: the end of each track. A note ends at the next of these in its channel: a note off of its
    pitch, its pitch struck again at a later tick (as FluidSynth does), All Notes Off, All Sound Off; else
    with its track.
    """
    rows = np.flatnonzero(messages.kind | 1 == NOTE_ON)  # note ons and offs
    is_on = np.zeros(len(messages.time), bool)
    is_on[notes] = True
    key = np.empty(len(rows) + 1, np.int64)
    key[:-1] = (messages.channel[rows] << 7 | messages.first[rows]) << _RANK_BITS | rows << 1 | is_on[rows]
    key[-1] = _BEYOND
    key.sort()
    on, row, pitch = (key & 1).astype(bool), key >> 1 & _RANK_MASK, key >> _RANK_BITS
    time = messages.time[row]
    earlier = np.zeros(len(row), bool)  # the event before is of the same pitch and of this tick
    earlier[1:] = (pitch[1:] == pitch[:-1]) & (time[1:] == time[:-1])
    begins = np.flatnonzero(on)
    end = begins + 1
    if (on[:-1] & earlier[1:]).any():
        ends = (~on | ~earlier) & ~_of_earlier_note(pitch, on, earlier)
        following = np.where(ends, np.arange(len(row)), len(row) - 1)
        end = np.minimum.accumulate(following[::-1])[::-1][end]
    ended = pitch[end] == pitch[begins]
    end_time, row = time[end], row[begins]
    if not ended.all():
        end_time = np.where(ended, end_time, np.maximum(last_time[messages.track[row]], time[begins]))
    result = np.zeros(len(messages.time), np.int64)
    result[row] = end_time
    by_all, unended = _end_all(messages, notes, result, row[~ended])
    counts = {
        "notes_struck_again": int(on[end].sum()) - int((on[end] & ~ended).sum()),
        "notes_ended_by_all_off": by_all,
        "notes_held_to_end": unended,
    }
    return result[notes], counts


def _of_earlier_note(pitch: np.ndarray, on: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Find note offs that a program wrote after the note on of the same tick, but meant for the note before.

    So it is where the pitch sounded before the tick, the tick begins with the note on, and another note off
    comes later.
    """
    if not (~on[1:] & on[:-1] & earlier[1:]).any():
        return np.zeros(len(on), bool)
    begin = np.flatnonzero(~earlier)  # of each run of events of one pitch and tick
    end = np.append(begin[1:], len(on))
    struck, pitch = np.append(on, False), np.append(pitch, -1)
    sounded = struck[begin - 1] & (pitch[begin - 1] == pitch[begin]) & struck[begin]
    ends_later = ~struck[end] & (pitch[end] == pitch[begin])
    run = np.cumsum(~earlier) - 1
    return ~on & (sounded & ends_later)[run]


def _end_all(
    messages: Messages, notes: np.ndarray, end: np.ndarray, open_rows: np.ndarray
) -> tuple[int, int]:
    """Cut `end` (by row) at what ends all notes of a channel.

    open_rows: notes that nothing else ends. Returns how many notes are ended so, and how many by nothing.
    """
    if not messages.numbers[CONTROL]:
        return 0, len(open_rows)
    controls = np.flatnonzero((messages.kind == CONTROL) & _ENDS_ALL[messages.first])
    if not len(controls):
        return 0, len(open_rows)
    key = np.sort(messages.at_channel(controls))
    following = np.searchsorted(key, messages.at_channel(notes))
    key = np.append(key, -1)[following]
    found = key >> _RANK_BITS == messages.channel[notes]
    time = np.where(found, messages.time[np.where(found, key & _RANK_MASK, 0)], end[notes])
    is_open = np.zeros(len(end), bool)
    is_open[open_rows] = True
    ended = found & (is_open[notes] | (time < end[notes]))
    end[notes] = np.where(ended, time, end[notes])
    return int(ended.sum()), int((is_open[notes] & ~ended).sum())
