"""Turn a score into a table of its notes: what the judge's features, statistics and memorisation read.

- Nothing here goes through the token codec, so a judge and the model that it judges share no representation.
- Times in seconds (`_s`) are symusic's own. Times in quarters (`_q`) are ticks over ticks per quarter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from symusic.core import ScoreSecond, ScoreTick


@dataclass(frozen=True)
class NoteTable:
    """The pitched notes of a score by onset, then pitch; each array is (notes,) and float64 unless said.

    Drums are apart, in `drums`: their onsets in quarters, sorted.
    """

    onset_s: np.ndarray
    end_s: np.ndarray
    onset_q: np.ndarray
    end_q: np.ndarray
    pitch: np.ndarray  # int64, MIDI
    velocity: np.ndarray  # 0 to 127
    track: np.ndarray  # int64, the track's place in the score
    drums: np.ndarray  # (drum notes,)
    bpm: np.ndarray  # (stretches,) the tempo of each stretch of one tempo
    bpm_s: np.ndarray  # (stretches,) the length of each stretch in seconds
    bar_q: float  # quarters in a bar of the first meter

    @property
    def seconds(self) -> float:
        """The end of the last pitched note in seconds; 0 without notes."""
        return float(self.end_s.max(initial=0.0))

    @property
    def quarters(self) -> float:
        """The end of the last pitched note in quarters; 0 without notes."""
        return float(self.end_q.max(initial=0.0))


def note_table(score: ScoreTick) -> NoteTable:
    """Return the table of a score's notes. Without a meter, a bar has four quarters."""
    score_in_seconds = cast(ScoreSecond, score.to("second"))
    columns_by_track: list[np.ndarray] = []
    drums: list[np.ndarray] = []
    for number, (in_ticks, in_seconds) in enumerate(zip(score.tracks, score_in_seconds.tracks, strict=True)):
        if not len(in_ticks.notes):
            continue
        ticks, seconds = in_ticks.notes.numpy(), in_seconds.notes.numpy()
        start = ticks["time"] / score.tpq
        if in_ticks.is_drum:
            drums.append(start)
            continue
        end = (ticks["time"].astype(np.int64) + ticks["duration"]) / score.tpq
        start_s, end_s = seconds["time"], seconds["time"] + seconds["duration"]
        track = np.full(len(start), float(number))
        columns = (start_s, end_s, start, end, ticks["pitch"], ticks["velocity"], track)
        columns_by_track.append(np.stack([np.asarray(column, float) for column in columns]))
    table = np.concatenate(columns_by_track, 1) if columns_by_track else np.zeros((7, 0))
    table = table[:, np.lexsort((table[4], table[2]))]
    onset_s, end_s, onset_q, end_q, pitch, velocity, track = table
    meter = score.time_signatures[0] if len(score.time_signatures) else None
    bpm, bpm_s = _tempo_stretches(score, score_in_seconds)
    return NoteTable(
        onset_s,
        end_s,
        onset_q,
        end_q,
        pitch.astype(np.int64),
        velocity,
        track.astype(np.int64),
        drums=np.sort(np.concatenate(drums)) if drums else np.zeros(0),
        bpm=bpm,
        bpm_s=bpm_s,
        bar_q=4.0 * meter.numerator / meter.denominator if meter else 4.0,
    )


def _tempo_stretches(score: ScoreTick, score_in_seconds: ScoreSecond) -> tuple[np.ndarray, np.ndarray]:
    """Return the tempo (BPM) and length (s) of each stretch, up to the last note; MIDI starts at 120 BPM."""
    notes = (note for track in score_in_seconds.tracks for note in track.notes)
    end = max((float(note.end) for note in notes), default=0.0)
    starts = [float(tempo.time) for tempo in score_in_seconds.tempos]
    bpm = [float(tempo.qpm) for tempo in score.tempos]
    if not starts or starts[0] > 0:
        starts, bpm = [0.0, *starts], [120.0, *bpm]
    lengths = np.diff(np.append(np.minimum(starts, end), max(end, 1e-9)))
    return np.array(bpm), np.maximum(lengths, 0.0)
