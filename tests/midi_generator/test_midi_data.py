"""From rows to items: the cache, training windows, and validation that scores each id once."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_songs import a_score, a_song, check_grammar

from kwela.engine.row_faults import Fault
from kwela.errors import KwelaError, UserError
from kwela.midi_generator import data, windows
from kwela.midi_generator.config import MidiGeneratorAugment
from kwela.music import emotion, midi, tokens

FEELING = emotion.to_64d([0.5, -0.5, 0.3])


def songs(count: int = 6, **context: object) -> list[windows.Song]:
    return [
        windows.Song(Path(f"{seed}.mid"), a_song(seed, 6 + 4 * seed), FEELING, context)
        for seed in range(count)
    ]


@pytest.fixture
def midi_file(tmp_path: Path) -> Path:
    path = tmp_path / "song.mid"
    a_score(1).dump_midi(path)
    return path


def test_a_cached_song_is_read_from_the_cache_and_only_there(
    midi_file: Path, tmp_path: Path, monkeypatch
) -> None:
    cache = tmp_path / "cache"
    first = data.cached_ids(midi_file, cache)
    assert first.dtype == np.int16 and np.array_equal(first, tokens.encode(midi.read(midi_file)))
    monkeypatch.setattr(data.midi, "read", None)
    assert np.array_equal(data.cached_ids(midi_file, cache), first)
    midi_file.write_bytes(midi_file.read_bytes() + b"\0")  # other content: another entry, which isn't there
    with pytest.raises(TypeError):
        data.cached_ids(midi_file, cache)


def test_another_tokenizer_has_entries_of_its_own(midi_file: Path, tmp_path: Path, monkeypatch) -> None:
    data.cached_ids(midi_file, tmp_path / "cache")
    monkeypatch.setattr(tokens, "tokenizer_hash", lambda: "another")
    data.cached_ids(midi_file, tmp_path / "cache")
    assert sum(entry.is_file() for entry in (tmp_path / "cache").rglob("*")) == 2


def test_a_cache_that_can_not_be_written_is_named_and_left_clean(midi_file: Path, tmp_path: Path) -> None:
    cache, limits = tmp_path / "cache", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # the kernel refuses, as on a full disk
    try:
        with pytest.raises(KwelaError, match=rf"{cache}/\w\w/\w+: not cached: File too large") as caught:
            data.cached_ids(midi_file, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.status == 1
    assert not [path for path in cache.rglob("*") if path.is_file()]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"not cached: (File exists|Not a directory)"):
        data.cached_ids(midi_file, tmp_path / "file")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_made_again(midi_file: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    ids = data.cached_ids(midi_file, cache)
    (entry,) = (path for path in cache.rglob("*") if path.is_file())
    good = entry.read_bytes()
    bad = {"flip": good[:50] + bytes([good[50] ^ 1]) + good[51:], "cut": good[:-10], "empty": b""}[damage]
    entry.write_bytes(bad)
    assert np.array_equal(data.cached_ids(midi_file, cache), ids)
    assert entry.read_bytes() == good


def _read_many(path: Path, cache: Path, times: int) -> None:
    for _ in range(times):
        data.cached_ids(path, cache)
        for entry in cache.rglob("*"):
            if entry.is_file() and "." not in entry.name:
                entry.unlink(missing_ok=True)


def test_processes_share_a_cache_that_is_written_all_the_time(midi_file: Path, tmp_path: Path) -> None:
    """Two processes write, read and delete one entry; every read is whole or made again."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_read_many, args=(midi_file, tmp_path / "cache", 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_a_file_that_is_not_midi_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.mid"
    path.write_bytes(b"not MIDI")
    (fault,) = data.songs([{"midi_path": str(path), "emotion64": FEELING}], tmp_path / "cache")
    assert isinstance(fault, Fault) and fault.reason.startswith(f"midi_path: {path}: ")


def test_context_follows_the_bars() -> None:
    ids = np.array(
        [tokens.BOS, tokens.BAR, tokens.BAR, 160, 60, 130, 205, tokens.BAR, 160, 60, 130, 205, tokens.EOS]
    )
    rows = windows.context_of(ids, {"key": 3, "style": 7, "chords": [[1, 2], [5, 1]]})
    assert rows[:, 0].tolist() == [3] * 13 and rows[:, 3].tolist() == [7] * 13
    assert rows[:, 1].tolist() == [0, 1, *[5] * 5, *[0] * 6]  # the third bar's chord is not given
    assert rows[:, 2].tolist() == [0, 2, *[1] * 5, *[0] * 6]
    assert not windows.context_of(ids, {}).any()


