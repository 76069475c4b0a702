"""Define the 388 ids and the one grammar that says which id may follow which.

    song     = BOS bar* EOS
    bar      = BAR [numerator denominator] position*
    position = BEAT [SUB] [tempo_coarse tempo_fine] (pedal | note)*
    note     = [family variant | DRUM] [part] pitch velocity coarse* [fine]
    pedal    = [family variant | DRUM] [part] (on | off)

- Every id has one `Kind`, and the kind of the last id decides which kinds may come next. `FOLLOWS` is this
  table.
- Three numbers do the rest: the pending numerator, the length of the bar, and the first tick of the bar that
  is still free. They keep positions ascending and inside the bar, SUB away from 0, and meters within 16
  quarters.
- Sampling, validation, `decode` and (through `tables()`) the C++ host all use this file. The grammar leaves
  two things open, which `encode` always does in one way: the order within a position, and writing a value
  only when it changes.
- All numbers of the vocabulary stand here and nowhere else: first ids, bins, tempo steps, ticks.
"""

from __future__ import annotations

import hashlib
import json
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
VOCAB = 388
TPQ = 24  # ticks a quarter, in ids and in decoded scores

# The first id of each field, or the id that its number is added to. These are fixed for good.
PITCH, VELOCITY, BEAT, SUB = 0, 128, 160, 176
FINE, COARSE = 199, 222  # FINE + ticks (1-23); COARSE + k (1-32), worth 24 k ticks
FAMILY, VARIANT, DRUM = 255, 271, 279  # program = 8 family + variant
TEMPO_COARSE, TEMPO_FINE = 280, 312
NUMERATOR, DENOMINATOR = 327, 344  # NUMERATOR + n (1-16); DENOMINATOR + index into DENOMINATORS
PART, PEDAL_ON, PEDAL_OFF = 348, 356, 357
RESERVED = 358
PAD, BOS, EOS, BAR = 384, 385, 386, 387

PITCHES = 128
VELOCITY_BINS, VELOCITY_STEP = 32, 4  # bin b holds the velocities 4 b to 4 b + 3 and is written as 4 b + 2
FAMILIES, FAMILY_SIZE = 16, 8
DRUM_PROGRAM = FAMILIES * FAMILY_SIZE  # DRUM is one more program after the 128 of General MIDI
PARTS = 8
BEATS = 16  # quarters of the longest bar
NUMERATORS = 16
DENOMINATORS = (2, 4, 8, 16)
COARSE_MAX = 32
WHOLE = 4 * TPQ  # a bar of n/d lasts n * WHOLE / d ticks
LONGEST_BAR = BEATS * TPQ

# A tempo is one of TEMPOS steps on a log scale: BPM = 20 * 16^(i/511), i = 16 coarse + fine.
SLOWEST_BPM, FASTEST_BPM, START_BPM = 20, 320, 120
COARSE_TEMPOS, FINE_TEMPOS = 32, 16
TEMPOS = COARSE_TEMPOS * FINE_TEMPOS
TEMPO_RATIO = FASTEST_BPM // SLOWEST_BPM
STEPS_PER_NAT = (TEMPOS - 1) / np.log(TEMPO_RATIO)  # steps for a tempo that is e times as fast


class Kind(IntEnum):
    """What an id is.

    Two kinds are states only: START (nothing was read) and LATE (a BEAT whose first tick is taken, so SUB
    must follow).
    """

    START = 0
    PAD = 1
    BOS = 2
    EOS = 3
    BAR = 4
    NUMERATOR = 5
    DENOMINATOR = 6
    BEAT = 7
    LATE = 8
    SUB = 9
    TEMPO_COARSE = 10
    TEMPO_FINE = 11
    FAMILY = 12
    VARIANT = 13
    DRUM = 14
    PART = 15
    PITCH = 16
    VELOCITY = 17
    LONGEST = 18  # coarse 32, the only duration id that repeats
    COARSE = 19
    FINE = 20
    PEDAL = 21
    NEVER = 22  # reserved ids, and 176: sub-beat 0 is written by leaving SUB out


def _span(first: int, count: int) -> tuple[tuple[int, int], ...]:
    return ((first, first + count - 1),)


