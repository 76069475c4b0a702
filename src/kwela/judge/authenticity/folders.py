"""The folders of an authenticity judgement, heard: features of every clip, who made it, and what stands there twice.

- One recording in two folders is found by its decoded audio. A sample that is a reference or contrast clip is left
  out and said so: it would be scored by what it trained. A clip in both of those is left out of both.
- A sample that repeats another one, or shares a long stretch with a reference clip (`copies`), stays and doesn't count
  as authentic: else one good clip, copied, would be a score.
- All files are compared before --quick draws some. What was heard is kept in memory for the life of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kwela.errors import UserError
from kwela.judge.authenticity import features as audio_features
from kwela.judge.shared import clips, copies

SHORTEST = 5.0  # seconds of audio that can be judged
QUICK = 150  # clips taken of a folder with --quick
CHANCE = 100  # reference clips a half, from which is known what clips share by chance
LEARNT = ("reference", "contrast")  # the folders that train the evaluator

_heard: dict[tuple[object, ...], Any] = {}


@dataclass(frozen=True)
class Clip:
    path: Path
    prompt: str  # what pairs it with the base model's: its path in its folder, less the extension
    artist: str
    digest: str
    seconds: float  # of audio that were there, at most 10
    copied: str = ""  # what it is a copy of
    features: np.ndarray | None = None  # (30,), once measured

    @property
    def judgeable(self) -> bool:
        return self.seconds >= SHORTEST and not self.copied


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
        return np.array([clip.features for clip in self.clips], float).reshape(-1, len(audio_features.NAMES))

    @property
    def judgeable(self) -> np.ndarray:
        """(N,) bool."""
        return np.array([clip.judgeable for clip in self.clips], bool)

    def artists(self) -> list[str]:
        return [clip.artist for clip in self.clips]

    def keeping(self, kept: list[Clip], why: str) -> Folder:
        """Only those clips; why: of what is left out."""
        lost = {clip.path for clip in self.clips} - {clip.path for clip in kept}
        return replace(self, clips=kept, left_out=self.left_out | {str(path): why for path in sorted(lost)})


Report = dict[str, Any]  # what was found: names of clips


def hear(
    places: dict[str, Path], artists: dict[str, str] | None = None, quick: bool = False, seed: int = 0
) -> tuple[dict[str, Folder], Report]:
    """{name: folder} of {name: place} without what they share, with the features of every clip, and what was found.

    quick: at most 150 clips a folder, the same names in each for a seed, artists in turn. Raises UserError naming a
    folder that is missing or holds nothing readable.
    """
    folders, report = apart({name: _listed(name, place, artists) for name, place in places.items()})
    if quick:
        folders = {name: _some(folder, seed) for name, folder in folders.items()}
    every = [clip.path for folder in folders.values() for clip in folder.clips]
    found, failed = _each(measure, every, "listening")
    for name, folder in folders.items():
        measured = [
            replace(clip, features=np.array(found[clip.path])) for clip in folder.clips if clip.path in found
        ]
        lost = {str(clip.path): failed[clip.path] for clip in folder.clips if clip.path in failed}
        folders[name] = replace(folder, clips=measured, left_out=folder.left_out | lost,
                                unreadable=folder.unreadable + len(lost))  # fmt: skip
    if "reference" in folders and "samples" in folders:
        folders["samples"], near = near_copies(folders["samples"], folders["reference"], seed)
        report |= near
    return folders, report


def identify(path: Path) -> list[Any]:
    """[digest, seconds] of a file's middle."""
    wave = clips.load_middle(path)
    return [clips.audio_hash(wave), len(wave) / clips.RATE]


def measure(path: Path) -> list[float]:
    return audio_features.features(clips.load_standard(path)).tolist()


