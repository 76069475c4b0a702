"""The 388 ids and the one grammar that says which may follow which.

    song     = BOS bar* EOS
    bar      = BAR [numerator denominator] position*
    position = BEAT [SUB] [tempo_coarse tempo_fine] (pedal | note)*
    note     = [family variant | DRUM] [part] pitch velocity coarse* [fine]
    pedal    = [family variant | DRUM] [part] (on | off)

- Every id has one `Kind`, and the kind of the last id decides which kinds may come next (`FOLLOWS`): the productions
  above as a table.
- Three numbers do the rest: the pending numerator, the length of the bar, and its first tick that is still free. They
  keep positions ascending and inside the bar, SUB away from 0, and meters within 16 quarters.
- Sampling, validation, `decode` and (through `tables()`) the C++ host all use this file. What it leaves open, the
  order within a position and writing a value only when it changes, is `encode`'s canon.
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

# The first id of each field, or the id that its number is added to.
PITCH, VELOCITY, BEAT, SUB = 0, 128, 160, 176
FINE, COARSE = 199, 222  # FINE + ticks (1-23); COARSE + k (1-32), worth 24 k ticks
FAMILY, VARIANT, DRUM = 255, 271, 279  # program = 8 family + variant
TEMPO_COARSE, TEMPO_FINE = 280, 312  # BPM = 20 * 16^(i/511), i = 16 coarse + fine
NUMERATOR, DENOMINATOR = 327, 344  # NUMERATOR + n (1-16); DENOMINATOR + index into DENOMINATORS
PART, PEDAL_ON, PEDAL_OFF = 348, 356, 357
PAD, BOS, EOS, BAR = 384, 385, 386, 387

PARTS = 8
DRUM_PROGRAM = 128  # DRUM is one more program after the 128 of General MIDI
DENOMINATORS = (2, 4, 8, 16)
COARSE_MAX = 32
WHOLE = 4 * TPQ  # a bar of n/d lasts n * WHOLE / d ticks
LONGEST_BAR = 16 * TPQ
TEMPOS = 512


class Kind(IntEnum):
    """What an id is. Only states: START (nothing read), LATE (a BEAT whose own tick is taken, so SUB must follow)."""

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


# The ids of each kind, first to last; together they cover 0-387 once.
RANGES: dict[Kind, tuple[tuple[int, int], ...]] = {
    Kind.PITCH: ((0, 127),),
    Kind.VELOCITY: ((128, 159),),
    Kind.BEAT: ((160, 175),),
    Kind.SUB: ((177, 199),),
    Kind.FINE: ((200, 222),),
    Kind.COARSE: ((223, 253),),
    Kind.LONGEST: ((254, 254),),
    Kind.FAMILY: ((255, 270),),
    Kind.VARIANT: ((271, 278),),
    Kind.DRUM: ((279, 279),),
    Kind.TEMPO_COARSE: ((280, 311),),
    Kind.TEMPO_FINE: ((312, 327),),
    Kind.NUMERATOR: ((328, 343),),
    Kind.DENOMINATOR: ((344, 347),),
    Kind.PART: ((348, 355),),
    Kind.PEDAL: ((356, 357),),
    Kind.NEVER: ((176, 176), (358, 383)),
    Kind.PAD: ((384, 384),),
    Kind.BOS: ((385, 385),),
    Kind.EOS: ((386, 386),),
    Kind.BAR: ((387, 387),),
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

    last: kind of the last id. numerator: the one just written, else 0. bar: ticks of the bar. free: first tick of the
    bar that a new position may take, 0..bar.
    """

    last: Kind
    numerator: int
    bar: int
    free: int


def start() -> State:
    """The state before BOS: the meter is 4/4."""
    return State(Kind.START, 0, WHOLE, 0)


