"""Open one pair: what it takes for an audio file and its MIDI to earn a row.

Runs in worker processes, so its arguments and its result are plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kwela.corpus.pairs import identity
from kwela.corpus.pairs.align import MATCH, align
from kwela.errors import UserError
from kwela.files import NotWritable
from kwela.music import audio, midi

# (audio, midi, emotion (3,) or (64,), offset, start, folder) -> path of the cloud written there
MakeCloud = Callable[[Path, Path, np.ndarray, float, float, Path], str]


def open_pair(
    audio_path: str,
    midi_path: str,
    emotion: list[float],
    aligned: bool,
    segments: int,
    make_cloud: MakeCloud | None,
    clouds_dir: str,
) -> dict[str, Any]:
    """Parse the MIDI, decode the audio's first second, and find what a row needs to know of them.

    Returns {"offset": s, "segments": [{"start": s, "cloud": path}], "sound": key}, the list empty where one
    row speaks of the whole piece, the key that of `identity.sound_key`; or {"rejected": [[file, reason]]}.
    """
    rejected = []
    score = None
    try:
        audio.probe(_named(audio_path))
    except UserError as error:
        rejected.append([audio_path, _reason(error, audio_path)])
    try:
        score = midi.read(_named(midi_path))
    except UserError as error:
        rejected.append([midi_path, _reason(error, midi_path)])
    if score is not None and not any(track.notes for track in score.tracks):
        rejected.append([midi_path, "it has no notes"])
    if rejected or score is None:
        return {"rejected": rejected}
    try:
        offset, sound = 0.0, identity.sound_key(Path(audio_path))
        if aligned:
            alignment = align(Path(audio_path), score)
            if alignment.match < MATCH:
                match = f"{alignment.match:.2f}, under {MATCH}"
                reason = f"its onsets don't match those of {midi_path} within 30 s ({match})"
                return {"rejected": [[audio_path, reason]]}
            offset = alignment.offset
        rows: list[dict[str, Any]] = []
        for start in pick_starts(Path(audio_path), segments) if make_cloud or segments > 1 else []:
            rows.append({"start": start})
            if make_cloud:
                vector = np.asarray(emotion, np.float32)
                cloud = make_cloud(Path(audio_path), Path(midi_path), vector, offset, start, Path(clouds_dir))
                rows[-1]["cloud"] = str(cloud)
    except NotWritable:
        raise
    except UserError as error:
        return {"rejected": [[audio_path, _reason(error, audio_path)]]}
    return {"offset": offset, "segments": rows, "sound": sound}


def crashed(audio_path: str, midi_path: str, *_: object) -> dict[str, Any]:
    """Return the result of a pair that ended the process it was opened in."""
    return {
        "rejected": [[audio_path, f"decoding it, or making its cloud with {midi_path}, crashed the process"]]
    }


def pick_starts(audio_path: Path, count: int) -> list[float]:
    """Return `count` segment starts in seconds, spread evenly; one for a file as short as a segment.

    Each stands in the middle of its share of the file, so one segment is the middle one.
    """
    room = max(0.0, audio.duration(audio_path) - audio.SEGMENT / audio.SAMPLE_RATE)
    return sorted({round(room * (index + 0.5) / count, 3) for index in range(count)})


def _named(path: str) -> Path:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: its name is not valid UTF-8; a manifest can't hold it") from None
    return Path(path)


def _reason(error: UserError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ")
