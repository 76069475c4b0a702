"""Read the events of a score as columns, with times quantised to ticks of 1/24 quarter.

- A voice is 8 program + part; the program of drums is 128.
- Only what is written as ids is kept: the last tempo of a tick, tempos and pedals that change, and eight
  tracks of each program.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick, TempoTickList, TrackTick

from kwela.errors import UserError
from kwela.music import grammar as g

PEDAL_CONTROL, PEDAL_DOWN = 64, 64  # CC64 is the sustain pedal, which is down from this value on
_MICROSECONDS_A_MINUTE = 6e7


class Notes(NamedTuple):
    """Notes as int64 columns: voice = 8 program + part (program 128: drums), times in 1/24 quarter."""

    voice: np.ndarray
    pitch: np.ndarray
    tick: np.ndarray
    duration: np.ndarray
    velocity: np.ndarray

    def take(self, index: np.ndarray) -> Notes:
        """Return the notes at these indices, or those of a bool mask."""
        return Notes(*(column[index] for column in self))


def ticks(time: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """Quantise times of a file to ticks of 1/24 quarter: floor(24 time / ticks_per_quarter + 1/2), int64."""
    return (2 * g.TPQ * time.astype(np.int64) + ticks_per_quarter) // (2 * ticks_per_quarter)


def divide(number: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what np.divmod returns, several times faster: NumPy vectorises only division by a constant."""
    whole = number // size
    return whole, number - whole * size


def to_bpm(mspq: np.ndarray) -> np.ndarray:
    """Convert microseconds per quarter to beats per minute; 0 counts as 1."""
    return _MICROSECONDS_A_MINUTE / np.maximum(mspq, 1)


def tempo_step_of(mspq: np.ndarray) -> np.ndarray:
    """Return the nearest of the 512 log steps from 20 to 320 BPM, clamped, for microseconds per quarter."""
    bpm = to_bpm(mspq)
    step = np.rint(np.log(bpm / g.SLOWEST_BPM) * g.STEPS_PER_NAT)
    return np.minimum(np.maximum(step, 0), g.TEMPOS - 1).astype(np.int64)  # np.clip takes longer to start


MAX_TICK = 1 << 28  # a MIDI file can't hold a longer wait between two events
TICK_BITS = 29  # of a tick anywhere in a song's last bar
VOICE_PITCH_BITS = 18  # of a voice and a pitch
START_MSPQ = round(_MICROSECONDS_A_MINUTE / g.START_BPM)
START_TEMPO = int(tempo_step_of(np.array(START_MSPQ)))


def tempo_mspq(steps: np.ndarray) -> np.ndarray:
    """Return microseconds per quarter (int32) at the centre of tempo steps; see `tempo_step_of`."""
    slowest = _MICROSECONDS_A_MINUTE / g.SLOWEST_BPM
    return np.rint(slowest / g.TEMPO_RATIO ** (np.asarray(steps) / (g.TEMPOS - 1))).astype(np.int32)


def voices(score: ScoreTick) -> list[tuple[int, TrackTick]]:
    """Return (voice, track) of each track that has notes; a ninth track of one program is left out."""
    parts: Counter[int] = Counter()
    voiced = []
    for track in score.tracks:
        if not track.notes:
            continue
        program = g.DRUM_PROGRAM if track.is_drum else track.program
        if parts[program] < g.PARTS:
            voiced.append((program * g.PARTS + parts[program], track))
        parts[program] += 1
    return voiced


def read_notes(tracks: list[tuple[int, TrackTick]], ticks_per_quarter: int) -> Notes:
    """Read all notes of the `voices`, quantised and in file order, with their overlaps."""
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
    """Make the notes of one (voice, pitch) sound one at a time; return them and the index of each in `notes`.

    Of one onset the longest stays (the louder, if equally long); a sounding note is cut at the next onset.
    Sorted by voice, pitch, tick.
    """
    key = (notes.voice << 7 | notes.pitch) << TICK_BITS | notes.tick
    ordered, order = sorted_with_order(key, VOICE_PITCH_BITS + TICK_BITS)
    room = ordered[1:] - ordered[:-1]  # to the next onset, or beyond all ticks at the end of a (voice, pitch)
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
    voice_pitch = ordered >> TICK_BITS
    tick = ordered & ((1 << TICK_BITS) - 1)
    return Notes(voice_pitch >> 7, voice_pitch & 127, tick, duration, notes.velocity[order]), order


