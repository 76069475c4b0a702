"""From manifest rows to training items: ids from a cache, windows drawn and augmented by (seed, epoch, index)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kwela import files, terminal
from kwela.midi_generator import augment
from kwela.midi_generator.config import MidiGeneratorAugment
from kwela.midi_generator.windows import Item, Song, context_of, make_item, window_starts
from kwela.music import midi, tokens


def songs(rows: Sequence[Mapping[str, Any]], cache_dir: Path | None) -> list[Song]:
    """The rows of a MIDI manifest (`corpus.rows.read`) as songs, in order. Raises UserError naming a bad file.

    cache_dir: None reads every file anew.
    """
    paths = [Path(row["midi_path"]) for row in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading waits for a child process: threads suffice
        read = pool.map(lambda path: cached_ids(path, cache_dir) if cache_dir else read_ids(path), paths)
        label = "Reading MIDI" if len(paths) >= 50 else ""
        ids = list(terminal.with_progress_bar(read, label, len(paths)))
    return [
        Song(path, one, row["emotion64"], row.get("context") or {})
        for path, one, row in zip(paths, ids, rows, strict=True)
    ]


def read_ids(path: Path) -> np.ndarray:
    """The song's ids, int16."""
    return tokens.encode(midi.read(path))


def cached_ids(path: Path, cache_dir: Path) -> np.ndarray:
    """The song's ids, int16, from `cache_dir` if they are there.

    An entry is keyed by the file's bytes and the tokenizer; any number of processes may share the folder. Raises
    KwelaError or, where the folder can't be written, UserError, naming the entry.
    """
    key = files.sha256(path.read_bytes() + tokens.tokenizer_hash().encode())
    body = files.cached(cache_dir, key, lambda: read_ids(path).astype("<i2").tobytes())
    return np.frombuffer(body, "<i2").astype(np.int16)


class TrainWindows:
    """An epoch has one item for each `window` ids of a song, begun: a random stretch from BOS or a BAR, augmented."""

    def __init__(self, songs: Sequence[Song], window: int, settings: MidiGeneratorAugment) -> None:
        self.window, self.settings = window, settings
        counts = [-(-(len(song.ids) - 1) // window) for song in songs]
        # (song, j, n): item j of n draws its start from the j-th n-th of the song's bars, so an epoch covers it all.
        self.items = [(song, j, n) for song, n in zip(songs, counts, strict=True) for j in range(n)]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        song, part, parts = self.items[index]
        ids, context, feeling = song.ids, song.context, song.emotion
        shift = augment.Shift(0, 0, 0)
        if self.settings.enabled:
            shift = augment.draw(ids, self.settings, rng)
            ids = augment.apply(ids, shift)
            if rng.random() < self.settings.emotion_dropout:
                feeling = np.full_like(feeling, np.nan)
            if rng.random() < self.settings.context_dropout:
                context = {}
        starts = window_starts(ids)
        last = int(
            np.searchsorted(starts, len(ids) - 1 - self.window)
        )  # the first from which the window reaches EOS
        choices = starts[: last + 1]
        start = int(choices[int((part + rng.random()) / parts * len(choices))])
        placed = augment.transpose_context(context_of(ids, context), shift.semitones)
        return make_item(ids, placed, feeling, start, start + self.window)