@lru_cache(maxsize=1 << 14)
def mask(state: State) -> np.ndarray:
    """`allowed`, shared and read-only."""
    may = _MASKS[state.last].copy()
    if may[BEAT]:  # beats that still have a free tick
        may[BEAT : BEAT + 16] = False
        if state.free < state.bar:
            may[BEAT + state.free // TPQ : BEAT + (state.bar - 1) // TPQ + 1] = True
    if may[SUB + 1]:  # `free` lies past the beat's own tick and within the beat
        end = min(TPQ, state.bar - state.free // TPQ * TPQ)
        may[SUB + 1 : SUB + TPQ] = False
        may[SUB + state.free % TPQ : SUB + end] = True
    if state.last is Kind.NUMERATOR:
        may[DENOMINATOR : DENOMINATOR + 4] = [
            state.numerator * WHOLE // d <= LONGEST_BAR for d in DENOMINATORS
        ]
    may.flags.writeable = False
    return may


def allowed(state: State) -> np.ndarray:
    """Which ids may come next: bool (388,), a fresh array. Never all False: after EOS comes PAD."""
    return mask(state).copy()


def advance(state: State, token: int) -> State:
    """The state after `token`. Raises ValueError for an id that `allowed` refuses."""
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
    """The grammar and the meaning of each id as plain JSON, enough for a host to write allowed, advance and decode.

    kinds: name -> list of [first, last] ids. follows: name -> kinds that may come next (START and LATE are states
    that no id has). start: the first state {last, numerator, bar, free}.
    numeric: for the kinds whose ids need more than `follows`: `value`, what the id stands for; `allowed`, a condition
    on it (absent: true); `update`, assignments made in order after `last = kind of the id`, the old state being read
    for `free`, `bar` and `numerator` until assigned. Expressions are integer C++ (and, %, exact /, ?:).
    meaning: how values turn into music. A host's loop is: mask = follows[last] and numeric[kind].allowed for each id;
    then last = kind, then update.
    """
    return {
        "version": VERSION,
        "vocab": VOCAB,
        "ticks_per_quarter": TPQ,
        "kinds": {kind.name: [list(ids) for ids in ranges] for kind, ranges in RANGES.items()},
        "follows": {last.name: [kind.name for kind in following] for last, following in FOLLOWS.items()},
        "start": {"last": "START", "numerator": 0, "bar": WHOLE, "free": 0},
        "numeric": {
            "BAR": {"update": {"numerator": "0", "free": "0"}},
            "NUMERATOR": {"value": "id - 327", "update": {"numerator": "value"}},
            "DENOMINATOR": {
                "value": "2 << (id - 344)",
                "allowed": "numerator * 96 <= 384 * value",
                "update": {"bar": "numerator * 96 / value", "numerator": "0"},
            },
            "BEAT": {
                "value": "24 * (id - 160)",
                "allowed": "free < bar and value < bar and value + 24 > free",
                "update": {"last": "value >= free ? BEAT : LATE", "free": "value >= free ? value + 1 : free"},
            },
            "SUB": {
                "value": "id - 176",
                "allowed": "value >= free % 24 and free - free % 24 + value < bar",
                "update": {"free": "free - free % 24 + value + 1"},
            },
        },
        "meaning": {
            "tick_of_position": "free - 1, after BEAT or SUB, from the start of the bar",
            "initial": {"program": 0, "part": 0, "numerator": 4, "denominator": 4, "bpm": 120},
            "PITCH": "id (a drum key when the program is DRUM)",
            "VELOCITY": "4 * (id - 128) + 2",
            "FINE": "id - 199 ticks, added to the note's duration",
            "COARSE": "24 * (id - 222) ticks, added to the note's duration",
            "LONGEST": "768 ticks, added to the note's duration",
            "VARIANT": "program = 8 * (family id - 255) + (id - 271)",
            "TEMPO_FINE": "bpm = 20 * 16 ^ ((16 * (coarse id - 280) + (id - 312)) / 511)",
            "PART": "id - 348",
            "PEDAL": "356 on, 357 off: CC64 127 or 0 for the program and part",
        },
    }


def tokenizer_hash() -> str:
    """SHA-256 (hex) of the tables: what a checkpoint stores to say which ids it was trained on."""
    return hashlib.sha256(json.dumps(tables(), sort_keys=True).encode()).hexdigest()
