"""`kwela train` goes on without files that were lost since it began, whichever way the user deals with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import scratch
from kwela.corpus.pairs import manifest
from kwela.engine import checkpoint
from scratch import kwela


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with manifests of seven pairs, without `start`: segments are drawn at random."""
    folder = scratch.make(tmp_path / "checkout")
    manifest.build(*scratch.pairs(folder / "songs", 7), folder / "own", val_split=0.15, quiet=True)
    return folder


def train(root: Path, family: str, epochs: int) -> scratch.Done:
    sides = [f"data.{side}_manifest={root / 'own' / f'{family}_{side}.jsonl'}" for side in ("train", "val")]
    words = [word for setting in (*sides, "data.num_workers=1") for word in ("--set", setting)]
    return kwela(
        root, "train", family, "--preset", "tiny", "--epochs", str(epochs), *words, "--device", "cpu"
    )


def rows_of(root: Path, family: str) -> list[dict]:
    return [json.loads(line) for line in (root / "own" / f"{family}_train.jsonl").read_text().splitlines()]


def left_out(root: Path, folder: str) -> list[dict]:
    return json.loads((root / "checkpoints" / folder / "run.json").read_text())["left_out_rows"]


@pytest.mark.parametrize(("family", "folder"), [("spectocloud", "spectocloud"), ("midi", "midi_generator")])
def test_a_deleted_file_is_left_out_with_its_row_or_without(root, family, folder):
    assert train(root, family, 1).status == 0
    own = root / "own" / f"{family}_train.jsonl"
    first, second, *_ = rows_of(root, family)
    Path(first["midi_path"]).unlink()
    again = train(root, family, 2)
    assert again.status == 0, again.err
    (line,) = [line for line in again.out.splitlines() if line.startswith("Left out from here on: 1 row, ")]
    assert f"{own}:row 1 (midi_path: no such file: {first['midi_path']})" in line
    (row,) = left_out(root, folder)
    assert row["row"] == f"{own}:row 1" and row["files"]["midi_path"] == first["midi_path"]
    Path(second["midi_path"]).unlink()
    own.write_text("".join(own.read_text().splitlines(keepends=True)[2:]))  # the user takes both rows out
    once_more = train(root, family, 3)
    assert once_more.status == 0, once_more.err
    assert "Left out from here on: 1 row, " in once_more.out and "row 2 (midi_path: " in once_more.out
    assert checkpoint.load(root / "checkpoints" / folder / "last.pt")["progress"]["epoch"] == 3
    assert len(left_out(root, folder)) == 2
    own.write_text(
        "".join(own.read_text().splitlines(keepends=True)[1:])
    )  # the control: a file that is there
    other = train(root, family, 4)
    assert "was taken out, and its files can be read" in other.out and f"{folder}.1" in other.out


def test_a_file_that_is_found_bad_in_training_is_named_and_then_left_out(root):
    bad = root / "own" / "cloud.npy"  # a target is opened when it is needed
    np.save(bad, np.random.default_rng(0).random((1200, 3), np.float32))
    rows = rows_of(root, "spectocloud")
    rows[2]["target_pointcloud_path"] = bad.name
    (root / "own" / "spectocloud_train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert train(root, "spectocloud", 1).status == 0
    np.save(bad, np.full((1200, 3), np.nan, np.float32))
    done = train(root, "spectocloud", 2)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert f"spectocloud_train.jsonl:row 3: {bad}: " in line and "; saved at step " in line
    again = train(root, "spectocloud", 2)
    assert again.status == 0, again.err
    assert "Left out from here on: 1 row, " in again.out
    (row,) = left_out(root, "spectocloud")
    assert row["files"]["target_pointcloud_path"] == str(bad)
