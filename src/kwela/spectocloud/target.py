"""Compute the target cloud of a segment of music: 1,200 points from its sound, its notes and its emotion.

- 720 points fall where the spectrogram is loud; it has pitch and time, down to 60 dB below its peak. 480
  points fall on the sounding notes and are denser near an attack. Without notes, all points follow the sound.
- Arousal spreads the points: thin lines at low arousal, wide clouds at high arousal. Valence sets the hue
  from indigo over teal to amber, intensity the saturation, and energy the brightness, opacity and size.
- z is the sum of dynamics (1/2), tension (3/10, the dissonance of notes that sound together) and texture
  (1/5, how full the spectrum is).
- Five anchors glow as strongly as the segment shows their musical quality; a point glows if it is near one of
  them.
- Loudness counts relative to the segment's peak, so a recording that is 3 dB louder gives the same cloud.
- The points are quasi-random numbers, mapped through inverse distribution functions. They are shifted by a
  seed that is a hash of content, start and settings, so the same input gives the same bytes. `redraw` shifts
  them differently; the distance between
  two such draws is the floor: no model is expected to come nearer to the target.
- Silence gives a still, grey disc of 1,200 points, whatever the emotion.
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from symusic.core import ScoreTick

from kwela import files
from kwela.errors import UserError
from kwela.music import audio, midi
from kwela.music.emotion import Emotion
from kwela.spectocloud import space

NOTE_POINTS = 480
# The standard deviation of the spread in x and y at arousal -1 and 1. In z it is twice as large.
CALM_SPREAD, AROUSED_SPREAD = 0.003, 0.018
GLOW_RADIUS = 0.2

# Dissonance of interval classes 0-6, from Huron's consonance of dyads (1994, Music Perception 11, table 2),
# inverted and scaled to [0, 1]: unison, semitone, tone, minor third, major third, fourth, tritone.
DISSONANCE = np.array([0.0, 1.0, 0.683, 0.242, 0.320, 0.0, 0.635])

# Valence -1, 0, 1 as RGB: indigo, teal, amber.
COLOURS = np.array([[0.38, 0.22, 0.98], [0.08, 0.74, 0.74], [1.00, 0.62, 0.12]])

# Raise this when the same segment gives another cloud. The version is part of a cloud's hash, so its file
# name and its seed change with it. tests/spectocloud/test_target.py compares clouds with recorded ones and
# shows when to raise it.
TARGET_VERSION = 1
# Version 1 keeps the text that was hashed for its clouds before versions were numbers.
_HASHED_VERSION = {1: "0b21133609e01d0e"}


class Cloud(NamedTuple):
    """Hold positions (1200, 3) and attributes (1200, 7: R G B A, size, glow, depth), float32 in [0, 1]."""

    positions: np.ndarray
    attributes: np.ndarray


class Segment(NamedTuple):
    """Hold what a cloud is computed from.

    level: (120 rows, 64 frames); 0 is 60 dB below the peak, 1 is the peak. notes: (N, 4), without drums:
    onset and end (s, within the segment), pitch, velocity. onsets: notes and drum strokes that begin inside
    the segment.
    """

    level: np.ndarray
    notes: np.ndarray
    onsets: int
    silent: bool


def write_cloud(
    audio_path: Path, midi_path: Path, emotion: np.ndarray, offset: float, start: float, out_dir: Path
) -> str:
    """Write the cloud of a segment as `<hash>.npy` and `<hash>.attributes.npy`; return the path of the first.

    offset, start: as in `compute`. The hash covers content, emotion, offset, start and TARGET_VERSION, so a
    pair of files that exists is the right one and is kept. Each file is complete or absent. The attributes
    are written before the positions, so positions never lie there without them.
    """
    path = Path(out_dir) / f"{content_hash(audio_path, midi_path, emotion, offset, start)[:32]}.npy"
    if not path.is_file():
        cloud = compute(audio_path, midi_path, emotion, offset, start)
        for file, array in ((attributes_path(path), cloud.attributes), (path, cloud.positions)):
            content = io.BytesIO()
            np.save(content, array)
            files.write(file, content.getvalue(), durable=False)
    return str(path)


def read_cloud(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return positions (n, 3), and attributes (n, 7) if `x.attributes.npy` lies beside `x.npy`; float32.

    Raises UserError with the file's name if a file is no such table or has a number that is not finite.
    """
    positions = _read_columns(path, 3)
    if not attributes_path(path).is_file():
        return positions, None
    attributes = _read_columns(attributes_path(path), 7)
    if len(attributes) != len(positions):
        raise UserError(
            f"{attributes_path(path)}: {len(attributes)} rows for the {len(positions)} points of {path.name}"
        )
    return positions, attributes


