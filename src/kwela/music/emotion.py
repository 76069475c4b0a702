"""Read emotions from words, paths and numbers, and hold them as named dimensions.

An `Emotion` has three dimensions (Russell 1980, with a strength beside the circumplex):

- valence in [-1, 1], from unpleasant to pleasant;
- arousal in [-1, 1], from calm to excited;
- intensity in [0, 1], from faint to strong.

To add a dimension, add a field at the end of `Emotion`, its values to `LOWEST`, `HIGHEST` and `NEUTRAL`, and
its rule to `_emotion_of`. No other file lists the dimensions. Models read the padded form: the dimensions in
the order of `DIMENSION_NAMES`, then zeros, `PADDED_SIZE` numbers in all. A user may give all of these numbers
instead.

Words stand in `thesaurus.json`, which holds six bases of six sub-emotions of six leaves, plus `neutral`:

- a node (a base or a sub-emotion) has a place on the circumplex, and all of its words share this place;
- the six tiers of a node rise in intensity, tier t -> (t - 1) / 5. The node's own word stands in tier 4,
  which is 0.6. The tiers of a sub-emotion are its leaves, and each leaf is a word with its synonyms;
- a degree before a word moves the word by some tiers ("very sad", "slightly sad"), within the six;
- `neutral` and its words are always [0, 0, 0.5].

A path is read by these rules. The first one that applies decides, and the reading names it:

    nearest parent directory that names an emotion    -> "directory:sad"
    first whole emotion word of the file name         -> "filename:grief"
    otherwise                                         -> "default", neutral

Words are runs of letters, so "unhappy" is not happy and "Sadie" is not sad. A negated word ("not_happy") is
skipped. A directory names an emotion if it is a word of the thesaurus, or such a word of German, Spanish,
French, Portuguese, Italian or isiZulu (`emotion_words.json`), and nothing else than numbers, a plural's "s",
a remark in brackets, and what people write beside it: "03_angry", "Happy Songs", "class_sad", "Angry (loud)".
So "Sad Boys" and "happy_sad" name none. Q1 to Q4 are Russell's quadrants, as in EMOPIA. A file's name that is
such a name as a whole ("traurig_01") is read too.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from kwela.errors import UserError
from kwela.music.emotion_vocabulary import (
    Entry,
    beside,
    degrees,
    longest_phrase,
    negations,
    singular,
    thesaurus,
    translations,
    words_of,
)

PADDED_SIZE = 64  # numbers in the padded form
TIERS = 6


class Emotion(NamedTuple):
    """An emotion by its named dimensions; the ranges are `LOWEST` to `HIGHEST`, and NaN means "not given"."""

    valence: float
    arousal: float
    intensity: float

    @classmethod
    def from_vector(cls, values: Sequence[float] | np.ndarray) -> Emotion:
        """Take the named dimensions from the start of a vector, which may be of the padded form."""
        return cls(*(float(value) for value in values[: len(cls._fields)]))

    def text(self, decimals: int, separator: str = ", ") -> str:
        """Write the dimensions with their names, as "valence +0.5, arousal -0.2, intensity 0.6"."""
        signs = ("+" if low < 0 else "" for low in LOWEST)
        numbers = (f"{value:{sign}.{decimals}f}" for value, sign in zip(self, signs, strict=True))
        return separator.join(f"{name} {number}" for name, number in zip(self._fields, numbers, strict=True))


DIMENSION_NAMES: tuple[str, ...] = Emotion._fields
CIRCUMPLEX_NAMES = ("valence", "arousal")  # the dimensions that people label
LOWEST = Emotion(valence=-1, arousal=-1, intensity=0)
HIGHEST = Emotion(valence=1, arousal=1, intensity=1)
_MINUS = "\u2212"  # the minus of typeset text, which people copy
NEUTRAL = Emotion(valence=0.0, arousal=0.0, intensity=0.5)

# Russell's quadrants, as EMOPIA numbers them: of valence and arousal ++, -+, --, +-. Its clips are named
# by the quadrant, the 11 letters of a video and a number.
_OF_QUADRANT = ("happy", "angry", "sad", "calm")
_QUADRANT = re.compile(r"q([1-4])|q([1-4])_[\w-]{11}_\d+", re.IGNORECASE)

# Texts for messages and metadata, so that they name the dimensions of today.
SIZES_TEXT = f"{len(DIMENSION_NAMES)} or {PADDED_SIZE} numbers"
PADDED_TEXT = (
    "".join(
        f"{name} {low:g}..{high:g}, "
        for name, low, high in zip(DIMENSION_NAMES, LOWEST, HIGHEST, strict=True)
    )
    + f"then zeros or {PADDED_SIZE - len(DIMENSION_NAMES)} numbers of the user's own"
)


class Reading(NamedTuple):
    """An emotion, where it was read, and its node."""

    emotion: Emotion
    source: str  # "word:W", "directory:W", "filename:W" or "default"
    node: str  # the place of the word in the thesaurus: "sad/grief"


def lookup(word: str) -> Reading:
    """Read a word or phrase of the thesaurus, in any case, with or without a degree ("grief", "Very Sad").

    Raises UserError with the nearest known words if the word is unknown.
    """
    reading = _read_whole(words_of(word), "word")
    if reading is None:
        nearest = difflib.get_close_matches(" ".join(words_of(word)), thesaurus(), n=3)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "known are happy, sad, angry, fear, ..."
        raise UserError(f"{word!r}: not an emotion word ({hint})")
    return reading


def from_path(path: str | PurePath, root: str | PurePath | None = None) -> Reading:
    """Read the emotion that a path names, by the rules above, without opening the file.

    root: only this directory and those below it count, so that /content/tracks/x.wav under /content/tracks is
    not "content".
    """
    path = PurePath(path)
    parents = path.parts[:-1] if root is None else (PurePath(root).name, *path.relative_to(root).parts[:-1])
    for directory in reversed(parents):
        reading = _read_name(directory, "directory")
        if reading:
            return reading
    return (
        _read_first(words_of(path.stem), "filename")
        or _read_name(path.stem, "filename")
        or Reading(NEUTRAL, "default", "neutral")
    )


def is_folder(name: str) -> bool:
    """Return whether a folder of this name is an emotion's."""
    return _read_name(name, "directory") is not None


