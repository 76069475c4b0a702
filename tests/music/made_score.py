"""Scores written down in a line."""

from __future__ import annotations

from symusic import ControlChange, Note, Score, Tempo, TimeSignature, Track


def score_of(*tracks, tempos=(), meters=(), tpq=480):
    """tracks: (program or "drums", [(time, duration, pitch, velocity)], [(time, CC64 value)])."""
    score = Score(tpq)
    for program, notes, *pedal in tracks:
        track = Track("", 0 if program == "drums" else program, program == "drums")
        for note in notes:
            track.notes.append(Note(*note))
        for time, value in pedal[0] if pedal else ():
            track.controls.append(ControlChange(time, 64, value))
        score.tracks.append(track)
    for time, bpm in tempos:
        score.tempos.append(Tempo(time, mspq=round(6e7 / bpm)))
    for meter in meters:
        score.time_signatures.append(TimeSignature(*meter))
    return score
