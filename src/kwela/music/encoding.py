"""A score to ids, without a loop over notes.

Bars, tempo changes, pedal moves and notes become the rows of one table whose columns are the fields of the grammar in
written order; rows are sorted once, fields that only show when they change are filled in, and the table's filled cells,
read row by row, are the ids.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick, TrackTick

from kwela.errors import UserError
from kwela.music import grammar as g

# Columns of the table. A bar row uses 0-2, a tempo row 0-3, a pedal or note row 0-1 and what it needs of 2-9.
_BAR = _BEAT = 0
_NUMERATOR = _SUB = 1
_DENOMINATOR = _TEMPO = 2
_FAMILY, _VARIANT, _PART, _PITCH, _VELOCITY, _LONGEST, _COARSE, _FINE = range(2, 10)
_COLUMNS = 10

# What a number is written as, -1 for nothing: one look instead of a division, an addition and a choice.
_TICKS = np.arange(max(g.COARSE_MAX * g.TPQ, g.LONGEST_BAR))
_WHOLE, _REST = np.divmod(_TICKS, g.TPQ)
_DURATIONS = np.stack([np.where(_WHOLE, g.COARSE + _WHOLE, -1), np.where(_REST, g.FINE + _REST, -1)]).astype(
    np.int16
)
_PLACES = np.stack([g.BEAT + _WHOLE, np.where(_REST, g.SUB + _REST, -1)]).astype(np.int16)
_PROGRAMS = np.array(
    [(g.FAMILY + p // 8, g.VARIANT + p % 8) for p in range(128)] + [(g.DRUM, -1)], np.int16
).T


class Notes(NamedTuple):
    """Notes as int64 columns: voice = 8 program + part (program 128: drums), time and duration in ticks of 1/24."""

    voice: np.ndarray
    pitch: np.ndarray
    tick: np.ndarray
    duration: np.ndarray
    velocity: np.ndarray

    def take(self, index: np.ndarray) -> Notes:
        return Notes(*(column[index] for column in self))


def ticks(time: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """floor(24 time / ticks_per_quarter + 1/2), int64."""
    return (2 * g.TPQ * time.astype(np.int64) + ticks_per_quarter) // (2 * ticks_per_quarter)


def split(number: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """np.divmod, several times faster: only floor division by a constant is vectorised."""
    whole = number // size
    return whole, number - whole * size


def tempo_bin(mspq: np.ndarray) -> np.ndarray:
    """The nearest of the 512 log steps from 20 to 320 BPM, for microseconds per quarter; beyond them, the end."""
    bpm = 6e7 / np.maximum(mspq, 1)
    step = np.rint(np.log(bpm / 20) * ((g.TEMPOS - 1) / np.log(16)))
    return np.minimum(np.maximum(step, 0), g.TEMPOS - 1).astype(np.int64)  # np.clip takes longer to start


MAX_TICK = 1 << 28  # a MIDI file can't hold a longer wait between two events
TICK_BITS, STRING_BITS = 29, 18  # of a tick anywhere in a song's last bar; of a voice and a pitch
START_TEMPO = int(tempo_bin(np.array(500_000)))


def tempo_mspq(steps: np.ndarray) -> np.ndarray:
    """Microseconds per quarter (int32) at the centre of each tempo step; `tempo_bin` undoes it exactly."""
    return np.rint(3e6 / 16 ** (np.asarray(steps) / (g.TEMPOS - 1))).astype(np.int32)


def voices(score: ScoreTick) -> list[tuple[int, TrackTick]]:
    """(voice, track) of each non-empty track; a ninth one of a program is left out."""
    parts: Counter[int] = Counter()
    found = []
    for track in score.tracks:
        if not track.notes:
            continue
        program = g.DRUM_PROGRAM if track.is_drum else track.program
        if parts[program] < g.PARTS:
            found.append((program * g.PARTS + parts[program], track))
        parts[program] += 1
    return found


def read_notes(tracks: list[tuple[int, TrackTick]], ticks_per_quarter: int) -> Notes:
    """All notes of the `voices`, quantised and in file order, overlaps and all."""
    if not tracks:
        return Notes(*(np.zeros(0, np.int64) for _ in Notes._fields))
    columns = [track.notes.numpy() for _, track in tracks]
    time, duration, pitch, velocity = (
        np.concatenate([column[name] for column in columns], dtype=np.int64)
        for name in ("time", "duration", "pitch", "velocity")
    )
    if (time | duration | pitch | velocity).min() < 0:
        raise UserError("a note has a negative time, duration, pitch or velocity: the score isn't valid MIDI")
    tick = ticks(time, ticks_per_quarter)
    if tick.max() > MAX_TICK:
        raise UserError(
            f"the score runs to quarter {int(tick.max()) // g.TPQ}: not a length that ids can hold"
        )
    return Notes(
        np.repeat([voice for voice, _ in tracks], [len(column["time"]) for column in columns]),
        pitch,
        tick,
        np.maximum(ticks(time + duration, ticks_per_quarter) - tick, 1),
        velocity,
    )


def one_at_a_time(notes: Notes) -> tuple[Notes, np.ndarray]:
    """Notes of one (voice, pitch) made to sound one at a time, and each one's index in `notes`.

    Of one onset the longest stays (the louder, if equally long); a sounding note is cut at the next onset. Sorted by
    voice, pitch, tick.
    """
    key = (notes.voice << 7 | notes.pitch) << TICK_BITS | notes.tick
    ordered, order = sorted_with_order(key, STRING_BITS + TICK_BITS)
    room = ordered[1:] - ordered[:-1]  # to the next onset, or beyond all ticks where that is another string's
    if len(room) and not room.all():
        same = room == 0
        tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
        member = order[tied]
        order[tied] = member[np.lexsort((-(notes.duration << 7 | notes.velocity)[member], key[member]))]
        order = order[np.append(True, ~same)]
        ordered = key[order]
        room = ordered[1:] - ordered[:-1]
    duration = notes.duration[order]
    np.minimum(duration[:-1], room, out=duration[:-1])
    string = ordered >> TICK_BITS
    tick = ordered & ((1 << TICK_BITS) - 1)
    return Notes(string >> 7, string & 127, tick, duration, notes.velocity[order]), order


def read_pedals(
    tracks: list[tuple[int, TrackTick]], ticks_per_quarter: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pedal changes as columns (voice, tick, down): it starts up, and only changes count.

    A pedal that was down before a tick and after it, but up in between, gives two rows of that tick: off and on.
    """
    found = [(voice, track.controls.numpy()) for voice, track in tracks if track.controls]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool)
    voice = np.repeat([voice for voice, _ in found], [len(control["time"]) for _, control in found])
    time, number, value = (
        np.concatenate([control[name] for _, control in found]) for name in ("time", "number", "value")
    )
    order = np.lexsort((time, voice))  # stable: the file's order within a time
    order = order[number[order] == 64]
    voice, tick, down = voice[order], ticks(time[order], ticks_per_quarter), value[order] >= 64
    if not len(order):
        return voice, tick, down
    place = voice << 40 | tick
    first = differs(place)
    starts = np.flatnonzero(first)
    went_up = np.logical_or.reduceat(~down, starts)
    after = down[np.flatnonzero(differs(place[::-1])[::-1])]
    voice, tick = voice[starts], tick[starts]
    before = ~differs(voice)
    before[1:] &= after[:-1]
    off = np.flatnonzero(before & went_up)
    on = np.flatnonzero(after & (went_up | ~before))
    both = np.concatenate([off, on])
    return voice[both], tick[both], np.arange(len(both)) >= len(off)


