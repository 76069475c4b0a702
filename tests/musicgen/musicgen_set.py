"""A small data set of real music in the form that `kwela dataset` writes, and settings to train on it."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from typing import Any

import soundfile
import soxr

from kwela import config
from kwela.corpus.demo import build as demo
from kwela.musicgen.config import MusicgenConfig

PIECES, HELD_OUT = 8, 2  # pieces in all, and of them for validation: nothing of them is trained on
SECONDS, RATE = 10, 16_000  # as MagnaTagATune's clips, but shorter
TEMPLATES = ["{tags}", "music of {tags}"]
COLUMNS = ("clip_id", "file_path", "amapiano_proxy_score", "tags", "duration", "split", "artist")


def make(folder: Path) -> Path:
    """Render pieces of the demo corpus, cut them into clips, and return the table of those."""
    demo.build(folder / "demo", PIECES, workers=1, quiet=True)
    rows = []
    songs = sorted((folder / "demo" / "audio").rglob("*.wav"))
    for number, song in enumerate(songs):
        wave, rate = soundfile.read(song, dtype="float32")
        wave = soxr.resample(wave, rate, RATE)
        side = "val" if number % (PIECES // HELD_OUT) == 1 else "train"
        for at in range(len(wave) // (SECONDS * RATE)):
            name = f"{song.stem}-{at}.flac"
            soundfile.write(folder / name, wave[at * SECONDS * RATE : (at + 1) * SECONDS * RATE], RATE)
            tags = f"{song.parent.name},piano,no drums" if at % 2 else f"{song.parent.name},slow"
            rows.append([f"{number}{at:02}", name, 3, tags, SECONDS, side, song.stem])
    return write(folder / "training_metadata.csv", rows)


def write(table: Path, rows: list[list[Any]]) -> Path:
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return table


def settings(table: Path, place: Path, stand_in: Path, **training: Any) -> MusicgenConfig:
    """The tiny preset on `table`. The stand-in is that of all tests: data.cache_dir/base is a link to it."""
    link = place / "base"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(stand_in)
    given = {
        "data": {
            "train_manifest": str(table),
            "val_manifest": str(table),
            "cache_dir": str(place),
            "prompt_templates": TEMPLATES,
        },
        "training": {"epochs": 1, "min_epochs": 0, "evaluate_first": True, "save_every": 100, **training},
    }
    return config.resolve(MusicgenConfig, given, table, preset="tiny")
