"""Encode a score as ids, without a loop over notes.

- Bars, tempo changes, pedal changes and notes are the rows of one table. Its columns are the fields of the
  grammar, in the order in which they are written.
- The rows are sorted once. Then the fields that are written only when they change are filled in.
- The cells that are filled, read row by row, are the ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.errors import UserError
from kwela.music import grammar as g
from kwela.music.score_events import (
    MAX_TICK,
    TICK_BITS,
    Notes,
    differs,
    divide,
    one_at_a_time,
    read_bars,
    read_notes,
    read_pedals,
    read_tempos,
    sorted_with_order,
    voices,
)

# Columns of the table. A bar row uses 0-2, a tempo row 0-3, a pedal or note row 0-1 and those it needs of
# 2-9.
_BAR = _BEAT = 0
_NUMERATOR = _SUB = 1
_DENOMINATOR = _TEMPO = 2
_FAMILY, _VARIANT, _PART, _PITCH, _VELOCITY, _LONGEST, _COARSE, _FINE = range(2, 10)
_COLUMNS = 10

# Bits of a row's sort key: a voice and a pitch stand below the tick.
_ROW_BITS = 20

# The ids that a number is written as, -1 for none. A look-up replaces a division, an addition and a choice.
_TICKS = np.arange(max(g.COARSE_MAX * g.TPQ, g.LONGEST_BAR))
_WHOLE, _REST = np.divmod(_TICKS, g.TPQ)
_COARSE_IDS, _FINE_IDS = np.where(_WHOLE, g.COARSE + _WHOLE, -1), np.where(_REST, g.FINE + _REST, -1)
_DURATIONS = np.stack([_COARSE_IDS, _FINE_IDS]).astype(np.int16)
_PLACES = np.stack([g.BEAT + _WHOLE, np.where(_REST, g.SUB + _REST, -1)]).astype(np.int16)
_PROGRAMS = np.array(
    [(g.FAMILY + p // g.FAMILY_SIZE, g.VARIANT + p % g.FAMILY_SIZE) for p in range(g.DRUM_PROGRAM)]
    + [(g.DRUM, -1)],
    np.int16,
).T


class _Events(NamedTuple):
    """A score as quantised columns."""

    bar_tick: np.ndarray
    numerator: np.ndarray  # 0 where the meter stays
    denominator: np.ndarray
    tempo_tick: np.ndarray
    tempo_step: np.ndarray
    pedal_voice: np.ndarray
    pedal_tick: np.ndarray
    pedal_down: np.ndarray
    notes: Notes

    def first_rows(self) -> tuple[int, int, int]:
        """Return the rows of the table at which tempos, pedals and notes begin; bars begin at 0."""
        tempos = len(self.bar_tick)
        pedals = tempos + len(self.tempo_tick)
        return tempos, pedals, pedals + len(self.pedal_tick)


def encode(score: ScoreTick) -> np.ndarray:
    """Return the score's ids, int16 (length,), from BOS to EOS.

    score: symusic score in ticks. What the ids can't say is dropped or rounded; `loss_report` counts it.
    Pedals are read from the tracks' controls (CC64). Raises UserError for a score without a musical
    resolution (0 ticks a quarter), with negative times, or longer than 2^28 ticks of 1/24 quarter.
    """
    events = _read_events(score)
    if events is None:
        return np.array([g.BOS, g.EOS], np.int16)
    tempos, pedals, notes = events.first_rows()
    table, longest = _fill_rows(events)
    key, order = _sort_rows(events)
    table = table.take(order, axis=0)
    _write_positions(table, key >> _ROW_BITS, order < tempos, events.bar_tick)
    _write_voices(table, key, np.flatnonzero(order >= pedals))
    cells = table.ravel()
    ids = cells.compress(cells >= 0)  # twice as fast as cells[cells >= 0]
    if longest is not None:
        ids = _repeat_longest(ids, longest[order[order >= notes] - notes])
    song = np.empty(len(ids) + 2, np.int16)
    song[0], song[1:-1], song[-1] = g.BOS, ids, g.EOS
    return song


def _read_events(score: ScoreTick) -> _Events | None:
    """Read all that is written of a score; None for a score without events."""
    if score.tpq <= 0:
        raise UserError("the score has no ticks per quarter (SMPTE time or 0): its beats are unknown")
    tracks = voices(score)
    notes, _ = one_at_a_time(read_notes(tracks, score.tpq))
    pedals = read_pedals(tracks, score.tpq)
    tempos = read_tempos(score)
    event_tick = np.concatenate([tempos[0], pedals[1], notes.tick])
    if not len(event_tick):
        return None
    last = int(event_tick.max())
    if event_tick.min() < 0 or last + int(notes.duration.max(initial=0)) > MAX_TICK:
        raise UserError(
            f"the score runs to quarter {last // g.TPQ} or starts before 0: not a length that ids can hold"
        )
    return _Events(*read_bars(score, last), *tempos, *pedals, notes)


def _fill_rows(events: _Events) -> tuple[np.ndarray, np.ndarray | None]:
    """Fill the rows of bars, tempos, pedals and notes, except for their positions and voices.

    Returns the table (rows, _COLUMNS), -1 where a cell is empty, and how often each note repeats the longest
    coarse duration; None if no note does.
    """
    tempos, pedals, first_note = events.first_rows()
    notes = events.notes
    table = np.full((first_note + len(notes.tick), _COLUMNS), -1, np.int16)
    table[:tempos, _BAR] = g.BAR
    meter = np.flatnonzero(events.numerator)
    table[meter, _NUMERATOR] = g.NUMERATOR + events.numerator[meter]
    table[meter, _DENOMINATOR] = g.DENOMINATOR - 1 + np.log2(events.denominator[meter])
    table[tempos:pedals, _TEMPO] = g.TEMPO_COARSE + events.tempo_step // g.FINE_TEMPOS
    table[tempos:pedals, _TEMPO + 1] = g.TEMPO_FINE + events.tempo_step % g.FINE_TEMPOS
    table[pedals:first_note, _PITCH] = np.where(events.pedal_down, g.PEDAL_ON, g.PEDAL_OFF)
    rows = table[first_note:]
    rows[:, _PITCH] = notes.pitch
    rows[:, _VELOCITY] = g.VELOCITY + notes.velocity // g.VELOCITY_STEP
    rest, longest = notes.duration, None
    if rest.max(initial=0) >= g.COARSE_MAX * g.TPQ:
        longest, rest = divide(rest, g.COARSE_MAX * g.TPQ)
        rows[:, _LONGEST] = np.where(longest > 0, g.COARSE + g.COARSE_MAX, -1)
    rows[:, _COARSE], rows[:, _FINE] = _DURATIONS.take(rest, axis=1)
    return table, longest


def _sort_rows(events: _Events) -> tuple[np.ndarray, np.ndarray]:
    """Sort the rows by tick, then bars, tempos, and by voice; return the keys and the index of each row.

    Within a voice, pedal off comes first, then pedal on, then the pitches.
    """
    tempos, pedals, first_note = events.first_rows()
    notes = events.notes
    key = np.empty(first_note + len(notes.tick), np.int64)
    key[:tempos] = events.bar_tick << _ROW_BITS
    key[tempos:pedals] = events.tempo_tick << _ROW_BITS | 1
    key[pedals:first_note] = (
        (events.pedal_tick << _ROW_BITS) + (events.pedal_voice << 8) + events.pedal_down + 2
    )
    key[first_note:] = (notes.tick << _ROW_BITS) + (notes.voice << 8) + notes.pitch + 4
    return sorted_with_order(key, TICK_BITS + _ROW_BITS)


def _write_positions(table: np.ndarray, tick: np.ndarray, is_bar: np.ndarray, bar_tick: np.ndarray) -> None:
    """Write BEAT and SUB into the first row of each tick of a bar."""
    opens = tick[1:] != tick[:-1]
    opens |= is_bar[:-1]
    opens &= ~is_bar[1:]  # the first row of all is a bar
    at = np.flatnonzero(opens) + 1
    begun = bar_tick[is_bar.cumsum()[at] - 1]
    table[at, _BEAT], table[at, _SUB] = _PLACES.take(tick[at] - begun, axis=1)


def _write_voices(table: np.ndarray, key: np.ndarray, row: np.ndarray) -> None:
    """Write program and part into those of the rows of notes and pedals where they change."""
    voice = (key[row] - 2 >> 8) & 0xFFF
    program, part = divide(voice, g.PARTS)
    new = changed_from_0(program)
    table[row[new], _FAMILY], table[row[new], _VARIANT] = _PROGRAMS.take(program[new], axis=1)
    new = changed_from_0(part)
    table[row[new], _PART] = g.PART + part[new]


def _repeat_longest(ids: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """Repeat the id of the longest coarse duration; longest: how often each note in written order has it."""
    times = np.ones(len(ids), np.int64)
    times[ids == g.COARSE + g.COARSE_MAX] = longest[longest > 0]
    return np.repeat(ids, times)


def changed_from_0(column: np.ndarray) -> np.ndarray:
    """Return the indices at which a value differs from the one before it; before the first it was 0."""
    changed = differs(column)
    changed[:1] = column[:1] != 0
    return np.flatnonzero(changed)
