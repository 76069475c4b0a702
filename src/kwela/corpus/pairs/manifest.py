"""Build manifests from a tree of audio and a tree of MIDI files, and report what was left out and why.

- The same input gives the same bytes with any number of workers: rows have the order of their audio paths,
  and no time or host is written.
- Manifests appear only when they are complete, the report last.
- A killed build goes on where it stopped: the result of each pair is journalled under the path, size and time
  of its files and the settings that it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kwela.corpus import parallel
from kwela.corpus.pairs import group_by, identity, scan, songs, split
from kwela.corpus.pairs.labels import Labels, find_label, read_labels
from kwela.corpus.pairs.report import REPORT, Report, summary
from kwela.corpus.pairs.roots import read_roots, stems_of
from kwela.corpus.pairs.rows import Row
from kwela.corpus.pairs.validation import MakeCloud, crashed, open_pair
from kwela.errors import UserError
from kwela.files import draft, sync, write_error
from kwela.music import emotion

FILES = tuple(f"{family}_{side}.jsonl" for family in ("spectocloud", "midi") for side in ("train", "val"))
__all__ = ["FILES", "REPORT", "Report", "build", "is_demo", "summary"]
_UNCHANGED = "; nothing there was changed"
_JOURNAL = ".manifests.journal"
# Raise this when `open_pair` finds something else in the same pair. tests/corpus/test_manifest.py shows when.
OPENING_VERSION = 3


def build(
    audio_root: Path,
    midi_root: Path,
    out_dir: Path,
    *,
    val_split: float = 0.05,
    seed: int = 42,
    labels: Path | None = None,
    align: bool = False,
    make_cloud: MakeCloud | None = None,
    clouds_dir: Path | None = None,
    cloud_version: int = 0,
    segments: int = 1,
    rule: str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    demo: bool = False,
    quiet: bool = False,
) -> Report:
    """Write FILES and REPORT into `out_dir` and return the report.

    val_split: share of songs held out, [0, 1). labels: the user's own emotions (`kwela.corpus.pairs.labels`).
    align: find each pair's offset, and leave out pairs that don't match. make_cloud: writes a cloud into
    clouds_dir, in a worker, so it is a module's function. cloud_version: of its clouds; pairs opened with
    another are opened again. segments: rows a song, each with its `start` (over 1, or with clouds). rule: the
    user's own of what a song is (`kwela.corpus.pairs.group_by`). executor: replaces the `workers` processes.

    Raises UserError if a root is missing or holds no files, no pair matches (with three near misses), none is
    left once opened, all are one song, or `demo` would overwrite manifests that are not the demo's;
    KwelaError on a full disk.
    """
    _check_arguments(out_dir, val_split, segments, demo)
    audio_root, midi_root = (Path(os.path.abspath(root)) for root in (audio_root, midi_root))  # noqa: PTH100 - keeps links
    user_labels = read_labels(labels) if labels else {}
    find_songs = group_by.parse_rule(rule)
    found = read_roots(audio_root, midi_root)
    named = find_songs([stems_of(pair, audio_root, midi_root) for pair in found.pairing.pairs])
    readings = {pair: _emotion(pair, audio_root, midi_root, user_labels) for pair in found.pairing.pairs}
    clouds_dir = (clouds_dir or out_dir.parent / "clouds").absolute() if make_cloud else None
    new_folders = _missing_folders(clouds_dir, out_dir)
    opening = _Opening(align, segments, make_cloud, clouds_dir, cloud_version)
    with _writing(out_dir):
        opened = _open_all(readings, out_dir, opening, workers=workers, executor=executor, quiet=quiet)
    song_of, copies = _join_copies(named, opened)
    held_out = split.validation(song_of.values(), seed, val_split) if song_of else set()
    if held_out == set(song_of.values()):
        _remove_traces(out_dir, new_folders)
        raise _one_song(song_of, opened) if song_of else _nothing_left(opened)
    rows = _rows_by_file(song_of, held_out, readings, opened)
    report = Report(
        demo=demo,
        settings={"val_split": val_split, "seed": seed, "group_by": rule} | opening.settings(),
        counts=found.counts | _counts(opened, song_of, held_out, rows),
        copies=copies,
        unused_labels=sorted({*user_labels} - {reading.label for reading in readings.values()}),
        **_left_out(readings, opened, song_of, audio_root),
        **found.report(),
    )
    _publish(out_dir, rows, report)
    return report


def _left_out(
    readings: dict[scan.Pair, _Emotion],
    opened: dict[scan.Pair, dict[str, Any]],
    kept: Iterable[scan.Pair],
    audio_root: Path,
) -> dict[str, Any]:
    """Return the report's entries on emotions, and on pairs that are not fit for a row."""
    return {
        "not_understood": _not_understood([pair for pair in kept if not readings[pair].read], audio_root),
        "emotion_sources": _emotion_sources([readings[pair] for pair in kept]),
        "rejected": _rejected(opened),
        "conflicts": _conflicts(readings),
    }


