"""Turn manifest rows into training items: ids from a cache, windows drawn by (seed, epoch, index)."""

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
    """Read the songs of a MIDI manifest's rows, in order. Raises UserError naming a bad file.

    rows: of `corpus.pairs.rows.read`. cache_dir: without it, every file is encoded anew.
    """
    paths = [Path(row["midi_path"]) for row in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading waits for a child process: threads suffice
        read = pool.map(lambda path: cached_ids(path, cache_dir) if cache_dir else read_ids(path), paths)
        label = "Reading MIDI" if len(paths) >= 50 else ""
        ids = list(terminal.with_progress_bar(read, label, len(paths)))
    return [
        Song(path, song_ids, row["emotion64"], row.get("context") or {})
        for path, song_ids, row in zip(paths, ids, rows, strict=True)
    ]


def read_ids(path: Path) -> np.ndarray:
    """Encode a MIDI file as ids, int16."""
    return tokens.encode(midi.read(path))


def cached_ids(path: Path, cache_dir: Path) -> np.ndarray:
    """Return a MIDI file's ids, int16, from `cache_dir` where it has them.

    The key of an entry is the file's bytes and the tokenizer; any number of processes may share the folder.
    Raises KwelaError or, where the folder can't be written, UserError; both name the entry.
    """
    key = files.sha256(path.read_bytes() + tokens.tokenizer_hash().encode())
    body = files.cached(cache_dir, key, lambda: read_ids(path).astype("<i2").tobytes())
    return np.frombuffer(body, "<i2").astype(np.int16)


class TrainWindows:
    """The training set: one item for each started `window` ids of a song.

    An item is a random stretch of the song that starts at BOS or at a BAR, augmented.
    """

    def __init__(self, songs: Sequence[Song], window: int, settings: MidiGeneratorAugment) -> None:
        self.window, self.settings = window, settings
        counts = [-(-(len(song.ids) - 1) // window) for song in songs]
        # (song, j, n): item j of n draws its start from part j of n equal parts of the song's bars, so that
        # an epoch covers the whole song.
        self.items = [(song, j, n) for song, n in zip(songs, counts, strict=True) for j in range(n)]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        """Return one augmented window, drawn by `rng`."""
        song, part, parts = self.items[index]
        ids, context, emotion = song.ids, song.context, song.emotion
        shift = augment.Shift(0, 0, 0)
        if self.settings.enabled:
            shift = augment.draw(ids, self.settings, rng)
            ids = augment.apply(ids, shift)
            if rng.random() < self.settings.emotion_dropout:
                emotion = np.full_like(emotion, np.nan)
            if rng.random() < self.settings.context_dropout:
                context = {}
        starts = window_starts(ids)
        # The first start from which the window reaches EOS is the last that is drawn.
        last = int(np.searchsorted(starts, len(ids) - 1 - self.window))
        choices = starts[: last + 1]
        start = int(choices[int((part + rng.random()) / parts * len(choices))])
        placed = augment.transpose_context(context_of(ids, context), shift.semitones)
        return make_item(ids, placed, emotion, start, start + self.window)
