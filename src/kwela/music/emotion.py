"""Emotion words and paths -> [valence, arousal, intensity].

Valence and arousal in [-1, 1] are a word's place on Russell's circumplex (Russell 1980); intensity in [0, 1] is its
strength. `thesaurus.json` holds six bases of six sub-emotions of six leaves, plus `neutral`:

- a node (a base, a sub-emotion) has a place on the circumplex, which all of its words share;
- its six tiers rise in intensity, tier t -> (t - 1) / 5, and its own word stands in tier 4: 0.6. A sub-emotion's tiers
  are its leaves, each a word with its synonyms;
- a degree before a word moves it some tiers ("very sad", "slightly sad"), clamped to the six;
- `neutral` and its words are always [0, 0, 0.5].

A path is read by production rules; the first that fires decides, and the reading names it:

    nearest parent directory that is an emotion word  -> "directory:sad"
    first whole emotion word of the file name         -> "filename:grief"
    otherwise                                         -> "default", neutral

Words are runs of letters, so "unhappy" is not happy and "Sadie" is not sad; a negated word ("not_happy") is passed
over.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from kwela.errors import UserError

DIMENSIONS = 64  # of the padded form that the models read
TIERS = 6
NEUTRAL = (0.0, 0.0, 0.5)


class Reading(NamedTuple):
    vector: tuple[float, float, float]  # valence, arousal in [-1, 1]; intensity in [0, 1]
    source: str  # "word:W", "directory:W", "filename:W" or "default"
    node: str  # where the word hangs in the thesaurus: "sad/grief"


class Entry(NamedTuple):
    valence: float
    arousal: float
    tier: int  # 1..6
    node: str


def lookup(word: str) -> Reading:
    """A word or phrase of the thesaurus, any case, with or without a degree ("grief", "Very Sad").

    Raises UserError naming the nearest known words if it is not one.
    """
    reading = _whole(_words(word), "word")
    if reading is None:
        nearest = difflib.get_close_matches(" ".join(_words(word)), thesaurus(), n=3)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "known are happy, sad, angry, fear, ..."
        raise UserError(f"{word!r}: not an emotion word ({hint})")
    return reading


def from_path(path: str | PurePath, root: str | PurePath | None = None) -> Reading:
    """The emotion that a path tells of, by the rules above. The file is not opened.

    root: it and the directories below it count, so that /content/tracks/x.wav under /content/tracks is not "content".
    """
    path = PurePath(path)
    parents = path.parts[:-1] if root is None else (PurePath(root).name, *path.relative_to(root).parts[:-1])
    for directory in reversed(parents):
        reading = _whole(_words(directory), "directory")
        if reading:
            return reading
    return _first(_words(path.stem), "filename") or Reading(NEUTRAL, "default", "neutral")


def describe(argument: str) -> dict[str, Any]:
    """What `kwela emotion ARGUMENT` says: input, valence, arousal, intensity, source, node.

    Numbers with commas stand for themselves. An argument without a slash or an extension is a word; any other is a
    path. Raises UserError on an unknown word.
    """
    if re.fullmatch(r"[-+.,\d\se]+", argument) and "," in argument:
        vector, source, node = parse(argument)[:3], "user", ""
    elif "/" in argument or "\\" in argument or Path(argument).suffix:
        vector, source, node = from_path(argument.replace("\\", "/"))
    else:
        vector, source, node = lookup(argument)
    numbers = dict(zip(("valence", "arousal", "intensity"), vector, strict=True))
    return {"input": argument, **numbers, "source": source, "node": node}


def parse(text: str) -> tuple[float, ...]:
    """What a user wrote for `--emotion`: a word ("grief") or numbers ("0.8,0.5,0.6", 3 or 64 of them).

    Raises UserError showing the text: an unknown word, or numbers that can't be read or are out of range.
    """
    if "," not in text:
        return lookup(text.strip()).vector
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise UserError(f"--emotion: {text!r}: write valence,arousal,intensity as 0.8,0.5,0.6") from None
    return tuple(float(number) for number in check(numbers, "--emotion"))


def check(values: object, where: str) -> np.ndarray:
    """`values` as float32, shape (3,) or (64,), or UserError("{where}: what is wrong").

    Three numbers are valence and arousal in [-1, 1] and intensity in [0, 1]; 64 are the user's own, each in [-1, 1].
    """
    if (
        not isinstance(values, Sequence | np.ndarray)
        or isinstance(values, str)
        or len(values) not in (3, DIMENSIONS)
    ):
        size = (
            len(values)
            if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
            else "none"
        )
        raise UserError(
            f"{where}: expected 3 numbers (valence, arousal, intensity) or {DIMENSIONS}, found {size}"
        )
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise UserError(f"{where}: number {index + 1} is {value!r}, not a number")
        low = 0 if index == 2 and len(values) == 3 else -1
        if not low <= value <= 1:  # also refuses NaN
            raise UserError(f"{where}: number {index + 1} is {value}, outside [{low}, 1]")
    return np.asarray(values, np.float32)


def expand64(vector: Sequence[float] | np.ndarray) -> np.ndarray:
    """(3,) or (64,) -> float32 (64,): three numbers are followed by zeros, 64 stay."""
    out = np.zeros(DIMENSIONS, np.float32)
    out[: len(vector)] = vector
    return out


@cache
def thesaurus() -> Mapping[str, Entry]:
    """Every word and phrase (lower case, single spaces) and its place."""
    return dict(_walk(_data()["nodes"], ""))


# ------------------------------------------------------------------ reading


@cache
def _data() -> dict[str, Any]:
    data = json.loads(Path(__file__).with_name("thesaurus.json").read_text(encoding="utf-8"))
    data["degrees"] = {word: int(shift) for shift, words in data["degrees"].items() for word in words}
    return data


@cache
def _longest() -> int:
    return max(phrase.count(" ") for phrase in thesaurus()) + 1


def _walk(nodes: dict[str, Any], above: str) -> Iterator[tuple[str, Entry]]:
    for name, node in nodes.items():
        valence, arousal = node["at"]
        for tier, words in enumerate(node["tiers"], 1):
            for word in words:
                yield " ".join(_words(word)), Entry(valence, arousal, tier, above + name)
        yield from _walk(node.get("children", {}), f"{above}{name}/")


def _words(text: str) -> list[str]:
    """Runs of letters, lower case, an apostrophe inside a word kept: "01_Not-Sad's" -> not, sad's."""
    return re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", unicodedata.normalize("NFC", text).casefold())


