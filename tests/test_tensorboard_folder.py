"""Each run has a TensorBoard folder of its own, and the default ones are the runbook's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kwela.cli.prepare import tensorboard_folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "pyproject.toml").write_text('name = "kwela"\n')
    monkeypatch.chdir(tmp_path / "repo")
    return tmp_path / "repo"


def folder(root: Path, out: str) -> str:
    found = tensorboard_folder(root / out, root / "checkpoints", root / "runs")
    return found.relative_to(root / "runs").as_posix()


def test_a_folder_among_the_checkpoints_or_in_the_repository_gives_its_name(root):
    assert folder(root, "checkpoints/second_try") == "second_try"
    assert folder(root, "checkpoints/a/x") == "a/x"
    assert folder(root, "out/x") == "out/x"


def test_no_two_folders_share_one(root):
    (root / "checkpoints" / "x").mkdir(parents=True)
    outs = ["checkpoints/x", "x", "a/x", "b/x", "checkpoints/a/y", "../a/x", "../b/x", "../x"]
    found = [folder(root, out) for out in outs]
    assert len(set(found)) == len(outs)
    assert found[-1].startswith("x-") and found[-1] == folder(root, "../x"), "the same at each start"


def test_a_link_and_its_target_are_one_run(root):
    (root / "real").mkdir()
    (root / "linked").symlink_to(root / "real")
    assert folder(root, "linked") == folder(root, "real")
