"""Which files of a corpus are one song. Manifests and data sets split by this one rule.

1. A file is named by its stem, and what makes it a version or a piece is taken off (`split.group`).
2. A folder that holds nothing but parts ("mix", "vocals", "chunk_3", "part1/seg_2") is a song of its own, and
   its parts have its name. The root and folders with an emotion's name are never such a folder.
3. A number or a general name ("01", "Track 3") that stands in several folders is another song in each. The
   folder is then part of the names of this kind in these folders: "Album A/01".
4. Names are one song where they differ in case or separators alone; in the number of a track ("01 Song" and,
   in another folder or as a version, "07 Song (Live)"); in a copy's number ("Song" and "Song.1" in one
   folder); or in the instrument of a stem ("Song_vocals" and "Song_drums" in one folder).
5. Files with the same audio or the same MIDI are one song, whatever their names (`identity.py`).

Rules 1 and 2 look at the name and at its own folder alone, so a song keeps its name when files are added
elsewhere. Songs that 4 and 5 join get the name that sorts first.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from kwela.corpus.pairs import scan, split
from kwela.music import emotion

WORDS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in json.loads(Path(__file__).with_name("name_words.json").read_text("utf-8")).items()
}
# A name of these words and numbers alone says which part of a song it is.
_INSTRUMENTS = WORDS["instruments"]
_ROLES = _INSTRUMENTS | WORDS["parts"]
_PIECES = WORDS["pieces"]  # a number makes them a piece that was cut out
_GENERAL = WORDS["general"]  # with a number they are as good as the number alone: each folder counts its own
_FORMATS = WORDS["format_folders"]  # folders that sort by format or use don't tell one song from another
GENERAL_WORDS = _GENERAL | _ROLES | _PIECES
_SECTIONS = WORDS["sections"]
_TAIL = "|".join(sorted(_INSTRUMENTS | _SECTIONS))
# "Song_vocals", "Song_chorus 2"; and the two sides of a stereo recording, "Song.L" and "Song.R".
_INSTRUMENT = re.compile(rf"[\s_.-]+((no[\s_])?({_TAIL})[\s_]?\d*|l|r|left|right)$", re.IGNORECASE)
_TRACK_NUMBER = re.compile(r"^(?:\d-)?\d{2}(?:\. ?| - | )(?=\D)")  # "01 ", "01. ", "01 - ", "1-01 "
_OF_ALBUM = re.compile(r"^(.+?) - .+ - \d{2} (.+)$")  # "Artist - Album - 01 Title"
_COPY_NUMBER = re.compile(r"^(.+)\.\d{1,2}$")

Parts = tuple[str, ...]  # a path without its extension: the folders, then the name


def name(path: PurePosixPath) -> str:
    """Return the song of a single file: its name, or its folder's where the name says what part it is."""
    parts = (*path.parts[:-1], scan.stem(Path(path)))
    while len(parts) > 1 and _is_part(parts[-1]) and not emotion.is_folder(parts[-2]):
        parts = parts[:-1]
    return split.group(parts[-1])


def assign(stems: Sequence[str]) -> list[str]:
    """Return the song of each file by rules 1 to 4.

    stems: paths below the root with "/" and without the extension, in one Unicode form.
    """
    paths = _without_parts([tuple(stem.split("/")) for stem in stems])
    songs = _in_their_folders(paths)
    links = [*_same_spelling(songs), *_same_title(songs, paths), *_copies_and_stems(songs, paths)]
    return join(songs, links)


def join(songs: Sequence[str], links: Iterable[Iterable[int]]) -> list[str]:
    """Return the songs, where those of the files that a link names (by index) are one song.

    It has the first of their names.
    """
    of: dict[str, str] = {}

    def root(song: str) -> str:
        while of.get(song, song) != song:
            of[song] = of.get(of[song], of[song])
            song = of[song]
        return song

    for link in links:
        first, *others = sorted({root(songs[index]) for index in link}) or [""]
        of.update(dict.fromkeys(others, first))
    return [root(song) for song in songs]


# ------------------------------------------------------------------ parts and folders


def _without_parts(paths: Sequence[Parts]) -> list[Parts]:
    """Return the paths, those of parts cut back to the folder that is their song."""
    inside: dict[Parts, set[str]] = defaultdict(set)  # folder -> the names in it
    below: dict[Parts, set[Parts]] = defaultdict(set)  # folder -> the folders in it
    for path in paths:
        inside[path[:-1]].add(path[-1])
        for depth in range(1, len(path)):
            below[path[: depth - 1]].add(path[:depth])
    only = _only_name(inside)
    songs: set[Parts] = set()
    for folder in sorted(set(inside) | set(below), key=len, reverse=True):
        names = inside[folder] | {one[-1] for one in below[folder] if one in songs}
        whole = all(one in songs for one in below[folder])
        if not folder or not whole or emotion.is_folder(folder[-1]):
            continue
        if names == {only} or _are_parts(names) or _is_folder_of_pieces(folder):
            songs.add(folder)
    found = []
    for path in paths:
        while path[:-1] in songs and (path in songs or path[-1] in inside[path[:-1]]):
            path = path[:-1]
        found.append(path)
    return found


