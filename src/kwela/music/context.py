"""Read a song's musical context off its notes: key, chords and bar descriptors of each bar.

- `measure(score)` reads everything once; `Measured.context(edges)` is the compact form of a manifest's
  "context" (docs/formats.md): bars count from 0, keys 1 to 12 are C to B major and 13 to 24 minor, a chord's
  root is 1 to 12 and its quality 1 to 16, levels are 1 to 8, and 0 is absent.
- Key and chords are read together once around: chords by themselves, the key from the chords, and the chords
  again with what is usual in that key.
- Drums count for density, dynamics and offbeat alone. A bar without tonal sound has no chord, and a piece of
  drums has neither key nor chords.
- `CONTEXT_VERSION` is raised when the same notes give another context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela.music import bar_descriptors, beat_grid, chords, key
from kwela.music import grammar as g

CONTEXT_VERSION = 1
MODE = "mode"
MAJOR, MINOR = 1, 2
Context = dict[str, Any]


class Measured(NamedTuple):
    """What the notes of a song say, before any corpus turns values into levels.

    key: (bars,) 0 absent, 1 to 24. chords: (changes, 4) bar, tick in the bar (1/24 quarter), root 0 to 12,
    quality 0 to 16; each holds until the next, over bar lines too; root 0 ends a chord. raw: the values of
    `bar_descriptors`, (bars,) each, NaN where absent.
    """

    key: np.ndarray
    chords: np.ndarray
    raw: dict[str, np.ndarray]

    @property
    def bars(self) -> int:
        """How many bars there are: up to the one in which the last note begins."""
        return len(self.raw["density"])

    @property
    def mode(self) -> np.ndarray:
        """The mode of each bar, int64 (bars,): 1 major, 2 minor, 0 absent."""
        return np.where(self.key > 0, np.where(self.key > 12, MINOR, MAJOR), 0)

    def context(self, edges: Mapping[str, list[float]] | None = None) -> Context:
        """Return the context as JSON can hold it; without `edges` (a corpus's), the levels are left out.

        Parts that are absent throughout are left out, and so are absent bars at the end of a list.
        """
        parts: Context = {"key": _compact_key(self.key), "chords": _by_bar(self.chords, self.bars)}
        parts[MODE] = _trimmed(self.mode.tolist())
        if edges is not None:
            for name, level in bar_descriptors.levels(self.raw, edges).items():
                parts[name] = _trimmed(level.tolist())
        return {name: part for name, part in parts.items() if part}


def measure(score: ScoreTick) -> Measured:
    """Read keys, chords and bar descriptors off a score. Raises UserError if its times are out of range."""
    notes = beat_grid.bar_notes(score)
    grid = beat_grid.beats(notes)
    raw = bar_descriptors.measure(notes)
    keys = np.zeros(notes.bars, np.int64)
    if notes.drum.all():
        return Measured(keys, np.zeros((0, 4), np.int64), raw)
    sounding = beat_grid.sounding(notes, grid)
    evidence = chords.scores(sounding, grid)
    by_bar = key.bar_evidence(chords.softmax(evidence), sounding, grid)
    named = key.keys(by_bar)
    keys[: len(named)] = named + 1
    chosen = chords.choose(evidence + chords.usual(named[grid.bar]), grid)
    return Measured(keys, _changes(chosen, chords.silent(sounding), grid, notes.bar_tick), raw)


def _changes(
    chord: np.ndarray, silent: np.ndarray, grid: beat_grid.Beats, bar_tick: np.ndarray
) -> np.ndarray:
    """Return the beats at which the chord changes as rows (bar, tick, root, quality).

    A silent beat goes on with the chord of the beat before it in its bar; with none before it, it has none.
    """
    kept = np.maximum.accumulate(np.where(silent, -1, np.arange(len(chord))))
    first = np.arange(len(chord)) - grid.place
    chord = np.where(kept >= first, chord[kept], -1)
    count = len(chords.QUALITIES)
    root = np.where(chord < 0, 0, chord // count + 1)
    quality = np.where(chord < 0, 0, chord % count + 1)
    new = np.flatnonzero(np.diff(chord, prepend=-1))
    rows = np.stack([grid.bar[new], grid.tick[new] - bar_tick[grid.bar[new]], root[new], quality[new]], 1)
    after = int(grid.bar[-1]) + 1
    if after < len(bar_tick) - 1:  # the song has more beats than are read
        rows = np.append(rows, [[after, 0, 0, 0]], axis=0)
    return rows


def _compact_key(keys: np.ndarray) -> int | list[list[int]]:
    """Return the one key of a song, or [first bar, key] of each stretch; 0 where there is none."""
    if not len(keys):
        return 0
    new = np.flatnonzero(np.diff(keys, prepend=-1))
    if len(new) == 1:
        return int(keys[0])
    return [[int(bar), int(keys[bar])] for bar in new]


def _by_bar(changes: np.ndarray, bars: int) -> list[list[Any]]:
    """Return what stands in each bar: [root, quality], or [quarter, root, quality] of each change."""
    out: list[list[Any]] = []
    rows = changes.tolist()
    at, now = 0, [0, 0]
    for bar in range(bars):
        inside = []
        while at < len(rows) and rows[at][0] == bar:
            _, tick, *chord = rows[at]
            inside.append((tick, chord))
            at += 1
        if inside and (len(inside) > 1 or inside[0][0] > 0):
            begins = [] if inside[0][0] == 0 or now == [0, 0] else [[0, *now]]
            out.append(begins + [[_quarter(tick), *chord] for tick, chord in inside])
        else:
            out.append(list(inside[0][1] if inside else now))
        now = inside[-1][1] if inside else now
    while out and out[-1] == [0, 0]:
        out.pop()
    return out


def _quarter(tick: int) -> int | float:
    whole, rest = divmod(tick, g.TPQ)
    return whole if rest == 0 else round(tick / g.TPQ, 4)


def _trimmed(values: list[int]) -> list[int]:
    """Leave out absent bars at the end."""
    while values and values[-1] == 0:
        values.pop()
    return values
