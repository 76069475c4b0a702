"""The report of a build of manifests: what was done with every file, as JSON and in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

REPORT = "manifest_report.json"


@dataclass(frozen=True)
class Report:
    """What was done with every file. It is written as `manifest_report.json`."""

    demo: bool
    settings: dict[str, Any]
    counts: dict[str, int]
    emotion_sources: dict[
        str, int
    ]  # pairs by where their emotion was read: directory, filename, default, user
    unmatched: list[str]  # no file of the other kind has this stem
    ambiguous: list[dict[str, Any]]  # {"files", "reason"}: one stem, more than one way to pair
    rejected: list[dict[str, str]]  # {"file", "pair", "reason"}: matched, but not fit for a row
    conflicts: list[
        dict[str, str]
    ]  # {"audio", "midi", "used", "other"}: the two paths name different emotions
    unused_labels: list[str]  # of --labels: no pair has this stem
    not_understood: list[dict[str, Any]] = field(default_factory=list)  # {"folder", "pairs"}: no emotion read
    near_misses: list[dict[str, str]] = field(default_factory=list)  # {"audio", "midi"}: alike
    passed_over: list[dict[str, Any]] = field(default_factory=list)  # {"suffix", "count", "files"}: not read
    misplaced: list[str] = field(default_factory=list)  # audio below the MIDI root, MIDI below the audio root
    unreadable_folders: list[str] = field(default_factory=list)  # with the reason
    copies: list[dict[str, Any]] = field(default_factory=list)  # {"kind", "files", "joined"}: the same bytes


def summary(report: Report) -> Iterator[str]:
    """Yield the report in lines for a terminal: counts, sources, and each file left out with its reason."""
    for line in _lines(report):
        # A name may hold a newline, or bytes that are no UTF-8, and the entry is one line all the same.
        yield line.replace("\n", "\\n").encode("utf-8", "backslashreplace").decode()


def _lines(report: Report) -> Iterator[str]:
    counts = report.counts
    yield f"{counts['audio_files']} audio and {counts['midi_files']} MIDI files, {counts['pairs']} pairs"
    train, val = counts["songs"] - counts["songs_val"], counts["songs_val"]
    yield f"{counts['kept']} kept: {train} songs train, {val} val"
    yield "emotions from " + ", ".join(
        f"{source} {count}" for source, count in report.emotion_sources.items()
    )
    if report.not_understood:
        folders = ", ".join(f"{entry['folder']} ({entry['pairs']})" for entry in report.not_understood[:8])
        more = ", ..." * (len(report.not_understood) > 8)
        yield (
            f"no emotion understood from {len(report.not_understood)} folders, so their pairs are neutral: "
            f"{folders}{more}; rename them, or use --labels"
        )
    if report.unmatched:
        yield f"{len(report.unmatched)} files without a partner (listed in {REPORT})"
    for entry in report.near_misses[:5]:
        yield f"no pair, because their names differ: {entry['audio']} ~ {entry['midi']}"
    if report.passed_over:
        kinds = ", ".join(f"{kind['count']} {kind['suffix']}" for kind in report.passed_over[:12])
        total = sum(kind["count"] for kind in report.passed_over)
        yield f"{total} files of kinds that are not read: {kinds} (listed in {REPORT})"
    if report.misplaced:
        yield f"{len(report.misplaced)} audio or MIDI files below the other kind's root (listed in {REPORT})"
    for folder in report.unreadable_folders:
        yield f"folder not readable: {folder}"
    yield from _copies(report)
    for entry in report.ambiguous:
        yield f"ambiguous: {', '.join(entry['files'])}: {entry['reason']}"
    for entry in report.rejected:
        yield f"left out: {entry['file']}: {entry['reason']}"
    for entry in report.conflicts:
        yield f"{entry['audio']}: {entry['used']} used; its MIDI says {entry['other']}"
    for stem in report.unused_labels:
        yield f"label without a pair: {stem}"


def _copies(report: Report) -> Iterator[str]:
    """Yield a line for each kind of copies under several names."""
    for kind in ("audio", "MIDI"):
        sets = [entry for entry in report.copies if entry["kind"] == kind]
        if sets and sets[0]["joined"]:
            count = sum(len(entry["files"]) for entry in sets)
            yield f"{count} files hold the same {kind} as others: each stands on its copies' side ({REPORT})"
        elif sets:
            yield (
                f"WARNING: all songs hold the same {kind}: their names alone split them, so validation tells "
                "nothing"
            )
