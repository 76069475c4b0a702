"""Whose music a file is, as far as its name tells: "Ann - One", "01 - Ann - One", "Ann - Album - 01 One".

The numbers of tracks and discs, dates, loops, instruments and other general words are no artists. Where a
name tells none, the split goes by song, and nothing is said about artists.
"""

from __future__ import annotations

import re
from pathlib import Path

from kwela.corpus.pairs import scan, songs, split

# What stands before a "-" in the names of loops, takes and recordings without being an artist.
_NO_ARTIST = songs.GENERAL_WORDS | songs.WORDS["no_artists"]
_BANDS = songs.WORDS["bands_too"]  # of these: without a number they are taken for an artist
_NOBODY = re.compile(r"(unknown|various|diverse)( artists?| interpreten)?|va|v\.a\.", re.IGNORECASE)
_GUESTS = re.compile(r"[\s_]+(feat|ft|featuring|vs)\.?[\s_].*$", re.IGNORECASE)
_TRACK_NUMBER = re.compile(r"^(\d{1,2}[-.])?\d{1,3}[\s_.]+(?=\D)")


def artist_of(path: str) -> str:
    """Return the artist that a file's name tells, or "" where it tells none.

    path: with "/". The artist stands before the first " - ", or before the first "-" where there is no " - ".
    """
    stem = scan.stem(Path(path)).replace("_-_", " - ").replace(" \N{EN DASH} ", " - ")
    pieces = [piece.strip(" _.") for piece in stem.split(" - " if " - " in stem else "-")]
    while pieces and _is_number(pieces[0]):
        pieces.pop(0)
    if len(pieces) < 2 or split.is_clip_of_video(stem):
        return ""
    artist = split.group(_GUESTS.sub("", _TRACK_NUMBER.sub("", pieces[0])))
    numbered = set(_words(" ".join(pieces[1:]))) <= _NO_ARTIST  # "loop-000", "voice-memo-3"
    if numbered and re.search(r"[\s_].+[\s_]\d+$", artist):  # "1_rock_100_beat_4-4" is a meter, or a range
        return ""
    words = set(_words(artist))
    longer = {word for word in words if len(word) > 1} or words  # of "C minor", "minor"
    if _NOBODY.fullmatch(artist) or longer <= _NO_ARTIST - (frozenset() if numbered else _BANDS):
        return ""
    return artist


def _words(text: str) -> list[str]:
    return [word.casefold() for word in re.findall(r"[^\W\d_]+", text)]


def _is_number(text: str) -> bool:
    """Return whether a piece of a name counts something: "01", "2021", "Disc 2", "CD1"."""
    return set(_words(text)) <= _NO_ARTIST if any(letter.isdigit() for letter in text) else not _words(text)
