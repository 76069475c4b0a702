"""The folders of an authenticity judgement, heard: features of every clip, who made it, and what stands there twice.

- One recording in two folders is found by its decoded audio. A sample that is a reference or contrast clip is left
  out and said so: it would be scored by what it trained. A clip in both of those is left out of both.
- A sample that repeats another one stays and doesn't count as authentic: else one good clip, copied, would be a score.
- Features are kept in memory for the life of the process, by path, size and time of change.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kwela.errors import UserError
from kwela.judge import audio_features, clips

SHORTEST = 5.0  # seconds of audio that can be judged
QUICK = 150  # clips taken of a folder with --quick

_heard: dict[tuple[str, int, int], list[Any]] = {}


@dataclass(frozen=True)
class Clip:
    path: Path
    prompt: str  # what pairs it with the base model's: its path in its folder, less the extension
    artist: str
    digest: str
    seconds: float  # of audio that were there, at most 10
    features: np.ndarray  # (30,)
    copy: bool = False  # of an earlier clip of its folder

    @property
    def judgeable(self) -> bool:
        return self.seconds >= SHORTEST and not self.copy


@dataclass(frozen=True)
class Folder:
    """What is judged of a folder. left_out: file -> why. unreadable: how many of those don't decode."""

    name: str
    clips: list[Clip]
    left_out: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def features(self) -> np.ndarray:
        """(N, 30) float64."""
        return np.array([clip.features for clip in self.clips]).reshape(-1, len(audio_features.NAMES))

    @property
    def judgeable(self) -> np.ndarray:
        """(N,) bool."""
        return np.array([clip.judgeable for clip in self.clips], bool)

    def artists(self) -> list[str]:
        return [clip.artist for clip in self.clips]

    def without(self, digests: set[str], why: str) -> Folder:
        gone = {str(clip.path): why for clip in self.clips if clip.digest in digests}
        return replace(self, clips=[c for c in self.clips if c.digest not in digests], left_out=self.left_out | gone)


def hear(
    places: dict[str, Path], artists: dict[str, str] | None = None, quick: bool = False, seed: int = 0
) -> dict[str, Folder]:
    """{name: folder} of {name: place}, with the features of every clip that can be decoded.

    quick: at most 150 clips a folder, the same names in each for a seed, artists in turn. Raises UserError naming a
    folder that is missing or holds nothing readable.
    """
    found = {name: clips.find(place) for name, place in places.items()}
    if quick:
        found = {name: _some(paths, artists, seed, name) for name, paths in found.items()}
    keys = {path: _key(path) for paths in found.values() for path in paths}
    new = list(dict.fromkeys(path for path, key in keys.items() if key not in _heard))
    got, failed = clips.each(measure, new, "listening", quiet=len(new) < 20)
    _heard.update({keys[path]: result for path, result in got.items()})
    folders = {}
    for name, paths in found.items():
        left_out = {str(path): failed[path] for path in paths if path in failed}
        if len(left_out) == len(paths):
            raise UserError(f"{places[name]}: no clip in it is readable; first: {next(iter(left_out.values()))}")
        kept = [_clip(path, places[name], artists, _heard[keys[path]]) for path in paths if path not in failed]
        folders[name] = Folder(name, kept, left_out, len(left_out))
    return folders


def measure(path: Path) -> list[Any]:
    """[digest, seconds, features] of a file, as JSON values."""
    wave = clips.load(path)
    found = audio_features.features(clips.alike(wave))
    return [clips.digest(wave), len(wave) / clips.RATE, found.tolist()]


def apart(folders: dict[str, Folder]) -> tuple[dict[str, Folder], dict[str, Any]]:
    """The folders without what they share, and {what: count or names} of what was found.

    Training folders (reference, contrast) also lose repeats and clips of less than 5 s; of the others, repeats stay
    and are marked.
    """
    held = {name: {clip.digest for clip in folder.clips} for name, folder in folders.items()}
    contrast, reference = held["contrast"], held.get("reference", set())
    report: dict[str, Any] = {}
    result = {}
    for name, folder in folders.items():
        training = name in ("reference", "contrast")
        for other in ("reference", "contrast"):
            if other == name or other not in held:
                continue
            shared = held[name] & held[other]
            names = sorted(clip.path.name for clip in folder.clips if clip.digest in shared)
            if names:
                report[f"{name}_in_{other}"] = names
        foreign = (contrast & reference) if training else (contrast | reference)
        kept = folder.without(foreign & held[name], "the same audio stands in another folder")
        kept = replace(kept, clips=_marked(kept.clips))
        if repeated := sorted(clip.path.name for clip in kept.clips if clip.copy):
            report[f"{name}_repeated"] = repeated
        if training:
            bad = {str(c.path): "a repeat, or under 5 s" for c in kept.clips if not c.judgeable}
            kept = replace(kept, clips=[c for c in kept.clips if c.judgeable], left_out=kept.left_out | bad)
        if short := sorted(clip.path.name for clip in folder.clips if clip.seconds < SHORTEST):
            report[f"{name}_under_5_s"] = short
        result[name] = kept
    if "base" in held and (same := held["samples"] & held["base"]):
        report["samples_equal_to_base"] = sorted(c.path.name for c in folders["samples"].clips if c.digest in same)
    return result, report


def _marked(found: list[Clip]) -> list[Clip]:
    seen: Counter[str] = Counter()
    marked = []
    for clip in found:
        marked.append(replace(clip, copy=seen[clip.digest] > 0))
        seen[clip.digest] += 1
    return marked


def _clip(path: Path, place: Path, artists: dict[str, str] | None, heard: list[Any]) -> Clip:
    digest, seconds, found = heard
    prompt = path.relative_to(place).with_suffix("").as_posix()
    return Clip(path, prompt, clips.artist(path, artists), digest, seconds, np.array(found))


def _key(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:  # a dangling link: reading it will say so
        return str(path.absolute()), 0, 0
    return str(path.resolve()), state.st_mtime_ns, state.st_size


def _some(paths: list[Path], artists: dict[str, str] | None, seed: int, name: str) -> list[Path]:
    """The first 150 by a hash of seed and name; of training folders each artist's first clips before any's second."""
    order = sorted(paths, key=lambda path: hashlib.sha256(f"{seed}\0{path.stem}".encode()).digest())
    turn: Counter[str] = Counter()
    rank = {}
    for path in order:
        who = clips.artist(path, artists) if name in ("reference", "contrast") else ""
        rank[path] = turn[who] if who else 0
        turn[who] += 1
    return sorted(sorted(order, key=lambda path: rank[path])[:QUICK])
