"""Read and write MIDI files, and measure time and notes in them.

- `read` parses in the sandbox, because files are not trusted: the worst result is a UserError that names the
  file.
- Times are seconds from the file's start unless a name says ticks; a tick is 1 / `score.tpq` quarter.
- The 32 features of a window are `FEATURE_NAMES`, all in [0, 1].
"""

from __future__ import annotations

import stat
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from symusic.core import ScoreTick

from kwela import files
from kwela.errors import UserError
from kwela.music import sandbox
from kwela.music.grammar import DRUM_PROGRAM, FASTEST_BPM, SLOWEST_BPM, TEMPO_RATIO, TPQ
from kwela.music.score_events import START_MSPQ, drop_late_tempos, read_pedals, voices
from kwela.music.smf_container import MAX_BYTES, NotReadable, open_container

# How the names of files end that `read` takes, in any case. What a file is, its bytes decide.
MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".mid.gz", ".midi.gz")
# Raise this when the same file reads as another score: caches of what was read hold no longer.
READER_VERSION = 2
MAX_EVENTS = 2_000_000  # notes, controllers, pitch bends, tempos, meters, keys, markers, lyrics
MAX_HOURS = 10
MAX_QUARTERS = MAX_HOURS * 60 * FASTEST_BPM  # as many at the fastest tempo that the ids can write


def read(path: Path | str) -> ScoreTick:
    """Read the score of a MIDI file, in ticks, as `smf_reader` and `smf_channels` say.

    The file may be wrapped in RIFF, MacBinary or gzip. Raises UserError, naming the file, if it is missing,
    empty, not MIDI, broken, timed in SMPTE frames or with zero ticks per quarter, of a format other than 0
    and 1, over the caps above, or more than the reader survives.
    """
    return _read(Path(path), counted=False)[0]


def read_counted(path: Path | str) -> tuple[ScoreTick, dict[str, int]]:
    """Read the score of a MIDI file, and count what its bytes hold and what of it is left out.

    docs/formats.md lists the counts; `notes_in_file` is counted independently of the reader. Raises as
    `read`.
    """
    return _read(Path(path), counted=True)


def _read(path: Path, counted: bool) -> tuple[ScoreTick, dict[str, int]]:
    data = _read_bytes(path)
    try:
        score, counts = sandbox.parse_counted(data, counted)
        check_caps(score)
    except (ValueError, sandbox.Refused, sandbox.ParserDied) as error:
        raise UserError(f"{path}: {error}") from None
    counts["tempos_after_end"] = drop_late_tempos(score)
    return score, counts


def write(score: ScoreTick, path: Path | str) -> None:
    """Write a score as a MIDI file, whole or not at all, and make its folder. Raises as `files.write`.

    Tracks that would share one of the 16 channels get ports (meta event 0x21), so that `read` keeps their
    programs, pedals and notes apart.
    """
    files.write(Path(path), _with_ports(score.dumps_midi(), _ports(score)))


def _ports(score: ScoreTick) -> list[int]:
    """Return the port of each track: how many tracks before it are written with its channel."""
    taken: Counter[int] = Counter()
    ports = []
    for index, track in enumerate(score.tracks):
        channel = -1 if track.is_drum else index % 15  # symusic 0.6 deals the 15 other channels out in turn
        ports.append(min(taken[channel], 127))
        taken[channel] += 1
    return ports


def _with_ports(data: bytes, ports: list[int]) -> bytes:
    """Begin each track of a file, as symusic writes it, with its port, unless that is 0."""
    parts, at = [data[:14]], 14
    for port in ports:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        event = bytes([0, 0xFF, 0x21, 1, port]) if port else b""
        parts += [
            data[at : at + 4],
            (end - at - 8 + len(event)).to_bytes(4, "big"),
            event,
            data[at + 8 : end],
        ]
        at = end
    return b"".join([*parts, data[at:]])


