"""Small real files: tones and a few notes, written by the libraries that users' files come from."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
from symusic.core import NoteTick, ScoreTick, TrackTick

RATE = 22_050


def tone(seconds: float = 1.2) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 330 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def write_audio(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".wav", ".flac", ".ogg"):
        soundfile.write(path, tone(), RATE, format=path.suffix[1:].upper())
        return path
    forms = {".mp3": ("mp3", "mp3"), ".m4a": ("ipod", "aac"), ".aac": ("adts", "aac")}
    container, codec = forms[path.suffix.lower()]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone()[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return path


def write_midi(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    score = ScoreTick(480)
    track = TrackTick("piano", 0, False)
    for index in range(4):
        track.notes.append(NoteTick(240 * index, 240, 60 + index, 80))
    score.tracks.append(track)
    score.dump_midi(path)
    return path


class Tree:
    """audio/ and midi/ under one folder, to which files are added by their path without the extension."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.audio, self.midi, self.out = (
            folder,
            folder / "audio",
            folder / "midi",
            folder / "manifests",
        )

    def add(self, *names: str, audio: str | None = "wav", midi: str | None = "mid") -> Tree:
        for name in names:
            if audio:
                write_audio(self.audio / f"{name}.{audio}")
            if midi:
                write_midi(self.midi / f"{name}.{midi}")
        return self
