"""Small inputs for the golden records: scores, songs with their sound, clips, collections, a checkout.

Everything is made from seeds by NumPy, symusic and soundfile. Nothing here imports kwela, so that the same
inputs are made in every version of the repository.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from symusic import ControlChange, Note, Score, Tempo, TimeSignature, Track

ROOT = Path(__file__).resolve().parents[2]
AUDIO_RATE = 44_100
CLIP_RATE = 16_000
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)

# Folder of a song's emotion: scale, beats a minute, notes a quarter, velocity.
MOODS = {
    "happy": (MAJOR, 132, 2, 96),
    "calm": (MAJOR, 72, 1, 56),
    "sad": (MINOR, 66, 1, 60),
    "angry": (MINOR, 152, 4, 118),
}


def checkout(folder: Path) -> Path:
    """Copy what a command needs of the repository (scripts, configs, no code) into `folder`."""
    for name in ("scripts", "training"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "ai-service").mkdir()
    shutil.copy(ROOT / "ai-service" / "config.json", folder / "ai-service")
    return folder


def rich_score(seed: int, bars: int = 8) -> Score:
    """Two instruments, drums, pedal, several meters and tempi, some of them between two bar lines."""
    rng = np.random.default_rng(seed)
    score = Score(480)
    score.tempos.append(Tempo(0, qpm=float(rng.integers(60, 180))))
    score.tempos.append(Tempo(480 * 5 + 120 * seed, qpm=float(rng.integers(60, 180))))
    for time, meter in ((0, (3, 4)), (480 * 9, (6, 8)), (480 * 18, (4, 4))):
        score.time_signatures.append(TimeSignature(time, *meter))
    for program, is_drum in ((0, False), (40, False), (0, False), (0, True)):
        track = Track("", program, is_drum)
        for time in np.sort(rng.integers(0, bars * 8, size=bars * 6)):
            start = int(time) * 240 + int(rng.integers(3)) * 80
            length = int(rng.integers(1, 60)) * 30
            track.notes.append(Note(start, length, int(rng.integers(24, 100)), int(rng.integers(1, 128))))
        if program == 0 and not is_drum:
            for time in range(1, 6):
                track.controls.append(ControlChange(480 * time, 64, 127 * (time % 2)))
        score.tracks.append(track)
    return score


def songs(folder: Path, count: int) -> tuple[Path, Path]:
    """Write `count` songs of about 4 s: audio/<emotion>/song_NN.wav and midi/<emotion>/song_NN.mid."""
    for number in range(count):
        mood = list(MOODS)[number % len(MOODS)]
        notes, bpm = _notes(number, mood)
        name = f"song_{number:02}"
        for kind in ("audio", "midi"):
            (folder / kind / mood).mkdir(parents=True, exist_ok=True)
        _write_midi(folder / "midi" / mood / f"{name}.mid", notes, bpm)
        soundfile.write(
            folder / "audio" / mood / f"{name}.wav", _sound(notes, bpm), AUDIO_RATE, subtype="PCM_16"
        )
    return folder / "audio", folder / "midi"


def _notes(number: int, mood: str) -> tuple[list[tuple[float, float, int, int]], int]:
    """Notes as (onset, length, pitch, velocity), times in quarters; and the tempo in beats a minute."""
    scale, bpm, per_quarter, loudness = MOODS[mood]
    rng = np.random.default_rng([11, number])
    tonic, step, degree = int(rng.integers(50, 64)), 1 / per_quarter, 0
    notes = []
    for bar in range(max(1, round(bpm / 60))):
        notes.append((4.0 * bar, 3.9, tonic - 12 + scale[int(rng.choice([0, 3, 4]))], loudness))
        for k in range(4 * per_quarter):
            degree = int(np.clip(degree + rng.integers(-2, 3), -3, 9))
            velocity = int(np.clip(loudness + rng.integers(-8, 9), 1, 127))
            notes.append(
                (4 * bar + k * step, 0.9 * step, tonic + 12 * (degree // 7) + scale[degree % 7], velocity)
            )
    return notes, bpm


def _write_midi(path: Path, notes: list[tuple[float, float, int, int]], bpm: int) -> None:
    score = Score(480)
    score.tempos.append(Tempo(0, qpm=float(bpm)))
    score.time_signatures.append(TimeSignature(0, 4, 4))
    track = Track("", 0, False)
    for onset, length, pitch, velocity in notes:
        track.notes.append(Note(round(onset * 480), round(length * 480), pitch, velocity))
    score.tracks.append(track)
    score.dump_midi(str(path))


def _sound(notes: list[tuple[float, float, int, int]], bpm: int) -> np.ndarray:
    """The notes sung by four decaying harmonics."""
    quarter = 60 / bpm
    end = max(onset + length for onset, length, _, _ in notes)
    wave = np.zeros(round((end * quarter + 0.3) * AUDIO_RATE))
    for onset, length, pitch, velocity in notes:
        t = np.arange(round(length * quarter * AUDIO_RATE)) / AUDIO_RATE
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * h * hertz * t) / h for h in range(1, 5)) * np.exp(-2 * t)
        start = round(onset * quarter * AUDIO_RATE)
        wave[start : start + len(t)] += 0.12 * velocity / 127 * tone
    return (0.8 * wave / np.abs(wave).max()).astype(np.float32)


def clip(style: str, artist: int, take: int, seconds: float = 10.0) -> np.ndarray:
    """Float32 mono at 16 kHz. style: "bass" (gliding, off the beat), "beat" (four kicks a bar) or "choir"."""
    rng = np.random.default_rng([{"bass": 1, "beat": 2, "choir": 3}[style], artist, take])
    of_artist = np.random.default_rng([artist, 5])
    wave = np.zeros(round(seconds * CLIP_RATE))
    step = 60 / of_artist.uniform(105, 118) / 4
    key = int(of_artist.integers(30, 38))
    for k in range(int(seconds / step)):
        if style == "bass" and k % 16 in (0, 3, 6, 10, 13):
            _put(wave, k * step, _tone(key + int(rng.choice([0, 3, 5, 7])), 0.7, 1, glide=5.0))
        elif style == "beat" and k % 4 == 0:
            _put(wave, k * step, _tone(24, 0.3, 1, glide=24.0))
            _put(wave, (k + 2) * step, 0.3 * rng.normal(size=800) * np.exp(-np.arange(800) / 200))
        elif style == "choir" and k % 16 == 0:
            for interval in (24, 28, 31):
                _put(wave, k * step, 0.3 * _tone(key + interval + int(rng.choice([0, 5, 7])), 16 * step, 6))
        if style == "bass" and k % 2 == 0:
            _put(wave, k * step, 0.15 * rng.normal(size=600) * np.exp(-np.arange(600) / 150))
    wave += 0.002 * rng.normal(size=len(wave))
    return (0.7 * wave / np.abs(wave).max()).astype(np.float32)


def _tone(pitch: float, seconds: float, partials: int, glide: float = 0.0) -> np.ndarray:
    t = np.arange(round(seconds * CLIP_RATE)) / CLIP_RATE
    hertz = 440 * 2 ** ((pitch + glide * np.exp(-t / 0.03) - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / CLIP_RATE
    return sum(np.sin(k * phase) / k for k in range(1, partials + 1)) * np.exp(-2 * t / seconds)


def _put(wave: np.ndarray, second: float, sound: np.ndarray) -> None:
    at = round(second * CLIP_RATE)
    if at < len(wave):
        wave[at : at + len(sound)] += sound[: len(wave) - at]


def clip_folder(folder: Path, styles: tuple[str, ...], artists: int, takes: int = 1, first: int = 0) -> Path:
    """`artists` x `takes` clips of 10 s, the styles in turn over the artists."""
    folder.mkdir(parents=True, exist_ok=True)
    for artist in range(first, first + artists):
        style = styles[artist % len(styles)]
        for take in range(takes):
            wave = clip(style, artist, take)
            soundfile.write(folder / f"artist {artist}-{take:02}.wav", wave, CLIP_RATE, subtype="PCM_16")
    return folder


def tagged_clips(folder: Path, count: int = 12) -> Path:
    """Short clips of 1.5 s and tags.csv (file, tag, tag...) beside them; one clip is no sound."""
    tags = ("drums", "beat", "techno", "house", "piano", "jazz", "bass", "no piano", "slow", "ambient")
    folder.mkdir(parents=True)
    rows: list[list[str]] = [["file", "tag"]]
    for number in range(count):
        rng = np.random.default_rng([3, number])
        name = f"artist {number % 5}-song {number:02}.wav"
        soundfile.write(folder / name, clip(("bass", "beat", "choir")[number % 3], number, 0, 1.5), CLIP_RATE)
        rows.append([name, *(tags[k] for k in sorted(rng.choice(len(tags), number % 6 + 1, replace=False)))])
    (folder / "artist 9-broken.wav").write_bytes(b"no sound")
    rows.append(["artist 9-broken.wav", "drums", "beat", "house"])
    with (folder / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def magnatagatune(folder: Path, count: int = 12) -> Path:
    """annotations_final.csv and mp3/ with short clips: the form in which MagnaTagATune is unpacked."""
    tags = ["drums", "beat", "techno", "house", "piano", "jazz", "bass", "no piano", "slow", "ambient"]
    rows = []
    for number in range(count):
        rng = np.random.default_rng([4, number])
        held = set(rng.choice(tags, number % 6 + 1, replace=False))
        path = f"{number:x}/artist_{number % 5}-album-{number:02}-song-0-29.mp3"
        (folder / "mp3" / path).parent.mkdir(parents=True, exist_ok=True)
        wave = clip(("bass", "beat", "choir")[number % 3], number, 1, 1.5)
        soundfile.write(folder / "mp3" / path, wave, CLIP_RATE, format="MP3")
        rows.append([str(number + 2), *(int(tag in held) for tag in tags), path])
    with (folder / "annotations_final.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerow(["clip_id", *tags, "mp3_path"])
        writer.writerows(rows)
    return folder


def musicgen_table(folder: Path) -> Path:
    """training_metadata.csv of twelve clips of 5 s, as `kwela dataset` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[list[Any]] = []
    for number in range(12):
        name = f"clip_{number:02}.flac"
        soundfile.write(folder / name, clip(("bass", "beat", "choir")[number % 3], number, 2, 5.0), CLIP_RATE)
        side = "val" if number % 4 == 1 else "train"
        rows.append(
            [
                f"{number:03}",
                name,
                3,
                ("drums,beat", "house,slow", "piano")[number % 3],
                5,
                side,
                f"a{number}",
            ]
        )
    with (folder / "training_metadata.csv").open("w", newline="") as file:
        header = ["clip_id", "file_path", "amapiano_proxy_score", "tags", "duration", "split", "artist"]
        csv.writer(file).writerows([header, *rows])
    return folder / "training_metadata.csv"


def campaign_config(folder: Path, **changes: Any) -> Path:
    """config.json of a campaign in `folder`, and folders of the gate's music that hold no sound."""
    values = json.loads((ROOT / "ai-service" / "config.json").read_text())
    for name in ("reference", "contrast"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(40):
            (folder / name / f"artist {number}-song.wav").touch()
    values |= {
        "checkpoint_dir": "ck",
        "dataset_dir": "datasets",
        "disk_gb": 0,
        "evaluation": {"reference_dir": "reference", "contrast_dir": "contrast", "samples": 3},
        "flags": {"disk_filling": {"free_gb": 0}},
    }
    (folder / "config.json").write_text(json.dumps(values | changes))
    return folder / "config.json"
