"""What lies below the root of the audio and the root of the MIDI: pairs, and every file that is no pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela.corpus.pairs import scan
from kwela.errors import UserError

_TIED = "one stem, and folders don't tell which belong together"


@dataclass(frozen=True)
class Roots:
    """What lies below the two roots, paired."""

    pairing: scan.Pairing
    counts: dict[str, int]
    others: list[Path]  # of kinds that are not read
    misplaced: list[Path]
    unreadable: list[str]

    def report(self) -> dict[str, Any]:
        """Return the report's entries on files that are no pairs."""
        unmatched = self.pairing.unmatched
        waves, scores = (
            [file for file in unmatched if scan.suffix(file.name) in kind] for kind in (scan.AUDIO, scan.MIDI)
        )
        return {
            "ambiguous": [
                {"files": [str(file) for file in files], "reason": _TIED} for files in self.pairing.ambiguous
            ],
            "unmatched": [str(file) for file in unmatched],
            "near_misses": [
                {"audio": str(near.audio), "midi": str(near.midi)} for near in scan.alike(waves, scores)
            ],
            "passed_over": scan.passed_over(self.others),
            "misplaced": [str(file) for file in self.misplaced],
            "unreadable_folders": self.unreadable,
        }


def read_roots(audio_root: Path, midi_root: Path) -> Roots:
    """Find and pair the files below two absolute roots.

    Raises UserError if a root is missing or holds no files, or no pair matches (with three near misses).
    """
    audio, midi = scan.look(audio_root, scan.AUDIO, "audio"), scan.look(midi_root, scan.MIDI, "midi")
    waves, scores = audio.files, midi.files
    pairing = scan.pair(waves, scores, audio_root, midi_root)
    if not pairing.pairs:
        near = "; ".join(
            f"{wave.relative_to(audio_root)} ~ {score.relative_to(midi_root)}"
            for wave, score in scan.near_misses(waves, scores)
        )
        tied = f", {len(pairing.ambiguous)} stems are ambiguous" if pairing.ambiguous else ""
        raise UserError(
            f"no pair matches: {len(waves)} audio files under {audio_root}, "
            f"{len(scores)} MIDI files under {midi_root}{tied}; "
            f"a pair has the same name up to the extension; nearest: {near}"
        )
    left = set(audio.others + midi.others) - set(waves) - set(scores)
    misplaced = {file for file in left if scan.suffix(file.name) in scan.AUDIO | scan.MIDI}
    return Roots(
        pairing,
        {"audio_files": len(waves), "midi_files": len(scores)},
        sorted(left - misplaced),
        sorted(misplaced),
        sorted({*audio.unreadable, *midi.unreadable}),
    )


def stems_of(pair: scan.Pair, audio_root: Path, midi_root: Path) -> list[str]:
    """Return the paths that name a pair below its roots: the audio's, then the MIDI's."""
    return [scan.path_stem(pair.audio, audio_root), scan.path_stem(pair.midi, midi_root)]