def _at(words: list[str], start: int) -> tuple[Entry, int] | None:
    """The longest phrase that begins at `start`, and where it ends."""
    for end in range(min(len(words), start + _longest()), start, -1):
        entry = thesaurus().get(" ".join(words[start:end]))
        if entry:
            return entry, end
    return None


def _shift(words: list[str], start: int) -> int:
    """Tiers that the degree before `start`, if any, moves a word."""
    return _data()["degrees"].get(words[start - 1], 0) if start else 0


def _reading(words: list[str], entry: Entry, start: int, end: int, kind: str) -> Reading:
    shift = _shift(words, start)
    phrase = " ".join(words[start - bool(shift) : end])
    tier = min(max(entry.tier + shift, 1), TIERS)
    neutral = entry.node == "neutral"
    vector = NEUTRAL if neutral else (entry.valence, entry.arousal, (tier - 1) / (TIERS - 1))
    return Reading(vector, f"{kind}:{phrase}", entry.node)


def _whole(words: list[str], kind: str) -> Reading | None:
    """`words` as one phrase, after a degree or not; None if they are anything else."""
    for start in (0, 1):
        found = _at(words, start) if start < len(words) else None
        if found and found[1] == len(words) and (start == 0 or _shift(words, 1)):
            return _reading(words, found[0], start, found[1], kind)
    return None


def _first(words: list[str], kind: str) -> Reading | None:
    """The first phrase among `words` that no negation precedes."""
    start = 0
    while start < len(words):
        found = _at(words, start)
        if found is None:
            start += 1
            continue
        before = start - bool(_shift(words, start)) - 1
        if before < 0 or words[before] not in _data()["negations"]:
            return _reading(words, found[0], start, found[1], kind)
        start = found[1]
    return None
