"""Compute the seventy or so features of a score that an evaluator sees, plain properties of its notes.

- They are computed from the notes (`NoteTable`), not from the token codec nor by `music.midi.features`, so
  that the judge and the judged share no representation.
- A feature that a piece doesn't define, such as the spread of no intervals, is NaN. The evaluator puts the
  training median in its place.
- Sources: rhythm and pace after Gabrielsson and Lindström 2010; nPVI by Patel and Daniele 2003; articulation,
  polyphony and register after jSymbolic (McKay 2018); keys by `key_profiles`.
"""

from __future__ import annotations

import math

import numpy as np

from kwela.judge.midi.key_profiles import from_best_tonic, key_correlations, lean_to_major
from kwela.judge.midi.note_table import NoteTable
from kwela.stats import entropy

_CHORDS = {  # name -> (12, 12): which pitch classes on each root
    name: np.array([np.roll(np.isin(np.arange(12), steps), root) for root in range(12)])
    for name, steps in {
        "major": (0, 4, 7),
        "minor": (0, 3, 7),
        "diminished": (0, 3, 6),
        "augmented": (0, 4, 8),
    }.items()
}
# Roughness of a sounding interval class, after Huron 1994's index of dyadic consonance, sign turned.
_ROUGHNESS = np.array([0.0, 1.428, 0.582, -0.594, -0.386, -1.240, 0.453])
_PLACES_PER_QUARTER = 24  # onsets that round to one place are one chord

FeatureValues = dict[str, float]


def features(notes: NoteTable) -> FeatureValues:
    """Return {name: number}, always with the same names. An empty piece is all NaN but its counts."""
    return pace(notes) | touch(notes) | register(notes) | tonality(notes) | texture(notes) | form(notes)


def pace(notes: NoteTable) -> FeatureValues:
    """Measure how fast and how even a piece is.

    Rates are log2 of onsets or notes a second, and onsets or notes a quarter. Tempo is log2 of BPM, gaps
    between onsets are log2 of seconds.
    """
    seconds, quarters = max(notes.seconds, 1e-3), max(notes.quarters, 0.25)
    onsets, first = np.unique(np.round(notes.onset_s, 3), return_index=True)
    beats = notes.onset_q[first]
    gaps = np.diff(onsets)
    gaps = gaps[gaps > 0.02]  # a rolled chord is one onset
    steps = np.diff(beats)
    kinds = np.clip(np.round(2 * np.log2(steps[steps > 0.04])) + 8, 0, 14).astype(int)
    place = np.mod(beats, 1.0)
    weight = notes.bpm_s.sum()
    bpm = float(notes.bpm @ notes.bpm_s / weight) if weight > 0 else math.nan
    eighths = np.unique(np.round(beats * 2).astype(int))
    # Syncopated after Longuet-Higgins and Lee 1984: off the beat, with nothing on the beat that follows.
    syncopated = eighths[(eighths % 2 == 1) & ~np.isin(eighths + 1, eighths)]
    return {
        "onset_rate": math.log2(max(len(onsets), 1) / seconds),
        "note_rate": math.log2(max(len(notes.pitch), 1) / seconds),
        "notes_a_quarter": len(notes.pitch) / quarters,
        "onsets_a_quarter": len(onsets) / quarters,
        "drum_rate": len(notes.drums) / quarters,
        "tempo": math.log2(bpm) if bpm > 0 else math.nan,
        **_distribution("gap", np.log2(gaps)),
        "gap_variation": _ratio(_std(gaps), _mean(gaps)),
        "gap_entropy": entropy(np.bincount(kinds)),
        "npvi": _mean(200 * np.abs(np.diff(gaps)) / (gaps[1:] + gaps[:-1])),
        "off_beat_share": _mean((place > 1 / 12) & (place < 11 / 12)),
        "syncopation": _ratio(len(syncopated), len(eighths)),
    }


def touch(notes: NoteTable) -> FeatureValues:
    """Measure how hard and how long notes are played.

    Velocity is 0 to 127, length is log2 of seconds. Fill is how much of the gap to the next note of its track
    a note fills.
    """
    fill = _fill(notes)
    downbeat = np.mod(notes.onset_q, notes.bar_q) < 1 / 12
    return {
        **_distribution("velocity", notes.velocity),
        "velocity_slope": _slope(notes.onset_q, notes.velocity),
        "accent": _mean(notes.velocity[downbeat]) - _mean(notes.velocity[~downbeat]),
        **_distribution("length", np.log2(np.maximum(notes.end_s - notes.onset_s, 0.01))),
        "fill": _quantile(fill, 0.5),
        "staccato_share": _mean(fill < 0.6),
        "legato_share": _mean(fill > 0.95),
    }