def differs(column: np.ndarray) -> np.ndarray:
    """bool (N,): whether a value is another than the one before it; the first is."""
    out = np.empty(len(column), bool)
    out[:1] = True
    np.not_equal(column[1:], column[:-1], out=out[1:])
    return out


def sorted_with_order(key: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """`key` (N,) in ascending order, and the index of each; key in [0, 2^bits). Equal keys keep their order.

    The index rides in the bits that the key leaves free, for sorting numbers is three times as fast as np.argsort.
    """
    free = 63 - bits
    if len(key) >> free:
        order = np.argsort(key, kind="stable")
        return key[order], order
    packed = key << free
    packed |= np.arange(len(key))
    packed.sort()
    return packed >> free, packed & ((1 << free) - 1)


def last_of_tick(events: dict[str, np.ndarray], ticks_per_quarter: int) -> tuple[np.ndarray, np.ndarray]:
    """The ticks at which score-wide events stand, ascending, and the index of the one that wins each."""
    if len(events["time"]) == 1:
        return ticks(events["time"], ticks_per_quarter), np.zeros(1, np.int64)
    order = np.argsort(events["time"], kind="stable")
    tick = ticks(events["time"][order], ticks_per_quarter)
    wins = differs(tick[::-1])[::-1]
    return tick[wins], order[wins]


def read_tempos(score: ScoreTick) -> tuple[np.ndarray, np.ndarray]:
    """Tempo changes as columns (tick, step 0-511); the tempo starts at 120."""
    events = score.tempos.numpy()
    tick, wins = last_of_tick(events, score.tpq)
    step = tempo_bin(events["mspq"][wins])
    changed = differs(step)
    changed[:1] = step[:1] != START_TEMPO
    return tick[changed], step[changed]


def writable(numerator: int, denominator: int) -> bool:
    """Whether a meter has ids: numerator 1-16, denominator 2, 4, 8 or 16, no bar over 16 quarters."""
    return denominator in g.DENOMINATORS and 1 <= numerator <= min(16, 4 * denominator)


def read_bars(score: ScoreTick, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bars up to the one that holds tick `last`: columns (tick, numerator, denominator), 0 where unchanged.

    A meter takes effect at the first bar line not before it; one that can't be written counts as 4/4.
    """
    events = score.time_signatures.numpy()
    tick, wins = last_of_tick(events, score.tpq)
    changes = list(
        zip(
            tick.tolist(),
            events["numerator"][wins].tolist(),
            events["denominator"][wins].tolist(),
            strict=True,
        )
    )
    spans: list[tuple[int, int, int, int]] = []  # first tick, tick past the end, numerator, denominator
    begin, meter = 0, (4, 4)
    for change, numerator, denominator in [*changes, (last + 1, 4, 4)]:
        length = meter[0] * g.WHOLE // meter[1]
        end = begin - (begin - min(change, last + 1)) // length * length
        if end > begin:
            spans.append((begin, end, *meter))
            begin = end
        meter = (numerator, denominator) if writable(numerator, denominator) else (4, 4)
    starts = [np.arange(begin, end, n * g.WHOLE // d) for begin, end, n, d in spans]
    numerators, denominators = np.zeros((2, sum(map(len, starts))), np.int64)
    bar, meter = 0, (4, 4)
    for (_, _, *new), span in zip(spans, starts, strict=True):
        if tuple(new) != meter:
            numerators[bar], denominators[bar] = meter = (new[0], new[1])
        bar += len(span)
    return np.concatenate(starts), numerators, denominators


def encode(score: ScoreTick) -> np.ndarray:
    """The score's ids, int16 (length,), from BOS to EOS.

    score: symusic score in ticks. What the ids can't say is dropped or rounded as CONTRACTS lists; `loss_report`
    counts it. Pedals are read from the tracks' controls (CC64). Raises UserError for a score without a musical
    resolution (0 ticks a quarter), with negative times, or longer than 2^28 ticks of 1/24 quarter.
    """
    if score.tpq <= 0:
        raise UserError("the score has no ticks per quarter (SMPTE time or 0): beats can't be told")
    tracks = voices(score)
    notes, _ = one_at_a_time(read_notes(tracks, score.tpq))
    pedal_voice, pedal_tick, pedal_down = read_pedals(tracks, score.tpq)
    tempo_tick, tempo_step = read_tempos(score)
    event_tick = np.concatenate([tempo_tick, pedal_tick, notes.tick])
    if not len(event_tick):
        return np.array([g.BOS, g.EOS], np.int16)
    last = int(event_tick.max())
    if event_tick.min() < 0 or last + int(notes.duration.max(initial=0)) > MAX_TICK:
        raise UserError(
            f"the score runs to quarter {last // g.TPQ} or starts before 0: not a length that ids can hold"
        )
    bar_tick, numerator, denominator = read_bars(score, last)

    # The rows: bars, tempos, pedals, notes.
    bars, tempos, pedals = len(bar_tick), len(tempo_tick), len(pedal_tick)
    voiced, noted = bars + tempos, bars + tempos + pedals
    table = np.full((noted + len(notes.tick), _COLUMNS), -1, np.int16)
    table[:bars, _BAR] = g.BAR
    meter = np.flatnonzero(numerator)
    table[meter, _NUMERATOR] = g.NUMERATOR + numerator[meter]
    table[meter, _DENOMINATOR] = g.DENOMINATOR - 1 + np.log2(denominator[meter])
    table[bars:voiced, _TEMPO] = g.TEMPO_COARSE + tempo_step // 16
    table[bars:voiced, _TEMPO + 1] = g.TEMPO_FINE + tempo_step % 16
    table[voiced:noted, _PITCH] = np.where(pedal_down, g.PEDAL_ON, g.PEDAL_OFF)
    rows = table[noted:]
    rows[:, _PITCH] = notes.pitch
    rows[:, _VELOCITY] = g.VELOCITY + (notes.velocity >> 2)
    rest, longest = notes.duration, None
    if rest.max(initial=0) >= g.COARSE_MAX * g.TPQ:
        longest, rest = split(rest, g.COARSE_MAX * g.TPQ)
        rows[:, _LONGEST] = np.where(longest > 0, g.COARSE + g.COARSE_MAX, -1)
    rows[:, _COARSE], rows[:, _FINE] = _DURATIONS.take(rest, axis=1)

    # Their order: tick, then bar, tempo, and by voice: pedal off, pedal on, pitches.
    key = np.empty(len(table), np.int64)
    key[:bars] = bar_tick << 20
    key[bars:voiced] = tempo_tick << 20 | 1
    key[voiced:noted] = (pedal_tick << 20) + (pedal_voice << 8) + pedal_down + 2
    key[noted:] = (notes.tick << 20) + (notes.voice << 8) + notes.pitch + 4
    key, order = sorted_with_order(key, TICK_BITS + 20)
    table = table.take(order, axis=0)
    tick = key >> 20

    # Positions: the first row of a tick in a bar.
    is_bar = order < bars
    opens = tick[1:] != tick[:-1]
    opens |= is_bar[:-1]
    opens &= ~is_bar[1:]  # the first row of all is a bar
    at = np.flatnonzero(opens) + 1
    begun = bar_tick[is_bar.cumsum()[at] - 1]
    table[at, _BEAT], table[at, _SUB] = _PLACES.take(tick[at] - begun, axis=1)

    # Program and part, where they change.
    row = np.flatnonzero(order >= voiced)
    voice = (key[row] - 2 >> 8) & 0xFFF
    program, part = voice >> 3, voice & (g.PARTS - 1)
    new = changed_from_0(program)
    table[row[new], _FAMILY], table[row[new], _VARIANT] = _PROGRAMS.take(program[new], axis=1)
    new = changed_from_0(part)
    table[row[new], _PART] = g.PART + part[new]

    cells = table.ravel()
    ids = cells.compress(cells >= 0)  # twice as fast as cells[cells >= 0]
    if longest is not None:
        times = np.ones(len(ids), np.int64)
        longest = longest[order[order >= noted] - noted]
        times[ids == g.COARSE + g.COARSE_MAX] = longest[longest > 0]
        ids = np.repeat(ids, times)
    song = np.empty(len(ids) + 2, np.int16)
    song[0], song[1:-1], song[-1] = g.BOS, ids, g.EOS
    return song


def changed_from_0(column: np.ndarray) -> np.ndarray:
    """The indexes at which a value is another than the one before it; before the first it was 0."""
    changed = differs(column)
    changed[:1] = column[:1] != 0
    return np.flatnonzero(changed)
