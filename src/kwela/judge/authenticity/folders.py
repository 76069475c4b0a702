"""Read the folders of an authenticity judgement: every clip's features and artist, and repeats.

- One recording in two folders is found by its decoded audio. A sample that is a reference or contrast clip is
  left out and named, because the classifier was trained on it. A clip in both of those folders is left out of
  both.
- A sample that repeats another one, or shares a long stretch with a reference clip (`copies`), stays and does
  not count as authentic. Otherwise one good clip, copied many times, would make a score.
- All files are compared before --quick draws some. Then all clips are brought into one form
  (`standard_form`), so that none differs by its length, bandwidth or level. Results are kept in memory for
  the life of the process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kwela.errors import UserError
from kwela.judge.authenticity import features as audio_features
from kwela.judge.authenticity import standard_form
from kwela.judge.authenticity.standard_form import FULL_FORM, MIN_SECONDS, Recording, StandardForm
from kwela.judge.shared import clips, copies

QUICK_CLIP_COUNT = 150  # clips of a folder with --quick
CHANCE_CLIP_COUNT = 100  # reference clips a half, which show what clips share by chance
TRAINING_SIDES = ("reference", "contrast")  # the folders that train the classifier

_results: dict[tuple[object, ...], Any] = {}  # of each function and file, by `_key`


@dataclass(frozen=True)
class Clip:
    """A clip of a folder. features: (30,), None until they are measured."""

    path: Path
    prompt: str  # pairs it with the base model's clip: its path in its folder, without the extension
    artist: str
    digest: str
    recording: Recording  # what the file has besides its music
    copy_of: str = ""  # the name of the clip that it repeats
    features: np.ndarray | None = None

    @property
    def seconds(self) -> float:
        """The seconds of sound in the file, without silence at its ends, at most 30."""
        return self.recording.seconds

    @property
    def fault(self) -> str:
        """Why the clip can't be judged; "" if it can."""
        if self.copy_of:
            return f"it repeats {self.copy_of}"
        if self.seconds < MIN_SECONDS:
            return f"it holds {self.seconds:.1f} s of sound, under {MIN_SECONDS:g} s"
        if self.recording.bandwidth < standard_form.MIN_BANDWIDTH:
            return f"its sample rate leaves {self.recording.bandwidth:.0f} Hz of its sound"
        return ""

    @property
    def judgeable(self) -> bool:
        """Whether the clip is long enough, not too dull, and no copy."""
        return not self.fault


@dataclass(frozen=True)
class ClipFolder:
    """The clips of a folder. left_out: {file: reason}. unreadable: how many of those do not decode.

    form: the standard form in which the features were measured.
    """

    name: str
    clips: list[Clip]
    left_out: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    form: StandardForm = FULL_FORM

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    @property
    def features(self) -> np.ndarray:
        """The features of all clips, (N, 30) float64."""
        return np.array([clip.features for clip in self.clips], float).reshape(-1, len(audio_features.NAMES))

    @property
    def judgeable(self) -> np.ndarray:
        """Which clips are long enough and no copies, (N,) bool."""
        return np.array([clip.judgeable for clip in self.clips], bool)

    def artists(self) -> list[str]:
        """Return the artist of each clip."""
        return [clip.artist for clip in self.clips]

    def keep(self, kept: list[Clip], reason: str = "") -> ClipFolder:
        """Return the folder with those clips alone; `reason`, or their own fault, is noted for the others."""
        paths = {clip.path for clip in kept}
        lost = {str(clip.path): reason or clip.fault for clip in self.clips if clip.path not in paths}
        return replace(self, clips=kept, left_out=self.left_out | dict(sorted(lost.items())))


Overlaps = dict[str, Any]  # {kind of overlap: names of clips, or a sentence where it could not be measured}


