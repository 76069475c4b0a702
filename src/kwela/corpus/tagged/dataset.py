"""Make a training set out of a large tagged collection: choose by proxy score, copy, decode, split, report.

    OUT/audio/<clip_id>.mp3   training_metadata.csv   dataset_report.json   score_histogram.png

Every chosen clip is decoded from end to end. A clip that doesn't decode is left out, with the reason. A
killed build goes on where it stopped. The metadata is written last, so a set that has it is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from kwela import files, plots, tables, terminal
from kwela.corpus import parallel
from kwela.corpus.pairs import identity, scan
from kwela.corpus.tagged import proxy_score
from kwela.corpus.tagged.archive import DamagedPart
from kwela.corpus.tagged.proxy_score import Clip
from kwela.corpus.tagged.sides import Sides, divide
from kwela.corpus.tagged.source import Source
from kwela.errors import KwelaError, UserError
from kwela.music import audio

METADATA, REPORT, HISTOGRAM = "training_metadata.csv", "dataset_report.json", "score_histogram.png"
COLUMNS = ("clip_id", "file_path", "amapiano_proxy_score", "tags", "duration", "split", "artist", "group")
_JOURNAL = ".proxy_clips.journal"
_SPARE = 200 << 20  # bytes of disk left free beyond what is copied
SHORTEST = 0.1  # seconds of a clip: a few frames of the codec


@dataclass(frozen=True)
class Choice:
    """The settings that choose clips, from the config and the command line."""

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

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as the report holds them."""
        return {
            "proxy_groups": {name: list(words) for name, words in self.groups.items()},
            "negative_tags": list(self.negatives),
            "tag_weights": dict(self.weights),
            "min_tags": self.at_least,
            "limit": self.limit,
            "max_clips_per_artist": self.per_artist,
            "seed": self.seed,
        }


