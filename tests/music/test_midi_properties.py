"""Any legal stream of events: the notes that are read are those of a plain player, and none is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_midi import END, meta, midi, number, sysex, track
from symusic import Score

from kwela.music import note_count, smf_reader, tokens
from kwela.music.sandbox import _score

RELAXED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

CHANNELS, PITCHES = (0, 1, 9), (60, 61, 62)
MESSAGES = st.one_of(
    st.tuples(st.just("on"), st.sampled_from(CHANNELS), st.sampled_from(PITCHES), st.integers(0, 127)),
    st.tuples(st.just("on"), st.sampled_from(CHANNELS), st.sampled_from(PITCHES), st.just(80)),
    st.tuples(st.just("off"), st.sampled_from(CHANNELS), st.sampled_from(PITCHES), st.just(0)),
    st.tuples(
        st.just("control"), st.sampled_from(CHANNELS), st.sampled_from((64, 7, 123, 0)), st.integers(0, 127)
    ),
    st.tuples(st.just("program"), st.sampled_from(CHANNELS), st.integers(0, 127), st.just(0)),
    st.tuples(st.just("pressure"), st.sampled_from(CHANNELS), st.integers(0, 127), st.just(0)),
    st.tuples(st.just("meta"), st.just(0), st.integers(1, 7), st.just(0)),
    st.tuples(st.just("sysex"), st.just(0), st.sampled_from((0xF0, 0xF7)), st.just(0)),
)
EVENTS = st.lists(st.tuples(st.sampled_from((0, 0, 1, 30, 120, 480, 20_000)), MESSAGES), max_size=25)
STATUS = {"off": 0x80, "on": 0x90, "control": 0xB0, "program": 0xC0, "pressure": 0xD0}


def to_track(events, running: bool, end: bytes | None) -> bytes:
    """Write events; under `running`, a status is left out where the one before holds."""
    status = None
    parts = []
    for delta, (kind, channel, first, second) in events:
        parts.append(number(delta))
        if kind == "meta":
            parts.append(meta(first, b"text"))
        elif kind == "sysex":
            parts.append(sysex(b"\x7d\1\xf7", first))
        else:
            new = STATUS[kind] | channel
            parts.append(b"" if running and new == status else bytes([new]))
            parts.append(bytes([first] if kind in ("program", "pressure") else [first, second]))
            status = new
    return track(*parts, end=end)


def play(tracks) -> list[tuple]:
    """A player in plain loops: (onset, end, pitch, velocity, program, drums) of each note, sorted."""
    merged = []
    ends = []
    for place, events in enumerate(tracks):
        time = 0
        for delta, message in events:
            time += delta
            merged.append((time, place, message))
        ends.append(time)
    merged.sort(key=lambda event: event[:2])
    program, bank, drums, sounding, played = {}, {}, {}, {}, []

    def stop(key, time):
        played.extend((*note[:1], time, *note[1:5]) for note in sounding.pop(key, ()))

    for index, (time, place, (kind, channel, first, second)) in enumerate(merged):
        key = channel, first
        if kind == "on" and second:
            if key in sounding and sounding[key][0][0] < time:
                stop(key, time)
            instrument = program.get(channel, 0), drums.get(channel, channel == 9)
            sounding.setdefault(key, []).append((time, first, second, *instrument, place))
        elif kind in ("on", "off"):
            if not is_of_earlier_note(merged, index, key):
                stop(key, time)
        elif kind == "control" and first == 123:
            for key in [key for key in sounding if key[0] == channel]:
                stop(key, time)
        elif kind == "control" and first == 0:
            bank[channel] = second
        elif kind == "program":
            program[channel] = first
            msb = bank.get(channel)
            drums[channel] = msb in (120, 126, 127) or (channel == 9 and msb != 121)
    for key in list(sounding):
        for note in sounding[key]:
            played.append((note[0], max(ends[note[5]], note[0]), *note[1:5]))
    return sorted(played)


def is_of_earlier_note(merged, index: int, key) -> bool:
    """Tell whether a note off after a note on of its tick was meant for the note that sounded before."""
    of_key = [
        (time, kind == "on" and second > 0)
        for time, _, (kind, channel, first, second) in merged
        if kind in ("on", "off") and (channel, first) == key
    ]
    time = merged[index][0]
    before = [is_on for when, is_on in of_key if when < time]
    inside = [is_on for when, is_on in of_key if when == time]
    after = [is_on for when, is_on in of_key if when > time]
    return bool(before and before[-1] and inside[0] and after and not after[0])


def read(data: bytes) -> Score:
    header, arrays = smf_reader.read(data)
    return _score(header, bytearray(b"".join(arrays)))


def notes_of(score: Score) -> list[tuple]:
    return sorted(
        (n.time, n.time + n.duration, n.pitch, n.velocity, t.program, t.is_drum)
        for t in score.tracks
        for n in t.notes
    )


@RELAXED
@given(st.lists(EVENTS, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_what_is_read_is_what_a_player_plays(tracks, running, ended):
    data = midi(*(to_track(events, running, END if ended else None) for events in tracks))
    score = read(data)
    assert notes_of(score) == play(tracks)
    assert note_count.count_notes(data) == (score.note_num(), 0)
    ids = tokens.encode(score)
    assert np.array_equal(tokens.encode(tokens.decode(ids)), ids)


@RELAXED
@given(EVENTS)
def test_symusic_reads_tame_files_the_same(events):
    """Where symusic is right, the two agree: one track, no running status, all notes ended before a new one."""
    tame = []
    sounding = set()
    for delta, (kind, channel, first, second) in events:
        key = channel, first
        if kind == "on" and second and key not in sounding:
            sounding.add(key)
        elif kind == "off" and key in sounding:
            sounding.remove(key)
        elif kind not in ("program", "pressure", "meta"):
            kind, first = "meta", 1
        tame.append((delta, (kind, channel, first, second)))
    tame += [(10, ("off", channel, pitch, 0)) for channel, pitch in sorted(sounding)]
    data = midi(to_track(tame, False, END))
    assert notes_of(read(data)) == notes_of(Score.from_midi(data))


def test_the_player_would_notice_a_tick():
    """The negative control: one note moved."""
    events = [(0, ("on", 0, 60, 80)), (480, ("off", 0, 60, 0))]
    moved = [(1, events[0][1]), events[1]]
    assert notes_of(read(midi(to_track(events, True, END)))) == play([events]) != play([moved])
