"""Check that the notes of a MIDI file are kept or counted as lost.

- `notes_in_file` is counted in the bytes by `note_count`, a loop of its own.
- `notes_kept` are those that a round trip through the ids gives back.
- The difference must be explained by LOST; what isn't is `notes_unaccounted`, which is a defect of kwela.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kwela.errors import UserError
from kwela.music import midi
from kwela.music.fidelity import round_trip

# Why a note of the file's bytes is not in the ids.
LOST = ("notes_after_end", "notes_same_onset", "notes_over_8")


def check(path: Path | str) -> dict[str, int | float]:
    """Return the counts of a file, of its reading and of its round trip; docs/formats.md lists them.

    Raises UserError, naming the file, if it can't be read.
    """
    score, counts = midi.read_counted(path)
    report, decoded = round_trip(score)
    kept = sum(len(track.notes) for track in decoded.tracks)
    # Channels hand their controllers to each of their tracks; the file has them once.
    report |= {name: counts.pop(name) for name in ("controllers", "pitch_bends")}
    in_file = counts.pop("notes_in_file") + counts["notes_after_end"]
    lost = sum((report | counts)[name] for name in LOST)
    return {
        "notes_in_file": in_file,
        "notes_kept": kept,
        "notes_lost": lost,
        "notes_unaccounted": in_file - kept - lost,
        **report,
        **counts,
    }


def find(paths: Iterable[Path]) -> list[Path]:
    """Return the paths, and in place of a folder the MIDI files below it, sorted.

    Raises UserError for a folder without any.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.name.lower().endswith(midi.MIDI_SUFFIXES))
            if not inside:
                raise UserError(f"{path}: holds no MIDI files ({' '.join(midi.MIDI_SUFFIXES)})")
            found += inside
        else:
            found.append(path)
    return found


def to_text(reports: dict[str, dict[str, int | float]], refused: dict[str, str]) -> str:
    """Return a paragraph for each file, and for several files their sum.

    refused: path -> reason, which names the path.
    """
    lines = [f"not read: {reason}" for reason in refused.values()]
    for name, report in reports.items():
        lines += [name, f"  {_describe(report)}"]
        lines += [f"  {key:28} {value:.6g}" for key, value in report.items() if value]
    if len(reports) > 1:
        names = ("notes_in_file", "notes_kept", "notes_lost", "notes_unaccounted", *LOST)
        total = {name: sum(report[name] for report in reports.values()) for name in names}
        lines += [f"{len(reports)} files", f"  {_describe(total)}"]
    return "\n".join(lines)


def _describe(report: dict[str, int | float]) -> str:
    why = ", ".join(f"{name} {report[name]}" for name in LOST if report[name])
    in_file, kept, lost = (report[name] for name in ("notes_in_file", "notes_kept", "notes_lost"))
    line = f"{in_file} notes in the file: {kept} kept, {lost} lost"
    line += f" ({why})" if why else ""
    if report["notes_unaccounted"]:
        line += f"; {report['notes_unaccounted']} NOT ACCOUNTED FOR"
    return line
