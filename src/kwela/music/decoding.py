"""Decode ids to a score. Any sequence gives a valid score: an id that the grammar refuses is skipped."""

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
from kwela.music.grammar import Kind
from kwela.music.score_events import MAX_TICK, PEDAL_CONTROL, START_TEMPO, Notes, one_at_a_time, tempo_mspq

# The kind to continue from when an unfinished construct (a pitch without a velocity, half a tempo) is
# abandoned.
_ABANDON = {
    Kind.START: Kind.BOS,
    Kind.NUMERATOR: Kind.BAR,
    **dict.fromkeys(
        (Kind.LATE, Kind.TEMPO_COARSE, Kind.FAMILY, Kind.VARIANT, Kind.DRUM, Kind.PART), Kind.FINE
    ),
    **dict.fromkeys((Kind.PITCH, Kind.VELOCITY), Kind.FINE),
}


def decode(ids: Iterable[int]) -> ScoreTick:
    """Return the music of ids, at 24 ticks a quarter: one track for each program and part, drums last.

    ids: integers of any value and order. If the grammar refuses an id, the unfinished construct before it is
    abandoned where the id can stand after that; otherwise the id is skipped. EOS ends the song. Tempos are
    written as the centre of their step, from tick 0 on, and pedals as CC64 127 and 0 in `controls`. Overlaps
    of one pitch are resolved as `encode` resolves them.
    """
    music = _Music()
    for token in np.asarray(ids if isinstance(ids, np.ndarray) else list(ids)).ravel().tolist():
        if token == g.EOS or music.bar > MAX_TICK:
            break
        if 0 <= token < g.VOCAB:
            music.read(token)
    return music.score()


class _Music:
    """The music of the ids that were read so far: the state and the events."""

    def __init__(self) -> None:
        self.state = g.start()
        self.bar = 0  # first tick of the bar
        self.bars_read = False
        self.program = self.part = 0
        self.family = self.coarse_tempo = self.pitch = self.velocity = 0  # of a construct that goes on
        self.tempos = {0: START_TEMPO}  # tick -> step
        self.meters: dict[int, tuple[int, int]] = {}  # tick -> numerator, denominator
        self.notes: list[list[int]] = []  # voice, pitch, tick, duration, velocity
        self.pedals: list[tuple[int, int, int]] = []  # voice, tick, value of CC64

    def read(self, token: int) -> None:
        """Read one id of the vocabulary."""
        before = self.state
        if not g.mask(before)[token]:
            before = before._replace(last=_ABANDON.get(before.last, before.last), numerator=0)
            if not g.mask(before)[token]:
                return
        self.state = g.advance(before, token)
        if self.state.last in (Kind.FINE, Kind.COARSE, Kind.LONGEST):
            self._read_duration(token, opens=before.last is Kind.VELOCITY)
        elif self.state.last is Kind.DENOMINATOR:
            self.meters[self.bar] = (before.numerator, g.DENOMINATORS[token - g.DENOMINATOR])
        else:
            self._read_value(token)

    def _read_duration(self, token: int, opens: bool) -> None:
        if opens:
            self.notes.append([self._voice(), self.pitch, self._tick(), 0, self.velocity])
        self.notes[-1][3] += token - g.FINE if self.state.last is Kind.FINE else (token - g.COARSE) * g.TPQ

    def _read_value(self, token: int) -> None:
        match self.state.last:
            case Kind.PITCH:
                self.pitch = token - g.PITCH
            case Kind.VELOCITY:
                self.velocity = g.VELOCITY_STEP * (token - g.VELOCITY) + g.VELOCITY_STEP // 2
            case Kind.PEDAL:
                self.pedals.append((self._voice(), self._tick(), 127 * (token == g.PEDAL_ON)))
            case Kind.FAMILY:
                self.family = token - g.FAMILY
            case Kind.VARIANT:
                self.program = g.FAMILY_SIZE * self.family + token - g.VARIANT
            case Kind.DRUM:
                self.program = g.DRUM_PROGRAM
            case Kind.PART:
                self.part = token - g.PART
            case Kind.TEMPO_COARSE:
                self.coarse_tempo = token - g.TEMPO_COARSE
            case Kind.TEMPO_FINE:
                self.tempos[self._tick()] = g.FINE_TEMPOS * self.coarse_tempo + token - g.TEMPO_FINE
            case Kind.BAR:
                self.bar += self.state.bar * self.bars_read
                self.bars_read = True

    def _voice(self) -> int:
        return self.program * g.PARTS + self.part

    def _tick(self) -> int:
        return self.bar + self.state.free - 1

    def score(self) -> ScoreTick:
        """Return the events as a score."""
        score = ScoreTick(g.TPQ)
        score.tempos = TempoTickList.from_numpy(
            np.array(list(self.tempos), np.int32), tempo_mspq(np.array(list(self.tempos.values())))
        )
        numerator, denominator = np.array(list(self.meters.values()), np.uint8).reshape(-1, 2).T.copy()
        score.time_signatures = TimeSignatureTickList.from_numpy(
            np.array(list(self.meters), np.int32), numerator, denominator
        )
        notes, _ = one_at_a_time(Notes(*np.array(self.notes, np.int64).reshape(-1, 5).T))
        notes = notes.take(np.argsort(notes.tick, kind="stable"))
        pedals = np.array(self.pedals, np.int64).reshape(-1, 3)
        for voice in np.unique(np.concatenate([notes.voice, pedals[:, 0]])).tolist():
            score.tracks.append(
                _track(voice, notes.take(notes.voice == voice), pedals[pedals[:, 0] == voice])
            )
        if not score.tracks:  # symusic 0.6 writes meters and tempos in time order only beside a track
            score.tracks.append(TrackTick("", 0, False))
        return score


def _track(voice: int, notes: Notes, pedals: np.ndarray) -> TrackTick:
    """Make a track of the notes of one voice, and of its pedals: rows of voice, tick, value."""
    program = voice // g.PARTS
    is_drum = program == g.DRUM_PROGRAM
    track = TrackTick("", 0 if is_drum else program, is_drum)
    track.notes = NoteTickList.from_numpy(
        notes.tick.astype(np.int32),
        np.minimum(notes.duration, MAX_TICK).astype(np.int32),
        notes.pitch.astype(np.int8),
        notes.velocity.astype(np.int8),
    )
    _, tick, value = pedals.T
    track.controls = ControlChangeTickList.from_numpy(
        tick.astype(np.int32), np.full(len(tick), PEDAL_CONTROL, np.uint8), value.astype(np.uint8)
    )
    return track
