"""The windows of held-out songs on which clouds are judged: their sound, the cloud they should give, and neighbours.

Nothing of the training's loader is used: rows are read, audio decoded and targets computed here, without its caches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kwela.corpus.pairs.rows import Row
from kwela.errors import UserError
from kwela.music import audio, midi
from kwela.spectocloud import space, target
from kwela.spectocloud.target import Cloud
from kwela.terminal import with_progress_bar


@dataclass(frozen=True)
class Window:
    """1.486 s of a song, from `start` (s); MIDI time = audio time - offset. given: a cloud made beforehand, or None."""

    song: str
    audio: Path
    midi: Path
    emotion: np.ndarray  # (64,)
    offset: float
    start: float
    given: Path | None = None
    origin: float | None = None  # the start of the window that this one is a neighbour of

    @property
    def content(self) -> str:
        """What a target's random numbers are drawn from: of a neighbour, those of the window that it is one of."""
        start = self.start if self.origin is None else self.origin
        return target.content_hash(self.audio, self.midi, self.emotion, self.offset, start)

    def later(self, seconds: float) -> Window:
        """The window that begins `seconds` later; its targets are drawn with this one's numbers."""
        return replace(self, start=self.start + seconds, given=None, origin=self.start)


def choose(rows: Sequence[Row], a_song: int, songs: int) -> list[Window]:
    """Up to `a_song` windows of each of up to `songs` songs, evenly chosen, in the manifest's order.

    A row that fixes its segment is that window; one that doesn't gives windows evenly spaced over its audio. Raises
    UserError for audio whose header can't be read.
    """
    by_song = defaultdict(list)
    for row in rows:
        by_song[row["group"]].append(row)
    chosen = []
    for song in evenly(list(by_song), songs):
        fixed = [row for row in by_song[song] if "start" in row or "target_pointcloud_path" in row]
        windows = [_window(row, float(row.get("start", 0))) for row in fixed]
        if not fixed:
            row = by_song[song][0]
            last = max(0.0, audio.duration(Path(row["audio_path"])) - space.SECONDS)
            windows = [
                _window(row, float(at)) for at in np.unique(np.linspace(0, last, a_song + 2)[1:-1].round(3))
            ]
        chosen += evenly(windows, a_song)
    return chosen


def _window(row: Row, start: float) -> Window:
    given = row.get("target_pointcloud_path")
    files = Path(row["audio_path"]), Path(row["midi_path"])
    return Window(
        row["group"], *files, row["emotion64"], row["offset"], start, Path(given) if given else None
    )


def evenly(items: list[Any], most: int) -> list[Any]:
    return [
        items[k] for k in np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int))
    ]


@dataclass(frozen=True)
class Heard:
    """What a model is given of a window (log_mel (128, 64), features (32,)), and what its target is drawn from."""

    log_mel: np.ndarray
    features: np.ndarray
    segment: target.Segment


class Sample(NamedTuple):
    window: Window
    heard: Heard
    target: Cloud


def listen(windows: Sequence[Window], left_out: dict[str, str], label: str) -> list[Sample]:
    """Each window with what is heard in it and its target; what doesn't decode goes to left_out {file: why}."""
    samples = []
    for window in with_progress_bar(windows, label):
        try:
            heard = hear(window)
            samples.append(Sample(window, heard, wanted(window, heard)))
        except UserError as error:
            left_out[str(window.given or window.audio)] = str(error)
    return samples


def hear(window: Window) -> Heard:
    """Decode a window. Raises UserError if a file doesn't decode, or the window begins past its end."""
    wave = audio.load(window.audio, window.start, space.SECONDS)
    if not len(wave):
        raise UserError(f"{window.audio}: {window.start} s is past its end")
    score, at = target.score(window.midi), window.start - window.offset
    log_mel = space.log_mel(wave)
    segment = target.analyse_segment(log_mel, midi.sounding(score, at, space.SECONDS), at)
    return Heard(log_mel, midi.features(score, at, space.SECONDS), segment)


def wanted(window: Window, heard: Heard) -> Cloud:
    """The window's target: the cloud given for it, else as `target.compute` makes it.

    A given cloud without attributes is plain: middle grey. Raises UserError as `target.read_cloud`, or if it has
    another number of points.
    """
    if window.given is None:
        return drawn(window, heard)
    positions, attributes = target.read_cloud(window.given)
    if len(positions) != space.POINTS:
        raise UserError(
            f"{window.given}: a target cloud has {space.POINTS} points, this one {len(positions)}"
        )
    return Cloud(positions, np.full((space.POINTS, 7), 0.5, np.float32) if attributes is None else attributes)


def drawn(window: Window, heard: Heard, redraw: int = 0) -> Cloud:
    """The target by `target.compute`'s rule, drawn with the numbers of the window that this one is a neighbour of."""
    return target.make_cloud(heard.segment, window.emotion, target.seed_of(window.content, redraw))


def has_floor(window: Window) -> bool:
    """Whether the target is one that can be drawn again: not made by hand."""
    return window.given is None or window.given.stem == window.content[:32]