def is_demo(folder: Path) -> bool:
    """Return whether the manifests in `folder` are the demo's, which a run without roots treats as absent."""
    try:
        return json.loads((folder / REPORT).read_text(encoding="utf-8")).get("demo") is True
    except (OSError, ValueError, AttributeError):
        return False


@dataclass(frozen=True)
class _Emotion:
    """The emotion of a pair, and where it was read."""

    vector: list[float]  # 3 or 64 numbers
    source: str
    other: str = ""  # the source of the other path's emotion, if that is another emotion
    label: str = ""  # the key of --labels that it came from

    @property
    def read(self) -> bool:
        """Return whether it was read from somewhere."""
        return self.source != "default"


@dataclass(frozen=True)
class _Opening:
    """How every pair is opened: what its result depends on beside its files and its emotion."""

    align: bool
    segments: int
    make_cloud: MakeCloud | None
    clouds_dir: Path | None  # None without clouds
    cloud_version: int

    def settings(self) -> dict[str, Any]:
        """Return the settings as the report holds them."""
        clouds = str(self.clouds_dir) if self.clouds_dir else None
        return {"align": self.align, "segments": self.segments, "clouds_dir": clouds}

    def identity(self) -> str:
        """Return a text that changes with everything that changes the result of an unchanged pair."""
        settings = [self.align, self.segments, str(self.clouds_dir), self.cloud_version]
        return json.dumps([OPENING_VERSION, *settings])


def _check_arguments(out_dir: Path, val_split: float, segments: int, demo: bool) -> None:
    if not 0 <= val_split < 1:
        raise UserError(f"--val-split {val_split}: must be at least 0 and below 1")
    if segments < 1:
        raise UserError(f"--segments {segments}: must be at least 1")
    if demo and any((out_dir / name).exists() for name in FILES) and not is_demo(out_dir):
        raise UserError(
            f"{out_dir}: holds manifests that are not the demo's; move them or name another --out-dir"
        )


def _missing_folders(*folders: Path | None) -> list[Path]:
    """Return the folders and parents that do not exist yet, the deepest first."""
    places = [folder.absolute() for folder in folders if folder]
    return [folder for place in places for folder in (place, *place.parents) if not folder.exists()]


def _remove_traces(out_dir: Path, new_folders: list[Path]) -> None:
    """Remove the journal, and those of the folders that are empty."""
    (out_dir / _JOURNAL).unlink()
    for folder in new_folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _rejected(opened: dict[scan.Pair, dict[str, Any]]) -> list[dict[str, str]]:
    """Return the report's entry for each file that is not fit for a row."""
    return [
        {"file": file, "pair": str(pair.midi if file == str(pair.audio) else pair.audio), "reason": reason}
        for pair, result in opened.items()
        for file, reason in result.get("rejected", [])
    ]


def _nothing_left(opened: dict[scan.Pair, dict[str, Any]]) -> UserError:
    """Return the error for a corpus of which no pair is fit for a row."""
    why = _reasons(opened)
    return UserError(f"no pair is left: {len(opened)} matched and none is fit for a row ({why})")


def _reasons(opened: dict[scan.Pair, dict[str, Any]]) -> str:
    """Return the reasons of the first three files that were left out."""
    return "; ".join(f"{entry['file']}: {entry['reason']}" for entry in _rejected(opened)[:3])


