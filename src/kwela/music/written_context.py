"""Check a context that somebody wrote by hand, and lay it on bars.

The form is that of a manifest's "context" (docs/formats.md). Every part may be left out. A list may be
shorter than the song: the rest is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from kwela.errors import UserError
from kwela.music import grammar as g
from kwela.music.bar_descriptors import DESCRIPTORS, LEVELS
from kwela.music.chords import QUALITIES
from kwela.music.context import MODE

KEYS, ROOTS, STYLES, MODES = 24, 12, 64, 2
PARTS = ("key", "chords", "style", MODE, *DESCRIPTORS)
HIGHEST_LEVEL = {MODE: MODES} | dict.fromkeys(DESCRIPTORS, LEVELS)


def check(context: object, bars: int | None = None, where: str = "context") -> None:
    """Raise UserError, in one line that names the part and its place, unless `context` is well formed.

    bars: of the song, if known; then no list may speak of more bars. where: what to call the context.
    """
    if not isinstance(context, Mapping):
        raise UserError(f"{where}: must be an object with some of {', '.join(PARTS)}, not {_shown(context)}")
    for name, part in context.items():
        place = f"{where}.{name}"
        if name not in PARTS:
            near = get_close_matches(str(name), PARTS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PARTS)}"
            raise UserError(f"{place}: no such part of a context ({hint})")
        if name == "key":
            _check_key(part, bars, place)
        elif name == "style":
            _check_number(part, STYLES, place)
        elif name == "chords":
            for bar, chord in enumerate(_checked_list(part, bars, place)):
                _check_bar(chord, f"{place}[{bar}]")
        else:
            for bar, level in enumerate(_checked_list(part, bars, place)):
                _check_number(level, HIGHEST_LEVEL[name], f"{place}[{bar}]")


def _check_key(part: object, bars: int | None, place: str) -> None:
    if not isinstance(part, list | tuple):
        _check_number(part, KEYS, place)
        return
    before = -1
    for index, item in enumerate(part):
        at = f"{place}[{index}]"
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise UserError(f"{at}: must be [first bar, key], not {_shown(item)}")
        bar, key = item
        if not _whole(bar) or bar <= before:
            raise UserError(f"{at}: the first bar must be a whole number over {before}, not {_shown(bar)}")
        if bars is not None and bar >= bars:
            raise UserError(f"{at}: bar {bar} is outside the song, which has {bars} bars counted from 0")
        _check_number(key, KEYS, at)
        before = bar


def _check_bar(chord: object, place: str) -> None:
    if not isinstance(chord, list | tuple):
        raise UserError(f"{place}: must be [root, quality] or a list of [quarter, root, quality]")
    if not any(isinstance(item, list | tuple) for item in chord):
        if chord:
            _check_chord(chord, place)
        return
    before = -1.0
    for index, item in enumerate(chord):
        at = f"{place}[{index}]"
        if not isinstance(item, list | tuple) or len(item) != 3:
            raise UserError(f"{at}: must be [quarter in the bar, root, quality], not {_shown(item)}")
        quarter = item[0]
        number = isinstance(quarter, int | float) and not isinstance(quarter, bool)
        if not number or not math.isfinite(quarter) or not max(before, 0) <= quarter < g.BEATS:
            raise UserError(f"{at}: the quarter must be a number from 0 to {g.BEATS}, not {_shown(quarter)}")
        if quarter == before:
            raise UserError(f"{at}: two chords on quarter {quarter}")
        _check_chord(item[1:], at)
        before = quarter


def _check_chord(chord: Sequence[object], place: str) -> None:
    if len(chord) != 2:
        raise UserError(f"{place}: must be [root, quality], not {len(chord)} numbers")
    root, quality = chord
    _check_number(root, ROOTS, f"{place}: root")
    _check_number(quality, len(QUALITIES), f"{place}: quality")
    if (root == 0) != (quality == 0):
        raise UserError(f"{place}: root and quality are absent (0) together or not at all")


def _checked_list(part: object, bars: int | None, place: str) -> Sequence[object]:
    if not isinstance(part, list | tuple):
        raise UserError(f"{place}: must be a list with one item a bar, not {_shown(part)}")
    if bars is not None and len(part) > bars:
        raise UserError(f"{place}: speaks of {len(part)} bars, but the song has {bars}")
    return part


def _check_number(value: object, highest: int, place: str) -> None:
    if not _whole(value) or not 0 <= value <= highest:  # type: ignore[operator]
        raise UserError(f"{place}: must be a whole number from 0 (absent) to {highest}, not {_shown(value)}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def by_bar(context: Mapping[str, Any], bars: int) -> dict[str, np.ndarray]:
    """Lay key, style, mode and levels on the bars: int64 (bars,) for each of PARTS but chords, 0 absent.

    context: as `check` allows it.
    """
    out = {name: np.zeros(bars, np.int64) for name in PARTS if name != "chords"}
    key = context.get("key", 0)
    for bar, value in [(0, key)] if isinstance(key, int) else key:
        out["key"][bar:] = value
    out["style"][:] = context.get("style", 0)
    for name in HIGHEST_LEVEL:
        level = list(context.get(name, ()))[:bars]
        out[name][: len(level)] = level
    return out


def chord_changes(context: Mapping[str, Any], bars: int) -> np.ndarray:
    """Lay the chords on the bars: int64 (changes, 4), rows of bar, tick in the bar, root, quality.

    A tick is 1/24 quarter. Every bar begins with a row of tick 0; a bar without a chord, or before its first
    chord, has root 0. To look up a place, search the rows by (bar, tick).
    """
    rows: list[tuple[int, int, int, int]] = []
    written = list(context.get("chords", ()))[:bars]
    for bar in range(bars):
        chord = written[bar] if bar < len(written) else ()
        if not chord:
            rows.append((bar, 0, 0, 0))
        elif isinstance(chord[0], int | float):
            rows.append((bar, 0, int(chord[0]), chord[1]))
        else:
            if chord[0][0] > 0:
                rows.append((bar, 0, 0, 0))
            rows.extend((bar, round(quarter * g.TPQ), root, quality) for quarter, root, quality in chord)
    return np.array(rows, np.int64).reshape(-1, 4)
