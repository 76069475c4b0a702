"""Train the MIDI generator: what the engine needs of it, and the comparison on held-out songs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kwela import stats
from kwela.corpus.pairs import rows
from kwela.engine import order, row_faults
from kwela.engine.row_faults import Fault, Row
from kwela.engine.task import Batch, GeometricMean, Mean, Share, Sides
from kwela.midi_generator import data, ngram, windows
from kwela.midi_generator.config import MidiGeneratorConfig
from kwela.midi_generator.generate import TorchBackend, generate
from kwela.midi_generator.model import MidiGenerator, build
from kwela.midi_generator.piano_roll import draw
from kwela.music import tokens
from kwela.music.emotion import Emotion
from kwela.music.tokens import Kind

# The groups of ids whose cross-entropy is reported apart; together they are all ids that can be predicted.
KINDS: dict[str, tuple[Kind, ...]] = {
    "pitch": (Kind.PITCH,),
    "velocity": (Kind.VELOCITY,),
    "duration": (Kind.LONGEST, Kind.COARSE, Kind.FINE),
    "position": (Kind.BEAT, Kind.SUB),
    "bar": (Kind.BAR, Kind.EOS),
    "meter": (Kind.NUMERATOR, Kind.DENOMINATOR),
    "tempo": (Kind.TEMPO_COARSE, Kind.TEMPO_FINE),
    "program": (Kind.FAMILY, Kind.VARIANT, Kind.DRUM, Kind.PART),
    "pedal": (Kind.PEDAL,),
}
PREVIEW_BARS = 16


class MidiGeneratorTask:
    """The task of the MIDI generator; see `engine.task.Task`."""

    name = "midi_generator"

    def __init__(self, config: MidiGeneratorConfig) -> None:
        self.config = config
        self.left_out: Sides[set[int]] = (set(), set())
        group = {kind: number for number, kinds in enumerate(KINDS.values()) for kind in kinds}
        self.group = torch.tensor([group.get(kind, len(KINDS)) for kind in tokens.KIND_OF])  # of each id

    def model(self) -> nn.Module:
        """Build a new model."""
        return build(self.config.model.model_dump())

    @cached_property
    def manifest_rows(self) -> Sides[list[rows.Row]]:
        """The rows of both manifests, also those whose files are missing."""
        where = self.config.data
        return rows.read_sides(where.train_manifest, where.val_manifest, where.row_keys)

    @cached_property
    def songs_and_faults(self) -> Sides[list[windows.Song | Fault]]:
        """The song of each row, or why it can't be read."""
        where = self.config.data
        cache = where.cache_dir if where.cache_features else None
        train, held_out = self.manifest_rows
        return data.songs(train, cache), data.songs(held_out, cache)

    @cached_property
    def songs(self) -> Sides[list[windows.Song]]:
        """The training songs and the held-out songs. Raises UserError for a row that can't be read."""
        train, held_out = (
            rows.usable(*side)
            for side in zip(self.manifest_rows, self.songs_and_faults, self.left_out, strict=True)
        )
        return train, held_out

    def rows(self) -> Sides[list[Row]]:
        """Return the rows of both manifests; see engine.task.RowTask."""
        train, held_out = self.manifest_rows
        return rows.engine_rows(train), rows.engine_rows(held_out)

    def read_rows(self) -> Sides[list[int | Fault]]:
        """Return how many windows each row gives, or why it can't be read."""
        window, (train, held_out) = self.config.model.window, self.songs_and_faults
        return (
            [song if isinstance(song, Fault) else data.part_count(song, window) for song in train],
            [song if isinstance(song, Fault) else len(windows.cover(song.ids, window)) for song in held_out],
        )

    def examine(self, row: Row) -> Fault | None:
        """Return why a row's file can't be read; None if it can."""
        return row_faults.fault_in(data.read_ids, row.files["midi_path"], "midi_path")

    def leave_out(self, left_out: Sides[set[int]]) -> None:
        """Use the data from now on without these rows."""
        self.left_out = left_out
        for name in ("songs", "ngrams"):
            self.__dict__.pop(name, None)

    def datasets(self) -> tuple[data.TrainWindows, windows.WholeSongs]:
        """Return the training set and the held-out set."""
        train, held_out = self.songs
        window = self.config.model.window
        return data.TrainWindows(train, window, self.config.augment), windows.WholeSongs(held_out, window)

    def collate(self, items: Sequence[windows.Item]) -> Batch:
        """Make a batch of items."""
        return windows.collate(items)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Mean]:
        """Return cross-entropy in nats per id, whole and by kind of id; accuracy; perplexity."""
        surprise, right, known = scores(model, batch)
        total, count = surprise.sum(), known.sum()
        group = self.group.to(known.device)[batch["targets"]].flatten()
        totals, counts = torch.zeros(2, len(KINDS) + 1, device=known.device)
        totals.index_add_(0, group, surprise.detach().flatten())
        counts.index_add_(0, group, known.float().flatten())
        return {
            "loss": Mean(total, count),
            "accuracy": Share(right.sum(), count),
            "perplexity": GeometricMean(total.detach(), count),
            **{f"ce_{kind}": Mean(totals[n], counts[n]) for n, kind in enumerate(KINDS)},
        }

    def baselines(self) -> dict[str, float]:
        """Return the cross-entropy of the n-gram models on the held-out songs, in nats per id."""
        return {name: float(np.concatenate(songs).mean()) for name, songs in self.ngrams.items()}

    @cached_property
    def ngrams(self) -> Mapping[str, list[np.ndarray]]:
        """The surprise of each held-out song under each n-gram model."""
        augment = self.config.augment
        train, held_out = ([song.ids for song in side] for side in self.songs)
        return ngram.baselines(train, held_out, augment.transpose if augment.enabled else 0)

    def preview(self, model: nn.Module, folder: Path) -> None:
        """Write a song of 16 bars, for the emotion of the first held-out song, as MIDI and piano roll."""
        assert isinstance(model, MidiGenerator)
        song = self.songs[1][0]
        backend = TorchBackend(model, self.config.model.window)
        score = tokens.decode(
            generate(backend, song.emotion, bars=PREVIEW_BARS, seed=self.config.seed, top_p=0.95)
        )
        score.dump_midi(folder / "sample.mid")
        draw(score, folder / "sample.png", Emotion.from_vector(song.emotion).text(1))