def _read_columns(file: Path, columns: int) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: not readable as a cloud: {error}") from None
    is_table = (
        isinstance(array, np.ndarray)
        and array.ndim == 2
        and array.shape[1] == columns
        and array.dtype.kind == "f"
    )
    if not is_table or not len(array) or not np.isfinite(array).all():
        raise UserError(f"{file}: a cloud is a table of {columns} columns of finite numbers")
    return array.astype(np.float32)


def attributes_path(cloud_path: Path) -> Path:
    """Return the path of a cloud's attributes: `x.attributes.npy` for `x.npy`."""
    return cloud_path.with_suffix(".attributes.npy")


def compute(
    audio_path: Path, midi_path: Path, emotion: np.ndarray, offset: float, start: float, *, redraw: int = 0
) -> Cloud:
    """Return the target cloud of the segment that begins `start` seconds into the audio.

    emotion: 3 or 64 numbers, of which only the named dimensions count. offset: seconds to subtract from audio
    time to get MIDI time. redraw: 0 gives the target; any other number gives another draw of the same
    distribution. Raises UserError for files that don't decode, and for a start past the audio's end.
    """
    midi_start = start - offset
    notes = midi.sounding(score(midi_path), midi_start, space.SECONDS)
    wave = audio.load(audio_path, start, space.SECONDS)
    if not len(wave):
        raise UserError(f"{audio_path}: {start} s is past its end")
    log_mel = space.log_mel(wave)
    segment = analyse_segment(log_mel, notes, midi_start)
    return make_cloud(
        segment, emotion, seed_of(content_hash(audio_path, midi_path, emotion, offset, start), redraw)
    )


def content_hash(audio_path: Path, midi_path: Path, emotion: np.ndarray, offset: float, start: float) -> str:
    """Return the SHA-256, in hex, of all that decides a cloud: files, emotion, times and TARGET_VERSION."""
    named = Emotion.from_vector(emotion)
    numbers = np.array([named.valence, named.arousal, named.intensity], dtype="<f4").tobytes()
    times = np.array([offset, start], dtype="<f8").tobytes()
    content = file_hash(audio_path) + file_hash(midi_path)
    version = _HASHED_VERSION.get(TARGET_VERSION, str(TARGET_VERSION)).encode()
    return hashlib.sha256(version + content + numbers + times).hexdigest()


def seed_of(content: str, redraw: int = 0) -> int:
    """Return the seed of draw `redraw` of the cloud with this content hash."""
    return int.from_bytes(hashlib.sha256(f"{content} {redraw}".encode()).digest()[:8], "big")


def score(midi_path: Path) -> ScoreTick:
    """Read a MIDI file by `midi.read`; keep the last few, because a song's segments follow each other."""
    return _score(*_stamp(midi_path))


def file_hash(path: Path) -> bytes:
    """Return the SHA-256 of a file's bytes, computed once for each path, size and time of change.

    Raises UserError if the file can't be read.
    """
    return _file_hash(*_stamp(path))


@functools.lru_cache(maxsize=1024)
def _file_hash(path: Path, mtime_ns: int, size: int) -> bytes:
    return bytes.fromhex(files.sha256(path))


@functools.lru_cache(maxsize=4)
def _score(path: Path, mtime_ns: int, size: int) -> ScoreTick:
    return midi.read(path)