def _counts(
    opened: dict[scan.Pair, dict[str, Any]],
    songs: dict[scan.Pair, str],
    held_out: set[str],
    rows: dict[str, list[Row]],
) -> dict[str, int]:
    """Return the report's counts of pairs, songs and rows."""
    counts = {"pairs": len(opened), "kept": len(songs), "songs": len(set(songs.values()))}
    counts |= {"songs_val": len(held_out)}
    return counts | {Path(name).stem: len(file_rows) for name, file_rows in rows.items()}


def _emotion_sources(readings: list[_Emotion]) -> dict[str, int]:
    """Return how many emotions were read from each kind of source, in alphabetical order."""
    return dict(sorted(Counter(reading.source.partition(":")[0] for reading in readings).items()))


def _not_understood(pairs: Iterable[scan.Pair], audio_root: Path) -> list[dict[str, Any]]:
    """Return the report's entry for each folder whose name tells no emotion, the largest first."""
    counts = Counter(
        scan.printable(folder.as_posix())
        for pair in pairs
        if (folder := pair.audio.parent.relative_to(audio_root)) != Path()
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"folder": folder, "pairs": count} for folder, count in ordered]


def _conflicts(readings: dict[scan.Pair, _Emotion]) -> list[dict[str, str]]:
    """Return the report's entry for each pair with two emotions."""
    return [
        {"audio": str(pair.audio), "midi": str(pair.midi), "used": reading.source, "other": reading.other}
        for pair, reading in readings.items()
        if reading.other
    ]


def _rows_by_file(
    songs: dict[scan.Pair, str],
    held_out: set[str],
    readings: dict[scan.Pair, _Emotion],
    opened: dict[scan.Pair, dict[str, Any]],
) -> dict[str, list[Row]]:
    """Return the rows of each manifest, in the order of the pairs."""
    rows: dict[str, list[Row]] = {name: [] for name in FILES}
    for pair, song in songs.items():
        side = "val" if song in held_out else "train"
        clouds, notes = _rows(pair, readings[pair], song, opened[pair])
        rows[f"spectocloud_{side}.jsonl"] += clouds
        rows[f"midi_{side}.jsonl"].append(notes)
    return rows


def _join_copies(
    named: list[str], opened: dict[scan.Pair, dict[str, Any]]
) -> tuple[dict[scan.Pair, str], list[dict[str, Any]]]:
    """Return the songs of the pairs that are fit for a row, and the sets of files that are the same.

    named: the song of each pair by its names. Songs are joined where their audio is the same to the byte or
    the sample, or their MIDI to the byte.
    Where all songs would be one, their names stay: then the files are stand-ins, and the report says so.
    """
    kept = {
        pair: name
        for (pair, result), name in zip(opened.items(), named, strict=True)
        if "rejected" not in result
    }
    pairs, names = list(kept), list(kept.values())
    sounds = [opened[pair]["sound"] for pair in pairs]
    waves, scores = [pair.audio for pair in pairs], [pair.midi for pair in pairs]
    copies: list[dict[str, Any]] = []
    for kind, paths in (("audio", waves), ("MIDI", scores)):
        sets = [one for one in identity.same_bytes(paths) if len({names[index] for index in one}) > 1]
        if kind == "audio":
            sets = [one for one in sets if sounds[one[0]] or not identity.is_silent(paths[one[0]])]
            sets += identity.same_sound(paths, sounds, songs.join(names, sets))
        joined = songs.join(names, sets)
        useful = len(set(joined)) > 1
        copies += [
            {"kind": kind, "files": [str(paths[index]) for index in one], "joined": useful} for one in sets
        ]
        names = joined if useful else names
    return dict(zip(pairs, names, strict=True)), copies


def _one_song(named: dict[scan.Pair, str], opened: dict[scan.Pair, dict[str, Any]]) -> UserError:
    """Return the error for a corpus of one song, which can't stand on both sides of the split."""
    pairs = f"{len(named)} pair{'s' * (len(named) != 1)}"
    out = f"; left out: {_reasons(opened)}" if len(named) < len(opened) else ""
    return UserError(
        f"all that is left is one song, {next(iter(named.values()))!r} ({pairs}): training and validation "
        "need one each; add songs, or say what a song is with --group-by (stem, folder, a pattern or a CSV)"
        f"{out}"
    )