def test_training_windows_start_at_a_bar_and_are_songs_shifted_by_one() -> None:
    items = data.TrainWindows(songs(key=1, chords=[[1, 1]] * 99), 64, MidiGeneratorAugment())
    starts = set()
    for index in range(len(items)):
        item = items.item(index, np.random.default_rng(index))
        ids, targets = item["input_ids"], item["targets"]
        assert ids[0] in (tokens.BOS, tokens.BAR) and len(ids) == len(targets) <= 64
        assert np.array_equal(ids[1:], targets[:-1])
        assert item["context"].shape == (len(ids), 4)
        starts.add(int(ids[0]))
        if ids[0] == tokens.BOS:
            check_grammar(ids)
    assert starts == {tokens.BOS, tokens.BAR}


def test_an_item_is_a_function_of_its_generator() -> None:
    items = data.TrainWindows(songs(), 64, MidiGeneratorAugment())
    same = [items.item(3, np.random.default_rng(5)) for _ in range(2)]
    other = items.item(3, np.random.default_rng(6))
    assert all(np.array_equal(same[0][name], same[1][name], equal_nan=True) for name in same[0])
    assert any(not np.array_equal(same[0][name], other[name], equal_nan=True) for name in other)


def test_an_epoch_reaches_every_part_of_a_song() -> None:
    song = windows.Song(Path("long.mid"), a_song(0, 60), FEELING)
    items = data.TrainWindows([song], 256, MidiGeneratorAugment(enabled=False))
    assert len(items) == -(-(len(song.ids) - 1) // 256)
    seen = np.zeros(len(song.ids), bool)
    for epoch in range(20):
        for index in range(len(items)):
            ids = items.item(index, np.random.default_rng((epoch, index)))["input_ids"]
            at = np.flatnonzero((np.lib.stride_tricks.sliding_window_view(song.ids, len(ids)) == ids).all(1))
            seen[at[0] : at[0] + len(ids)] = True
    assert seen[:-1].all()


def test_emotion_and_context_are_forgotten_as_often_as_asked() -> None:
    settings = MidiGeneratorAugment(emotion_dropout=0.25, context_dropout=0.5)
    items = data.TrainWindows(songs(1, key=2), 64, settings)
    drawn = [items.item(0, np.random.default_rng(seed)) for seed in range(400)]
    assert np.mean([np.isnan(item["emotion"]).all() for item in drawn]) == pytest.approx(0.25, abs=0.07)
    assert np.mean([not item["context"].any() for item in drawn]) == pytest.approx(0.5, abs=0.08)
    given = [item["emotion"] for item in drawn if not np.isnan(item["emotion"]).any()]
    assert all(np.array_equal(one, FEELING) for one in given)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(1, 40), st.integers(16, 400))
def test_validation_scores_every_id_but_bos_exactly_once(seed: int, bars: int, window: int) -> None:
    song = windows.Song(Path("a.mid"), a_song(seed, bars), FEELING)
    items = windows.WholeSongs([song], window)
    scored = []
    for index, (_, start, _, end) in enumerate(items.items):
        item = items.item(index, np.random.default_rng(0))
        assert np.array_equal(item["input_ids"], song.ids[start:end]) and end - start <= window
        known = np.flatnonzero(item["targets"] != tokens.PAD)
        assert np.array_equal(item["targets"][known], song.ids[start + 1 + known])
        scored += (start + 1 + known).tolist()
    assert scored == list(range(1, len(song.ids)))


def test_validation_leaves_half_a_window_of_context_behind_every_id() -> None:
    song = windows.Song(Path("a.mid"), a_song(0, 80), FEELING)
    longest = int(np.diff(np.flatnonzero(song.ids == tokens.BAR)).max())
    spans = windows.cover(song.ids, 256)
    assert len(spans) > 4 and longest < 128
    for start, scored, _ in spans[1:]:
        assert song.ids[start] == tokens.BAR
        assert 128 - longest < scored - start <= 128  # the bar line nearest above half a window


def test_collate_pads_with_pad_and_absent_context() -> None:
    items = windows.WholeSongs(songs(2, key=4), 64)
    drawn = [items.item(i, np.random.default_rng(0)) for i in (0, len(items) - 1)]
    batch = windows.collate(drawn)
    length = max(len(item["input_ids"]) for item in drawn)
    assert batch["input_ids"].shape == batch["targets"].shape == (2, length)
    assert batch["context"].shape == (2, length, 4) and batch["emotion"].shape == (2, 64)
    for row, item in zip(batch["targets"], drawn, strict=True):
        assert row[len(item["targets"]) :].eq(tokens.PAD).all()
