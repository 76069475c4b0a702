"""The words of emotions: `thesaurus.json`; for other languages and folders' names, `emotion_words.json`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """The place of a word in the thesaurus."""

    valence: float
    arousal: float
    tier: int  # 1..6
    node: str


@cache
def thesaurus() -> Mapping[str, Entry]:
    """Return every word and phrase (lower case, single spaces) with its place."""
    return dict(_walk(_data("thesaurus.json")["nodes"], ""))


@cache
def translations() -> Mapping[str, Entry]:
    """Return the words of other languages, each with its place, with and without their accents.

    A word is left out where two languages mean different emotions by it. English words go before them.
    """
    meant: dict[str, set[Entry]] = {}
    for language, words in _data("emotion_words.json")["languages"].items():
        for english, list_of_words in words.items():
            for word in list_of_words.split(", "):
                for form in _spellings(word) | _spellings(_inflected(word, language)):
                    meant.setdefault(form, set()).add(thesaurus()[english])
    return {
        form: entries.pop()
        for form, entries in meant.items()
        if len(entries) == 1 and form not in thesaurus()
    }


@cache
def degrees() -> Mapping[str, int]:
    """Return the words that move the word after them, each with the tiers by which it moves it."""
    return {word: int(shift) for shift, words in _data("thesaurus.json")["degrees"].items() for word in words}


@cache
def negations() -> frozenset[str]:
    """Return the words that turn the word after them into its opposite, in several languages."""
    return frozenset(_data("thesaurus.json")["negations"] + _data("emotion_words.json")["negations"].split())


@cache
def beside() -> frozenset[str]:
    """Return what people write beside an emotion in a folder's name: "Happy Songs", "class_sad"."""
    return frozenset(
        form
        for words in _data("emotion_words.json")["beside"].values()
        for word in words.split()
        for form in _spellings(word)
    )


@cache
def longest_phrase() -> int:
    """Return the number of words of the longest phrase."""
    return max(phrase.count(" ") for phrase in (*thesaurus(), *translations())) + 1


def words_of(text: str) -> list[str]:
    """Split into lower-case runs of letters, with inner apostrophes: "01_Not-Sad's" -> not, sad's."""
    return re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", unicodedata.normalize("NFC", text).casefold())


def singular(word: str) -> str:
    """Return an English word without its plural ending, where that makes it an emotion's; else the word."""
    for ending, instead in (("ies", "y"), ("s", ""), ("es", "")):
        if word.endswith(ending) and word not in thesaurus() and word not in _NO_PLURALS:
            one = word.removesuffix(ending) + instead
            if one in thesaurus():
                return one
    return word


_NO_PLURALS = frozenset({"contents"})  # as a folder's name it is a table of contents, or an application's
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


@cache
def _data(name: str) -> dict[str, Any]:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _walk(nodes: dict[str, Any], above: str) -> Iterator[tuple[str, Entry]]:
    for name, node in nodes.items():
        valence, arousal = node["at"]
        for tier, words in enumerate(node["tiers"], 1):
            for word in words:
                yield " ".join(words_of(word)), Entry(valence, arousal, tier, above + name)
        yield from _walk(node.get("children", {}), f"{above}{name}/")


def _inflected(word: str, language: str) -> str:
    """Return a word as it stands before "Lieder" or after "canciones", where that follows a plain rule."""
    if language == "de" and re.search(r"(ig|lich|isch|end|[eh]rt|elt|egt|ht|scht|sam|frieden)$", word):
        return f"{word}e"
    return f"{word}s" if language in ("es", "fr", "pt") and word[-1] in "aeoé" else word


def _spellings(word: str) -> set[str]:
    """Return a word as it is, without accents, and with "ae" for "ä"."""
    form = " ".join(words_of(word))
    bare = "".join(one for one in unicodedata.normalize("NFD", form) if not unicodedata.combining(one))
    return {form, bare, form.translate(_UMLAUTS)}
