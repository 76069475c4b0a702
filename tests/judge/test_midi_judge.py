"""The whole judge on a checkpoint and manifests: page, JSON and pictures; and what it refuses to judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_pieces import toy_rows

from kwela.corpus.pairs import rows as manifest_rows
from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.judge.midi import judge as midi
from kwela.judge.midi import shuffled_labels
from kwela.judge.midi.effort import Effort
from kwela.judge.midi.emotion_grid import GridSize
from kwela.judge.midi.songs import read_songs
from kwela.midi_generator.config import MidiGeneratorData
from kwela.midi_generator.model import build
from kwela.music import midi as midi_files
from kwela.music import tokens

SMALL = Effort(GridSize((-0.8, 0.8), (0.6,), 1, 1), 3, 1, 6, 64, 1, 0)
SETTINGS = {"layers": 2, "width": 16, "heads": 2, "cross_every": 2, "dropout": 0.0, "window": 64}


def write_manifest(folder: Path, name: str, seed: int, pieces: int, **more: Any) -> Path:
    lines = []
    for row in toy_rows(pieces, seed, 4):
        midi_files.write(row["score"], folder / "songs" / row["midi_path"])
        line = {"midi_path": f"songs/{row['midi_path']}", "emotion": row["emotion64"][:3].tolist()}
        lines.append(json.dumps(line | {"group": row["group"], "emotion_source": "user"} | more))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def write_checkpoint(
    folder: Path, data_hash: str, name: str = "best.pt", trained: str = "gone/train.jsonl"
) -> Path:
    torch.manual_seed(0)
    state: dict[str, Any] = {"format": checkpoint.FORMAT, "family": "midi_generator"}
    state |= {"tokenizer_hash": tokens.tokenizer_hash(), "model": build(SETTINGS).state_dict(), "ema": None}
    state |= {"optimizer": {}, "scheduler": {}, "scaler": {}, "extra": {}, "rng_per_rank": [], "stopping": {}}
    state |= {"progress": {"epoch": 1, "samples": 8, "step": 1}}
    data = {"batch_size": 8, "train_manifest": trained, "val_manifest": "gone/val.jsonl"}
    training = {"grad_accum_steps": 1, "early_stopping": {"monitor": "val_loss"}}
    state["config"] = {"model": SETTINGS, "seed": 42, "data": data, "training": training}
    facts: dict[str, Any] = {"started": "2025-01-01", "resumes": []}
    state["meta"] = {
        "data_hash": data_hash,
        "global_batch": 8,
        "val": {},
        "window": [],
        "seconds": 1.0,
        "facts": facts,
    }
    checkpoint.save(state, folder / name)
    return folder / name


@pytest.mark.usefixtures("real_pictures")
def test_a_checkpoint_is_judged_from_its_manifests_and_its_page_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(midi, "QUICK_EFFORT", SMALL)
    seen, held_out = (
        write_manifest(tmp_path, "train.jsonl", 1, 8),
        write_manifest(tmp_path, "val.jsonl", 2, 6),
    )
    best = write_checkpoint(tmp_path, manifest_rows.data_hash([seen, held_out]))
    card = midi.judge(best, held_out, seen, None, out=tmp_path / "out", quick=True)
    written = json.loads((tmp_path / "out" / "midi.json").read_text(), parse_constant=lambda word: 1 / 0)
    assert {"evaluators", "nll", "gain", "grid", "flips", "quality", "memorisation"} <= written[
        "tables"
    ].keys()
    assert written["verdicts"]["labels"] == "given" and written["quick"] is True and written["seed"] == 0
    assert written["verdicts"]["status"] == "measured"
    assert "other manifests" not in card.warning and "too few" in card.warning  # six rows train no evaluator
    for picture in ("gain.png", "quality.png", "memorisation.png"):
        assert picture in card.page() and (tmp_path / "out" / picture).stat().st_size > 5000


def test_a_model_of_other_manifests_may_have_seen_the_songs_and_the_first_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(midi, "QUICK_EFFORT", SMALL)
    seen, held_out = (
        write_manifest(tmp_path, "train.jsonl", 1, 8),
        write_manifest(tmp_path, "val.jsonl", 2, 6),
    )
    card = midi.judge(
        write_checkpoint(tmp_path, "d" * 64), held_out, seen, None, out=tmp_path / "out", quick=True
    )
    assert "other manifests" in card.page().splitlines()[0]


def test_a_twin_is_one_by_its_manifest_and_the_model_itself_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(midi, "QUICK_EFFORT", SMALL)
    seen, held_out = (
        write_manifest(tmp_path, "train.jsonl", 1, 8),
        write_manifest(tmp_path, "val.jsonl", 2, 6),
    )
    shuffled = tmp_path / "elsewhere" / "twin.jsonl"
    shuffled_labels.write_shuffled_rows(seen, shuffled)
    best = write_checkpoint(tmp_path, manifest_rows.data_hash([seen, held_out]))
    with pytest.raises(UserError, match="the model's own manifests"):
        midi.judge(best, held_out, seen, None, best, out=tmp_path / "out", quick=True)
    told = manifest_rows.data_hash([shuffled, held_out])
    other = write_checkpoint(tmp_path, told, "twin.pt", str(shuffled))
    card = midi.judge(best, held_out, seen, None, other, out=tmp_path / "out", quick=True)
    assert "twin" not in card.warning
    gains = {row.label: row for row in card.sections["gain"].rows}
    assert gains["over shuffled emotions | shuffled-label twin"].value is not None
    lost = write_checkpoint(tmp_path, told, "lost.pt")
    doubtful = midi.judge(best, held_out, seen, None, lost, out=tmp_path / "out", quick=True)
    assert "The twin is doubtful" in doubtful.page().splitlines()[0]


def test_a_twin_s_rows_are_the_same_songs_told_each_other_s_emotions(tmp_path: Path) -> None:
    seen = write_manifest(tmp_path, "train.jsonl", 1, 16)
    shuffled_labels.write_shuffled_rows(seen, tmp_path / "twin.jsonl", seed=1)
    mine, theirs = (
        manifest_rows.read(path, MidiGeneratorData.row_keys) for path in (seen, tmp_path / "twin.jsonl")
    )
    assert [row["midi_path"] for row in mine] == [row["midi_path"] for row in theirs]
    assert sorted(map(str, (row["emotion"] for row in mine))) == sorted(
        map(str, (row["emotion"] for row in theirs))
    )
    assert shuffled_labels.reason_for_doubt(mine, tmp_path / "twin.jsonl") == ""
    assert "kept their own emotion" in shuffled_labels.reason_for_doubt(mine, seen)
    assert "same songs" in shuffled_labels.reason_for_doubt(
        manifest_rows.read(write_manifest(tmp_path, "b.jsonl", 5, 4), MidiGeneratorData.row_keys), seen
    )


def test_too_few_held_out_songs_are_refused_without_a_number(tmp_path: Path) -> None:
    seen, held_out = (
        write_manifest(tmp_path, "train.jsonl", 1, 8),
        write_manifest(tmp_path, "val.jsonl", 2, 3),
    )
    card = midi.judge(
        write_checkpoint(tmp_path, "d" * 64), held_out, seen, None, out=tmp_path / "out", quick=True
    )
    assert card.verdicts["status"] == "refused" and not card.sections


def test_a_held_out_song_that_is_in_the_training_rows_is_left_out_under_any_name(tmp_path: Path) -> None:
    seen, held_out = (
        write_manifest(tmp_path, "train.jsonl", 1, 8),
        write_manifest(tmp_path, "val.jsonl", 2, 6),
    )
    stolen = json.loads(seen.read_text().splitlines()[2]) | {"group": "another name"}
    held_out.write_text(held_out.read_text() + json.dumps(stolen) + "\n")
    found = read_songs(held_out, seen)
    assert len(found.held_out) == 6 and "in the training rows too" in next(iter(found.left_out.values()))


def test_labels_that_say_they_are_derived_are_and_the_demos_are(tmp_path: Path) -> None:
    seen = write_manifest(tmp_path, "train.jsonl", 1, 4)
    said = write_manifest(tmp_path, "said.jsonl", 2, 4, emotion_source="derived: mode and tempo")
    plain = write_manifest(tmp_path, "val.jsonl", 2, 4)
    assert read_songs(said, seen).label_derivation and not read_songs(plain, seen).label_derivation
    (tmp_path / "manifest_report.json").write_text('{"demo": true}')
    assert read_songs(plain, seen).label_derivation


def test_a_file_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    seen, held_out = (
        write_manifest(tmp_path, "train.jsonl", 1, 4),
        write_manifest(tmp_path, "val.jsonl", 2, 4),
    )
    (tmp_path / "songs" / "song 2-1.mid").write_bytes(b"not MIDI")
    found = read_songs(held_out, seen)
    assert len(found.held_out) == 3 and any("song 2-1.mid" in name for name in found.left_out)


def test_a_missing_folder_of_human_labels_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--human"):
        midi.judge(None, None, None, tmp_path / "gone", out=tmp_path)
