"""Is it music at all? Six plain statistics of pieces, and how far their distribution is that of held-out music.

No statistic is good by being large: noise has the most entropy, one held note the best scale. So each is reported as
the overlap of its distribution over generated pieces with that over held-out excerpts of the same length (after Yang
and Lerch 2020), beside the overlap of held-out with held-out (the ceiling) and that of held-out notes thrown about at
random (the floor). A piece for which a statistic is NaN counts as no overlap; it doesn't vanish from the figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from symusic.core import ScoreTick

from kwela.judge.midi import symbolic_features as symbolic
from kwela.judge.midi.piece import Piece, piece
from kwela.stats import NOT_MEASURED, Interval, entropy, overlap, percentile_interval

SPLITS = 200


def pitch_class_entropy(piece: Piece) -> float:
    """Shannon entropy in bits, 0 to 3.58, of the share of notes in each pitch class (Wu and Yang 2020; muspy).

    NaN without pitched notes.
    """
    return entropy(np.bincount(piece.pitch % 12, minlength=12).astype(float))


def groove_consistency(piece: Piece) -> float:
    """Mean over neighbouring bars of shared / all onset places, 16ths, in [0, 1].

    After Wu and Yang 2020 and muspy, who divide by all places of a bar; that is close to 1 for any sparse music, so
    here the places used in either bar divide. A pair of empty bars is left out; NaN where no pair is left.
    """
    onset = np.concatenate([piece.onset_q, piece.drums])
    if not len(onset):
        return math.nan
    cells = max(1, round(piece.bar_q * 4))
    place = np.unique(np.round(onset * 4).astype(int))
    bars = np.zeros((place.max() // cells + 1, cells), bool)
    bars[place // cells, place % cells] = True
    either = (bars[1:] | bars[:-1]).sum(1)
    shared = (bars[1:] & bars[:-1]).sum(1)
    return float((shared[either > 0] / either[either > 0]).mean()) if (either > 0).any() else math.nan


def empty_beat_rate(piece: Piece) -> float:
    """The share of quarters, from the first note's to the last's, in which nothing sounds (muspy, after MuseGAN).

    NaN without pitched notes.
    """
    if not len(piece.pitch):
        return math.nan
    first, last = math.floor(piece.onset_q.min()), math.ceil(piece.quarters - 1e-9)
    full = np.zeros(max(1, last - first), bool)
    starts = np.floor(piece.onset_q + 1e-6).astype(int) - first
    stops = np.ceil(piece.end_q - 1e-6).astype(int) - first
    for start, stop in zip(starts, np.maximum(stops, starts + 1), strict=True):
        full[start:stop] = True
    return float(1 - full.mean())


def polyphony(piece: Piece) -> float:
    """Mean number of pitches that sound together, over the 16ths in which any does (muspy). NaN without notes."""
    return symbolic.texture(piece)["polyphony"]


STATISTICS: dict[str, Callable[[Piece], float]] = {
    "pitch-class entropy": pitch_class_entropy,
    "scale consistency": symbolic.scale_consistency,
    "groove consistency": groove_consistency,
    "empty-beat rate": empty_beat_rate,
    "polyphony": polyphony,
    "repetition": symbolic.repetition,
}


def statistics(scores: Sequence[ScoreTick | None]) -> np.ndarray:
    """(pieces, 6) in the order of STATISTICS. None, a piece that could not be made, is NaN throughout."""
    out = np.full((len(scores), len(STATISTICS)), math.nan)
    for number, score in enumerate(scores):
        if score is not None:
            found = piece(score)
            out[number] = [statistic(found) for statistic in STATISTICS.values()]
    return out


def thrown_about(score: ScoreTick, seed: int) -> ScoreTick:
    """The same number of notes at random pitches (36 to 84) and random 16ths: what the floor is made of."""
    rng = np.random.default_rng(seed)
    out = score.copy()
    sixteenth = max(1, score.tpq // 4)
    places = max(1, round(score.end() / sixteenth))
    for track in out.tracks:
        for note in track.notes:
            note.time = int(rng.integers(places)) * sixteenth
            if not track.is_drum:
                note.pitch = int(rng.integers(36, 85))
    return out


def overlaps(
    made: np.ndarray, held_out: np.ndarray, songs: Sequence[str], splits: int = SPLITS, seed: int = 0
) -> dict[str, tuple[Interval, Interval]]:
    """Statistic -> overlap of `made` with held-out, and of held-out with held-out, both over the same splits.

    made: (M, 6); held_out: (N, 6); songs: (N,). Each split parts the songs in two halves; the first is compared with
    the second and, by as many pieces, with made. Figures are means over splits, their intervals the middle 95 % of the
    splits. NaN with fewer than four held-out songs, or nothing made.
    """
    rng = np.random.default_rng(seed)
    member = np.asarray(songs, str)
    names = np.unique(member)
    found = np.full((len(STATISTICS), 2, splits), math.nan)
    for split in range(splits) if len(names) >= 4 and len(made) else ():
        half = np.isin(member, rng.permutation(names)[: len(names) // 2])
        size = min(int((~half).sum()), len(made))
        rival = rng.choice(np.flatnonzero(~half), size, replace=False)
        mine = rng.choice(len(made), size, replace=False)
        for column, reference in enumerate(held_out[half].T):
            found[column, 0, split] = share_overlap(made[mine, column], reference)
            found[column, 1, split] = share_overlap(held_out[rival, column], reference)
    return {name: (_middle(ours), _middle(theirs)) for name, (ours, theirs) in zip(STATISTICS, found)}


def share_overlap(made: np.ndarray, reference: np.ndarray) -> float:
    """`stats.overlap`, in as many cells as the root of the smaller sample, times the share of `made` that isn't NaN."""
    there = float(np.isfinite(made).mean()) if len(made) else 0.0
    if not there:
        return 0.0
    cells = int(np.clip(math.isqrt(min(len(made), len(reference))), 3, 20))
    return there * overlap(made, reference, cells)


def _middle(values: np.ndarray) -> Interval:
    there = values[np.isfinite(values)]
    return Interval(float(there.mean()), *percentile_interval(there)) if len(there) else NOT_MEASURED