def read_folders(
    places: dict[str, Path],
    artists: dict[str, str] | None = None,
    quick: bool = False,
    seed: int = 0,
    form: StandardForm | None = None,
) -> tuple[dict[str, ClipFolder], Overlaps]:
    """Return the folders, without the clips they share and with the features of the others, and the overlaps.

    places: {name: folder}. artists: as `clips.read_artists`. quick: at most 150 clips a folder, the same
    names in each for a seed, artists in turn. form: what all clips are brought to; None is what they have in
    common. Raises UserError naming a folder that is missing or holds nothing readable.
    """
    identified = {name: _identify_clips(name, place, artists) for name, place in places.items()}
    folders, overlaps = separate_folders(identified)
    if quick:
        folders = {name: _draw_clips(folder, seed) for name, folder in folders.items()}
    every = [clip for folder in folders.values() for clip in folder.clips]
    form = form or standard_form.common_form(
        [clip.recording for clip in folder.clips if clip.judgeable] for folder in folders.values()
    )
    features, failed = _map_new_files(measure_features, [clip.path for clip in every], "listening", form)
    for name, folder in folders.items():
        measured = [
            replace(clip, features=np.array(features[clip.path]))
            for clip in folder.clips
            if clip.path in features
        ]
        lost = {str(clip.path): failed[clip.path] for clip in folder.clips if clip.path in failed}
        folders[name] = replace(
            folder,
            clips=measured,
            left_out=folder.left_out | lost,
            unreadable=folder.unreadable + len(lost),
            form=form,
        )
    if "reference" in folders and "samples" in folders:
        folders["samples"], near = mark_near_copies(folders["samples"], folders["reference"], seed)
        overlaps |= near
    return folders, overlaps


def identify_file(path: Path) -> list[Any]:
    """Return [hash of the decoded middle, [what the file has besides its music]].

    The second is a `Recording`. Raises as `clips.load_middle`.
    """
    digest = clips.audio_hash(clips.load_middle(path))
    return [digest, list(standard_form.describe_file(path))]


def measure_features(path: Path, form: StandardForm) -> list[float]:
    """Return the 30 blurred features of a file in the standard form. Raises as `clips.load_middle`."""
    return audio_features.blurred_features(standard_form.load(path, form)).tolist()


def separate_folders(folders: dict[str, ClipFolder]) -> tuple[dict[str, ClipFolder], Overlaps]:
    """Return the folders without the clips they share, and the names of those clips and of repeats.

    The folders that train the classifier also lose repeats and clips of less than 5 s. In the others, repeats
    stay and are marked.
    """
    digests = {name: {clip.digest for clip in folder.clips} for name, folder in folders.items()}
    contrast, reference = (digests.get(name, set()) for name in ("contrast", "reference"))
    overlaps: dict[str, list[Clip]] = {}
    separate = {}
    for name, folder in folders.items():
        for other in TRAINING_SIDES:
            if other != name and other in digests:
                repeated = [clip for clip in folder.clips if clip.digest in digests[other]]
                overlaps[f"{name}_in_{other}"] = repeated
        foreign = (contrast & reference) if name in TRAINING_SIDES else (contrast | reference)
        kept = [clip for clip in folder.clips if clip.digest not in foreign]
        marked = _mark_repeats(kept)
        separate[name] = replace(folder.keep(kept, "the same audio stands in another folder"), clips=marked)
        overlaps[f"{name}_repeated"] = [clip for clip in marked if clip.copy_of]
        overlaps[f"{name}_under_5_s"] = [clip for clip in folder.clips if clip.seconds < MIN_SECONDS]
        if name in TRAINING_SIDES:
            judgeable = [clip for clip in marked if clip.judgeable]
            separate[name] = separate[name].keep(judgeable)
    if "base" in digests and "samples" in digests:
        equal = [clip for clip in folders["samples"].clips if clip.digest in digests["base"]]
        overlaps["samples_equal_to_base"] = equal
    return separate, {
        kind: sorted(clip.path.name for clip in some) for kind, some in overlaps.items() if some
    }


def _mark_repeats(clips_of_folder: list[Clip]) -> list[Clip]:
    """Mark every clip whose audio an earlier one has."""
    first: dict[str, Clip] = {}
    marked = []
    for clip in clips_of_folder:
        original = first.setdefault(clip.digest, clip)
        marked.append(clip if original is clip else replace(clip, copy_of=original.path.name))
    return marked