def _emotion(pair: scan.Pair, audio_root: Path, midi_root: Path, labels: Labels) -> _Emotion:
    """Return the user's label, else the emotion of the audio's or the MIDI's path.

    A folder's name counts more than a file's name. Where both paths name an emotion equally well, the audio's
    counts.
    """
    labelled = find_label(labels, pair, audio_root, midi_root)
    if labelled:
        key, vector = labelled
        return _Emotion([round(float(value), 6) for value in vector], "user", label=key)
    strength = ("directory", "filename", "default")
    both = [emotion.from_path(file, root) for file, root in zip(pair, (audio_root, midi_root), strict=True)]
    first, second = sorted(both, key=lambda reading: strength.index(reading.source.partition(":")[0]))
    differ = first.emotion != second.emotion and second.source != "default"
    return _Emotion(
        [round(value, 6) for value in first.emotion], first.source, second.source if differ else ""
    )


def _open_all(
    readings: dict[scan.Pair, _Emotion], out_dir: Path, opening: _Opening, **execution: Any
) -> dict[scan.Pair, dict[str, Any]]:
    """Return what `open_pair` returns for every pair. A journalled, unchanged pair is not opened again."""
    journal = out_dir / _JOURNAL
    out_dir.mkdir(parents=True, exist_ok=True)
    if opening.clouds_dir:
        opening.clouds_dir.mkdir(parents=True, exist_ok=True)
        known = parallel.read_journal(journal)
        parallel.prune_journal(journal, keep=[key for key, result in known.items() if _clouds_exist(result)])
    arguments = (opening.align, opening.segments, opening.make_cloud, str(opening.clouds_dir or ""))
    identity = opening.identity()
    keys = {
        pair: _key(pair, reading.vector if opening.make_cloud else None, identity)
        for pair, reading in readings.items()
    }
    items = {keys[pair]: (*map(str, pair), reading.vector, *arguments) for pair, reading in readings.items()}
    results = parallel.run(
        open_pair, items, journal, label="Opening pairs", result_of_crash=crashed, **execution
    )
    parallel.prune_journal(journal, keep=items)
    return {pair: results[key] for pair, key in keys.items()}


def _rows(pair: scan.Pair, reading: _Emotion, group: str, opened: dict[str, Any]) -> tuple[list[Row], Row]:
    shared = {"emotion": reading.vector, "emotion_source": reading.source, "group": group}
    files = {"audio_path": str(pair.audio), "midi_path": str(pair.midi)}
    rows = [files | shared | {"offset": opened["offset"]} for _ in opened["segments"] or [None]]
    for row, segment in zip(rows, opened["segments"], strict=False):
        row["start"] = segment["start"]
        if "cloud" in segment:
            row["target_pointcloud_path"] = segment["cloud"]
    return rows, {"midi_path": files["midi_path"]} | shared


def _key(pair: scan.Pair, vector: list[float] | None, identity: str) -> str:
    status = [(str(file), *_status(file)) for file in pair]
    return hashlib.sha256(json.dumps([status, vector, identity]).encode()).hexdigest()[:32]


def _status(file: Path) -> tuple[int, int] | tuple[str]:
    try:
        status = file.stat()
    except OSError as error:  # a dangling link, a file just removed: `open_pair` will say so
        return (str(error.strerror),)
    return status.st_size, status.st_mtime_ns


def _clouds_exist(result: dict[str, Any]) -> bool:
    return all(
        Path(segment["cloud"]).is_file() for segment in result.get("segments", []) if "cloud" in segment
    )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(Path(error.filename or folder), error, hint=_UNCHANGED) from error


def _publish(folder: Path, rows: dict[str, list[Row]], report: Report) -> None:
    """Write every file in full beside its place, then move all into place, the report last."""
    texts = {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in file_rows)
        for name, file_rows in rows.items()
    }
    texts[REPORT] = json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n"
    with _writing(folder), contextlib.ExitStack() as places:
        for name in reversed(texts):  # the stack closes, and so renames, in the opposite order
            temporary = places.enter_context(draft(folder / name, durable=False, hint=_UNCHANGED))
            temporary.write_bytes(texts[name].encode("utf-8", "backslashreplace"))  # a name may be no UTF-8
            sync(temporary)
