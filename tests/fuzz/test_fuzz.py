"""Damaged files of every kind are read or refused in one line; `fuzz_run.py` runs thousands of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fuzz_run
import seed_files
from byte_mutator import mutated

from kwela import config, tables
from kwela.corpus.pairs import labels, rows
from kwela.errors import UserError
from kwela.spectocloud.config import SpectocloudConfig

HOSTILE = """
import os, pathlib, time
def raises(path, out): [][0]
def dies(path, out): os.abort()
def waits(path, out): time.sleep(60)
def writes(path, out): (out.parent.parent / "elsewhere").write_text("")
def tells(path, out):
    from kwela.errors import UserError
    raise UserError("two\\nlines")
READERS = {name: globals()[name] for name in ("raises", "dies", "waits", "writes", "tells")}
"""


@pytest.mark.parametrize("kind", seed_files.KINDS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    tally = fuzz_run.fuzz(kind, range(30), tmp_path)
    assert tally.failures == []
    assert tally.outcomes.total() == 30


@pytest.mark.full
def test_an_hour_of_damaged_files(tmp_path: Path) -> None:
    for kind in seed_files.KINDS:
        tally = fuzz_run.fuzz(kind, range(1000, 20_000), tmp_path / kind, until=time.monotonic() + 450)
        assert tally.failures == []


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("raises", "raised"), ("dies", "crashed"), ("waits", "hung"), ("writes", "wrote"), ("tells", "raised")],
)
def test_a_reader_that_does_wrong_is_caught(kind: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "readers.py").write_text(HOSTILE)
    (tmp_path / "file").touch()
    worker = fuzz_run.Worker(kind, tmp_path / "box", tmp_path / "bad")
    try:
        assert worker.read(tmp_path / "file", 2.0)[0] == outcome
    finally:
        worker.close()


def test_a_case_is_always_the_same() -> None:
    whole = list(seed_files.csv().values())
    made = [mutated(whole[0], whole, case) for case in range(50)]
    assert made == [mutated(whole[0], whole, case) for case in range(50)]
    assert len(set(made)) > 40


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
cells = st.text(max_size=12) | st.sampled_from(
    ["", "nan", "1e999", "-0", "٣", "1_0", "0x1", "\ufeff1", "1;2"]
)
few = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


T = TypeVar("T")


def read_or_refused(read: Callable[[], T], file: Path) -> T | None:
    """What `read` returns; None where it refuses the file in one line that names it."""
    try:
        return read()
    except UserError as error:
        reason = str(error)
    assert str(file) in reason
    assert "\n" not in reason
    return None


@few
@given(
    st.dictionaries(st.sampled_from(["midi_path", "emotion", "start", "offset", "group", "context"]), values)
)
def test_any_row_of_a_manifest_is_checked(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "one.mid").touch()
    file = tmp_path / "manifest.jsonl"
    file.write_text(json.dumps({"midi_path": "one.mid", "emotion": [0, 0, 0.5]} | row) + "\n")
    read = read_or_refused(lambda: rows.read(file, ["midi_path", "emotion"]), file)
    assert read is None or read[0]["emotion64"].shape == (64,)


@few
@given(st.lists(st.lists(cells, min_size=1, max_size=5), min_size=1, max_size=5))
def test_any_table_of_labels_is_checked(tmp_path: Path, table: list[list[str]]) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(tables.csv_text(table), encoding="utf-8", errors="surrogatepass")
    read = read_or_refused(lambda: labels.read_labels(file), file) or {}
    assert all(abs(label).max() <= 1 for label in read.values())


@few
@given(st.dictionaries(st.sampled_from(["data", "training", "optim", "model", "seed", "augment"]), values))
def test_any_settings_are_checked(tmp_path: Path, given_settings: dict[str, object]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(given_settings))
    read_or_refused(lambda: config.load(SpectocloudConfig, file), file)
