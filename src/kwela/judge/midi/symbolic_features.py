"""What a judge hears in a score: some seventy numbers, each a plain property of its notes.

Computed from the notes themselves (`piece.Piece`), not from the token codec nor from `music.midi.features`, so that the
judge and the judged share no representation. A number that a piece doesn't define (the spread of no intervals) is NaN;
the evaluator puts the training median there. Sources: rhythm and pace after Gabrielsson and Lindström 2010; keys by
Krumhansl and Kessler's probe-tone profiles (1982); nPVI, Patel and Daniele 2003; articulation, polyphony and register
after jSymbolic (McKay 2018).
"""

from __future__ import annotations

import math

import numpy as np

from kwela.judge.midi.piece import Piece
from kwela.stats import entropy

# Probe-tone profiles from the tonic up, as 24 standardised rows: majors on C, C#, ..., then minors.
_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)
KEYS = np.array([np.roll(profile, tonic) for profile in _PROFILES for tonic in range(12)])
KEYS = (KEYS - KEYS.mean(1, keepdims=True)) / KEYS.std(1, keepdims=True)
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
_ROUGH = np.array([0.0, 1.428, 0.582, -0.594, -0.386, -1.240, 0.453])

Numbers = dict[str, float]


def features(piece: Piece) -> Numbers:
    """Name -> number, always the same names. An empty piece is all NaN but its counts."""
    return pace(piece) | touch(piece) | register(piece) | tonality(piece) | texture(piece) | form(piece)


def pace(piece: Piece) -> Numbers:
    """How fast and how even: onsets and notes a second (log2) and a quarter, tempo, gaps between onsets (s, log2)."""
    seconds, quarters = max(piece.seconds, 1e-3), max(piece.quarters, 0.25)
    onsets, first = np.unique(np.round(piece.onset_s, 3), return_index=True)
    beats = piece.onset_q[first]
    gaps = np.diff(onsets)
    gaps = gaps[gaps > 0.02]  # a rolled chord is one onset
    steps = np.diff(beats)
    kinds = np.clip(np.round(2 * np.log2(steps[steps > 0.04])) + 8, 0, 14).astype(int)
    place = np.mod(beats, 1.0)
    weight = piece.bpm_s.sum()
    bpm = float(piece.bpm @ piece.bpm_s / weight) if weight > 0 else math.nan
    eighths = np.unique(np.round(beats * 2).astype(int))
    held = eighths[
        (eighths % 2 == 1) & ~np.isin(eighths + 1, eighths)
    ]  # (after Longuet-Higgins and Lee 1984)
    return {
        "onset_rate": math.log2(max(len(onsets), 1) / seconds),
        "note_rate": math.log2(max(len(piece.pitch), 1) / seconds),
        "notes_a_quarter": len(piece.pitch) / quarters,
        "onsets_a_quarter": len(onsets) / quarters,
        "drum_rate": len(piece.drums) / quarters,
        "tempo": math.log2(bpm) if bpm > 0 else math.nan,
        **_spread("gap", np.log2(gaps)),
        "gap_variation": _ratio(_std(gaps), _mean(gaps)),
        "gap_entropy": entropy(np.bincount(kinds)),
        "npvi": _mean(200 * np.abs(np.diff(gaps)) / (gaps[1:] + gaps[:-1])),
        "off_beat_share": _mean((place > 1 / 12) & (place < 11 / 12)),
        "syncopation": _ratio(len(held), len(eighths)),
    }


def touch(piece: Piece) -> Numbers:
    """How hard, how long: velocity (0 to 127), lengths (log2 s), how far notes fill the gap to their track's next."""
    fill = _fill(piece)
    downbeat = np.mod(piece.onset_q, piece.bar_q) < 1 / 12
    return {
        **_spread("velocity", piece.velocity),
        "velocity_slope": _slope(piece.onset_q, piece.velocity),
        "accent": _mean(piece.velocity[downbeat]) - _mean(piece.velocity[~downbeat]),
        **_spread("length", np.log2(np.maximum(piece.end_s - piece.onset_s, 0.01))),
        "fill": _quantile(fill, 0.5),
        "staccato_share": _mean(fill < 0.6),
        "legato_share": _mean(fill > 0.95),
    }


