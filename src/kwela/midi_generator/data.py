"""Turn the rows of a manifest into songs as ids, which a cache keeps, and draw training windows from them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kwela import files, terminal
from kwela.engine import row_faults
from kwela.engine.row_faults import Fault
from kwela.midi_generator import augment
from kwela.midi_generator.config import MidiGeneratorAugment
from kwela.midi_generator.windows import Item, Song, context_of, make_item, window_starts
from kwela.music import midi, tokens


def songs(rows: Sequence[Mapping[str, Any]], cache_dir: Path | None) -> list[Song | Fault]:
    """Read the song of each row of a MIDI manifest, in order, or why it can't be read.

    rows: as `corpus.pairs.rows.read` returns them. cache_dir: without it, every file is encoded anew. Raises
    KwelaError if the cache can't be written.
    """
    paths = [Path(row["midi_path"]) for row in rows]

    def ids_or_fault(row: Mapping[str, Any]) -> np.ndarray | Fault:
        if fault := row.get("fault"):
            return fault
        path = Path(row["midi_path"])
        try:
            return cached_ids(path, cache_dir) if cache_dir else read_ids(path)
        except Exception as error:
            if (fault := row_faults.fault_of(error)) is None:
                raise
            return fault._replace(reason=f"midi_path: {fault.reason}")

    # Threads are enough, because reading waits for a child process.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ids_of_paths = pool.map(ids_or_fault, rows)
        label = "Reading MIDI" if len(paths) >= 50 else ""
        ids = list(terminal.with_progress_bar(ids_of_paths, label, len(paths)))
    return [
        song_ids
        if isinstance(song_ids, Fault)
        else Song(path, song_ids, row["emotion64"], row.get("context") or {})
        for path, song_ids, row in zip(paths, ids, rows, strict=True)
    ]


def read_ids(path: Path) -> np.ndarray:
    """Read a MIDI file and return it as ids, int16."""
    return tokens.encode(midi.read(path))


def cached_ids(path: Path, cache_dir: Path) -> np.ndarray:
    """Return a MIDI file's ids, int16, from `cache_dir` if it has them; otherwise encode and keep them.

    The key of an entry is a hash of the file's bytes, of the tokenizer and of the reader's version. Any
    number of processes may share the folder. Raises KwelaError, or UserError if the folder can't be written;
    both name the entry.
    """
    key = files.sha256(path.read_bytes() + f"{tokens.tokenizer_hash()} {midi.READER_VERSION}".encode())
    body = files.cached(cache_dir, key, lambda: read_ids(path).astype("<i2").tobytes())
    return np.frombuffer(body, "<i2").astype(np.int16)


def part_count(song: Song, window: int) -> int:
    """Return how many training items a song gives."""
    return -(-(len(song.ids) - 1) // window)


class TrainWindows:
    """Hold the training set: a song gives one item for each `window` ids, rounded up.

    An item is a random window of the song that starts at BOS or at a BAR. It is augmented.
    """

    def __init__(self, songs: Sequence[Song], window: int, settings: MidiGeneratorAugment) -> None:
        self.window, self.settings = window, settings
        item_counts = [part_count(song, window) for song in songs]
        # The bars of a song are cut into as many equal parts as it has items. Each item draws its start from
        # its own part, so that an epoch covers the whole song.
        self.items = [
            (song, part, parts)
            for song, parts in zip(songs, item_counts, strict=True)
            for part in range(parts)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int, rng: np.random.Generator) -> Item:
        """Draw a window of item `index` and augment it, both by `rng`."""
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
        # The first start from which a window reaches EOS is the last that may be drawn.
        last = int(np.searchsorted(starts, len(ids) - 1 - self.window))
        choices = starts[: last + 1]
        start = int(choices[int((part + rng.random()) / parts * len(choices))])
        transposed = augment.transpose_context(context_of(ids, context), shift.semitones)
        return make_item(ids, transposed, emotion, start, start + self.window)
