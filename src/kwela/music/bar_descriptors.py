"""Describe each bar by seven raw values, and turn raw values into eight levels.

density: distinct onsets a quarter, drums included; 0 in an empty bar.
register: mean pitch (MIDI) of the notes that begin in the bar.
bass: their lowest pitch.
dynamics: mean velocity (1 to 127), drums included.
articulation: note length over the time to the next onset, or to the end of the bar after the last one: 1 is
    legato, less is staccato, more overlaps; at most LONGEST_NOTE a note, averaged over notes.
texture: notes an onset.
offbeat: share of distinct onsets, drums included, that lie more than ON_BEAT ticks off a quarter of the bar.

- Values are NaN where there is nothing to measure; every value but density is NaN in a bar without notes.
- Levels are 1 to 8, and 0 is absent. The edges between them are quantiles of a corpus. A value on an edge
  belongs to the level above it.
- Augmentation changes raw values (`register` and `bass` with the pitch, `dynamics` with the velocity), so
  levels are taken after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from kwela.errors import UserError
from kwela.music import grammar as g
from kwela.music.beat_grid import BarNotes

DESCRIPTORS = ("density", "register", "bass", "dynamics", "articulation", "texture", "offbeat")
LEVELS = 8
LONGEST_NOTE = 4.0  # articulation of a note that is held under many others
ON_BEAT = 2  # ticks (1/12 quarter)

Raw = dict[str, np.ndarray]
Edges = dict[str, list[float]]


def measure(notes: BarNotes) -> Raw:
    """Return the raw values of each bar by `DESCRIPTORS`, float64 (bars,) each."""
    bars = notes.bars
    quarters = np.diff(notes.bar_tick) / g.TPQ
    first = _first_of_onset(notes.tick)
    onset_bar = notes.bar[first]
    beside = (notes.tick[first] - notes.bar_tick[onset_bar]) % g.TPQ
    off = np.minimum(beside, g.TPQ - beside) > ON_BEAT
    tonal = ~notes.drum
    pitch, bar, tick = notes.pitch[tonal], notes.bar[tonal], notes.tick[tonal]
    tonal_onset_bar = bar[_first_of_onset(tick)]
    onsets = np.bincount(onset_bar, minlength=bars)
    bass = np.full(bars, np.inf)
    np.minimum.at(bass, bar, pitch.astype(float))
    length = np.minimum(notes.duration[tonal] / _room(notes, tick, bar), LONGEST_NOTE)
    return {
        "density": onsets / quarters,
        "register": _mean(pitch, bar, bars),
        "bass": np.where(np.isinf(bass), np.nan, bass),
        "dynamics": _mean(notes.velocity, notes.bar, bars),
        "articulation": _mean(length, bar, bars),
        "texture": _ratio(np.bincount(bar, minlength=bars), np.bincount(tonal_onset_bar, minlength=bars)),
        "offbeat": _ratio(np.bincount(onset_bar, off, bars), onsets),
    }


def _first_of_onset(tick: np.ndarray) -> np.ndarray:
    """Return bool: whether a note (sorted by tick) is the first of its onset."""
    first = np.ones(len(tick), bool)
    np.not_equal(tick[1:], tick[:-1], out=first[1:])
    return first


def _room(notes: BarNotes, tick: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """Return the ticks from each tonal note to the next tonal onset; after the last, to its bar's end."""
    onsets = tick[_first_of_onset(tick)]
    following = np.searchsorted(onsets, tick, side="right")
    last = notes.bar_tick[bar + 1]
    until = np.append(onsets, 0)[following]
    return np.where(following < len(onsets), until, last) - tick


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


def _mean(values: np.ndarray, bar: np.ndarray, bars: int) -> np.ndarray:
    return _ratio(np.bincount(bar, values, bars), np.bincount(bar, minlength=bars))


def quantile_edges(songs: Iterable[Mapping[str, np.ndarray]]) -> Edges:
    """Return the seven edges between the levels of each descriptor: the octiles of all bars of some songs.

    songs: raw values as `measure` gives them. NaN doesn't count. A descriptor without any value gets no
    edges, and its levels are all absent. Edges have six digits, so that they are the same after JSON.
    """
    gathered: dict[str, list[np.ndarray]] = {name: [] for name in DESCRIPTORS}
    for raw in songs:
        for name in DESCRIPTORS:
            values = np.asarray(raw[name], np.float64)
            gathered[name].append(values[np.isfinite(values)])
    edges: Edges = {}
    for name, columns in gathered.items():
        values = np.concatenate(columns) if columns else np.zeros(0)
        points = np.arange(1, LEVELS) / LEVELS
        edges[name] = [round(float(edge), 6) for edge in np.quantile(values, points)] if len(values) else []
    return edges


def levels(raw: Mapping[str, np.ndarray], edges: Mapping[str, list[float]]) -> dict[str, np.ndarray]:
    """Turn raw values into levels 1 to 8 (0 where NaN), int64 of the same shapes.

    Raises UserError, naming the descriptor, if its edges are missing, aren't seven, or don't ascend.
    """
    return {name: _level(name, raw[name], edges) for name in DESCRIPTORS if name in raw}


def _level(name: str, values: np.ndarray, edges: Mapping[str, list[float]]) -> np.ndarray:
    if name not in edges:
        raise UserError(f"{name}: no edges for its levels (give those of the corpus)")
    own = np.asarray(edges[name], np.float64)
    if not len(own):
        return np.zeros(np.shape(values), np.int64)
    if own.shape != (LEVELS - 1,) or not np.isfinite(own).all() or (np.diff(own) < 0).any():
        raise UserError(f"{name}: the edges of its levels must be {LEVELS - 1} ascending numbers")
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(own, values, side="right"))
