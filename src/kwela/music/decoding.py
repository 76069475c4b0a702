"""Ids to a score. Any sequence gives a valid one: what the grammar refuses is passed over."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from symusic.core import (
    ControlChangeTickList,
    NoteTickList,
    ScoreTick,
    TempoTickList,
    TimeSignatureTickList,
    TrackTick,
)

from kwela.music import grammar as g
from kwela.music.encoding import MAX_TICK, START_TEMPO, Notes, one_at_a_time, tempo_mspq
from kwela.music.grammar import Kind

# Where to go on when an unfinished construct (a pitch without a velocity, half a tempo) is given up.
_GIVE_UP = {
    Kind.START: Kind.BOS,
    Kind.NUMERATOR: Kind.BAR,
    **dict.fromkeys(
        (Kind.LATE, Kind.TEMPO_COARSE, Kind.FAMILY, Kind.VARIANT, Kind.DRUM, Kind.PART), Kind.FINE
    ),
    **dict.fromkeys((Kind.PITCH, Kind.VELOCITY), Kind.FINE),
}


def decode(ids: Iterable[int]) -> ScoreTick:
    """The music that ids stand for, at 24 ticks a quarter, one track for each program and part, drums last.

    ids: integers of any value and order. An id that the grammar refuses ends the unfinished construct before it if it
    can stand after that, and is skipped if not; EOS ends the song. Tempos are written as the centre of their step, from
    tick 0 on; pedals as CC64 127 and 0 in `controls`; overlaps of one pitch are resolved as `encode` does.
    """
    state = g.start()
    bar = begun = family = program = part = coarse_tempo = pitch = velocity = 0
    tempos = {0: START_TEMPO}
    meters: dict[int, tuple[int, int]] = {}
    notes: list[list[int]] = []  # voice, pitch, tick, duration, velocity
    pedals: list[tuple[int, int, int]] = []  # voice, tick, CC64
    for token in np.asarray(ids if isinstance(ids, np.ndarray) else list(ids)).ravel().tolist():
        if token == g.EOS or bar > MAX_TICK:
            break
        if not 0 <= token < g.VOCAB:
            continue
        if not g.mask(state)[token]:
            resumed = state._replace(last=_GIVE_UP.get(state.last, state.last), numerator=0)
            if not g.mask(resumed)[token]:
                continue
            state = resumed
        before, state = state, g.advance(state, token)
        match state.last:
            case Kind.PITCH:
                pitch = token
            case Kind.VELOCITY:
                velocity = 4 * (token - g.VELOCITY) + 2
            case Kind.FINE | Kind.COARSE | Kind.LONGEST:
                if before.last is Kind.VELOCITY:
                    notes.append([program * g.PARTS + part, pitch, bar + state.free - 1, 0, velocity])
                notes[-1][3] += token - g.FINE if state.last is Kind.FINE else (token - g.COARSE) * g.TPQ
            case Kind.PEDAL:
                pedals.append((program * g.PARTS + part, bar + state.free - 1, 127 * (token == g.PEDAL_ON)))
            case Kind.FAMILY:
                family = token - g.FAMILY
            case Kind.VARIANT:
                program = 8 * family + token - g.VARIANT
            case Kind.DRUM:
                program = g.DRUM_PROGRAM
            case Kind.PART:
                part = token - g.PART
            case Kind.TEMPO_COARSE:
                coarse_tempo = token - g.TEMPO_COARSE
            case Kind.TEMPO_FINE:
                tempos[bar + state.free - 1] = 16 * coarse_tempo + token - g.TEMPO_FINE
            case Kind.BAR:
                bar, begun = bar + state.bar * begun, 1
            case Kind.DENOMINATOR:
                meters[bar] = (before.numerator, g.DENOMINATORS[token - g.DENOMINATOR])
    return _score(notes, pedals, tempos, meters)


def _score(
    notes: list[list[int]],
    pedals: list[tuple[int, int, int]],
    tempos: dict[int, int],
    meters: dict[int, tuple[int, int]],
) -> ScoreTick:
    score = ScoreTick(g.TPQ)
    score.tempos = TempoTickList.from_numpy(
        np.array(list(tempos), np.int32), tempo_mspq(np.array(list(tempos.values())))
    )
    numerator, denominator = np.array(list(meters.values()), np.uint8).reshape(-1, 2).T.copy()
    score.time_signatures = TimeSignatureTickList.from_numpy(
        np.array(list(meters), np.int32), numerator, denominator
    )
    kept, _ = one_at_a_time(Notes(*np.array(notes, np.int64).reshape(-1, 5).T))
    kept = kept.take(np.argsort(kept.tick, kind="stable"))
    pedal_voice, pedal_tick, pedal_value = np.array(pedals, np.int64).reshape(-1, 3).T
    for voice in np.unique(np.concatenate([kept.voice, pedal_voice])).tolist():
        program = voice // g.PARTS
        is_drum = program == g.DRUM_PROGRAM
        track = TrackTick("", 0 if is_drum else program, is_drum)
        _, pitch, tick, duration, velocity = kept.take(kept.voice == voice)
        track.notes = NoteTickList.from_numpy(
            tick.astype(np.int32),
            np.minimum(duration, MAX_TICK).astype(np.int32),
            pitch.astype(np.int8),
            velocity.astype(np.int8),
        )
        tick, value = pedal_tick[pedal_voice == voice], pedal_value[pedal_voice == voice]
        track.controls = ControlChangeTickList.from_numpy(
            tick.astype(np.int32), np.full(len(tick), 64, np.uint8), value.astype(np.uint8)
        )
        score.tracks.append(track)
    if not score.tracks:  # symusic 0.6 writes meters and tempos in time order only beside a track
        score.tracks.append(TrackTick("", 0, False))
    return score