# The first and the last id of each kind; together they cover 0-387 once.
RANGES: dict[Kind, tuple[tuple[int, int], ...]] = {
    Kind.PITCH: _span(PITCH, PITCHES),
    Kind.VELOCITY: _span(VELOCITY, VELOCITY_BINS),
    Kind.BEAT: _span(BEAT, BEATS),
    Kind.SUB: _span(SUB + 1, TPQ - 1),
    Kind.FINE: _span(FINE + 1, TPQ - 1),
    Kind.COARSE: _span(COARSE + 1, COARSE_MAX - 1),
    Kind.LONGEST: _span(COARSE + COARSE_MAX, 1),
    Kind.FAMILY: _span(FAMILY, FAMILIES),
    Kind.VARIANT: _span(VARIANT, FAMILY_SIZE),
    Kind.DRUM: _span(DRUM, 1),
    Kind.TEMPO_COARSE: _span(TEMPO_COARSE, COARSE_TEMPOS),
    Kind.TEMPO_FINE: _span(TEMPO_FINE, FINE_TEMPOS),
    Kind.NUMERATOR: _span(NUMERATOR + 1, NUMERATORS),
    Kind.DENOMINATOR: _span(DENOMINATOR, len(DENOMINATORS)),
    Kind.PART: _span(PART, PARTS),
    Kind.PEDAL: _span(PEDAL_ON, 2),
    Kind.NEVER: (*_span(SUB, 1), *_span(RESERVED, PAD - RESERVED)),
    Kind.PAD: _span(PAD, 1),
    Kind.BOS: _span(BOS, 1),
    Kind.EOS: _span(EOS, 1),
    Kind.BAR: _span(BAR, 1),
}

_EVENT = (Kind.PITCH, Kind.PEDAL)
_VOICED = (Kind.PART, *_EVENT)
_ITEM = (Kind.FAMILY, Kind.DRUM, *_VOICED)
_NEXT = (*_ITEM, Kind.BEAT, Kind.BAR, Kind.EOS)
FOLLOWS: dict[Kind, tuple[Kind, ...]] = {
    Kind.START: (Kind.BOS,),
    Kind.BOS: (Kind.BAR, Kind.EOS),
    Kind.BAR: (Kind.NUMERATOR, Kind.BEAT, Kind.BAR),  # no EOS: a trailing empty bar is dropped
    Kind.NUMERATOR: (Kind.DENOMINATOR,),
    Kind.DENOMINATOR: (Kind.BEAT, Kind.BAR),
    Kind.BEAT: (Kind.SUB, Kind.TEMPO_COARSE, *_NEXT),
    Kind.LATE: (Kind.SUB,),
    Kind.SUB: (Kind.TEMPO_COARSE, *_NEXT),
    Kind.TEMPO_COARSE: (Kind.TEMPO_FINE,),
    Kind.TEMPO_FINE: _NEXT,
    Kind.FAMILY: (Kind.VARIANT,),
    Kind.VARIANT: _VOICED,
    Kind.DRUM: _VOICED,
    Kind.PART: _EVENT,
    Kind.PITCH: (Kind.VELOCITY,),
    Kind.VELOCITY: (Kind.LONGEST, Kind.COARSE, Kind.FINE),
    Kind.LONGEST: (Kind.LONGEST, Kind.COARSE, Kind.FINE, *_NEXT),
    Kind.COARSE: (Kind.FINE, *_NEXT),
    Kind.FINE: _NEXT,
    Kind.PEDAL: _NEXT,
    Kind.EOS: (Kind.PAD,),
    Kind.PAD: (Kind.PAD,),
}


def _kinds() -> list[Kind]:
    kinds = [Kind.NEVER] * VOCAB
    for kind, ranges in RANGES.items():
        for first, last in ranges:
            kinds[first : last + 1] = [kind] * (last + 1 - first)
    return kinds


KIND_OF: list[Kind] = _kinds()
_MASKS = {last: np.isin(KIND_OF, following) for last, following in FOLLOWS.items()}


class State(NamedTuple):
    """All that the grammar remembers of a sequence.

    last: kind of the last id. numerator: the one just written, else 0. bar: ticks of the bar. free: first
    tick of the bar that a new position may take, 0..bar.
    """

    last: Kind
    numerator: int
    bar: int
    free: int


def start() -> State:
    """Return the state before BOS: the meter is 4/4."""
    return State(Kind.START, 0, WHOLE, 0)