def check_header(path: Path) -> None:
    """Check the outer form of a file: wrapper, header and chunks, not its events. Raises as `read`."""
    try:
        open_container(_read_bytes(path))
    except NotReadable as error:
        raise UserError(f"{path}: {error}") from None


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a regular file")
        with path.open("rb") as file:
            data = file.read(min(status.st_size, MAX_BYTES) + 1)  # a larger buffer takes longer to make
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: over {MAX_BYTES >> 20} MiB, too large for a MIDI file")
    return data


def check_caps(score: ScoreTick) -> None:
    """Raise ValueError with the reason if the score exceeds a cap, or if its time runs backwards."""
    events = len(score.tempos) + len(score.time_signatures) + len(score.key_signatures) + len(score.markers)
    for track in score.tracks:
        events += len(track.notes) + len(track.controls) + len(track.pitch_bends) + len(track.lyrics)
    if events > MAX_EVENTS:
        raise ValueError(f"{events} events, over {MAX_EVENTS}")
    end = score.end()
    if score.start() < 0 or end < 0:
        raise ValueError("its times run past 2^31 ticks")
    slowest = max([START_MSPQ, *(tempo.mspq for tempo in score.tempos)]) if len(score.tempos) < 9 else 1 << 24
    if end > MAX_QUARTERS * score.tpq or (
        end / score.tpq * slowest > MAX_HOURS * 3.6e9  # else no tempo map is needed to know
        and tick_to_seconds(score, np.array(end)) > MAX_HOURS * 3600
    ):
        raise ValueError(
            f"{end // score.tpq} quarters long, over {MAX_HOURS} hours or {MAX_QUARTERS} quarters"
        )


# ---- time


class TempoMap(NamedTuple):
    """Stretches of one tempo from tick 0 on: first tick (int64), its time in seconds, seconds per tick."""

    tick: np.ndarray
    second: np.ndarray
    rate: np.ndarray


def tempo_map(score: ScoreTick) -> TempoMap:
    """Return the score's tempos: 120 BPM until the first one, and the last tempo of a tick wins."""
    events = score.tempos.numpy()
    order = np.argsort(events["time"], kind="stable")
    tick = np.append(0, events["time"][order].astype(np.int64))
    mspq = np.append(START_MSPQ, events["mspq"][order])
    rate = np.maximum(mspq, 1) / (1e6 * score.tpq)
    return TempoMap(tick, np.append(0.0, np.cumsum(np.diff(tick) * rate[:-1])), rate)


def tick_to_seconds(score: ScoreTick, tick: np.ndarray) -> np.ndarray:
    """Convert ticks >= 0, of any shape, to seconds (float64)."""
    tempos = tempo_map(score)
    stretch = np.searchsorted(tempos.tick, tick, side="right") - 1
    return tempos.second[stretch] + (tick - tempos.tick[stretch]) * tempos.rate[stretch]


# ---- notes

NOTE = np.dtype(
    [
        ("pitch", "u1"),
        ("velocity", "u1"),
        ("onset_s", "f8"),
        ("end_s", "f8"),
        ("onset_quarter", "f8"),
        ("program", "u1"),
        ("is_drum", "?"),
    ]
)


def notes(score: ScoreTick) -> np.ndarray:
    """Return all notes as a structured array of `NOTE`, by onset, then pitch."""
    tracks = [(track, track.notes.numpy()) for track in score.tracks if track.notes]
    if not tracks:
        return np.zeros(0, NOTE)
    time, duration, pitch, velocity = (
        np.concatenate([columns[name] for _, columns in tracks])
        for name in ("time", "duration", "pitch", "velocity")
    )
    table = np.empty(len(time), NOTE)
    table["pitch"], table["velocity"] = pitch, velocity
    table["onset_s"], table["end_s"] = tick_to_seconds(
        score, np.stack([time, time + duration]).astype(np.int64)
    )
    table["onset_quarter"] = time / score.tpq
    lengths = [len(columns["time"]) for _, columns in tracks]
    table["program"] = np.repeat([track.program for track, _ in tracks], lengths)
    table["is_drum"] = np.repeat([track.is_drum for track, _ in tracks], lengths)
    return table[np.lexsort((pitch, time))]