def build(
    clips: Sequence[Clip],
    tags: Sequence[str],
    source: Source,
    out: Path,
    choice: Choice,
    *,
    collection: str = "magnatagatune",
    rule: str | None = None,
    more: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = terminal.say,
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the set into `out` and return its report (also dataset_report.json).

    tags: the columns that the collection has, from which follows which of the configured ones it lacks.
    collection: its name; `out` may hold no set of another one. rule: the user's own of what a song is
    (`kwela.corpus.pairs.group_by`). more: further entries of the report. say: prints the playbook's lines.
    workers: processes. Raises UserError if no clip qualifies or none decodes, if all that do are one group,
    or if `out` holds a set of another collection; KwelaError if the disk is too small or full.
    """
    _check_place(out, collection)
    selection = _select(clips, tags, choice, say)
    copies = _copy(selection.scores, source, out, say, workers, quiet)
    kept = list(copies.seconds)
    split = divide(kept, [copies.sounds[clip] for clip in kept], rule, choice.seed)
    sides = split.sides
    for line in split.lines:
        say(line)
    report = {
        "collection": collection,
        "clips": len(clips),
        "tag_columns": len(tags),
        "tags_missing": selection.missing_tags,
        "qualifying": selection.qualifying,
        "distribution": dict(selection.distribution),
        "looser": selection.looser,
        "chosen": len(selection.scores),
        "kept": len(copies.seconds),
        "broken": copies.broken,
        "unsafe_entries": source.unsafe(),
        **_describe(copies.seconds, sides),
        **split.report,
        **(more or {}),
        "settings": choice.to_dict(),
    }
    _sweep(out, {_file(clip) for clip in copies.seconds})
    _histogram(out / HISTOGRAM, selection.distribution, choice.at_least)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    files.write(out / REPORT, text.encode("utf-8", "backslashreplace"))  # a name may be no UTF-8
    files.write(out / METADATA, tables.csv_text(_metadata(selection.scores, copies.seconds, split)))
    counts = ", ".join(f"{sides.count(name)} {name}" for name in ("train", "val", "test"))
    say(f"Wrote {out / METADATA} ({counts})")
    return report


class _Selection(NamedTuple):
    """The clips that are chosen, and how many there were to choose from."""

    scores: dict[Clip, int]  # the chosen clips, best first, and their proxy scores
    missing_tags: list[str]  # configured tags that the collection lacks
    qualifying: int  # clips that reach the smallest score
    distribution: list[tuple[int, int]]  # (score, clips)
    looser: dict[int, int]  # clips that would qualify by each smaller score


class _Copies(NamedTuple):
    """What became of the chosen clips."""

    seconds: dict[Clip, float]  # of each clip that decodes
    sounds: dict[Clip, str]  # a hash of the samples of each, "" for silence
    broken: dict[str, str]  # clip id -> why the clip is left out


def _select(
    clips: Sequence[Clip], tags: Sequence[str], choice: Choice, say: Callable[[str], None]
) -> _Selection:
    """Choose clips by their proxy scores, and say how the scores are distributed."""
    known = set(tags)
    looked_for = dict.fromkeys([*choice.tags, *proxy_score.PLAYBOOK_TAGS])
    missing = [tag for tag in looked_for if tag not in known]
    say(f"Loaded {len(clips):,} clips with {len(tags)} tag columns")
    if missing and not choice.at_least:
        say(f"{len(missing)} of the tags looked for are not among its own")
    elif missing:
        say(f"Not among its tags: {', '.join(missing)}")
    scores = proxy_score.score(clips, choice.groups, choice.negatives, choice.weights)
    chosen = proxy_score.choose(clips, scores, choice.at_least, choice.limit, choice.per_artist)
    qualifying = int((scores.score >= choice.at_least).sum())
    say(
        f"Filtered to {qualifying:,} clips with ≥{choice.at_least} Amapiano proxy tags"
        if choice.at_least
        else f"All {qualifying:,} clips qualify, whatever their tags"
    )
    say("Score distribution:")
    distribution = proxy_score.distribution(scores.score, choice.at_least)
    for value, count in distribution:
        say(f"  {value}: {count:,}")
    looser = {k: int((scores.score >= k).sum()) for k in range(choice.at_least - 1, 0, -1)}
    say(_limit_line(len(chosen), qualifying, choice, looser))
    best = {clips[index]: int(scores.score[index]) for index in chosen}
    return _Selection(best, missing, qualifying, distribution, looser)


def _copy(
    chosen: Mapping[Clip, int],
    source: Source,
    out: Path,
    say: Callable[[str], None],
    workers: int | None,
    quiet: bool,
) -> _Copies:
    """Copy and decode the chosen clips, and say how many are kept. Raises UserError if none decodes."""
    _check_space(source, list(chosen), out)
    results = _fetch_all(list(chosen), source, out, workers, quiet)
    seconds = {
        clip: float(results[clip.clip_id]["seconds"]) for clip in chosen if "seconds" in results[clip.clip_id]
    }
    sounds = {clip: str(results[clip.clip_id]["sound"]) for clip in seconds}
    broken = {clip.clip_id: results[clip.clip_id]["why"] for clip in chosen if "why" in results[clip.clip_id]}
    if not seconds:
        first = next(iter(broken.values()))
        raise UserError(f"{out}: none of the {len(chosen)} chosen clips decodes; first: {first}")
    say(f"Copied {len(seconds):,}/{len(chosen):,} clips...")
    say("Created training subset:")
    say(f"  - {len(seconds):,} audio files copied")
    say(f"  - Estimated total duration: {sum(seconds.values()) / 3600:.1f} hours")
    for clip_id, reason in list(broken.items())[:5]:
        say(f"left out: clip {clip_id}: {reason}")
    if len(broken) > 5:
        say(f"left out: {len(broken) - 5} more, listed in {REPORT}")
    return _Copies(seconds, sounds, broken)


def _describe(seconds: Mapping[Clip, float], sides: Sequence[str]) -> dict[str, Any]:
    """Return the report's hours, clips, artists and tags, of all kept clips and of each side of the split."""
    by_side: dict[str, list[Clip]] = {name: [] for name in sorted(set(sides))}
    for clip, side in zip(seconds, sides, strict=True):
        by_side[side].append(clip)
    return {
        "hours": round(sum(seconds.values()) / 3600, 3),
        "hours_by_split": {
            name: round(sum(seconds[clip] for clip in members) / 3600, 3) for name, members in by_side.items()
        },
        "clips_by_split": {name: len(members) for name, members in by_side.items()},
        "artists_by_split": {
            name: len({clip.artist.casefold() for clip in members if clip.artist})
            for name, members in by_side.items()
        },
        "unique_tags": len({tag for clip in seconds for tag in clip.tags}),
    }


def _metadata(
    scores: Mapping[Clip, int], seconds: Mapping[Clip, float], split: Sides
) -> list[Sequence[object]]:
    """Return the rows of training_metadata.csv, the header first."""
    rows: list[Sequence[object]] = [COLUMNS]
    for (clip, duration), side, group in zip(seconds.items(), split.sides, split.groups, strict=True):
        tags, length = ",".join(clip.tags), f"{duration:.3f}"
        rows.append([clip.clip_id, _file(clip), scores[clip], tags, length, side, clip.artist, group])
    return rows


def fetch(source: Source, path: str, target: str) -> dict[str, Any]:
    """Copy one clip to `target` and decode it whole, in a worker process.

    Return {"seconds", "bytes", "sound"}, or {"why"}: the reason why the clip is left out. Raises DamagedPart.
    """
    place = Path(target)
    try:
        data = source.read(path)
        files.write(place, data, durable=False)
        audio.probe(place)
        wave = audio.load(place)
        length = len(wave) / audio.SAMPLE_RATE
        if length < SHORTEST:
            raise UserError(f"{path}: {length:.2f} s long, and a clip of under {SHORTEST} s is left out")
    except DamagedPart:
        raise
    except UserError as error:
        place.unlink(missing_ok=True)
        return {"why": scan.printable(str(error).replace(target, path))}
    return {"seconds": round(length, 3), "bytes": len(data), "sound": identity.sound_hash(wave)}


def _fetch_all(
    clips: Sequence[Clip], source: Source, out: Path, workers: int | None, quiet: bool
) -> dict[str, dict[str, Any]]:
    """Return what `fetch` returns, by clip id. A journalled clip that stands is not fetched again."""
    journal = out / _JOURNAL
    (out / "audio").mkdir(parents=True, exist_ok=True)
    stamp = [(str(part), part.stat().st_size, part.stat().st_mtime_ns) for part in source.parts]
    keys = {clip.clip_id: json.dumps([clip.clip_id, clip.path, stamp]) for clip in clips}
    items = {keys[clip.clip_id]: (source, clip.path, str(out / _file(clip))) for clip in clips}
    if journal.is_file():
        known = parallel.read_journal(journal)
        kept = [key for key, entry in known.items() if key in items and _is_copied(entry, items[key][2])]
        parallel.prune_journal(journal, kept)
    try:
        results = parallel.run(
            fetch,
            items,
            journal,
            label="Copying clips",
            result_of_crash=_crashed,
            workers=workers,
            quiet=quiet,
        )
    except OSError as error:
        raise KwelaError(f"{out}: {error}; what is done stays: run the same command again to go on") from None
    return {clip_id: results[key] for clip_id, key in keys.items()}


def _is_copied(entry: dict[str, Any], target: str) -> bool:
    place = Path(target)
    return "sound" in entry and place.is_file() and place.stat().st_size == entry["bytes"]


def _crashed(source: Source, path: str, target: str) -> dict[str, Any]:
    Path(target).unlink(missing_ok=True)
    return {"why": f"{scan.printable(path)}: decoding it crashed the process"}


def _limit_line(chosen: int, qualifying: int, choice: Choice, looser: Mapping[int, int]) -> str:
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
    """Raise UserError if `out` holds a set of another collection, which took hours to copy."""
    try:
        existing = json.loads((out / REPORT).read_text(encoding="utf-8")).get("collection", collection)
    except (OSError, ValueError, AttributeError):
        return
    if existing != collection:
        raise UserError(
            f"{out}: holds a set made from {existing}: name another folder with --datasets, or remove it"
        )


def _check_space(source: Source, clips: Sequence[Clip], out: Path) -> None:
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    needed = sum(source.size(clip.path) for clip in clips if not (out / _file(clip)).is_file())
    free = shutil.disk_usage(parent).free
    if needed and needed + _SPARE > free:
        raise KwelaError(
            f"{out}: {needed / 1e9:.2f} GB to copy and {free / 1e9:.2f} GB free; free some space"
        )


def _sweep(out: Path, keep: set[str]) -> None:
    """Remove the clips of an earlier choice, and what a killed copy left."""
    for path in (out / "audio").iterdir():
        if f"audio/{path.name}" not in keep and (path.suffix in {*scan.AUDIO, ".tmp"}):
            path.unlink()


def _histogram(path: Path, distribution: Sequence[tuple[int, int]], at_least: int) -> None:
    figure, (axis,) = plots.sheet(1, 1, (6, 3.5))
    axis.bar([value for value, _ in distribution], [count for _, count in distribution], color=plots.BLUE)
    axis.set(
        xlabel="proxy score: groups of tags", ylabel="clips", title=f"Clips with at least {at_least} groups"
    )
    axis.set_xticks([value for value, _ in distribution])
    plots.save(figure, path)


def _file(clip: Clip) -> str:
    return f"audio/{clip.clip_id}{PurePosixPath(clip.path).suffix.lower()}"
