"""A training set out of a large tagged collection: choose by proxy score, copy, decode, measure, split, report.

    OUT/audio/<clip_id>.mp3   training_metadata.csv   dataset_report.json   score_histogram.png

Every chosen clip is decoded from end to end; one that doesn't is left out with its reason. A killed build goes on where
it stopped. The metadata appears last, so where it stands the set is whole.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kwela import files, plots, tables
from kwela.corpus import parallel
from kwela.corpus.tagged import proxy_score
from kwela.corpus.tagged.archive import Archive, DamagedPart, find_parts
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import KwelaError, UserError
from kwela.music import audio

METADATA, REPORT, HISTOGRAM = "training_metadata.csv", "dataset_report.json", "score_histogram.png"
COLUMNS = ("clip_id", "file_path", "amapiano_proxy_score", "tags", "duration", "split", "artist")
_JOURNAL = ".proxy_clips.journal"
_SPARE = 200 << 20  # bytes of disk left free beyond what is copied


@dataclass(frozen=True)
class Choice:
    """What makes one set of many: the figures of the config and the command line."""

    groups: Mapping[str, Sequence[str]]
    negatives: Sequence[str]
    weights: Mapping[str, float]
    at_least: int
    limit: int
    per_artist: int
    seed: int

    @property
    def tags(self) -> list[str]:
        """Every configured tag once, in order."""
        return list(dict.fromkeys(tag for tags in (*self.groups.values(), self.negatives) for tag in tags))


@dataclass(frozen=True)
class Source:
    """Where a collection's audio lies: folders to look in, first to last, then an archive in one or several parts."""

    folders: tuple[Path, ...]
    parts: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> Source:
        """MagnaTagATune's: mp3/, the archive unpacked in place, mp3.zip, or its parts."""
        return cls(
            tuple(place for place in (folder / "mp3", folder) if place.is_dir()), tuple(find_parts(folder))
        )

    def has_audio(self) -> bool:
        return bool(self.parts) or any(next(place.glob("*/*.mp3"), None) for place in self.folders)

    def size(self, path: str) -> int:
        """Bytes of a clip, 0 if it is nowhere."""
        for place in self.folders:
            if (place / path).is_file():
                return (place / path).stat().st_size
        archive = _archive(self.parts)
        name = archive and _entry(archive, path)
        return archive.entries[name].file_size if archive and name else 0

    def read(self, path: str) -> bytes:
        """The bytes of a clip. Raises UserError naming what is missing, or the damaged part of the archive."""
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise UserError(f"{path}: its path leaves the data set's folder")
        for place in self.folders:
            if (place / path).is_file():
                return (place / path).read_bytes()
        archive = _archive(self.parts)
        name = archive and _entry(archive, path)
        if not archive or not name:
            raise UserError(f"{path}: not among the files")
        return archive.read(name)

    def unsafe(self) -> list[str]:
        archive = _archive(self.parts)
        return archive.unsafe if archive else []