def sounding(score: ScoreTick, start_s: float, seconds: float) -> np.ndarray:
    """Return the `notes` that sound in [start_s, start_s + seconds), also those held over its start."""
    every = notes(score)
    begun = every["onset_s"] < start_s + seconds
    return every[begun & ((every["end_s"] > start_s) | (every["onset_s"] >= start_s))]


# ---- features of a window

FEATURE_NAMES = (
    *(f"pitch_class_{name}" for name in ("c", "cs", "d", "ds", "e", "f", "fs", "g", "gs", "a", "as", "b")),
    "onset_rate",
    "note_rate",
    "polyphony_mean",
    "polyphony_max",
    "pitch_mean",
    "pitch_spread",
    "pitch_range",
    "velocity_mean",
    "velocity_spread",
    "duration_mean",
    "duration_spread",
    "rhythm_spread",
    "off_beat_share",
    "drum_share",
    "pedal_share",
    "tempo",
    "dissonance",
    "mode",
    "programs",
    "empty_share",
)

# Krumhansl & Kessler 1982, probe-tone profiles from the tonic up (Krumhansl 1990, table 2.1). Rows: major,
# minor.
KEY_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)
_KEYS = np.array([np.roll(profile, tonic) for profile in KEY_PROFILES for tonic in range(12)])
_KEYS = (_KEYS - _KEYS.mean(1, keepdims=True)) / _KEYS.std(1, keepdims=True)


def features(score: ScoreTick, start_s: float, seconds: float) -> np.ndarray:
    """Describe what sounds in [start_s, start_s + seconds) by FEATURE_NAMES: 32 float32 numbers in [0, 1].

    A window in which nothing sounds is all zeros except empty_share = 1. Drums count where they are named,
    and in rates, polyphony, velocity and empty_share. The pitch features are of the other notes, 0 if there
    are none. Values over 1 become 1.

    pitch_class_c..b: share of sounding time x velocity. onset_rate: distinct onsets / s / 10. note_rate:
    onsets / s /
    20. polyphony_mean, _max: notes sounding at a time / 8, / 16. pitch_mean: / 127. pitch_spread: standard
        deviation /
    24. pitch_range: highest - lowest, / 88. velocity_mean: / 127. velocity_spread: standard deviation / 40.
    duration_mean, duration_spread: mean and standard deviation d of whole note lengths in seconds, as d / (1
    + d). rhythm_spread: coefficient of variation c of the intervals between onsets, as c / (1 + c).
    off_beat_share: onsets more than 1/12 quarter from a quarter. drum_share: drums among the notes.
    pedal_share: of the window, with any pedal down. tempo: at start_s, log scale from 20 BPM = 0 to 320 BPM =
    1. dissonance: pairs of different pitch classes (weighted by the product of their shares) that are 1, 2 or
    6 semitones apart. mode: 0.5 + half the difference of the best correlations with major and minor key
    profiles (Krumhansl & Kessler 1982): 1 major, 0 minor. programs: distinct programs / 8, drums one.
    empty_share: of the window, with nothing sounding.
    """
    values = dict.fromkeys(FEATURE_NAMES, 0.0)
    audible = sounding(score, start_s, seconds)
    end_s = start_s + seconds
    level = _levels(audible["onset_s"], audible["end_s"], start_s, end_s)
    values["empty_share"] = 1.0 - level.cover
    if len(audible):
        values["polyphony_mean"], values["polyphony_max"] = level.mean / 8, level.most / 16
        values |= _note_features(audible)
        values |= _rhythm_features(audible[audible["onset_s"] >= start_s], seconds)
        values["pedal_share"] = _levels(*_pedals_down(score), start_s, end_s).cover
        values["tempo"] = _tempo_feature(score, start_s)
        values |= _pitch_features(audible[~audible["is_drum"]], start_s, end_s)
    return np.clip(np.array(list(values.values()), np.float32), 0, 1)


Features = dict[str, float]  # some of FEATURE_NAMES


