"""On which side each clip of a set stands: by the user's rule, else by its artist, else by its song.

Clips with the same sound stand on one side, whatever their names. That no artist stands on two sides is said
only where the artist of every clip is known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kwela.corpus.pairs import group_by, scan, songs, split
from kwela.corpus.tagged import proxy_score
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import UserError

_BETWEEN_ARTISTS = re.compile(
    r"\s*[,;/&+]\s*|\s+(?:x|and|und|et|y|e|vs\.?|with|feat\.?|ft\.?)\s+", re.IGNORECASE
)


class Sides(NamedTuple):
    """The split of N clips."""

    groups: list[str]  # (N,) what the hash of the split reads: an artist or a song
    sides: list[str]  # (N,) "train", "val" or "test"
    report: dict[str, Any]  # the entries of dataset_report.json
    lines: list[str]  # what a terminal says


def divide(clips: Sequence[Clip], sounds: Sequence[str], rule: str | None, seed: int) -> Sides:
    """Split the clips.

    sounds: a hash of each clip's samples, "" for silence. rule: the user's own of what a song is
    (`kwela.corpus.pairs.group_by`). Raises UserError where all clips are one group, so that training or
    validation would be empty, and as `group_by.parse_rule`.
    """
    names = [[scan.path_stem(Path(clip.path), Path())] for clip in clips]
    found = [scan.printable(song) for song in group_by.parse_rule(rule)(names)]
    if rule is None:
        found = [clip.artist or song for clip, song in zip(clips, found, strict=True)]
    groups, copies, joined = _join_copies(found, sounds)
    if len({split.normal_form(group) for group in groups}) < 2:
        raise UserError(_one_group(clips, groups, rule))
    sides = proxy_score.sides(groups, seed)
    known = sum(bool(clip.artist) for clip in clips)
    torn = _torn_artists(clips, sides)
    report = {
        "group_by": rule,
        "groups": len({split.normal_form(group) for group in groups}),
        "artists_known": known,
        "artists_on_two_sides": torn,
        "copies": [[scan.printable(clips[index].path) for index in one] for one in copies],
    }
    lines = [*_copy_lines(copies, joined), _line(len(clips), known, torn, report)]
    if "test" not in sides:
        lines.append("The test side is empty: three sides take three groups")
    return Sides(groups, sides, report, lines)


def _join_copies(groups: list[str], sounds: Sequence[str]) -> tuple[list[str], list[list[int]], bool]:
    """Return the groups, joined where clips have the same sound; those clips; and whether they were joined.

    Where all groups would be one, they stay.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for index, sound in enumerate(sounds):
        if sound:
            same[sound].append(index)
    copies = [indexes for indexes in same.values() if len({groups[index] for index in indexes}) > 1]
    joined = songs.join(groups, copies)
    useful = len(set(joined)) > 1
    return joined if useful else groups, copies, useful


def _copy_lines(copies: list[list[int]], joined: bool) -> list[str]:
    if not copies:
        return []
    if not joined:
        return [
            "WARNING: all clips have one sound: their names alone split them, so validation tells nothing"
        ]
    count = sum(len(one) for one in copies)
    return [f"{count} clips have the same sound as others: each stands on its copies' side"]


def _torn_artists(clips: Sequence[Clip], sides: Sequence[str]) -> list[str]:
    """Return the artists whose clips stand on several sides; of "Ann & Bob", both are looked at."""
    of: dict[str, set[str]] = defaultdict(set)
    for clip, side in zip(clips, sides, strict=True):
        for name in _BETWEEN_ARTISTS.split(clip.artist):
            if name:
                of[split.normal_form(name)].add(side)
    return sorted(artist for artist, held in of.items() if len(held) > 1)


def _line(clips: int, known: int, torn: list[str], report: dict[str, Any]) -> str:
    """Return one line on what was split, and what was checked of the artists."""
    what = f"Split {report['groups']} groups"
    if known < clips:
        lacking = "no clip" if known == 0 else f"{known} of {clips} clips"
        return f"{what}: {lacking} names an artist, so an artist may stand on two sides (songs do not)"
    if torn:
        return f"{what}: {len(torn)} artists stand on two sides, such as {torn[0]}"
    return f"{what}: no artist on two sides"


def _one_group(clips: Sequence[Clip], groups: Sequence[str], rule: str | None) -> str:
    count = f"{len(clips)} clip{'s' * (len(clips) != 1)}"
    kind = "group" if rule else "artist" if all(clip.artist for clip in clips) else "song"
    return (
        f"all that is left ({count}) counts as one {kind}, {groups[0]!r}: training and validation need "
        "one each; add clips, name artists (--tags with an artist column), or say what belongs together with "
        "--group-by (stem, folder, a pattern or a CSV)"
    )