def read_argument(argument: str) -> Reading:
    """Read what a user gives to `kwela emotion`.

    Numbers with commas stand for themselves. An argument without a slash or an extension is a word; any other
    is a path. Raises UserError on an unknown word, and on numbers that are no emotion.
    """
    if _holds_numbers(argument):
        return Reading(Emotion.from_vector(parse(argument)), "user", "")
    if "/" in argument or "\\" in argument or Path(argument).suffix:
        return from_path(argument.replace("\\", "/"))
    return lookup(argument)


def describe(argument: str, reading: Reading) -> dict[str, Any]:
    """Return a reading as plain JSON: input, each dimension, source, node."""
    return {"input": argument, **reading.emotion._asdict(), "source": reading.source, "node": reading.node}


def parse(text: str) -> tuple[float, ...]:
    """Read what a user wrote for `--emotion`: a word ("grief"), or 3 or 64 numbers ("0.8,0.5,0.6").

    Raises UserError with the text: an unknown word, or numbers that can't be read or are out of range.
    """
    if "," not in text and not _holds_numbers(text):
        return lookup(text.strip()).emotion
    try:
        numbers = [float(number) for number in text.replace(_MINUS, "-").split(",")]
    except ValueError:
        example = ",".join(f"{value:g}" for value in NEUTRAL)
        raise UserError(f"--emotion: {text!r}: write {','.join(DIMENSION_NAMES)} as {example}") from None
    return tuple(float(number) for number in check(numbers, "--emotion"))


def _holds_numbers(text: str) -> bool:
    """Return whether a user meant numbers: one alone, or two and more, however they are separated."""
    parts = [part for part in re.split(r"[,;\s]+", text.replace(_MINUS, "-")) if part]
    numbers = sum(
        re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+|nan|inf)(e[-+]?\d+)?", part) is not None for part in parts
    )
    return numbers > 1 or (numbers == len(parts) == 1 and parts[0].lower() not in ("nan", "inf"))


def check(values: object, where: str) -> np.ndarray:
    """Return `values` as float32 of shape (3,) or (64,), or raise UserError("{where}: what is wrong").

    Three numbers are the named dimensions, each in its own range; 64 are the user's own, each in [-1, 1].
    """
    named = len(DIMENSION_NAMES)
    numbers = values if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str) else ()
    if len(numbers) not in (named, PADDED_SIZE):
        size = len(numbers) or "none"
        names = ", ".join(DIMENSION_NAMES)
        raise UserError(f"{where}: expected {named} numbers ({names}) or {PADDED_SIZE}, found {size}")
    ranges = list(zip(LOWEST, HIGHEST, strict=True)) if len(numbers) == named else [(-1, 1)] * PADDED_SIZE
    for number, (value, (low, high)) in enumerate(zip(numbers, ranges, strict=True), 1):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise UserError(f"{where}: number {number} is {value!r}, not a number")
        if not low <= value <= high:  # this also refuses NaN
            raise UserError(f"{where}: number {number} is {value}, outside [{low:g}, {high:g}]")
    return np.asarray(numbers, np.float32)


