"""Items: from files to arrays, through a cache that can be shared, damaged and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_pairs import TUNE, write_pair

from kwela.errors import UserError
from kwela.music import audio, midi, warp
from kwela.music.emotion import to_64d
from kwela.spectocloud import data, space, target
from kwela.spectocloud.config import SpectocloudAugment

STILL = SpectocloudAugment(
    time_mask=0, freq_mask=0, noise=0, gain_db=0, time_stretch=0, pitch_shift=0, emotion_dropout=0
)

NAN_WAV = (
    b"RIFF\x30\0\0\0WAVEfmt \x10\0\0\0\3\0\1\0\x40\x1f\0\0\0\x7d\0\0\4\0\x20\0data\x0c\0\0\0"
    + bytes(8)
    + b"\0\0\xc0\x7f"
)


def make_row(pair: tuple[Path, Path], **more: Any) -> dict[str, Any]:
    emotion = to_64d(np.array([0.5, 0.2, 0.7]))
    paths = {"audio_path": str(pair[0]), "midi_path": str(pair[1])}
    return {**paths, "emotion64": emotion, "group": "tune", "offset": 0.0, **more}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_an_item_is_the_segment_that_its_row_names(pair: tuple[Path, Path]) -> None:
    item = data.Segments([make_row(pair, start=0.5)], None).item(0, rng())
    wave = audio.load(pair[0], 0.5, space.SECONDS)
    np.testing.assert_array_equal(item["spectrogram"], space.log_mel(wave))
    cloud = target.compute(*pair, item["emotion"], 0.0, 0.5)
    np.testing.assert_array_equal(item["positions"], cloud.positions)
    np.testing.assert_array_equal(item["attributes"], cloud.attributes)
    assert item["midi_features"].shape == (32,) and item["midi_features"].any()
    batch = data.collate([item, item])
    assert batch["spectrogram"].shape == (2, 128, 64) and batch["has_attributes"].tolist() == [1, 1]
    assert {tensor.dtype for tensor in batch.values()} == {torch.float32}


def test_a_written_cloud_is_the_one_computed_on_the_fly(pair: tuple[Path, Path], tmp_path: Path) -> None:
    row = make_row(pair, start=0.5)
    row["target_pointcloud_path"] = target.write_cloud(*pair, row["emotion64"], 0.0, 0.5, tmp_path)
    written = data.Segments([row], None).item(0, rng())
    computed = data.Segments([make_row(pair, start=0.5)], None).item(0, rng())
    np.testing.assert_array_equal(written["positions"], computed["positions"])
    np.testing.assert_array_equal(written["attributes"], computed["attributes"])


def test_without_a_start_the_segment_is_drawn_by_the_generator_alone(pair: tuple[Path, Path]) -> None:
    segments = data.Segments([make_row(pair)], None)
    one, same, other = (segments.item(0, rng(seed))["spectrogram"] for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_hand_made_cloud_has_no_attributes_and_starts_at_0(pair: tuple[Path, Path], tmp_path: Path) -> None:
    points = rng().random((1200, 3)).astype(np.float32)
    np.save(tmp_path / "mine.npy", points)
    row = make_row(pair, target_pointcloud_path=str(tmp_path / "mine.npy"))
    item = data.Segments([row], None).item(0, rng())
    np.testing.assert_array_equal(item["positions"], points)
    np.testing.assert_array_equal(item["spectrogram"], space.log_mel(audio.load(pair[0], 0, space.SECONDS)))
    assert item["has_attributes"] == 0 and not item["attributes"].any()


@pytest.mark.parametrize(
    "array", [np.zeros((1199, 3)), np.zeros((1200, 2)), np.full((1200, 3), np.nan), np.zeros(3)]
)
def test_a_cloud_that_is_none_is_refused_by_name(
    array: np.ndarray, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "odd.npy", array)
    row = make_row(pair, target_pointcloud_path=str(tmp_path / "odd.npy"))
    with pytest.raises(UserError, match=r"odd\.npy"):
        data.Segments([row], None).item(0, rng())


def test_a_segment_past_the_end_is_silence(tmp_path: Path) -> None:
    short = write_pair(tmp_path, "short", [(0.0, 0.4, 60, 90)], 0.5)
    item = data.Segments([make_row(short, start=0.0)], None).item(0, rng())
    assert (item["spectrogram"][:, 30:] == -5).all() and item["spectrogram"][:, :15].max() > 0


def test_the_cache_is_used_and_a_damaged_entry_made_again(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = data.Segments([make_row(pair, start=0.5)], tmp_path)
    first = segments.item(0, rng())
    (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = entry.read_bytes()
    loads = []
    load = audio.load
    monkeypatch.setattr(audio, "load", lambda *args: loads.append(args) or load(*args))
    again = segments.item(0, rng())
    assert not loads
    np.testing.assert_array_equal(first["spectrogram"], again["spectrogram"])
    np.testing.assert_array_equal(first["midi_features"], again["midi_features"])
    entry.write_bytes(whole[:100] + b"?" + whole[101:])
    np.testing.assert_array_equal(segments.item(0, rng())["spectrogram"], first["spectrogram"])
    assert len(loads) == 1 and entry.read_bytes() == whole


def test_cache_entries_are_keyed_by_content_and_segment(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_pair(tmp_path / "other", "tune", TUNE[1:])
    rows = [make_row(pair, start=0.5), make_row(pair, start=0.6), make_row(pair, start=0.5, offset=0.1)]
    for row in [*rows, make_row(other, start=0.5), rows[0]]:
        data.Segments([row], tmp_path / "cache").item(0, rng())
    assert sum(path.is_file() for path in (tmp_path / "cache").rglob("*")) == 4


def test_augmentation_touches_the_log_mel_alone_and_repeats_by_seed(pair: tuple[Path, Path]) -> None:
    rows = [make_row(pair, start=0.5)]
    plain = data.Segments(rows, None).item(0, rng())
    settings = SpectocloudAugment(emotion_dropout=0.0)
    one, same, other = (data.Segments(rows, None, settings).item(0, rng(seed)) for seed in (1, 1, 2))
    for name in ("positions", "attributes", "midi_features", "emotion"):
        np.testing.assert_array_equal(one[name], plain[name])
    assert np.array_equal(one["spectrogram"], same["spectrogram"])
    assert not np.array_equal(one["spectrogram"], other["spectrogram"])
    assert one["spectrogram"].min() >= -5
    still = data.Segments(rows, None, STILL).item(0, rng())
    np.testing.assert_array_equal(still["spectrogram"], plain["spectrogram"])
    off = data.Segments(rows, None, SpectocloudAugment(enabled=False)).item(0, rng(1))
    np.testing.assert_array_equal(off["spectrogram"], plain["spectrogram"])


def test_gain_moves_sound_and_masks_hide_it(pair: tuple[Path, Path]) -> None:
    log_mel = space.log_mel(audio.load(pair[0], 0.5, space.SECONDS))
    loud = data.augment_log_mel(log_mel, STILL.model_copy(update={"gain_db": 3.0}), rng(4))
    steps = np.unique(np.round((loud - log_mel)[log_mel > -4], 4))
    assert len(steps) == 1 and 0 < abs(steps[0]) <= 0.3
    masked = data.augment_log_mel(log_mel, STILL.model_copy(update={"time_mask": 20}), rng(5))
    hidden = (masked == log_mel.min()).all(0)
    assert 0 < hidden.sum() <= 20 and np.array_equal(masked[:, ~hidden], log_mel[:, ~hidden])


def test_dropped_emotions_are_not_given(pair: tuple[Path, Path]) -> None:
    dropping = data.Segments([make_row(pair, start=0.5)], None, SpectocloudAugment(emotion_dropout=1.0))
    assert np.isnan(dropping.item(0, rng())["emotion"]).all()


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("nan.wav", NAN_WAV, "audio_path"),
        ("text.mp3", b"la la la\n" * 99, "audio_path"),
        ("empty.mid", b"", "midi_path"),
        ("bomb.mid", b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\xff\xff\xff\xff\0\x90\x3c\x40", "midi_path"),
    ],
)
def test_a_bad_file_that_a_row_names_is_found_before_the_first_step(
    name: str, content: bytes, key: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    rows = [make_row(pair) | {"where": f"m.jsonl:row {n}", "fault": None} for n in (1, 2)]
    assert data.faults(rows) == [None, None]
    good, bad = data.faults([rows[0], rows[1] | {key: str(tmp_path / name)}])
    assert good is None and bad is not None
    assert bad.reason.startswith(f"{key}: ") and name in bad.reason and not bad.may_pass


def test_a_segment_past_the_true_end_of_a_file_that_was_cut_is_never_drawn(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(pair[0].read_bytes()[: pair[0].stat().st_size // 2])
    row = make_row((cut, pair[1]))
    assert data.faults([row | {"where": "m.jsonl:row 1", "fault": None}]) == [None]
    last = audio.duration(cut) - space.SECONDS
    starts = [data.segment_start(row, rng(seed)) for seed in range(50)]
    assert max(starts) <= last + 1e-3 < audio.duration(pair[0]) - space.SECONDS
    assert all(len(audio.load(cut, start, space.SECONDS)) >= audio.SEGMENT - 44 for start in starts)


def test_a_start_past_the_end_is_not_silence(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"start: 60\.0 s is past the end"):
        data.Segments([make_row(pair, start=60.0)], None).item(0, rng())


def test_speed_and_pitch_change_only_where_the_segment_is_drawn(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    moving = STILL.model_copy(update={"time_stretch": 0.3, "pitch_shift": 5})
    hand_made = tmp_path / "mine.npy"
    np.save(hand_made, rng().random((1200, 3)).astype(np.float32))
    for given in ({"start": 0.5}, {"target_pointcloud_path": str(hand_made)}):
        row = make_row(pair, **given)
        for name, value in data.Segments([row], None, moving).item(0, rng()).items():
            np.testing.assert_array_equal(value, data.Segments([row], None).item(0, rng())[name])
    drawn = [data.Segments([make_row(pair)], None, moving).item(0, rng(seed)) for seed in (1, 1, 2)]
    for name in ("spectrogram", "midi_features", "positions"):
        assert np.array_equal(drawn[0][name], drawn[1][name]) and not np.array_equal(
            drawn[0][name], drawn[2][name]
        )


def test_the_target_of_a_warped_segment_lies_on_what_is_heard(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "tune", TUNE)
    change = warp.Warp(1.25, 5)

    def on_notes(row_start: float, heard: warp.Warp, wanted: warp.Warp) -> float:
        """Mean level of the log-mel where the target's note points fall, 1 at the segment's peak."""
        row = make_row(pair, start=row_start)
        log_mel, _ = data.segment_features(row, row_start, None, heard)
        positions, _ = data.target_cloud(row, row_start, log_mel, change=wanted)
        level = target.analyse_segment(log_mel, midi.sounding(target.score(pair[1]), 0, 1), 0).level
        x, y = positions[: target.NOTE_POINTS, 0], positions[: target.NOTE_POINTS, 1]
        return float(level[(y * 120).astype(int).clip(0, 119), (x * 64).astype(int).clip(0, 63)].mean())

    for start in (0.0, 0.7):
        plain = on_notes(start, warp.NONE, warp.NONE)
        assert on_notes(start, change, change) == pytest.approx(plain, abs=0.05)
        assert on_notes(start, change, warp.NONE) < plain - 0.15  # had the notes stayed where they were
