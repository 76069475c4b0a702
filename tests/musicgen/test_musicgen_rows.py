"""A fine-tune goes on without clips that can't be read any more."""

from __future__ import annotations

import json
import shutil

import fine_tune
import musicgen_set
import pytest

from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.musicgen import data

SETTINGS = ("training.epochs=20", "data.seconds=0.5", "data.batch_size=2", "training.eval_every_steps=3")


@pytest.fixture
def own_table(table, tmp_path):
    """Copies of a few clips, which a test may delete; and a clip that was never sound."""
    kept = [clip for clip in data.read_table(table) if clip.split == "train"][:5]
    kept += [clip for clip in data.read_table(table) if clip.split == "val"][:2]
    rows = []
    for clip in kept:
        shutil.copy(clip.path, tmp_path)
        rows.append([clip.clip_id, clip.path.name, 3, ",".join(clip.tags), 10, clip.split, clip.artist])
    (tmp_path / "never.flac").write_bytes(b"no sound" * 99)
    rows.insert(2, ["never", "never.flac", 3, "slow", 10, "train", "x"])
    return musicgen_set.write(tmp_path / "training_metadata.csv", rows)


def fit(table, place, stand_in, out, steps, **more):
    settings = fine_tune.settings(table, place, stand_in, *SETTINGS, f"training.max_steps={steps}")
    return fine_tune.fit(settings, out, **more)


def test_a_deleted_clip_is_left_out_and_said(own_table, place, stand_in, tmp_path, capsys):
    out = tmp_path / "out"
    fit(own_table, place, stand_in, out, 2)
    gone = data.read_table(own_table)[1]
    gone.path.unlink()
    with pytest.raises(UserError, match=rf"{gone.path}: no such clip"):  # a new run needs every clip
        fit(own_table, place, stand_in, tmp_path / "new", 2)
    capsys.readouterr()
    fit(own_table, place, stand_in, out, 5, quiet=False)
    said = capsys.readouterr().out
    assert "Left out from here on: 1 row, " in said and f"{own_table}:row 3 (file_path: {gone.path}: " in said
    (row,) = json.loads((out / "run.json").read_text())["left_out_rows"]
    assert row["row"] == f"{own_table}:row 3" and row["side"] == "train"
    lines = own_table.read_text().splitlines(keepends=True)
    own_table.write_text("".join(lines[:2] + lines[3:]))
    fit(own_table, place, stand_in, out, 6, data_hash="fewer")
    assert checkpoint.load(out / "last.pt")["progress"]["step"] == 6