def _note_features(audible: np.ndarray) -> Features:
    """Describe velocity, length and instruments of the notes that sound, drums included."""
    length = audible["end_s"] - audible["onset_s"]
    mean, deviation = length.mean(), length.std()
    return {
        "velocity_mean": audible["velocity"].mean() / 127,
        "velocity_spread": audible["velocity"].std() / 40,
        "duration_mean": mean / (1 + mean),
        "duration_spread": deviation / (1 + deviation),
        "drum_share": audible["is_drum"].mean(),
        "programs": len(np.unique(np.where(audible["is_drum"], DRUM_PROGRAM, audible["program"]))) / 8,
    }


def _rhythm_features(begun: np.ndarray, seconds: float) -> Features:
    """Describe rates and regularity of the notes that begin inside the window."""
    onsets = np.unique(begun["onset_s"])
    values = {"onset_rate": len(onsets) / seconds / 10, "note_rate": len(begun) / seconds / 20}
    if len(onsets) > 2:
        between = np.diff(onsets)
        variation = between.std() / between.mean()
        values["rhythm_spread"] = variation / (1 + variation)
    if len(begun):
        quarter = begun["onset_quarter"]
        values["off_beat_share"] = (np.abs(quarter - np.rint(quarter)) > 1 / 12 + 1e-9).mean()
    return values


def _tempo_feature(score: ScoreTick, start_s: float) -> float:
    tempos = tempo_map(score)
    quarter_s = tempos.rate[np.searchsorted(tempos.second, start_s, side="right") - 1] * score.tpq
    return float(np.log(60 / quarter_s / SLOWEST_BPM) / np.log(TEMPO_RATIO))


def _pitch_features(tonal: np.ndarray, start_s: float, end_s: float) -> Features:
    """Describe pitches and harmony of the notes that are not drums; empty without such notes."""
    if not len(tonal):
        return {}
    inside = np.minimum(tonal["end_s"], end_s) - np.maximum(tonal["onset_s"], start_s)
    weight = np.maximum(inside, 1e-3) * np.maximum(tonal["velocity"], 1)
    pitch = tonal["pitch"].astype(np.float64)
    share = np.bincount(tonal["pitch"] % 12, weight, 12) / weight.sum()
    values = dict(zip(FEATURE_NAMES[:12], share.tolist(), strict=True))
    values["pitch_mean"], values["pitch_spread"] = pitch.mean() / 127, pitch.std() / 24
    values["pitch_range"] = np.ptp(pitch) / 88
    different = 1 - (share**2).sum()
    if different > 1e-9:
        rough = sum(share @ np.roll(share, step) for step in (1, 2, 6))
        values["dissonance"] = (2 * rough - share @ np.roll(share, 6)) / different
    spread = share.std()
    fit = _KEYS @ (share - 1 / 12) / 12 / spread if spread > 1e-9 else np.zeros(len(_KEYS))
    values["mode"] = 0.5 + (fit[:12].max() - fit[12:].max()) / 2
    return values


class _Level(NamedTuple):
    cover: float  # share of the window in which something is on
    mean: float  # how many are on, on average over the window
    most: int


def _levels(starts: np.ndarray, ends: np.ndarray, start_s: float, end_s: float) -> _Level:
    """Measure how many of the intervals [starts, ends) are on through a window."""
    if not len(starts):
        return _Level(0.0, 0.0, 0)
    time = np.clip(np.concatenate([ends, starts]), start_s, end_s)  # ends first: what touches doesn't overlap
    step = np.repeat([-1, 1], len(starts))
    order = np.argsort(time, kind="stable")
    on = np.cumsum(step[order])
    span = np.diff(np.append(time[order], end_s)) / (end_s - start_s)
    return _Level(float(span[on > 0].sum()), float(span @ on), int(on[span > 0].max(initial=0)))


def _pedals_down(score: ScoreTick) -> tuple[np.ndarray, np.ndarray]:
    """Return when pedals go down and come up again, in seconds."""
    voice, tick, down = read_pedals(voices(score), score.tpq)
    order = np.lexsort((down, tick, voice))
    voice, down = voice[order], down[order]
    second = tick_to_seconds(score, tick[order] * score.tpq / TPQ)
    released = np.append(second[1:], np.inf)
    released[:-1][voice[1:] != voice[:-1]] = np.inf
    return second[down], released[down]