def scores(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return surprise in nats (0 where padded), whether the likeliest id is right, and whether it counts."""
    logits = model(batch["input_ids"], batch["emotion"], batch["context"])[0]
    targets = batch["targets"]
    known = targets != tokens.PAD
    surprise = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=tokens.PAD, reduction="none"
    )
    return surprise.view_as(targets), (logits.detach().argmax(-1) == targets) & known, known


@torch.inference_mode()
def evaluate(model: nn.Module, config: MidiGeneratorConfig) -> dict[str, Any]:
    """Compare a finished model with the n-gram baselines on the held-out songs, in float32.

    Returns nats per id as `val_ce` and `baselines`; `songs`, each with its file's stem, ids and
    cross-entropies; and, with 95 % intervals from resampling songs, `ratio_to_bigram` and
    `less_than_fourgram` (4-gram minus model, nats).
    """
    task = MidiGeneratorTask(config)
    held_out = task.songs[1]
    count = np.array([len(song.ids) - 1 for song in held_out], np.float64)
    nats = _held_out_nats(model, held_out, config)
    baselines = {name: np.array([song.sum() for song in songs]) for name, songs in task.ngrams.items()}
    draws = stats.resample_groups(len(held_out), stats.RESAMPLES, config.seed)
    draws[0] = np.arange(len(held_out))  # the first is the set itself, not a resample

    def nats_per_id(sums: np.ndarray) -> np.ndarray:
        return sums[draws].sum(1) / count[draws].sum(1)

    of_model = nats_per_id(nats)
    return {
        "val_ce": float(of_model[0]),
        "baselines": {name: float(nats_per_id(sums)[0]) for name, sums in baselines.items()},
        "ratio_to_bigram": _interval(of_model / nats_per_id(baselines["bigram_ce"])),
        "less_than_fourgram": _interval(nats_per_id(baselines["fourgram_ce"]) - of_model),
        "songs": [
            {
                "song": song.path.stem,
                "ids": int(count[index]),
                "ce": float(nats[index] / count[index]),
                **{name: float(sums[index] / count[index]) for name, sums in baselines.items()},
            }
            for index, song in enumerate(held_out)
        ],
    }


def _held_out_nats(
    model: nn.Module, songs: Sequence[windows.Song], config: MidiGeneratorConfig
) -> np.ndarray:
    """Return the surprise of each song under the model, in nats, float64 (songs,)."""
    whole = windows.WholeSongs(songs, config.model.window)
    windows_of_song = [len(windows.cover(song.ids, config.model.window)) for song in songs]
    song_of_window = np.repeat(np.arange(len(songs)), windows_of_song)
    nats = np.zeros(len(songs))
    model.eval()
    device = next(model.parameters()).device
    for first in range(0, len(whole), config.data.batch_size):
        part = range(first, min(first + config.data.batch_size, len(whole)))
        batch = windows.collate([order.held_out_item(whole, index, config.seed) for index in part])
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        surprise = scores(model, batch)[0].double().sum(1)
        np.add.at(nats, song_of_window[part.start : part.stop], surprise.cpu().numpy())
    return nats


def _interval(values: np.ndarray) -> dict[str, Any]:
    return stats.Interval(float(values[0]), *stats.percentile_interval(values[1:])).to_dict()
