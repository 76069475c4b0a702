"""Measure how far the distributions of six plain statistics overlap with those of held-out music.

No statistic is good by being large: noise has the most entropy, and one held note the best scale. Each is
therefore reported as the overlap of its distribution over generated pieces with that over held-out excerpts
of the same length (after Yang and Lerch 2020). Beside it stand the overlap of held-out with held-out music,
which is the ceiling, and that of held-out notes scattered at random, which is the floor. A piece for which a
statistic is NaN counts as no overlap; it is not left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi import symbolic_features as symbolic
from kwela.judge.midi.note_table import NoteTable, note_table
from kwela.stats import NOT_MEASURED, Interval, entropy, overlap, percentile_interval

SPLIT_COUNT = 200


def pitch_class_entropy(notes: NoteTable) -> float:
    """Return the Shannon entropy in bits, 0 to 3.58, of the share of notes in each pitch class.

    Wu and Yang 2020; muspy. NaN without pitched notes.
    """
    return entropy(np.bincount(notes.pitch % 12, minlength=12).astype(float))


def groove_consistency(notes: NoteTable) -> float:
    """Return the mean over neighbouring bars of shared / all onset places, 16ths, in [0, 1].

    After Wu and Yang 2020 and muspy. They divide by all places of a bar, which gives nearly 1 for any sparse
    music; this divides by the places that are used in either bar. A pair of empty bars is left out; NaN where
    no pair is left.
    """
    onset = np.concatenate([notes.onset_q, notes.drums])
    if not len(onset):
        return math.nan
    places_per_bar = max(1, round(notes.bar_q * 4))
    place = np.unique(np.round(onset * 4).astype(int))
    bars = np.zeros((place.max() // places_per_bar + 1, places_per_bar), bool)
    bars[place // places_per_bar, place % places_per_bar] = True
    either = (bars[1:] | bars[:-1]).sum(1)
    shared = (bars[1:] & bars[:-1]).sum(1)
    return float((shared[either > 0] / either[either > 0]).mean()) if (either > 0).any() else math.nan


def empty_beat_rate(notes: NoteTable) -> float:
    """Return the share of quarters, from the first note's to the last's, in which nothing sounds, in [0, 1].

    muspy, after MuseGAN. NaN without pitched notes.
    """
    if not len(notes.pitch):
        return math.nan
    first, last = math.floor(notes.onset_q.min()), math.ceil(notes.quarters - 1e-9)
    sounds = np.zeros(max(1, last - first), bool)
    starts = np.floor(notes.onset_q + 1e-6).astype(int) - first
    stops = np.ceil(notes.end_q - 1e-6).astype(int) - first
    for start, stop in zip(starts, np.maximum(stops, starts + 1), strict=True):
        sounds[start:stop] = True
    return float(1 - sounds.mean())


def polyphony(notes: NoteTable) -> float:
    """Return the mean number of pitches that sound together, over the 16ths in which any does (muspy).

    NaN without notes.
    """
    return symbolic.texture(notes)["polyphony"]


STATISTICS: dict[str, Callable[[NoteTable], float]] = {
    "pitch-class entropy": pitch_class_entropy,
    "scale consistency": symbolic.scale_consistency,
    "groove consistency": groove_consistency,
    "empty-beat rate": empty_beat_rate,
    "polyphony": polyphony,
    "repetition": symbolic.repetition,
}


def measure_pieces(scores: Sequence[ScoreTick | None]) -> np.ndarray:
    """Return the statistics of each piece, (pieces, 6), in the order of STATISTICS.

    None, a piece that could not be made, is NaN throughout.
    """
    values = np.full((len(scores), len(STATISTICS)), math.nan)
    for number, score in enumerate(scores):
        if score is not None:
            notes = note_table(score)
            values[number] = [statistic(notes) for statistic in STATISTICS.values()]
    return values


def scatter_notes(score: ScoreTick, seed: int) -> ScoreTick:
    """Return a copy with its notes at random pitches (36 to 84) and random 16ths, which makes the floor."""
    rng = np.random.default_rng(seed)
    copy = score.copy()
    sixteenth = max(1, score.tpq // 4)
    place_count = max(1, round(score.end() / sixteenth))
    for track in copy.tracks:
        for note in track.notes:
            note.time = int(rng.integers(place_count)) * sixteenth
            if not track.is_drum:
                note.pitch = int(rng.integers(36, 85))
    return copy


def overlaps_with_held_out(
    generated: np.ndarray,
    held_out: np.ndarray,
    songs: Sequence[str],
    split_count: int = SPLIT_COUNT,
    seed: int = 0,
) -> dict[str, tuple[Interval, Interval]]:
    """Return each statistic's overlap of generated with held-out music, and of held-out with held-out.

    generated: (M, 6); held_out: (N, 6); songs: (N,). Each split parts the songs in two halves. The first half
    is compared with the second half and, by as many pieces, with the generated ones. Values are means over
    splits; intervals are the middle 95 % of the splits. NaN with fewer than four held-out songs, or nothing
    generated.
    """
    rng = np.random.default_rng(seed)
    song = np.asarray(songs, str)
    names = np.unique(song)
    overlaps = np.full((len(STATISTICS), 2, split_count), math.nan)
    for split in range(split_count) if len(names) >= 4 and len(generated) else ():
        first_half = np.isin(song, rng.permutation(names)[: len(names) // 2])
        size = min(int((~first_half).sum()), len(generated))
        second_half = rng.choice(np.flatnonzero(~first_half), size, replace=False)
        chosen = rng.choice(len(generated), size, replace=False)
        for column, reference in enumerate(held_out[first_half].T):
            overlaps[column, 0, split] = overlap_of_defined(generated[chosen, column], reference)
            overlaps[column, 1, split] = overlap_of_defined(held_out[second_half, column], reference)
    return {
        name: (_interval_of_splits(of_generated), _interval_of_splits(of_held_out))
        for name, (of_generated, of_held_out) in zip(STATISTICS, overlaps)
    }


def overlap_of_defined(values: np.ndarray, reference: np.ndarray) -> float:
    """Return `stats.overlap` of two samples times the share of `values` that isn't NaN, in [0, 1].

    There are as many cells as the root of the smaller sample, from 3 to 20.
    """
    defined_share = float(np.isfinite(values).mean()) if len(values) else 0.0
    if not defined_share:
        return 0.0
    cells = int(np.clip(math.isqrt(min(len(values), len(reference))), 3, 20))
    return defined_share * overlap(values, reference, cells)


def _interval_of_splits(values: np.ndarray) -> Interval:
    finite = values[np.isfinite(values)]
    return Interval(float(finite.mean()), *percentile_interval(finite)) if len(finite) else NOT_MEASURED
