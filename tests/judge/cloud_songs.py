"""Small made songs for the cloud judge: chords and a tune, sung by sine waves and written as MIDI, as
manifest rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from symusic import Note, Score, Tempo, Track
from torch import nn

from kwela.engine import checkpoint
from kwela.music import audio
from kwela.music.emotion import to_64d

SECONDS = 4.0
EMOTIONS = ((0.8, 0.4, 0.6), (-0.7, -0.3, 0.5))


def song_rows(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """A row a song, without a fixed segment; each song in its own register, at its own pace."""
    return [song_row(folder, name, k) for k, name in enumerate(names)]


def song_row(folder: Path, name: str, number: int) -> dict[str, Any]:
    rng = np.random.default_rng([number, len(name)])
    low, step = int(rng.integers(36, 76)), float(rng.choice([0.2, 0.3, 0.45, 0.7]))
    notes = []
    for onset in np.arange(0, SECONDS - step, step):
        scale = rng.choice([0, 2, 4, 5, 7, 9, 11, 12], int(rng.integers(1, 4)), replace=False)
        notes += [(onset, step * 0.9, low + int(k), int(rng.integers(50, 110))) for k in scale]
    folder.mkdir(parents=True, exist_ok=True)
    wav, mid = folder / f"{name}.wav", folder / f"{name}.mid"
    t = np.arange(int(SECONDS * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    wave = np.zeros_like(t)
    score, track = Score(480), Track(program=0)
    score.tempos.append(Tempo(0, 120))
    for onset, length, pitch, velocity in notes:
        age = t - onset
        envelope = ((age >= 0) & (age < length)) * np.exp(-2 * np.clip(age, 0, None)) * velocity / 127
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        wave += sum(0.1 / h * envelope * np.sin(2 * np.pi * h * hertz * age) for h in range(1, 5))
        track.notes.append(Note(round(onset * 960), round(length * 960), pitch, velocity))
    score.tracks.append(track)
    score.dump_midi(str(mid))
    soundfile.write(wav, wave.astype(np.float32), audio.SAMPLE_RATE)
    emotion = to_64d(np.array(EMOTIONS[number % 2], np.float32))
    return {"audio_path": str(wav), "midi_path": str(mid), "emotion64": emotion, "offset": 0.0, "group": name}


def save_checkpoint(path: Path, model: nn.Module) -> Path:
    """A checkpoint as the engine saves it, in short."""
    state: dict[str, Any] = {"format": checkpoint.FORMAT, "family": "spectocloud", "tokenizer_hash": ""}
    state |= {
        "model": model.state_dict(),
        "ema": None,
        "optimizer": {},
        "scheduler": {},
        "scaler": {},
        "extra": {},
    }
    state |= {"rng_per_rank": [], "progress": {"epoch": 1, "samples": 8, "step": 1}, "stopping": {}}
    data = {"batch_size": 8, "train_manifest": "gone/train.jsonl", "val_manifest": "gone/val.jsonl"}
    training = {"grad_accum_steps": 1, "early_stopping": {"monitor": "val_loss"}}
    state["config"] = {"model": {"width": 16, "depth": 1}, "seed": 42, "data": data, "training": training}
    facts: dict[str, Any] = {"started": "2025-01-01", "resumes": []}
    state["meta"] = {
        "data_hash": "d" * 64,
        "global_batch": 8,
        "val": {},
        "window": [],
        "seconds": 1.0,
        "facts": facts,
    }
    checkpoint.save(state, path)
    return path