def _stamp(path: Path) -> tuple[Path, int, int]:
    """Return the path, the time of change and the size of a file: the key of the caches above."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    return Path(path), stat.st_mtime_ns, stat.st_size


def analyse_segment(log_mel: np.ndarray, notes: np.ndarray, midi_start: float) -> Segment:
    """Return what `make_cloud` needs of a segment.

    log_mel: (128, 64), as `audio.log_mel` returns it. notes: the structured array of `midi.sounding`.
    midi_start: the MIDI time in seconds at which the segment begins.
    """
    rows = space.semitone_rows(log_mel)
    level = np.clip(1 + (rows - rows.max()) / space.RANGE, 0, 1)
    onset, end = notes["onset_s"] - midi_start, notes["end_s"] - midi_start
    onsets = int(((onset >= 0) & (onset < space.SECONDS)).sum())
    columns = [onset.clip(0), end.clip(max=space.SECONDS), notes["pitch"], notes["velocity"]]
    table = np.column_stack(columns)
    table = table[~notes["is_drum"] & (table[:, 1] > table[:, 0])]
    table = table[np.lexsort((table[:, 2], table[:, 0]))]
    return Segment(level, table.astype(np.float64), onsets, bool(rows.max() < space.SILENCE))


def make_cloud(segment: Segment, emotion: np.ndarray, seed: int) -> Cloud:
    """Return the cloud of a segment. emotion: 3 or 64 numbers, of which only the named ones count."""
    if segment.silent:
        return silent_cloud()
    named = Emotion.from_vector(emotion)
    shift = np.random.default_rng(seed).random(5)
    # Each point has five numbers, spread evenly over [0, 1): two place it, and three displace it.
    even = (np.hstack([space.quasi_random(space.POINTS, 2), space.quasi_random(space.POINTS, 3)]) + shift) % 1
    note_points = NOTE_POINTS if len(segment.notes) else 0
    tension = note_tension(segment.notes)
    frame_tension = _frame_means(segment.notes, tension)
    x, y, point_tension = (
        np.concatenate(pair)
        for pair in zip(
            _sample_notes(segment.notes, tension, even[:note_points]),
            _sample_sound(segment.level, frame_tension, even[note_points:]),
            strict=True,
        )
    )
    row, frame = _row_and_frame(x, y, segment.level.shape)
    level = segment.level[row, frame]
    texture = np.clip(2 * segment.level.mean(0), 0, 1)[frame]
    z = 0.5 * level + 0.3 * point_tension + 0.2 * texture
    spread = CALM_SPREAD + (AROUSED_SPREAD - CALM_SPREAD) * (named.arousal + 1) / 2
    displacement = ndtri(even[:, 2:].clip(1e-3, 1 - 1e-3)) * spread * [1, 1, 2]
    positions = np.clip(np.stack([x, y, z], 1) + displacement, 0, 1)
    is_on_note = np.arange(space.POINTS) < note_points
    depth = level / np.maximum(segment.level.max(0), 1e-6)[frame]  # 1, in front, for the loudest of its frame
    attributes = np.column_stack(
        [
            _colour(named.valence, named.intensity, positions[:, 1], level, is_on_note),
            0.2 + 0.8 * level**1.5,  # size
            glow(positions, strengths(segment, frame_tension)),
            depth,
        ]
    )
    return Cloud(positions.astype(np.float32), np.clip(attributes, 0, 1).astype(np.float32))


def silent_cloud() -> Cloud:
    """Return the cloud of silence: a grey, faint sunflower disc of radius 0.2 about (0.5, 0.5, 0.1)."""
    index = np.arange(space.POINTS) + 0.5
    radius, angle = 0.2 * np.sqrt(index / space.POINTS), np.pi * (1 + 5**0.5) * index
    disc = np.stack([0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle), np.full_like(index, 0.1)], 1)
    attributes = np.tile([0.5, 0.5, 0.55, 0.25, 0.2, 0.0, 0.0], (space.POINTS, 1))
    return Cloud(disc.astype(np.float32), attributes.astype(np.float32))


def note_tension(notes: np.ndarray) -> np.ndarray:
    """Return each note's mean dissonance (N,) in [0, 1] with the notes that sound at the same time.

    Each other note is weighted by the time for which both sound. A note that sounds alone has 0.
    """
    onset, end, pitch = notes[:, 0], notes[:, 1], notes[:, 2]
    shared = np.minimum(end[:, None], end) - np.maximum(onset[:, None], onset)
    shared = np.clip(shared, 0, None) * ~np.eye(len(notes), dtype=bool)
    interval = np.abs(pitch[:, None] - pitch).astype(int) % 12
    dissonance = DISSONANCE[np.minimum(interval, 12 - interval)]
    return (dissonance * shared).sum(1) / np.maximum(shared.sum(1), 1e-9)


def strengths(segment: Segment, frame_tension: np.ndarray) -> dict[str, float]:
    """Return how strongly the segment shows each anchor's musical quality, from 0 to 1.

    A measure of 0.3 or below gives 0, a measure of 0.7 or above gives 1, and those between rise in a line.
    """
    level = segment.level
    frame_peak = level.max(0)
    loud_to_soft = np.quantile(frame_peak, 0.9) - np.quantile(frame_peak, 0.1)
    energy = level**3
    centre = (
        energy.sum(1) @ np.linspace(0, 1, space.ROWS) / energy.sum()
    )  # 0 is the lowest row, 1 the highest
    measures = {
        "harmony": 2 * frame_tension.mean(),
        "rhythm": segment.onsets / space.SECONDS / 10,  # Ten onsets a second give 1.
        "dynamics": 2 * loud_to_soft,  # 30 dB between loud and soft frames give 1.
        "timbre": (centre - 0.2) / 0.5,
        "texture": 2 * level.mean(),
    }
    return {quality: float(np.clip((measures[quality] - 0.3) / 0.4, 0, 1)) for quality in space.ANCHORS}


def glow(positions: np.ndarray, strength: dict[str, float]) -> np.ndarray:
    """Return the glow (N,) in [0, 1] of each point, which it has from the anchor that is brightest there.

    An anchor's light is its strength at the anchor and falls off as a Gaussian of the distance.
    """
    anchors = np.array(list(space.ANCHORS.values()))
    squared_distance = np.square(positions[:, None] - anchors).sum(2)
    anchor_strength = np.array([strength[quality] for quality in space.ANCHORS])
    return (anchor_strength * np.exp(-squared_distance / (2 * GLOW_RADIUS**2))).max(1)


def _sample_sound(level: np.ndarray, frame_tension: np.ndarray, even: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return x, y and tension of points that are dense where the sound is loud; even: (n, 2) in [0, 1)."""
    density = level**3 + 1e-9
    up_to_frame = np.concatenate([[0], density.sum(0).cumsum()])
    frames = density.shape[1]
    x = np.interp(even[:, 0], up_to_frame / up_to_frame[-1], np.linspace(0, 1, frames + 1))
    frame = np.minimum((x * frames).astype(int), frames - 1)
    cumulative = np.vstack([np.zeros(frames), density.cumsum(0)])
    cumulative = (cumulative / cumulative[-1])[:, frame]  # (121, n)
    row = (cumulative[1:] <= even[:, 1]).sum(0).clip(max=space.ROWS - 1)
    point = np.arange(len(even))
    low, high = cumulative[row, point], cumulative[row + 1, point]
    y = (row + (even[:, 1] - low) / (high - low)) / space.ROWS
    return x, y, frame_tension[frame]