def read_pedals(
    tracks: list[tuple[int, TrackTick]], ticks_per_quarter: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read pedal changes as columns (voice, tick, down); the pedal starts up, and only changes count.

    A pedal that was down before a tick and after it, but up in between, gives two rows of that tick: off and
    on.
    """
    controls = [(voice, track.controls.numpy()) for voice, track in tracks if track.controls]
    if not controls:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool)
    voice = np.repeat([voice for voice, _ in controls], [len(control["time"]) for _, control in controls])
    time, number, value = (
        np.concatenate([control[name] for _, control in controls]) for name in ("time", "number", "value")
    )
    order = np.lexsort((time, voice))  # stable: the file's order within a time
    order = order[number[order] == PEDAL_CONTROL]
    voice, tick, down = voice[order], ticks(time[order], ticks_per_quarter), value[order] >= PEDAL_DOWN
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
    """Return bool (N,): whether a value differs from the one before it; the first always does."""
    changed = np.empty(len(column), bool)
    changed[:1] = True
    np.not_equal(column[1:], column[:-1], out=changed[1:])
    return changed


def sorted_with_order(key: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort `key` (N,), in [0, 2^bits), and return it with the index of each; equal keys keep their order.

    The index is packed into the free bits of the key, because sorting numbers is three times as fast as
    np.argsort.
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
    """Return the ticks of the events of a whole score, ascending, and the index of the last event of each."""
    if len(events["time"]) == 1:
        return ticks(events["time"], ticks_per_quarter), np.zeros(1, np.int64)
    order = np.argsort(events["time"], kind="stable")
    tick = ticks(events["time"][order], ticks_per_quarter)
    wins = differs(tick[::-1])[::-1]
    return tick[wins], order[wins]


def read_tempos(score: ScoreTick) -> tuple[np.ndarray, np.ndarray]:
    """Read tempo changes as columns (tick, step 0-511); the tempo starts at 120."""
    events = score.tempos.numpy()
    tick, wins = last_of_tick(events, score.tpq)
    step = tempo_step_of(events["mspq"][wins])
    changed = differs(step)
    changed[:1] = step[:1] != START_TEMPO
    return tick[changed], step[changed]


def writable(numerator: int, denominator: int) -> bool:
    """Return whether a meter has ids: numerator 1-16, denominator 2, 4, 8 or 16, no bar over 16 quarters."""
    longest = g.LONGEST_BAR // g.WHOLE * denominator
    return denominator in g.DENOMINATORS and 1 <= numerator <= min(g.NUMERATORS, longest)


def read_bars(score: ScoreTick, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the bars up to tick `last`, as columns (tick, numerator, denominator), 0 where unchanged.

    A meter takes effect at the first bar line that is not before it. A meter that has no ids counts as 4/4.
    """
    spans = _meter_spans(score, last)
    starts = [np.arange(begin, end, n * g.WHOLE // d) for begin, end, n, d in spans]
    numerators, denominators = np.zeros((2, sum(map(len, starts))), np.int64)
    bar, meter = 0, (4, 4)
    for (_, _, numerator, denominator), span in zip(spans, starts, strict=True):
        if (numerator, denominator) != meter:
            numerators[bar], denominators[bar] = meter = (numerator, denominator)
        bar += len(span)
    return np.concatenate(starts), numerators, denominators


def _meter_spans(score: ScoreTick, last: int) -> list[tuple[int, int, int, int]]:
    """List stretches of whole bars in one meter: first tick, tick after the end, numerator, denominator."""
    events = score.time_signatures.numpy()
    tick, wins = last_of_tick(events, score.tpq)
    columns = tick, events["numerator"][wins], events["denominator"][wins]
    changes = list(zip(*(column.tolist() for column in columns), strict=True))
    spans: list[tuple[int, int, int, int]] = []
    begin, meter = 0, (4, 4)
    for change, numerator, denominator in [*changes, (last + 1, 4, 4)]:
        length = meter[0] * g.WHOLE // meter[1]
        end = begin - (begin - min(change, last + 1)) // length * length
        if end > begin:
            spans.append((begin, end, *meter))
            begin = end
        meter = (numerator, denominator) if writable(numerator, denominator) else (4, 4)
    return spans


def drop_late_tempos(score: ScoreTick) -> int:
    """Take out the tempos after the last bar that has a note or a pedal; return how many.

    They would append bars without music. A score without notes keeps its tempos.
    """
    times = score.tempos.numpy()["time"]
    ends = [track.end() for track in score.tracks if track.notes]
    if not ends or not len(times) or times.max() <= max(ends):
        return 0
    tracks = voices(score)
    notes, pedals = read_notes(tracks, score.tpq), read_pedals(tracks, score.tpq)[1]
    last = int(max(notes.tick.max(), pedals.max(initial=0)))
    end = _meter_spans(score, last)[-1][1]
    kept = ticks(times, score.tpq) < end
    tempos = score.tempos.numpy()
    score.tempos = TempoTickList.from_numpy(tempos["time"][kept], tempos["mspq"][kept])
    return int((~kept).sum())
