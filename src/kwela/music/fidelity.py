"""Report what a score loses on its way through the ids, measured by a real round trip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.music import grammar as g
from kwela.music.decoding import decode
from kwela.music.encoding import encode
from kwela.music.score_events import (
    PEDAL_CONTROL,
    last_of_tick,
    one_at_a_time,
    read_bars,
    read_notes,
    to_bpm,
    voices,
    writable,
)


def loss_report(score: ScoreTick) -> dict[str, int | float]:
    """Encode and decode a score, and count what changed.

    Sizes: notes, ids. Notes lost or shortened: notes_same_onset (of one voice, pitch and onset only the
    longest stays), notes_cut (at the next onset of their pitch), tracks_over_8 and notes_over_8 (a ninth
    track of one program). Time: tempos_clamped (outside 20-320 BPM), tempos_same_tick and meters_same_tick
    (the last wins), meters_delayed (inside a bar, wait for the bar line), meters_unwritable (become 4/4).
    Left out: drum_kits (drum tracks with a program), pitch_bends, controllers (other than CC64),
    pedals_without_notes (CC64 on a track that is empty or left out), lyrics, markers, key_signatures. Largest
    errors: onset_error and duration_error in quarters (durations of notes not cut), velocity_error,
    tempo_error as a share of the tempo (where it isn't clamped).
    """
    return round_trip(score)[0]


def round_trip(score: ScoreTick) -> tuple[dict[str, int | float], ScoreTick]:
    """Return the `loss_report` of a score, and what decoding its ids gives."""
    ids = encode(score)
    decoded = decode(ids)
    notes = _compare_notes(score, decoded)
    meters = _count_meters(score, notes.last_tick)
    tempos = _compare_tempos(score, decoded)
    left_out = _count_left_out(score)
    # The order of the keys is that of the printed report.
    report = {
        "notes": sum(len(track.notes) for track in score.tracks),
        "ids": len(ids),
        **notes.counts,
        "tempos_clamped": tempos["tempos_clamped"],
        "tempos_same_tick": tempos["tempos_same_tick"],
        **meters,
        **left_out,
        **notes.errors,
        "tempo_error": tempos["tempo_error"],
    }
    return report, decoded


class _NoteLosses(NamedTuple):
    counts: dict[str, int]
    errors: dict[str, int | float]
    last_tick: int  # of the decoded onsets


def _compare_notes(score: ScoreTick, decoded: ScoreTick) -> _NoteLosses:
    written = voices(score)
    tracks = [track for track in score.tracks if track.notes]
    before = read_notes(written, score.tpq)
    kept, index = one_at_a_time(before)
    after, _ = one_at_a_time(read_notes(voices(decoded), decoded.tpq))
    cut = kept.duration < before.duration[index]
    columns = [track.notes.numpy() for _, track in written]
    onset, duration = (  # of the same notes, in quarters, before they were quantised
        np.concatenate([column[name] for column in columns] or [[]])[index] / score.tpq
        for name in ("time", "duration")
    )
    counts = {
        "notes_same_onset": len(before.tick) - len(index),
        "notes_cut": int(cut.sum()),
        "tracks_over_8": len(tracks) - len(written),
        "notes_over_8": sum(len(track.notes) for track in tracks) - len(before.tick),
    }
    errors = {
        "onset_error": float(np.abs(after.tick / g.TPQ - onset).max(initial=0)),
        "duration_error": float(np.abs(after.duration / g.TPQ - duration)[~cut].max(initial=0)),
        "velocity_error": int(np.abs(after.velocity - kept.velocity).max(initial=0)),
    }
    return _NoteLosses(counts, errors, int(after.tick.max(initial=0)))


def _compare_tempos(score: ScoreTick, decoded: ScoreTick) -> dict[str, int | float]:
    events = score.tempos.numpy()
    tempo_tick, wins = last_of_tick(events, score.tpq)
    tick, bpm = np.append(0, tempo_tick), np.append(g.START_BPM, to_bpm(events["mspq"][wins]))
    if 0 in tempo_tick:
        tick, bpm = tick[1:], bpm[1:]
    tempos = decoded.tempos.numpy()
    decoded_bpm = to_bpm(tempos["mspq"][np.searchsorted(tempos["time"], tick, side="right") - 1])
    clamped = (bpm < g.SLOWEST_BPM) | (bpm > g.FASTEST_BPM)
    return {
        "tempos_clamped": int(clamped.sum()),
        "tempos_same_tick": len(score.tempos) - len(tempo_tick),
        "tempo_error": float(np.abs(decoded_bpm / bpm - 1)[~clamped].max(initial=0)),
    }


def _count_meters(score: ScoreTick, last_tick: int) -> dict[str, int]:
    events = score.time_signatures.numpy()
    tick, wins = last_of_tick(events, score.tpq)
    meters = list(zip(events["numerator"][wins].tolist(), events["denominator"][wins].tolist(), strict=True))
    written = [meter if writable(*meter) else (4, 4) for meter in meters]
    changed = np.array([new != old for old, new in zip([(4, 4), *written], written, strict=False)], bool)
    bar_lines = read_bars(score, last_tick)[0]
    inside = (tick <= last_tick) & ~np.isin(tick, bar_lines)
    return {
        "meters_same_tick": len(score.time_signatures) - len(tick),
        "meters_delayed": int((inside & changed).sum()),
        "meters_unwritable": sum(not writable(*meter) for meter in meters),
    }


def _count_left_out(score: ScoreTick) -> dict[str, int]:
    controls = [track.controls.numpy()["number"] for track in score.tracks]
    pedals = sum((number == PEDAL_CONTROL).sum() for number in controls)
    written = sum((track.controls.numpy()["number"] == PEDAL_CONTROL).sum() for _, track in voices(score))
    return {
        "drum_kits": sum(track.is_drum and track.program > 0 for track in score.tracks if track.notes),
        "pitch_bends": sum(len(track.pitch_bends) for track in score.tracks),
        "controllers": int(sum((number != PEDAL_CONTROL).sum() for number in controls)),
        "pedals_without_notes": int(pedals - written),
        "lyrics": sum(len(track.lyrics) for track in score.tracks),
        "markers": len(score.markers),
        "key_signatures": len(score.key_signatures),
    }