def apart(folders: dict[str, Folder]) -> tuple[dict[str, Folder], Report]:
    """The folders without what they share, and the names of what was found.

    What trains the evaluator also loses repeats and clips of less than 5 s; of the others, repeats stay and are marked.
    """
    held = {name: {clip.digest for clip in folder.clips} for name, folder in folders.items()}
    contrast, reference = (held.get(name, set()) for name in ("contrast", "reference"))
    report: dict[str, list[Clip]] = {}
    result = {}
    for name, folder in folders.items():
        for other in LEARNT:
            if other != name and other in held:
                report[f"{name}_in_{other}"] = [clip for clip in folder.clips if clip.digest in held[other]]
        foreign = (contrast & reference) if name in LEARNT else (contrast | reference)
        own = [clip for clip in folder.clips if clip.digest not in foreign]
        first: dict[str, Clip] = {}
        marked = [
            clip
            if (one := first.setdefault(clip.digest, clip)) is clip
            else replace(clip, copied=one.path.name)
            for clip in own
        ]
        result[name] = replace(folder.keeping(own, "the same audio stands in another folder"), clips=marked)
        report[f"{name}_repeated"] = [clip for clip in marked if clip.copied]
        report[f"{name}_under_5_s"] = [clip for clip in folder.clips if clip.seconds < SHORTEST]
        if name in LEARNT:
            judgeable = [clip for clip in marked if clip.judgeable]
            result[name] = result[name].keeping(judgeable, "a repeat, or under 5 s")
    if "base" in held and "samples" in held:
        report["samples_equal_to_base"] = [
            one for one in folders["samples"].clips if one.digest in held["base"]
        ]
    return result, {what: sorted(clip.path.name for clip in found) for what, found in report.items() if found}


def near_copies(samples: Folder, reference: Folder, seed: int) -> tuple[Folder, Report]:
    """The samples, marked where one shares a longer stretch with a reference clip than chance gives.

    Chance is what reference clips share with those of other artists: up to 100 of one half of the artists beside as
    many of the other's.
    """
    rng = np.random.default_rng(seed)
    artists = rng.permutation(sorted(set(reference.artists()))).tolist()
    first = set(artists[: len(artists) // 2])
    mixed = [reference.clips[k] for k in rng.permutation(len(reference))]
    halves = [[clip for clip in mixed if (clip.artist in first) == side][:CHANCE] for side in (True, False)]
    if not all((samples.clips, *halves)):
        return samples, {}
    heard, _ = _each(
        copies.chroma_of_file, [clip.path for clip in [*samples.clips, *reference.clips]], "reading chroma"
    )
    known, asked, *parts = (
        [heard.get(c.path, []) for c in mine] for mine in (reference.clips, samples.clips, *halves)
    )
    chance = [
        one.seconds
        for pair in (parts, parts[::-1])
        for one in copies.longest_shared_stretches(pair[0], pair[1])
    ]
    bar, longest = copies.copy_threshold(chance), max((clip.seconds for clip in samples.clips), default=0.0)
    if bar >= copies.MAX_CHANCE_SHARE * longest:
        return samples, {
            "near_copies": f"not measured: reference clips share {max(chance):.1f} s with other artists'"
        }
    marked, names = [], []
    for clip, shared in zip(
        samples.clips, copies.longest_shared_stretches(asked, known, "Looking for copies"), strict=True
    ):
        if shared.seconds > bar and not clip.copied:
            source = reference.clips[shared.other].path.name
            names.append(f"{clip.path.name} ({shared.seconds:.1f} s of {source})")
            clip = replace(clip, copied=source)
        marked.append(clip)
    return replace(samples, clips=marked), {"samples_near_reference": names} if names else {}


def _listed(name: str, place: Path, artists: dict[str, str] | None) -> Folder:
    """A folder's clips, identified; nothing measured yet."""
    paths = clips.find_audio_files(place)
    found, failed = _each(identify, paths, f"reading {name}")
    if not found:
        raise UserError(f"{place}: no clip in it is readable; first: {next(iter(failed.values()))}")
    kept = [
        Clip(
            path,
            path.relative_to(place).with_suffix("").as_posix(),
            clips.artist_of(path, artists),
            *found[path],
        )
        for path in paths
        if path in found
    ]
    return Folder(name, kept, {str(path): why for path, why in failed.items()}, len(failed))


def _some(folder: Folder, seed: int) -> Folder:
    who = {clip.path: clip.artist for clip in folder.clips}
    chosen = set(
        clips.choose_files(list(who), QUICK, seed, who.__getitem__ if folder.name in LEARNT else None)
    )
    return replace(folder, clips=[clip for clip in folder.clips if clip.path in chosen])


def _each(
    function: Callable[[Path], Any], paths: list[Path], label: str
) -> tuple[dict[Path, Any], dict[Path, str]]:
    """As `clips.each`, of what hasn't been heard before: by path, size and time of change."""
    keys = {path: (function, *_key(path)) for path in paths}
    found, failed = clips.map_files(
        function, [path for path, key in keys.items() if key not in _heard], label
    )
    _heard.update({keys[path]: result for path, result in found.items()})
    return {path: _heard[key] for path, key in keys.items() if path not in failed}, failed


def _key(path: Path) -> tuple[Path, int, int]:
    if not path.exists():  # a dangling link: reading it will say so
        return path, 0, 0
    return path.resolve(), path.stat().st_mtime_ns, path.stat().st_size