def _sample_notes(notes: np.ndarray, tension: np.ndarray, even: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return x, y and tension of points on the notes: more on loud and long ones; even: (n, 2) in [0, 1)."""
    if not len(even):
        return even[:, 0], even[:, 1], even[:, 0]
    onset, end, pitch, velocity = notes.T
    edges = np.concatenate([[0], np.cumsum(velocity * np.sqrt(end - onset))])
    edges /= edges[-1]
    note = np.searchsorted(edges, even[:, 0], side="right").clip(1, len(notes)) - 1
    along = (even[:, 0] - edges[note]) / (edges[note + 1] - edges[note])  # 0 is the note's onset, 1 its end
    # More points fall near an attack, if it lies inside the segment.
    along = np.where(onset[note] > 0, along**1.5, along)
    x = (onset[note] + along * (end - onset)[note]) / space.SECONDS
    return x, space.pitch_to_y(pitch[note]), tension[note]


def _frame_means(notes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean value (64,) of the notes that sound at each frame's middle; 0 where none sounds."""
    frame_middle = (np.arange(audio.FRAMES) + 0.5) / audio.FRAMES * space.SECONDS
    sounding = (notes[:, :1] <= frame_middle) & (frame_middle < notes[:, 1:2])  # (N, 64)
    return values @ sounding / np.maximum(sounding.sum(0), 1)


def _row_and_frame(x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the frame of the spectrogram in which each point lies."""
    rows, frames = shape
    return np.minimum((y * rows).astype(int), rows - 1), np.minimum((x * frames).astype(int), frames - 1)


def _colour(
    valence: float, intensity: float, y: np.ndarray, level: np.ndarray, is_on_note: np.ndarray
) -> np.ndarray:
    """Return RGBA (N, 4): hue from valence and pitch, saturation from intensity, brightness from level."""
    warmth = valence + 1.2 * (y - 0.4)
    hue = np.column_stack([np.interp(warmth, [-1, 0, 1], channel) for channel in COLOURS.T])
    saturation = 0.4 + 0.6 * intensity
    brightness = 0.35 + 0.65 * level[:, None]
    colour = (hue * saturation + hue.mean(1, keepdims=True) * (1 - saturation)) * brightness
    # Points on notes are nearer to white.
    colour = np.where(is_on_note[:, None], 0.85 * colour + 0.15 * brightness, colour)
    return np.column_stack([colour, 0.3 + 0.7 * level])
