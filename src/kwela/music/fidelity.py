"""What a score loses on its way through the ids, measured by a real round trip."""

from __future__ import annotations

import numpy as np
from symusic.core import ScoreTick

from kwela.music import grammar as g
from kwela.music.decoding import decode
from kwela.music.encoding import (
    encode,
    last_of_tick,
    one_at_a_time,
    read_bars,
    read_notes,
    voices,
    writable,
)


def loss_report(score: ScoreTick) -> dict[str, int | float]:
    """Encode and decode a score and count what changed.

    Sizes: notes, ids.
    Notes lost or shortened: notes_same_onset (of one voice, pitch and onset only the longest stays), notes_cut (at the
    next onset of their pitch), tracks_over_8 and notes_over_8 (a ninth track of one program).
    Time: tempos_clamped (outside 20-320 BPM), tempos_same_tick and meters_same_tick (the last wins), meters_delayed
    (inside a bar, wait for the bar line), meters_unwritable (become 4/4).
    Left out: drum_kits (drum tracks with a program), pitch_bends, controllers (other than CC64), pedals_without_notes
    (CC64 on a track that is empty or left out), lyrics, markers, key_signatures.
    Largest errors: onset_error and duration_error in quarters (durations of notes not cut), velocity_error, tempo_error
    as a share of the tempo (where it isn't clamped).
    """
    ids = encode(score)
    decoded = decode(ids)
    written = voices(score)
    tracks = [track for track in score.tracks if track.notes]
    before = read_notes(written, score.tpq)
    kept, index = one_at_a_time(before)
    after, _ = one_at_a_time(read_notes(voices(decoded), decoded.tpq))
    cut = kept.duration < before.duration[index]

    # The same notes in the file's own ticks.
    columns = [track.notes.numpy() for _, track in written]
    onset, length = (
        np.concatenate([c[name] for c in columns] or [[]])[index] / score.tpq for name in ("time", "duration")
    )

    meters = score.time_signatures.numpy()
    meter_tick, wins = last_of_tick(meters, score.tpq)
    pairs = list(zip(meters["numerator"][wins].tolist(), meters["denominator"][wins].tolist(), strict=True))
    played = [pair if writable(*pair) else (4, 4) for pair in pairs]
    changed = np.array([new != old for old, new in zip([(4, 4), *played], played, strict=False)], bool)
    last = int(after.tick.max(initial=0))
    bar_lines = read_bars(score, last)[0]
    inside = (meter_tick <= last) & ~np.isin(meter_tick, bar_lines)

    tempo_tick, wins = last_of_tick(score.tempos.numpy(), score.tpq)
    bpm = np.append(120, 6e7 / np.maximum(score.tempos.numpy()["mspq"][wins], 1))
    at = np.append(0, tempo_tick)
    if 0 in tempo_tick:
        at, bpm = at[1:], bpm[1:]
    tempos = decoded.tempos.numpy()
    now = 6e7 / tempos["mspq"][np.searchsorted(tempos["time"], at, side="right") - 1]
    clamped = (bpm < 20) | (bpm > 320)

    controls = [track.controls.numpy()["number"] for track in score.tracks]
    pedals = [track.controls.numpy()["number"] == 64 for _, track in written]
    return {
        "notes": sum(len(track.notes) for track in score.tracks),
        "ids": len(ids),
        "notes_same_onset": len(before.tick) - len(index),
        "notes_cut": int(cut.sum()),
        "tracks_over_8": len(tracks) - len(written),
        "notes_over_8": sum(len(track.notes) for track in tracks) - len(before.tick),
        "tempos_clamped": int(clamped.sum()),
        "tempos_same_tick": len(score.tempos) - len(tempo_tick),
        "meters_same_tick": len(score.time_signatures) - len(meter_tick),
        "meters_delayed": int((inside & changed).sum()),
        "meters_unwritable": sum(not writable(*pair) for pair in pairs),
        "drum_kits": sum(track.is_drum and track.program > 0 for track in tracks),
        "pitch_bends": sum(len(track.pitch_bends) for track in score.tracks),
        "controllers": int(sum((number != 64).sum() for number in controls)),
        "pedals_without_notes": int(
            sum((number == 64).sum() for number in controls) - sum(map(np.sum, pedals))
        ),
        "lyrics": sum(len(track.lyrics) for track in score.tracks),
        "markers": len(score.markers),
        "key_signatures": len(score.key_signatures),
        "onset_error": float(np.abs(after.tick / g.TPQ - onset).max(initial=0)),
        "duration_error": float(np.abs(after.duration / g.TPQ - length)[~cut].max(initial=0)),
        "velocity_error": int(np.abs(after.velocity - kept.velocity).max(initial=0)),
        "tempo_error": float(np.abs(now / bpm - 1)[~clamped].max(initial=0)),
    }