def _fill(piece: Piece) -> np.ndarray:
    """Length over the gap to the next onset of the same track, at most 2; the last notes have none."""
    out = [np.zeros(0)]
    for track in np.unique(piece.track):
        mine = piece.track == track
        start, end = piece.onset_s[mine], piece.end_s[mine]
        onsets = np.unique(start)
        after = np.searchsorted(onsets, start, side="right")
        there = after < len(onsets)
        gap = onsets[after[there]] - start[there]
        out.append(np.minimum((end - start)[there] / np.maximum(gap, 0.01), 2.0))
    return np.concatenate(out)


def register(piece: Piece) -> Numbers:
    """How high: MIDI pitches of all notes and of the outer lines; intervals of the highest line (semitones)."""
    pitch = piece.pitch.astype(float)
    top, bass = outer_lines(piece)
    moves = np.diff(top)
    size = np.abs(moves)
    return {
        **_spread("pitch", pitch),
        "pitch_slope": _slope(piece.onset_q, pitch),
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


def outer_lines(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """The highest and the lowest pitch that begins at each onset."""
    if not len(piece.pitch):
        return np.zeros(0), np.zeros(0)
    _, first = np.unique(np.round(piece.onset_q * 24).astype(np.int64), return_index=True)
    ordered = piece.pitch.astype(float)
    return np.maximum.reduceat(ordered, first), np.minimum.reduceat(ordered, first)


def tonality(piece: Piece) -> Numbers:
    """Which key, how rough: key profiles, scale degrees above the best tonic, chords and roughness by half beat."""
    whole = np.bincount(piece.pitch % 12, piece.end_q - piece.onset_q, 12)  # quarters that each class sounds
    fit = key_fit(whole)
    degrees = np.roll(whole, -(int(fit.argmax()) % 12)) if whole.sum() > 0 else np.full(12, math.nan)
    frames = sounding_frames(piece)
    counts = np.stack([frames[:, pitch_class::12].sum(1) for pitch_class in range(12)], 1)
    local = [
        key_fit(part.sum(0)) for part in np.array_split(counts, max(1, len(counts) // 16))
    ]  # two bars of 4/4
    lean = np.array([one[:12].max() - one[12:].max() for one in local if one.any()])
    played = counts[(counts > 0).sum(1) >= 2] > 0
    rough = _roughness(played)
    chords = played[played.sum(1) >= 3]
    return {
        "major_fit": float(fit[:12].max()),
        "minor_fit": float(fit[12:].max()),
        "mode": float(fit[:12].max() - fit[12:].max()),
        "local_mode": _mean(lean),
        "local_minor_share": _mean(lean < 0),
        "third": _ratio(degrees[4], degrees[3] + degrees[4]),
        "sixth": _ratio(degrees[9], degrees[8] + degrees[9]),
        "seventh": _ratio(degrees[11], degrees[10] + degrees[11]),
        "class_entropy": entropy(whole),
        "scale_share": scale_consistency(piece),
        "roughness": _mean(rough),
        "rough_share": _mean(rough > 0),
        "tritone_share": _mean((played & np.roll(played, 6, 1)).any(1)),
        "semitone_clash": _mean((played & np.roll(played, 1, 1)).any(1)),
        **{
            f"{name}_share": _mean([(of <= one).all(1).any() for one in chords])
            for name, of in _CHORDS.items()
        },
    }


def key_fit(weight: np.ndarray) -> np.ndarray:
    """(24,) correlations of a chroma with the key profiles; zeros where it is even or empty."""
    spread = weight.std()
    return KEYS @ (weight - weight.mean()) / 12 / spread if spread > 1e-9 else np.zeros(24)


def scale_consistency(piece: Piece) -> float:
    """The largest share of notes inside one major or natural minor scale (Mogren 2016). NaN without notes."""
    if not len(piece.pitch):
        return math.nan
    counts = np.bincount(piece.pitch % 12, minlength=12)
    major = np.isin(np.arange(12), (0, 2, 4, 5, 7, 9, 11))  # the minor scales are the same twelve sets
    return float(max(counts[np.roll(major, tonic)].sum() for tonic in range(12)) / counts.sum())


def sounding_frames(piece: Piece, per_quarter: int = 2) -> np.ndarray:
    """(frames, 128) bool: which pitches sound at the middle of each half beat; each note in one frame at least, however
    short it is."""
    count = max(1, math.ceil(piece.quarters * per_quarter))
    out = np.zeros((count, 128), bool)
    middles = (np.ceil(at * per_quarter - 0.5 - 1e-6).astype(int) for at in (piece.onset_q, piece.end_q))
    first, last = (np.clip(edge, 0, limit) for edge, limit in zip(middles, (count - 1, count), strict=True))
    for pitch, start, stop in zip(piece.pitch, first, np.maximum(last, first + 1), strict=True):
        out[start:stop, pitch] = True
    return out


def _roughness(classes: np.ndarray) -> np.ndarray:
    """Mean over the pairs of pitch classes that sound together. classes: (frames, 12), two or more in each."""
    total, pairs = np.zeros(len(classes)), np.zeros(len(classes))
    for step in range(1, 7):
        found = (classes & np.roll(classes, step, 1)).sum(1) / (2 if step == 6 else 1)
        total, pairs = total + found * _ROUGH[step], pairs + found
    return total / np.maximum(pairs, 1)


def texture(piece: Piece) -> Numbers:
    """How thick: notes that sound together, by sixteenth, and that begin together."""
    on = sounding_frames(piece, 4).sum(1)
    _, chord = np.unique(np.round(piece.onset_q * 24), return_counts=True)
    return {
        "polyphony": _mean(on[on > 0]),
        "polyphony_spread": _std(on[on > 0]),
        "silence": _mean(on == 0),
        "chord_size": _mean(chord),
        "chord_share": _mean(chord >= 3),
        "tracks": float(len(np.unique(piece.track))),
    }


def form(piece: Piece) -> Numbers:
    """What comes again, and how the second half differs from the first."""
    half = piece.onset_q < piece.quarters / 2
    bar = np.floor(piece.onset_q / piece.bar_q).astype(int)
    cell = np.round(np.mod(piece.onset_q, piece.bar_q) * 4).astype(int)
    rhythms = [frozenset(cell[bar == one].tolist()) for one in np.unique(bar)]
    return {
        "repetition": repetition(piece),
        "bar_repeats": 1 - len(set(rhythms)) / len(rhythms) if len(rhythms) > 1 else math.nan,
        "density_change": math.log2((1 + int((~half).sum())) / (1 + int(half.sum()))),
        "pitch_change": _mean(piece.pitch[~half]) - _mean(piece.pitch[half]),
    }


def repetition(piece: Piece) -> float:
    """1 - distinct / all runs of 4 (interval, gap) steps of the highest line (distinct-n, Li et al. 2016).

    NaN with fewer than two such runs.
    """
    top, _ = outer_lines(piece)
    ticks = np.unique(np.round(piece.onset_q * 24).astype(np.int64))
    steps = list(zip(np.diff(top).tolist(), np.diff(ticks).tolist(), strict=True))
    runs = [tuple(steps[at : at + 4]) for at in range(len(steps) - 3)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else math.nan


def _spread(name: str, values: np.ndarray) -> Numbers:
    low, high = _quantile(values, 0.1), _quantile(values, 0.9)
    return {
        f"{name}_mean": _mean(values),
        f"{name}_spread": _std(values),
        f"{name}_low": low,
        f"{name}_high": high,
    }


def _mean(values: np.ndarray | list[bool]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _std(values: np.ndarray) -> float:
    return float(np.std(values)) if len(values) else math.nan


def _quantile(values: np.ndarray, at: float) -> float:
    return float(np.quantile(values, at)) if len(values) else math.nan


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 1e-9 else math.nan


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Change of y over the piece by least squares; NaN where all x are one."""
    if len(x) < 2 or np.ptp(x) < 1e-9:
        return math.nan
    return float(np.polyfit((x - x[0]) / np.ptp(x), y, 1)[0])