def build(
    clips: Sequence[Clip],
    tags: Sequence[str],
    source: Source,
    out: Path,
    choice: Choice,
    *,
    collection: str = "magnatagatune",
    say: Callable[[str], None] = print,
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the set into `out` and return its report (also dataset_report.json).

    tags: the columns that the collection has, to name those that it lacks. collection: its name; `out` may hold no set
    of another. say: told the playbook's lines.
    Raises UserError if no clip qualifies or none decodes, or for another's set in `out`; KwelaError if the disk is too
    small or full.
    """
    _check_place(out, collection)
    lacking = [
        tag for tag in dict.fromkeys([*choice.tags, *proxy_score.PLAYBOOK_TAGS]) if tag not in set(tags)
    ]
    say(f"Loaded {len(clips):,} clips with {len(tags)} tag columns")
    if lacking and not choice.at_least:
        say(f"{len(lacking)} of the tags looked for are not among its own")
    elif lacking:
        say(f"Not among its tags: {', '.join(lacking)}")
    scores = proxy_score.score(clips, choice.groups, choice.negatives, choice.weights)
    chosen = proxy_score.choose(clips, scores, choice.at_least, choice.limit, choice.per_artist)
    qualifying = int((scores.score >= choice.at_least).sum())
    say(
        f"Filtered to {qualifying:,} clips with ≥{choice.at_least} Amapiano proxy tags"
        if choice.at_least
        else f"All {qualifying:,} clips qualify, whatever their tags"
    )
    say("Score distribution:")
    counted = proxy_score.distribution(scores.score, choice.at_least)
    for value, count in counted:
        say(f"  {value}: {count:,}")
    looser = {k: int((scores.score >= k).sum()) for k in range(choice.at_least - 1, 0, -1)}
    say(_limited(len(chosen), qualifying, choice, looser))

    picked = {clips[index]: int(scores.score[index]) for index in chosen}
    _check_space(source, list(picked), out)
    fetched = _fetch_all(list(picked), source, out, workers, quiet)
    kept = [clip for clip in picked if "seconds" in fetched[clip.clip_id]]
    broken = {clip.clip_id: fetched[clip.clip_id]["why"] for clip in picked if "why" in fetched[clip.clip_id]}
    if not kept:
        raise UserError(
            f"{out}: none of the {len(chosen)} chosen clips decodes; first: {next(iter(broken.values()))}"
        )
    seconds = {clip.clip_id: float(fetched[clip.clip_id]["seconds"]) for clip in kept}
    say(f"Copied {len(kept):,}/{len(chosen):,} clips...")
    say("Created training subset:")
    say(f"  - {len(kept):,} audio files copied")
    say(f"  - Estimated total duration: {sum(seconds.values()) / 3600:.1f} hours")
    for clip_id, why in list(broken.items())[:5]:
        say(f"left out: clip {clip_id}: {why}")
    if len(broken) > 5:
        say(f"left out: {len(broken) - 5} more, listed in {REPORT}")

    side = proxy_score.sides([clip.artist for clip in kept], choice.seed)
    by_split = {
        name: [clip for clip, on in zip(kept, side, strict=True) if on == name] for name in sorted(set(side))
    }
    table: list[Sequence[object]] = [COLUMNS]
    for clip, name in zip(kept, side, strict=True):
        duration, tagged = f"{seconds[clip.clip_id]:.3f}", ",".join(clip.tags)
        table.append([clip.clip_id, _file(clip), picked[clip], tagged, duration, name, clip.artist])
    report = {
        "collection": collection,
        "clips": len(clips),
        "tag_columns": len(tags),
        "tags_missing": lacking,
        "qualifying": qualifying,
        "distribution": dict(counted),
        "looser": looser,
        "chosen": len(chosen),
        "kept": len(kept),
        "broken": broken,
        "unsafe_entries": source.unsafe(),
        "hours": round(sum(seconds.values()) / 3600, 3),
        "hours_by_split": {
            name: round(sum(seconds[clip.clip_id] for clip in there) / 3600, 3)
            for name, there in by_split.items()
        },
        "clips_by_split": {name: len(there) for name, there in by_split.items()},
        "artists_by_split": {name: len({clip.artist for clip in there}) for name, there in by_split.items()},
        "unique_tags": len({tag for clip in kept for tag in clip.tags}),
        "settings": {
            "proxy_groups": {name: list(words) for name, words in choice.groups.items()},
            "negative_tags": list(choice.negatives),
            "tag_weights": dict(choice.weights),
            "min_tags": choice.at_least,
            "limit": choice.limit,
            "max_clips_per_artist": choice.per_artist,
            "seed": choice.seed,
        },
    }
    _sweep(out, {_file(clip) for clip in kept})
    _histogram(out / HISTOGRAM, counted, choice.at_least)
    files.write(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    files.write(out / METADATA, tables.csv_text(table))
    counts = ", ".join(f"{len(by_split.get(name, []))} {name}" for name in ("train", "val", "test"))
    say(f"Wrote {out / METADATA} ({counts})")
    return report


def fetch(source: Source, path: str, target: str) -> dict[str, Any]:
    """Copy one clip to `target` and decode it whole: {"seconds", "bytes"}, or {"why"} it is left out. For workers."""
    place = Path(target)
    try:
        data = source.read(path)
        files.write(place, data, durable=False)
        length = len(audio.load(place)) / audio.SAMPLE_RATE
        if length < 1:
            raise UserError(f"{path}: {length:.2f} s long")
    except DamagedPart:
        raise
    except UserError as error:
        place.unlink(missing_ok=True)
        return {"why": str(error).replace(target, path)}
    return {"seconds": round(length, 3), "bytes": len(data)}


# ------------------------------------------------------------------ its parts


def _fetch_all(
    clips: Sequence[Clip], source: Source, out: Path, workers: int | None, quiet: bool
) -> dict[str, dict[str, Any]]:
    """`fetch` of every clip by its id, from the journal where its file still stands."""
    journal = out / _JOURNAL
    (out / "audio").mkdir(parents=True, exist_ok=True)
    stamp = [(str(part), part.stat().st_size, part.stat().st_mtime_ns) for part in source.parts]
    keys = {clip.clip_id: json.dumps([clip.clip_id, clip.path, stamp]) for clip in clips}
    items = {keys[clip.clip_id]: (source, clip.path, str(out / _file(clip))) for clip in clips}
    if journal.is_file():
        known = parallel.recall(journal)
        kept = [key for key, entry in known.items() if key in items and _stands(entry, items[key][2])]
        parallel.forget(journal, kept)
    try:
        results = parallel.run(
            fetch, items, journal, label="Copying clips", crashed=_crashed, workers=workers, quiet=quiet
        )
    except OSError as error:
        raise KwelaError(f"{out}: {error}; what is done stays: run the same command again to go on") from None
    return {clip_id: results[key] for clip_id, key in keys.items()}


def _stands(found: dict[str, Any], target: str) -> bool:
    place = Path(target)
    return "bytes" in found and place.is_file() and place.stat().st_size == found["bytes"]


def _crashed(source: Source, path: str, target: str) -> dict[str, Any]:
    Path(target).unlink(missing_ok=True)
    return {"why": f"{path}: decoding it crashed the process"}


def _limited(chosen: int, qualifying: int, choice: Choice, looser: Mapping[int, int]) -> str:
    if chosen == choice.limit:
        return f"Limited to top {chosen:,} clips by proxy score"
    capped = (
        f" ({qualifying - chosen:,} over {choice.per_artist} an artist left out)"
        if chosen < qualifying
        else ""
    )
    more = ", ".join(f"--min-tags {k} would give {count:,}" for k, count in looser.items())
    return f"Only {chosen:,} of the {choice.limit:,} asked for qualify{capped}" + (
        f"; {more}" if more else ""
    )


def _check_place(out: Path, collection: str) -> None:
    """A set takes hours to copy: another collection's is not written over."""
    try:
        there = json.loads((out / REPORT).read_text(encoding="utf-8")).get("collection", collection)
    except (OSError, ValueError, AttributeError):
        return
    if there != collection:
        raise UserError(
            f"{out}: holds a set made from {there}: name another folder with --datasets, or remove it"
        )


def _check_space(source: Source, clips: Sequence[Clip], out: Path) -> None:
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    needed = sum(source.size(clip.path) for clip in clips if not (out / _file(clip)).is_file())
    free = shutil.disk_usage(there).free
    if needed and needed + _SPARE > free:
        raise KwelaError(
            f"{out}: {needed / 1e9:.2f} GB to copy and {free / 1e9:.2f} GB free; free some space"
        )


def _sweep(out: Path, keep: set[str]) -> None:
    """Remove the clips of an earlier choice, and what a killed copy left."""
    for path in (out / "audio").iterdir():
        if f"audio/{path.name}" not in keep and (path.suffix in audio.FORMATS or path.suffix == ".tmp"):
            path.unlink()


def _histogram(path: Path, counted: Sequence[tuple[int, int]], at_least: int) -> None:
    figure, (axis,) = plots.sheet(1, 1, (6, 3.5))
    axis.bar([value for value, _ in counted], [count for _, count in counted], color=plots.BLUE)
    axis.set(
        xlabel="proxy score: groups of tags", ylabel="clips", title=f"Clips with at least {at_least} groups"
    )
    axis.set_xticks([value for value, _ in counted])
    plots.save(figure, path)


def _file(clip: Clip) -> str:
    return f"audio/{clip.clip_id}{PurePosixPath(clip.path).suffix.lower()}"


def _entry(archive: Archive, path: str) -> str | None:
    return next((name for name in (path, f"mp3/{path}") if name in archive.entries), None)


@functools.lru_cache(maxsize=2)
def _archive(parts: tuple[Path, ...]) -> Archive | None:
    return Archive(parts) if parts else None