@lru_cache(maxsize=1 << 14)
def mask(state: State) -> np.ndarray:
    """Return what `allowed` returns, as a shared array that can't be written to."""
    may = _MASKS[state.last].copy()
    if may[BEAT]:  # beats that still have a free tick
        may[BEAT : BEAT + BEATS] = False
        if state.free < state.bar:
            may[BEAT + state.free // TPQ : BEAT + (state.bar - 1) // TPQ + 1] = True
    if may[SUB + 1]:  # `free` lies after the beat's first tick and within the beat
        end = min(TPQ, state.bar - state.free // TPQ * TPQ)
        may[SUB + 1 : SUB + TPQ] = False
        may[SUB + state.free % TPQ : SUB + end] = True
    if state.last is Kind.NUMERATOR:
        may[DENOMINATOR : DENOMINATOR + len(DENOMINATORS)] = [
            state.numerator * WHOLE // denominator <= LONGEST_BAR for denominator in DENOMINATORS
        ]
    may.flags.writeable = False
    return may


def allowed(state: State) -> np.ndarray:
    """Return which ids may come next: bool (388,), a fresh array. At least one may: after EOS comes PAD."""
    return mask(state).copy()


def advance(state: State, token: int) -> State:
    """Return the state after `token`. Raises ValueError for an id that `allowed` refuses."""
    if not (0 <= token < VOCAB and mask(state)[token]):
        raise ValueError(f"id {token} can't follow {state}")
    kind = KIND_OF[token]
    _, numerator, bar, free = state
    if kind is Kind.BAR:
        return State(kind, 0, bar, 0)
    if kind is Kind.NUMERATOR:
        return State(kind, token - NUMERATOR, bar, 0)
    if kind is Kind.DENOMINATOR:
        return State(kind, 0, numerator * WHOLE // DENOMINATORS[token - DENOMINATOR], 0)
    if kind is Kind.BEAT:
        tick = (token - BEAT) * TPQ
        return State(kind, 0, bar, tick + 1) if tick >= free else State(Kind.LATE, 0, bar, free)
    if kind is Kind.SUB:
        return State(kind, 0, bar, free - free % TPQ + token - SUB + 1)
    return State(kind, 0, bar, free)


def tables() -> dict[str, Any]:
    """Return the grammar and the meaning of each id as plain JSON, for a host that writes its own codec.

    kinds: name -> list of [first, last] ids. follows: name -> kinds that may come next (START and LATE are
    states that no id has). start: the first state {last, numerator, bar, free}. numeric: see `_numeric`.
    meaning: see `_meaning`. A host's loop is: mask = follows[last] and numeric[kind].allowed for each id;
    then last = kind, then update. The SHA-256 of these tables is `tokenizer_hash`, so every string in them is
    fixed.
    """
    return {
        "version": VERSION,
        "vocab": VOCAB,
        "ticks_per_quarter": TPQ,
        "kinds": {kind.name: [list(ids) for ids in ranges] for kind, ranges in RANGES.items()},
        "follows": {last.name: [kind.name for kind in following] for last, following in FOLLOWS.items()},
        "start": {"last": "START", "numerator": 0, "bar": WHOLE, "free": 0},
        "numeric": _numeric(),
        "meaning": _meaning(),
    }


def _numeric() -> dict[str, Any]:
    """Return the kinds whose ids need more than `follows`.

    `value` is what the id stands for; `allowed` is a condition on it (absent: true); `update` holds
    assignments, made in order after `last = kind of the id`, which read the old `free`, `bar` and `numerator`
    until these are assigned. Expressions are integer C++ (and, %, exact /, ?:).
    """
    return {
        "BAR": {"update": {"numerator": "0", "free": "0"}},
        "NUMERATOR": {"value": f"id - {NUMERATOR}", "update": {"numerator": "value"}},
        "DENOMINATOR": {
            "value": f"{DENOMINATORS[0]} << (id - {DENOMINATOR})",
            "allowed": f"numerator * {WHOLE} <= {LONGEST_BAR} * value",
            "update": {"bar": f"numerator * {WHOLE} / value", "numerator": "0"},
        },
        "BEAT": {
            "value": f"{TPQ} * (id - {BEAT})",
            "allowed": f"free < bar and value < bar and value + {TPQ} > free",
            "update": {"last": "value >= free ? BEAT : LATE", "free": "value >= free ? value + 1 : free"},
        },
        "SUB": {
            "value": f"id - {SUB}",
            "allowed": f"value >= free % {TPQ} and free - free % {TPQ} + value < bar",
            "update": {"free": f"free - free % {TPQ} + value + 1"},
        },
    }


def _meaning() -> dict[str, Any]:
    """Return how the values of ids turn into music."""
    step = f"({FINE_TEMPOS} * (coarse id - {TEMPO_COARSE}) + (id - {TEMPO_FINE}))"
    return {
        "tick_of_position": "free - 1, after BEAT or SUB, from the start of the bar",
        "initial": {"program": 0, "part": 0, "numerator": 4, "denominator": 4, "bpm": START_BPM},
        "PITCH": "id (a drum key when the program is DRUM)",
        "VELOCITY": f"{VELOCITY_STEP} * (id - {VELOCITY}) + {VELOCITY_STEP // 2}",
        "FINE": f"id - {FINE} ticks, added to the note's duration",
        "COARSE": f"{TPQ} * (id - {COARSE}) ticks, added to the note's duration",
        "LONGEST": f"{COARSE_MAX * TPQ} ticks, added to the note's duration",
        "VARIANT": f"program = {FAMILY_SIZE} * (family id - {FAMILY}) + (id - {VARIANT})",
        "TEMPO_FINE": f"bpm = {SLOWEST_BPM} * {TEMPO_RATIO} ^ ({step} / {TEMPOS - 1})",
        "PART": f"id - {PART}",
        "PEDAL": f"{PEDAL_ON} on, {PEDAL_OFF} off: CC64 127 or 0 for the program and part",
    }


def tokenizer_hash() -> str:
    """Return the SHA-256 (hex) of the tables: a checkpoint stores it to name the ids it was trained on."""
    return hashlib.sha256(json.dumps(tables(), sort_keys=True).encode()).hexdigest()