def _fill(notes: NoteTable) -> np.ndarray:
    """Return length over the gap to the track's next onset, at most 2; a track's last notes have none."""
    by_track = [np.zeros(0)]
    for track in np.unique(notes.track):
        in_track = notes.track == track
        start, end = notes.onset_s[in_track], notes.end_s[in_track]
        onsets = np.unique(start)
        next_onset = np.searchsorted(onsets, start, side="right")
        has_next = next_onset < len(onsets)
        gap = onsets[next_onset[has_next]] - start[has_next]
        by_track.append(np.minimum((end - start)[has_next] / np.maximum(gap, 0.01), 2.0))
    return np.concatenate(by_track)


def register(notes: NoteTable) -> FeatureValues:
    """Measure how high a piece lies, and how its highest line moves.

    Pitches are MIDI pitches of all notes and of the outer lines. Intervals are in semitones.
    """
    pitch = notes.pitch.astype(float)
    top, bass = outer_lines(notes)
    moves = np.diff(top)
    size = np.abs(moves)
    return {
        **_distribution("pitch", pitch),
        "pitch_slope": _slope(notes.onset_q, pitch),
        "bass_share": _mean(pitch < 48),
        "treble_share": _mean(pitch >= 72),
        "top_mean": _mean(top),
        "top_spread": _std(top),
        "bass_mean": _mean(bass),
        "bass_moves": _mean(np.abs(np.diff(bass))),
        "interval_mean": _mean(size),
        "repeat_share": _mean(size == 0),
        "step_share": _mean((size == 1) | (size == 2)),
        "leap_share": _mean(size > 7),
        "rise_share": _mean(moves[moves != 0] > 0),
        "turn_share": _mean(np.diff(np.sign(moves[moves != 0])) != 0),
    }