def to_64d(vector: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the padded form, float32 (64,): the named dimensions are followed by zeros, 64 numbers stay."""
    padded = np.zeros(PADDED_SIZE, np.float32)
    padded[: len(vector)] = vector
    return padded


# ------------------------------------------------------------------ reading


def _phrase_at(words: list[str], start: int, foreign: bool = False) -> tuple[Entry, int] | None:
    """Find the longest phrase that begins at `start`, and the index after its last word.

    foreign: whether the words of other languages count too.
    """
    for end in range(min(len(words), start + longest_phrase()), start, -1):
        phrase = " ".join(words[start:end])
        entry = thesaurus().get(phrase) or (translations().get(phrase) if foreign else None)
        if entry:
            return entry, end
    return None


def _shift(words: list[str], start: int) -> int:
    """Tiers by which the degree before `start`, if there is one, moves a word."""
    return degrees().get(words[start - 1], 0) if start else 0


def _emotion_of(entry: Entry, tier: int) -> Emotion:
    """Return the emotion of a word in a tier: the rule by which each dimension gets its value."""
    if entry.node == "neutral":
        return NEUTRAL
    return Emotion(valence=entry.valence, arousal=entry.arousal, intensity=(tier - 1) / (TIERS - 1))


def _reading(words: list[str], entry: Entry, start: int, end: int, kind: str) -> Reading:
    shift = _shift(words, start)
    phrase = " ".join(words[start - bool(shift) : end])
    tier = min(max(entry.tier + shift, 1), TIERS)
    return Reading(_emotion_of(entry, tier), f"{kind}:{phrase}", entry.node)


def _read_whole(words: list[str], kind: str) -> Reading | None:
    """Read `words` as one phrase, with or without a degree; None if they are anything else."""
    for start in (0, 1):
        match = _phrase_at(words, start, foreign=True) if start < len(words) else None
        if match and match[1] == len(words) and (start == 0 or _shift(words, 1)):
            return _reading(words, match[0], start, match[1], kind)
    return None


@lru_cache(maxsize=4096)  # a folder is asked for with each of its files
def _read_name(name: str, kind: str) -> Reading | None:
    """Read a name that is an emotion and nothing else than what people write beside it; else None."""
    quadrant = _QUADRANT.fullmatch(name.strip())
    if quadrant:
        return lookup(_OF_QUADRANT[int(quadrant[1] or quadrant[2]) - 1])._replace(source=f"{kind}:{name}")
    name = unicodedata.normalize("NFC", name)
    spaced = name[:1] + "".join(  # HappySongs
        f" {one}" if before.islower() and one.isupper() else one for before, one in pairwise(name)
    )
    words = words_of(re.sub(r"\([^()]*\)|\[[^\[\]]*\]", _without_remark, spaced))
    first, last = 0, len(words)
    whole = _read_whole(words_of(name), kind)
    while not whole and first < last and words[first] in beside():
        first += 1
    while not whole and first < last and words[last - 1] in beside():
        last -= 1
    words = words[first:last]
    return whole or _read_whole(words, kind) or _read_whole([*words[:-1], *map(singular, words[-1:])], kind)


def _without_remark(brackets: re.Match[str]) -> str:
    """Return nothing for a remark in brackets, and the brackets where they may turn the sense."""
    words = words_of(brackets[0])
    telling = any(word in negations() or _phrase_at([word], 0, foreign=True) for word in words)
    return brackets[0] if telling else " "


def _read_first(words: list[str], kind: str) -> Reading | None:
    """Read the first phrase among `words` that has no negation before it."""
    start = 0
    while start < len(words):
        match = _phrase_at(words, start)
        if match is None:
            start += 1
            continue
        before = start - bool(_shift(words, start)) - 1
        if before < 0 or words[before] not in negations():
            return _reading(words, match[0], start, match[1], kind)
        start = match[1]
    return None