def mark_near_copies(samples: ClipFolder, reference: ClipFolder, seed: int) -> tuple[ClipFolder, Overlaps]:
    """Mark the samples that share a longer stretch with a reference clip than chance gives.

    Chance is what reference clips share with those of other artists: up to 100 of one half of the artists
    beside as many of the other half.
    """
    halves = _halves_by_artist(reference, seed)
    if not all((samples.clips, *halves)):
        return samples, {}
    paths = [clip.path for clip in [*samples.clips, *reference.clips]]
    chroma, _ = _map_new_files(copies.chroma_of_file, paths, "reading chroma")
    of_reference, of_samples, first, second = (
        [chroma.get(clip.path, []) for clip in some] for some in (reference.clips, samples.clips, *halves)
    )
    longest = max(map(len, of_samples)) * copies.HOP_SECONDS
    by_chance = [
        stretch
        for queries, others in ((first, second), (second, first))
        for stretch in copies.longest_shared_stretches(
            [copies.middle_seconds(clip, longest) for clip in queries], others
        )
    ]
    chance = [stretch.seconds for stretch in by_chance]
    threshold = copies.copy_threshold(chance)
    if threshold >= copies.MAX_CHANCE_SHARE * max((clip.seconds for clip in samples.clips), default=0.0):
        reason = f"not measured: reference clips share {max(chance):.1f} s with other artists'"
        return samples, {"near_copies": reason}
    marked, names = [], []
    stretches = copies.longest_shared_stretches(of_samples, of_reference, "Looking for copies")
    for clip, stretch in zip(samples.clips, stretches, strict=True):
        if stretch.seconds > threshold and not clip.copy_of:
            source = reference.clips[stretch.other].path.name
            names.append(f"{clip.path.name} ({stretch.seconds:.1f} s of {source})")
            clip = replace(clip, copy_of=source)
        marked.append(clip)
    return replace(samples, clips=marked), {"samples_near_reference": names} if names else {}


def _halves_by_artist(reference: ClipFolder, seed: int) -> list[list[Clip]]:
    """Draw up to 100 clips of one half of the artists, and up to 100 of the other half."""
    rng = np.random.default_rng(seed)
    artists = rng.permutation(sorted(set(reference.artists()))).tolist()
    first = set(artists[: len(artists) // 2])
    mixed = [reference.clips[k] for k in rng.permutation(len(reference))]
    return [
        [clip for clip in mixed if (clip.artist in first) == side][:CHANCE_CLIP_COUNT]
        for side in (True, False)
    ]


def _identify_clips(name: str, place: Path, artists: dict[str, str] | None) -> ClipFolder:
    """Return a folder's clips with artist, hash and duration, before their features are measured."""
    paths = clips.find_audio_files(place)
    identified, failed = _map_new_files(identify_file, paths, f"reading {name}")
    if not identified:
        raise UserError(f"{place}: no clip in it is readable; first: {next(iter(failed.values()))}")
    kept = []
    for path in (path for path in paths if path in identified):
        prompt = path.relative_to(place).with_suffix("").as_posix()
        digest, recording = identified[path]
        kept.append(Clip(path, prompt, clips.artist_of(path, artists), digest, Recording(*recording)))
    return ClipFolder(name, kept, {str(path): reason for path, reason in failed.items()}, len(failed))


def _draw_clips(folder: ClipFolder, seed: int) -> ClipFolder:
    artist = {clip.path: clip.artist for clip in folder.clips}
    in_turn = artist.__getitem__ if folder.name in TRAINING_SIDES else None
    chosen = set(clips.choose_files(list(artist), QUICK_CLIP_COUNT, seed, in_turn))
    return replace(folder, clips=[clip for clip in folder.clips if clip.path in chosen])


def _map_new_files(
    function: Callable[..., Any], paths: list[Path], label: str, form: StandardForm | None = None
) -> tuple[dict[Path, Any], dict[Path, str]]:
    """Return what `clips.map_files` returns, without reading files again.

    A file is the same if its path, size and time of change are. form: the function's second argument.
    """
    keys = {path: (function, form, *_key(path)) for path in paths}
    unread = [path for path, key in keys.items() if key not in _results]
    results, failed = clips.map_files(
        functools.partial(function, form=form) if form else function, unread, label
    )
    _results.update({keys[path]: result for path, result in results.items()})
    return {path: _results[key] for path, key in keys.items() if path not in failed}, failed


def _key(path: Path) -> tuple[Path, int, int]:
    if not path.exists():  # a dangling link, which reading reports
        return path, 0, 0
    return path.resolve(), path.stat().st_mtime_ns, path.stat().st_size
