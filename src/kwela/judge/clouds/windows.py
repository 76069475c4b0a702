"""Read the windows on which clouds are judged: their sound, their target, and later windows.

Nothing of the training's loader is used. Rows are read, audio is decoded and targets are computed here,
without the training's caches.
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
    """1.486 s of a song. Times are seconds; MIDI time = audio time - offset."""

    song: str
    audio: Path
    midi: Path
    emotion: np.ndarray  # (64,)
    offset: float
    start: float
    target_path: Path | None = None  # of a cloud that the manifest names
    earlier_start: float | None = None  # the start of the window that this one is a later window of

    @property
    def content(self) -> str:
        """The hash that a target's random numbers are drawn from; a later window has its earlier window's."""
        start = self.start if self.earlier_start is None else self.earlier_start
        return target.content_hash(self.audio, self.midi, self.emotion, self.offset, start)

    def later(self, seconds: float) -> Window:
        """Return the window that begins `seconds` later; its target has this one's random numbers."""
        return replace(self, start=self.start + seconds, target_path=None, earlier_start=self.start)


def choose_windows(rows: Sequence[Row], windows_per_song: int, songs: int) -> list[Window]:
    """Choose windows of each of up to `songs` songs, evenly spaced, in the manifest's order.

    windows_per_song: at most. A row that fixes its segment is that window; a row that doesn't gives windows
    evenly spaced over its audio. Raises UserError for audio with a header that can't be read.
    """
    by_song = defaultdict(list)
    for row in rows:
        by_song[row["group"]].append(row)
    chosen = []
    for song in evenly_spaced(list(by_song), songs):
        fixed = [row for row in by_song[song] if "start" in row or "target_pointcloud_path" in row]
        windows = [_window(row, float(row.get("start", 0))) for row in fixed]
        if not fixed:
            row = by_song[song][0]
            last = max(0.0, audio.duration(Path(row["audio_path"])) - space.SECONDS)
            starts = np.unique(np.linspace(0, last, windows_per_song + 2)[1:-1].round(3))
            windows = [_window(row, float(start)) for start in starts]
        chosen += evenly_spaced(windows, windows_per_song)
    return chosen


def _window(row: Row, start: float) -> Window:
    target_path = row.get("target_pointcloud_path")
    return Window(
        row["group"],
        Path(row["audio_path"]),
        Path(row["midi_path"]),
        row["emotion64"],
        row["offset"],
        start,
        Path(target_path) if target_path else None,
    )


def evenly_spaced(items: list[Any], most: int) -> list[Any]:
    """Return up to `most` of the items, evenly spaced, the first and the last among them."""
    indexes = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)
    return [items[index] for index in np.unique(indexes)]


@dataclass(frozen=True)
class WindowInputs:
    """What a model is given of a window, and what its target is drawn from."""

    log_mel: np.ndarray  # (128, 64)
    features: np.ndarray  # (32,)
    segment: target.Segment


class WindowWithTarget(NamedTuple):
    """A window with its inputs and its target."""

    window: Window
    inputs: WindowInputs
    target: Cloud


def read_windows(windows: Sequence[Window], left_out: dict[str, str], label: str) -> list[WindowWithTarget]:
    """Read each window; what can't be decoded goes to left_out {file: reason}.

    label: of the progress bar.
    """
    read = []
    for window in with_progress_bar(windows, label):
        try:
            inputs = read_inputs(window)
            read.append(WindowWithTarget(window, inputs, target_of(window, inputs)))
        except UserError as error:
            left_out[str(window.target_path or window.audio)] = str(error)
    return read


def read_inputs(window: Window) -> WindowInputs:
    """Decode a window.

    Raises UserError if a file can't be decoded, or if the window begins past its end.
    """
    wave = audio.load(window.audio, window.start, space.SECONDS)
    if not len(wave):
        raise UserError(f"{window.audio}: {window.start} s is past its end")
    score, midi_start = target.score(window.midi), window.start - window.offset
    log_mel = space.log_mel(wave)
    segment = target.analyse_segment(log_mel, midi.sounding(score, midi_start, space.SECONDS), midi_start)
    return WindowInputs(log_mel, midi.features(score, midi_start, space.SECONDS), segment)


def target_of(window: Window, inputs: WindowInputs) -> Cloud:
    """Return the window's target: the manifest's cloud if it names one, else that of `target.compute`.

    A named cloud without attributes is middle grey. Raises UserError as `target.read_cloud`, or if it has
    another number of points.
    """
    if window.target_path is None:
        return draw_target(window, inputs)
    positions, attributes = target.read_cloud(window.target_path)
    if len(positions) != space.POINTS:
        raise UserError(
            f"{window.target_path}: a target cloud has {space.POINTS} points, this one {len(positions)}"
        )
    return Cloud(positions, np.full((space.POINTS, 7), 0.5, np.float32) if attributes is None else attributes)


def draw_target(window: Window, inputs: WindowInputs, redraw: int = 0) -> Cloud:
    """Draw the target by `target.compute`'s rule. redraw: another number draws other random numbers."""
    return target.make_cloud(inputs.segment, window.emotion, target.seed_of(window.content, redraw))


def can_be_drawn_again(window: Window) -> bool:
    """Return whether the target comes from this version's rule, and not from a hand-made or older cloud."""
    return window.target_path is None or window.target_path.stem == window.content[:32]
