"""Made music to judge: five styles by many made-up artists, 10 s at 16 kHz. A few milliseconds a clip.

`log_drum` is the style under test: a low tone with a glide and a long ring, shakers on sixteenths, 7th and
9th chords, a sparse kick, 108-114 BPM. The others are what it must be told from; house and hip-hop are made
to be near. An artist fixes tempo, sounds, chords and mix; a take fixes what is played. Artists of `unseen`
play patterns, tempi and chords that no other artist does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE, SECONDS = 16_000, 10.0
SAMPLES = round(RATE * SECONDS)

# Steps of a bar of 16 on which the bass strikes.
LOG_PATTERNS = [(0, 3, 6, 10, 13), (2, 3, 7, 10, 14), (0, 3, 7, 11, 14), (3, 6, 8, 11, 15), (0, 6, 7, 11, 13)]
LOG_UNSEEN = [(1, 4, 7, 9, 14), (2, 5, 6, 9, 12, 15), (0, 5, 7, 10, 15)]
STRAIGHT = [(0, 4, 8, 12), (2, 6, 10, 14), (0, 2, 4, 8, 10, 12), (0, 4, 6, 8, 12, 14)]
BOOM_BAP = [(0, 7, 10), (0, 3, 10), (0, 2, 9, 10), (0, 10, 13)]
SEVENTHS = [(0, 3, 7, 10), (0, 4, 7, 11), (0, 3, 7, 10, 14), (0, 4, 7, 11, 14)]
TRIADS = [(0, 4, 7), (0, 3, 7)]


class Mix:
    """Ten seconds of silence to put sounds into."""

    def __init__(self) -> None:
        self.wave = np.zeros(SAMPLES + 4 * RATE, np.float32)

    def put(self, sound: np.ndarray, second: float, gain: float = 1.0) -> None:
        at = round(second * RATE)
        if 0 <= at < SAMPLES:
            sound = sound[: len(self.wave) - at]
            self.wave[at : at + len(sound)] += gain * sound


@functools.lru_cache(256)
def drum_tone(hertz: float, ring: float, glide: float, drive: float) -> np.ndarray:
    """A log drum: a tone that falls `glide` semitones to `hertz` and -20 dB in `ring` seconds."""
    t = _times(1.2)
    pitch = hertz * 2 ** (glide / 12 * np.exp(-t / 0.03))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.exp(-t * np.log(10) / ring)
    return np.tanh(drive * tone) / drive * np.minimum(1, t / 0.003)


@functools.lru_cache(256)
def kick(low: float, ring: float) -> np.ndarray:
    t = _times(0.4)
    pitch = low + 180 * np.exp(-t / 0.035)
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.exp(-t * np.log(10) / ring)


def hiss(rng: np.random.Generator, low: float, high: float, ring: float) -> np.ndarray:
    """Noise between two frequencies: a shaker, a hat, a snare."""
    fall, rise = _envelope(ring)
    noise = _noise(low, min(high, 7900))
    start = rng.integers(len(noise) - len(fall))
    return noise[start : start + len(fall)] * fall * rise


@functools.lru_cache(256)
def _envelope(ring: float) -> tuple[np.ndarray, np.ndarray]:
    t = _times(min(0.5, 3 * ring + 0.02))
    return np.exp(-t / ring), np.minimum(1, t / 0.004)


@functools.lru_cache(256)
def _noise(low: float, high: float) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    band = butter(2, (low, high), "bandpass", fs=RATE, output="sos")
    return sosfilt(band, np.random.default_rng(1).normal(size=4 * RATE)).astype(np.float32)


def _times(seconds: float) -> np.ndarray:
    """Seconds of each sample. In float64: the phase of a glide is a long sum, and in float32 it differs
    audibly between two CPUs.
    """
    return np.arange(round(seconds * RATE)) / RATE


@functools.lru_cache(256)
def note(
    midi: float, seconds: float, partials: int, fade: float, attack: float, vibrato: float = 0.0
) -> np.ndarray:
    turn = 2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * (t := _times(seconds))
    if vibrato:
        turn = turn + vibrato * 10 * np.sin(2 * np.pi * 5.5 * t)
    # Partials by sin(k x) = 2 cos(x) sin((k - 1) x) - sin((k - 2) x).
    before, now, twice = np.zeros_like(t), np.sin(turn), 2 * np.cos(turn)
    wave = now.copy()
    for k in range(2, partials + 1):
        before, now = now, twice * now - before
        wave += now / k**1.3
    return wave * np.exp(-t / fade) * np.minimum(1, t / attack) * np.minimum(1, (seconds - t) / 0.02)


def chord(
    mix: Mix, root: float, shape: tuple[int, ...], second: float, seconds: float, gain: float, soft: int
) -> None:
    for step in shape:
        mix.put(note(root + step, seconds, soft, 1.2, 0.01), second, gain / len(shape))


# --------------------------------------------------------------------- styles


def log_drum(
    artist: np.random.Generator, take: np.random.Generator, unseen: bool, straight: bool = False
) -> np.ndarray:
    mix = Mix()
    bpm = (
        artist.uniform(108, 114)
        if not unseen
        else artist.choice([artist.uniform(107, 109), artist.uniform(112, 115)])
    )
    step = 60 / bpm / 4
    patterns = STRAIGHT if straight else LOG_UNSEEN if unseen else LOG_PATTERNS
    ring, glide, drive = artist.uniform(0.3, 0.6), artist.uniform(2, 9), artist.uniform(0.6, 3)
    key, soft = artist.integers(30, 38), int(artist.integers(2, 5))
    line = artist.choice([0, 0, 3, 5, 7, 10, 12], 6)
    shake, sharp = artist.uniform(0.10, 0.22), artist.uniform(0.02, 0.045)
    shapes = [SEVENTHS[k] for k in artist.choice(4, 2)]
    kicks = (0, 4, 8, 12) if straight else [(0,), (0, 8), (), (0, 10)][artist.integers(4)]
    pattern = patterns[take.integers(len(patterns))]
    shift = take.integers(16)
    for bar in range(7):
        for k, s in enumerate(pattern):
            if take.random() < 0.92:
                hertz = 440 * 2 ** ((key + line[(k + bar) % 6] - 69) / 12)
                mix.put(
                    drum_tone(hertz, ring, glide, drive), (bar * 16 + s - shift) * step, take.uniform(0.7, 1)
                )
        for s in kicks:
            mix.put(kick(48, 0.12), (bar * 16 + s - shift) * step, 0.5)
        for s in range(16):
            loud = (1.0, 0.55, 0.8, 0.55)[s % 4] * take.uniform(0.8, 1.1)
            mix.put(hiss(take, 3500, 7500, sharp), (bar * 16 + s - shift) * step, shake * loud)
        shape = shapes[bar % 2]
        for s in (0, 6) if take.random() < 0.5 else (0,):
            root = key + 24 + (0, 5)[bar % 2]
            chord(mix, root, shape, (bar * 16 + s - shift) * step, 14 * step, artist_gain(artist, 0.45), soft)
    return mix.wave


def straight(artist: np.random.Generator, take: np.random.Generator, unseen: bool) -> np.ndarray:
    """The hardest contrast: the log drum's own sounds, chords, shakers and tempo; only the patterns are
    house's.
    """
    return log_drum(artist, take, unseen, straight=True)


def house(artist: np.random.Generator, take: np.random.Generator, unseen: bool) -> np.ndarray:
    mix = Mix()
    step = 60 / artist.uniform(112 if unseen else 116, 129) / 4
    low, ring, key = artist.uniform(42, 56), artist.uniform(0.1, 0.2), artist.integers(30, 40)
    hats, rich, soft = artist.uniform(0.15, 0.3), artist.random() < 0.3, int(artist.integers(3, 8))
    sixteenth = artist.random() < 0.35
    shape = (SEVENTHS if rich else TRIADS)[artist.integers(2)]
    bass = [(2, 6, 10, 14), (2, 3, 6, 10, 11, 14), (2, 7, 10, 14)][artist.integers(3)]
    shift = take.integers(16)
    for bar in range(7):
        for s in range(16):
            at = (bar * 16 + s - shift) * step
            if s % 4 == 0:
                mix.put(kick(low, ring), at, 1.0)
            if s % 4 == 2 or (sixteenth and take.random() < 0.8):
                mix.put(hiss(take, 4500, 7900, 0.05), at, hats * (1 if s % 4 == 2 else 0.5))
            if s in (4, 12):
                mix.put(hiss(take, 900, 4000, 0.06), at, 0.35)
            if s in bass:
                mix.put(note(key + 12, 1.6 * step, 5, 0.2, 0.005), at, 0.3)
            if s in (0, 3, 6, 11) and take.random() < 0.7:
                chord(mix, key + 24, shape, at, 2 * step, 0.4, soft)
    return mix.wave


def hip_hop(artist: np.random.Generator, take: np.random.Generator, unseen: bool) -> np.ndarray:
    mix = Mix()
    step = 60 / artist.uniform(82 if not unseen else 96, 97 if not unseen else 104) / 4
    late = artist.uniform(0, 0.3) * step
    low, key, trap = artist.uniform(42, 55), artist.integers(29, 36), artist.random() < 0.4
    shape = (SEVENTHS if artist.random() < 0.4 else TRIADS)[artist.integers(2)]
    pattern = BOOM_BAP[artist.integers(4)]
    shift = take.integers(16)
    for bar in range(6):
        for s in range(16):
            at = (bar * 16 + s - shift) * step + (late if s % 2 else 0)
            if s in pattern:
                mix.put(kick(low, 0.18), at, 0.9)
                if trap:  # an 808: low and tonal, the nearest thing to a log drum
                    mix.put(drum_tone(440 * 2 ** ((key - 69) / 12), 0.9, 1.0, 2.0), at, 0.8)
            if s in (4, 12):
                mix.put(hiss(take, 700, 5000, 0.09), at, 0.6)
            if s % 2 == 0 or take.random() < 0.2:
                mix.put(hiss(take, 5000, 7900, 0.025), at, 0.18)
        chord(mix, key + 24 + (0, 3)[bar % 2], shape, (bar * 16 - shift) * step, 12 * step, 0.4, 4)
    return mix.wave


def fiddle(artist: np.random.Generator, take: np.random.Generator, unseen: bool) -> np.ndarray:
    mix = Mix()
    eighth = 60 / artist.uniform(95, 125) / 2 * (2 / 3 if unseen else 1)
    key, bright, vibrato = artist.integers(60, 70), int(artist.integers(8, 14)), artist.uniform(0, 0.6)
    scale = np.array([0, 2, 4, 5, 7, 9, 10, 12, 14, 16])
    place, drone = 4, artist.random() < 0.6
    for k in range(int(SECONDS / eighth)):
        place = int(np.clip(place + take.integers(-2, 3), 0, 9))
        mix.put(
            note(key + scale[place], eighth * 1.05, bright, 2.0, 0.02, vibrato),
            k * eighth,
            take.uniform(0.7, 1),
        )
        if drone and k % 6 == 0:
            mix.put(note(key - 12, 6 * eighth, 6, 3.0, 0.05), k * eighth, 0.3)
    return mix.wave


def chorale(artist: np.random.Generator, take: np.random.Generator, unseen: bool) -> np.ndarray:
    mix = Mix()
    beat = 60 / artist.uniform(60, 88)
    key, soft = artist.integers(45, 53), int(artist.integers(4, 9))
    for k in range(int(SECONDS / beat) + 1):
        root = key + take.choice([0, 5, 7, 9, 2])
        for voice in (0, 12, 12 + take.choice([3, 4]), 19, 24):
            mix.put(note(root + voice, beat * 1.1, soft, 4.0, 0.06), k * beat, 0.2)
    return mix.wave


STYLES: dict[str, Callable[..., np.ndarray]] = {
    "log_drum": log_drum,
    "house": house,
    "hip_hop": hip_hop,
    "fiddle": fiddle,
    "chorale": chorale,
    "straight": straight,
}
CONTRAST = ("house", "hip_hop", "fiddle", "chorale")


def artist_gain(artist: np.random.Generator, around: float) -> float:
    return around * float(artist.uniform(0.6, 1.3))


def clip(style: str, artist: int, take: int, unseen: bool = False) -> np.ndarray:
    """Float32 (160000,) with a peak of 0.7: `take` of an artist of a style."""
    from scipy.signal import lfilter

    who = np.random.default_rng([artist, list(STYLES).index(style), unseen])
    tilt, room, dirt = who.uniform(-0.35, 0.35), who.uniform(0, 0.25), who.uniform(0, 0.004)
    wave = STYLES[style](who, np.random.default_rng([artist, take, 7]), unseen)[:SAMPLES]
    wave = lfilter([1, -tilt], [1], wave)  # the artist's own mix: brighter or duller, in a room, on tape
    late = round(0.05 * RATE)
    wave[late:] += room * wave[:-late]
    wave = wave / np.abs(wave).max() + dirt * np.random.default_rng(take).normal(size=SAMPLES)
    return (0.7 * wave / np.abs(wave).max()).astype(np.float32)


def folder(
    place: Path,
    styles: tuple[str, ...],
    artists: int,
    takes: int,
    first: int = 0,
    unseen: bool = False,
    seconds: float = SECONDS,
) -> Path:
    """`artists` x `takes` clips, styles in turn over artists, as `<style> <artist>-<take>.wav`."""
    place.mkdir(parents=True, exist_ok=True)
    for k in range(first, first + artists):
        style = styles[k % len(styles)]
        for take in range(takes):
            wave = clip(style, k, take, unseen)[: round(seconds * RATE)]
            write(place / f"{style} {k}-{take}.wav", wave)
    return place


def write(path: Path, wave: np.ndarray) -> Path:
    soundfile.write(path, wave, RATE, subtype="PCM_16")
    return path


def signals() -> dict[str, np.ndarray]:
    """What is no music at all, float32 (160000,) each."""
    rng = np.random.default_rng(0)
    t = np.arange(SAMPLES) / RATE
    clicks = np.zeros(SAMPLES)
    clicks[:: round(RATE * 60 / 111)] = 0.9
    lone = np.zeros(SAMPLES)
    lone[: round(0.4 * RATE)] = kick(50, 0.15)
    return {
        "silence": np.zeros(SAMPLES, np.float32),
        "noise": (0.2 * rng.normal(size=SAMPLES)).astype(np.float32),
        "click_track": clicks.astype(np.float32),
        "sine": (0.5 * np.sin(2 * np.pi * 55 * t)).astype(np.float32),
        "lone_kick": (0.9 * lone).astype(np.float32),
    }