def _only_name(inside: Mapping[Parts, set[str]]) -> str | None:
    """Return the name that all files have, each in a folder of its own: then it can't be a song's name."""
    names = {one for folder in inside.values() for one in folder}
    tellers = {_telling(folder) for folder in inside if folder and not emotion.is_folder(folder[-1])} - {()}
    if len(names) != 1 or len(inside) < 2 or len(tellers) < len(inside):
        return None
    only = names.pop()
    return None if _is_general(only) else only


def _words(text: str) -> list[str]:
    """Split into lower-case runs of letters, without the numbers."""
    return [word.casefold() for word in re.findall(r"[^\W\d_]+", text)]


def _are_parts(names: set[str]) -> bool:
    """Return whether the names in a folder are parts of one song; "drums 1" to "drums 9" alone are loops."""
    words = {tuple(_words(one)) for one in names}
    loops = len(names) > 1 and len(words) == 1 and set(*words) <= _INSTRUMENTS
    return not loops and all(_is_part(one) for one in names)


def _is_folder_of_pieces(folder: Parts) -> bool:
    """Return whether a folder holds the pieces of the song above it: "Song A/chunks"."""
    words = set(_words(folder[-1]))
    return bool(words) and words <= _PIECES and len(folder) > 1 and not emotion.is_folder(folder[-2])


def _is_part(stem: str) -> bool:
    """Return whether a name says only which part, version or piece of a song it is."""
    words = _words(split.group(stem))
    if not words:
        return False
    numbered = any(letter.isdigit() for letter in stem)
    if any(word in _PIECES for word in words):
        return all(word in _PIECES | _ROLES for word in words)
    if len(words) == 1 and words[0] == "s":
        return numbered  # S00, as Slakh calls its stems
    return all(word in _ROLES for word in words) and not (numbered and set(words) <= _GENERAL)


def _is_general(stem: str) -> bool:
    """Return whether a name is a number, or a general word, which every folder may use for another song."""
    words = _words(stem)
    numbered = any(letter.isdigit() for letter in stem)
    return (numbered and set(words) <= _GENERAL) or _is_part(stem)


def _in_their_folders(paths: Sequence[Parts]) -> list[str]:
    """Return the songs by name, with the folder before general names where several folders share one."""
    folders = [_telling(path[:-1]) for path in paths]
    places: dict[str, set[Parts]] = defaultdict(set)
    for path, folder in zip(paths, folders, strict=True):
        if _is_general(path[-1]):
            places[split.normal_form(path[-1])].add(folder)
    shared = {folder for several in places.values() if len(several) > 1 for folder in several}
    songs = []
    for path, folder in zip(paths, folders, strict=True):
        song = split.group(path[-1])
        songs.append("/".join((*folder, song)) if folder in shared and _is_general(song) else song)
    return songs


def _telling(folders: Parts) -> Parts:
    """Return the folders that tell one song from another."""
    return tuple(one for one in folders if not set(_words(one)) <= _FORMATS | _INSTRUMENTS or not _words(one))


# ------------------------------------------------------------------ names that are one song


def _links(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the indexes that share a key, for each key of several."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            found[key].append(index)
    return [indexes for indexes in found.values() if len(indexes) > 1]


def _same_spelling(songs: Sequence[str]) -> list[list[int]]:
    return _links(split.normal_form(song) for song in songs)


def _same_title(songs: Sequence[str], paths: Sequence[Parts]) -> list[list[int]]:
    """Link a title with another number before it, in another folder or as a version of it."""
    titles: list[str | None] = []
    for song in songs:
        of_album = _OF_ALBUM.match(song)
        title = f"{of_album[1]} {of_album[2]}" if of_album else _TRACK_NUMBER.sub("", song)
        titles.append(split.normal_form(title) if "/" not in song and not _is_general(title) else None)
    links = []
    for indexes in _links(titles):
        numbered = any(_TRACK_NUMBER.match(songs[index]) for index in indexes)
        folders = {paths[index][:-1] for index in indexes}
        version = any(split.group(paths[index][-1]) != paths[index][-1] for index in indexes)
        albums = all(_OF_ALBUM.match(songs[index]) for index in indexes)
        if albums or (numbered and (version or len(folders) > 1)):
            links.append(indexes)
    return links


def _copies_and_stems(songs: Sequence[str], paths: Sequence[Parts]) -> list[list[int]]:
    """Link "Song.1" with "Song", and "Song_vocals" with "Song_drums", inside one folder."""
    there = {(*path[:-1], song): index for index, (path, song) in enumerate(zip(paths, songs, strict=True))}
    links = []
    stems: list[Hashable] = []
    for index, (path, song) in enumerate(zip(paths, songs, strict=True)):
        copy = _COPY_NUMBER.match(song)
        if copy and (*path[:-1], copy[1]) in there:
            links.append([there[(*path[:-1], copy[1])], index])
        base = _INSTRUMENT.sub("", song)
        if base not in ("", song) and song[len(base)] != " " and (*path[:-1], base) in there:
            links.append([there[(*path[:-1], base)], index])
        stems.append((_telling(path[:-1]), split.normal_form(base)) if base not in ("", song) else None)
    for indexes in _links(stems):
        base = _INSTRUMENT.sub("", songs[indexes[0]])
        whole = [there[key] for index in indexes if (key := (*paths[index][:-1], base)) in there]
        links.append([*indexes, *whole])
    return links
