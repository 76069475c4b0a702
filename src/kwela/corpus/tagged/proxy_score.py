"""The proxy score: how near a tagged clip's tags come to a style that no data set holds.

A score is the number of distinct *groups* of synonyms among a clip's tags, so that "drum" and "drums" count
once. Ties are ranked by the weights of the tags, then by how few tags speak against the style ("no drums").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kwela.corpus.pairs import split
from kwela.errors import UserError

# Words of the playbook's that nobody used in MagnaTagATune's game: named where a data set lacks them.
PLAYBOOK_TAGS = ("bassline", "chords", "groove", "chill", "soulful")


class Clip(NamedTuple):
    """A tagged clip of a collection."""

    clip_id: str
    path: str  # as the data set names it
    tags: tuple[str, ...]  # all its tags, not only the configured ones
    artist: str  # "" where it is not known


class Scores(NamedTuple):
    """Of N clips: score (N,) int, and what ranks ties: weight (N,) float, against (N,) int."""

    score: np.ndarray
    weight: np.ndarray
    against: np.ndarray


def score(
    clips: Sequence[Clip],
    groups: Mapping[str, Sequence[str]],
    negatives: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
) -> Scores:
    """Score every clip. A tag's weight is 1 unless given."""
    weights = weights or {}
    of = {tag: name for name, tags in groups.items() for tag in tags}
    bad = frozenset(negatives)
    found = np.zeros(len(clips), np.int64)
    weight, against = np.zeros(len(clips)), np.zeros(len(clips), np.int64)
    for index, clip in enumerate(clips):
        hits = [tag for tag in clip.tags if tag in of]
        found[index] = len({of[tag] for tag in hits})
        weight[index] = sum(weights.get(tag, 1.0) for tag in hits)
        against[index] = sum(tag in bad for tag in clip.tags)
    return Scores(found, weight, against)


def choose(clips: Sequence[Clip], scores: Scores, at_least: int, limit: int, per_artist: int) -> list[int]:
    """Return indexes of the chosen clips, best first.

    The order is by score, then weight, then fewest negatives, then the order of the clips.

    per_artist: of one artist's clips no more than these, where the artist is known. Raises UserError if no
    clip reaches `at_least`.
    """
    if at_least > scores.score.max(initial=0):
        raise UserError(
            f"no clip has {at_least} of the tag groups; "
            f"the most is {scores.score.max(initial=0)}: lower --min-tags"
        )
    order = np.lexsort((np.arange(len(clips)), scores.against, -scores.weight, -scores.score))
    taken: Counter[str] = Counter()
    chosen: list[int] = []
    for index in order[scores.score[order] >= at_least]:
        if len(chosen) == limit:
            break
        artist = clips[index].artist or clips[index].path
        if taken[artist] < per_artist:
            taken[artist] += 1
            chosen.append(int(index))
    return chosen


def sides(groups: Sequence[str], seed: int, validation: float = 0.1, test: float = 0.1) -> list[str]:
    """Return "train", "val" or "test" for each clip, by its group's hash: no group stands on two sides.

    Where hashes leave a side empty, the groups with the smallest hashes fill it, if there are three. Of two,
    the one with the smaller hash is for validation and the other for training. One is for training.
    """
    keys = [split.normal_form(group) for group in groups]
    places = {key: split.position(key, seed) for key in keys}
    side = {
        a: "val" if at < validation else "test" if at < validation + test else "train"
        for a, at in places.items()
    }
    order = sorted(side, key=lambda key: (places[key], key))
    if len(side) < 3:
        side = dict(zip(order[::-1], ("train", "val"), strict=False))
    for name in ("val", "test", "train") if len(side) >= 3 else ():
        if name not in side.values():
            counts = Counter(side.values())
            side[next(key for key in order if counts[side[key]] > 1)] = name
    return [side[key] for key in keys]


def distribution(scores: np.ndarray, at_least: int) -> list[tuple[int, int]]:
    """(score, clips) from the highest down to `at_least`."""
    values, counts = np.unique(scores[scores >= at_least], return_counts=True)
    return [(int(value), int(count)) for value, count in zip(values[::-1], counts[::-1], strict=True)]