def outer_lines(notes: NoteTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest and the lowest pitch that begins at each onset, (onsets,) each."""
    if not len(notes.pitch):
        return np.zeros(0), np.zeros(0)
    _, first = np.unique(_places(notes), return_index=True)
    pitch = notes.pitch.astype(float)
    return np.maximum.reduceat(pitch, first), np.minimum.reduceat(pitch, first)


def _places(notes: NoteTable) -> np.ndarray:
    return np.round(notes.onset_q * _PLACES_PER_QUARTER).astype(np.int64)


def tonality(notes: NoteTable) -> FeatureValues:
    """Measure which key a piece is in and how rough it is.

    Scale degrees are counted above the tonic of the best key; chords and roughness are of what sounds at each
    half beat.
    """
    whole = np.bincount(notes.pitch % 12, notes.end_q - notes.onset_q, 12)  # quarters that each class sounds
    correlations = key_correlations(whole)
    degrees = from_best_tonic(whole, correlations) if whole.sum() > 0 else np.full(12, math.nan)
    frames = sounding_frames(notes)
    counts = np.stack([frames[:, pitch_class::12].sum(1) for pitch_class in range(12)], 1)
    two_bars = [part.sum(0) for part in np.array_split(counts, max(1, len(counts) // 16))]  # of 4/4
    local = [key_correlations(weights) for weights in two_bars]
    lean = np.array([lean_to_major(part) for part in local if part.any()])
    together = counts[(counts > 0).sum(1) >= 2] > 0
    rough = _roughness(together)
    chords = together[together.sum(1) >= 3]
    return {
        "major_fit": float(correlations[:12].max()),
        "minor_fit": float(correlations[12:].max()),
        "mode": lean_to_major(correlations),
        "local_mode": _mean(lean),
        "local_minor_share": _mean(lean < 0),
        "third": _ratio(degrees[4], degrees[3] + degrees[4]),
        "sixth": _ratio(degrees[9], degrees[8] + degrees[9]),
        "seventh": _ratio(degrees[11], degrees[10] + degrees[11]),
        "class_entropy": entropy(whole),
        "scale_share": scale_consistency(notes),
        "roughness": _mean(rough),
        "rough_share": _mean(rough > 0),
        "tritone_share": _mean((together & np.roll(together, 6, 1)).any(1)),
        "semitone_clash": _mean((together & np.roll(together, 1, 1)).any(1)),
        **{
            f"{name}_share": _mean([(on_roots <= chord).all(1).any() for chord in chords])
            for name, on_roots in _CHORDS.items()
        },
    }


def scale_consistency(notes: NoteTable) -> float:
    """Return the largest share of notes inside one major or natural minor scale, in [0, 1] (Mogren 2016).

    NaN without notes.
    """
    if not len(notes.pitch):
        return math.nan
    counts = np.bincount(notes.pitch % 12, minlength=12)
    major = np.isin(np.arange(12), (0, 2, 4, 5, 7, 9, 11))  # the minor scales are the same twelve sets
    return float(max(counts[np.roll(major, tonic)].sum() for tonic in range(12)) / counts.sum())


def sounding_frames(notes: NoteTable, per_quarter: int = 2) -> np.ndarray:
    """Return which pitches sound at the middle of each frame, bool (frames, 128).

    per_quarter: frames in a quarter. A note sounds in one frame at least, however short it is.
    """
    count = max(1, math.ceil(notes.quarters * per_quarter))
    frames = np.zeros((count, 128), bool)
    first, end = (
        np.ceil(time * per_quarter - 0.5 - 1e-6).astype(int) for time in (notes.onset_q, notes.end_q)
    )
    first, end = np.clip(first, 0, count - 1), np.clip(end, 0, count)
    for pitch, start, stop in zip(notes.pitch, first, np.maximum(end, first + 1), strict=True):
        frames[start:stop, pitch] = True
    return frames


def _roughness(classes: np.ndarray) -> np.ndarray:
    """Return the mean roughness over the pairs of pitch classes in each frame, (frames,).

    classes: bool (frames, 12), two or more in each frame.
    """
    total, pair_count = np.zeros(len(classes)), np.zeros(len(classes))
    for interval in range(1, 7):
        pairs = (classes & np.roll(classes, interval, 1)).sum(1) / (2 if interval == 6 else 1)
        total, pair_count = total + pairs * _ROUGHNESS[interval], pair_count + pairs
    return total / np.maximum(pair_count, 1)


def texture(notes: NoteTable) -> FeatureValues:
    """Measure how many notes sound together, by sixteenth, and how many begin together."""
    sounding = sounding_frames(notes, 4).sum(1)
    _, chord = np.unique(_places(notes), return_counts=True)
    return {
        "polyphony": _mean(sounding[sounding > 0]),
        "polyphony_spread": _std(sounding[sounding > 0]),
        "silence": _mean(sounding == 0),
        "chord_size": _mean(chord),
        "chord_share": _mean(chord >= 3),
        "tracks": float(len(np.unique(notes.track))),
    }


def form(notes: NoteTable) -> FeatureValues:
    """Measure what comes again, and how the second half differs from the first."""
    first_half = notes.onset_q < notes.quarters / 2
    bar = np.floor(notes.onset_q / notes.bar_q).astype(int)
    sixteenth = np.round(np.mod(notes.onset_q, notes.bar_q) * 4).astype(int)
    rhythms = [frozenset(sixteenth[bar == number].tolist()) for number in np.unique(bar)]
    return {
        "repetition": repetition(notes),
        "bar_repeats": 1 - len(set(rhythms)) / len(rhythms) if len(rhythms) > 1 else math.nan,
        "density_change": math.log2((1 + int((~first_half).sum())) / (1 + int(first_half.sum()))),
        "pitch_change": _mean(notes.pitch[~first_half]) - _mean(notes.pitch[first_half]),
    }


def repetition(notes: NoteTable) -> float:
    """Return 1 - distinct / all runs of 4 (interval, gap) steps of the highest line, in [0, 1].

    Distinct-n after Li et al. 2016. NaN with fewer than two such runs.
    """
    top, _ = outer_lines(notes)
    steps = list(zip(np.diff(top).tolist(), np.diff(np.unique(_places(notes))).tolist(), strict=True))
    runs = [tuple(steps[first : first + 4]) for first in range(len(steps) - 3)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else math.nan


def _distribution(name: str, values: np.ndarray) -> FeatureValues:
    return {
        f"{name}_mean": _mean(values),
        f"{name}_spread": _std(values),
        f"{name}_low": _quantile(values, 0.1),
        f"{name}_high": _quantile(values, 0.9),
    }


def _mean(values: np.ndarray | list[bool]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _std(values: np.ndarray) -> float:
    return float(np.std(values)) if len(values) else math.nan


def _quantile(values: np.ndarray, level: float) -> float:
    return float(np.quantile(values, level)) if len(values) else math.nan


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 1e-9 else math.nan


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the change of y over the piece by least squares; NaN where all x are equal."""
    if len(x) < 2 or np.ptp(x) < 1e-9:
        return math.nan
    return float(np.polyfit((x - x[0]) / np.ptp(x), y, 1)[0])
