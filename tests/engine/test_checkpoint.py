"""A checkpoint is whole or absent, tells when it was damaged, and runs nobody's code."""

import hashlib
import os
import pickle
import resource
import zipfile

import pytest
import torch

from kwela.engine import checkpoint
from kwela.errors import KwelaError, UserError


def state(step=3, size=1000):
    return {
        "format": checkpoint.FORMAT,
        "model": {"w": torch.randn(size), "half": torch.randn(5).bfloat16()},
        "ema": None,
        "progress": {"epoch": 1, "samples": 0, "step": step},
    }


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


def forged(path, content):
    """A file with a right checksum around whatever torch.save makes of `content`."""
    torch.save(content, path)
    body = path.read_bytes()
    comment = checkpoint._MARK + hashlib.sha256(body).hexdigest().encode()
    path.write_bytes(body[:-2] + len(comment).to_bytes(2, "little") + comment)


def test_what_is_saved_comes_back_and_plain_torch_opens_it_too(tmp_path):
    path, kept = tmp_path / "last.pt", state()
    checkpoint.save(kept, path, tmp_path / "best.pt")
    for loaded in (checkpoint.load(path), checkpoint.load(tmp_path / "best.pt"), torch.load(path, weights_only=True)):
        assert torch.equal(loaded["model"]["w"], kept["model"]["w"])
        assert torch.equal(loaded["model"]["half"], kept["model"]["half"])
        assert loaded["progress"] == kept["progress"]
    assert zipfile.ZipFile(path).testzip() is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "last.pt"]


@pytest.mark.parametrize("where", [0, 100, 0.5, -100, -70, -1])
def test_one_flipped_bit_is_found_wherever_it_is(tmp_path, where):
    path = tmp_path / "last.pt"
    checkpoint.save(state(), path)
    body = bytearray(path.read_bytes())
    body[int(where * len(body)) if isinstance(where, float) else where] ^= 4
    path.write_bytes(body)
    with pytest.raises(UserError, match=r"last\.pt: damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_a_cut_file_is_damaged(tmp_path, share):
    path = tmp_path / "last.pt"
    checkpoint.save(state(), path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(UserError, match=r"last\.pt: damaged"):
        checkpoint.load(path)


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"none\.pt: no such checkpoint"):
        checkpoint.load(tmp_path / "none.pt")
    torch.save({"model": 1}, tmp_path / "plain.pt")
    with pytest.raises(UserError, match="not a checkpoint of kwela"):
        checkpoint.load(tmp_path / "plain.pt")
    forged(tmp_path / "old.pt", {"format": 0})
    with pytest.raises(UserError, match="version"):
        checkpoint.load(tmp_path / "old.pt")
    with pytest.raises(UserError, match="can't be read"):
        checkpoint.load(tmp_path)


def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forged(tmp_path / "zip.pt", {"format": checkpoint.FORMAT, "model": Bomb()})
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"zip\.pt: refused"):
        checkpoint.load(tmp_path / "zip.pt")
    with pytest.raises(UserError, match=r"raw\.pt: damaged, or not"):
        checkpoint.load(tmp_path / "raw.pt")
    assert not (tmp_path / "exploded").exists()
    pickle.loads((tmp_path / "raw.pt").read_bytes())  # the control: it is a bomb
    assert (tmp_path / "exploded").exists()


def test_the_newest_whole_checkpoint_is_found_and_the_skipped_are_named(tmp_path):
    for name, step in (("last.pt", 30), ("checkpoint_epoch_1.pt", 10), ("checkpoint_epoch_2.pt", 20), ("best.pt", 10)):
        checkpoint.save(state(step), tmp_path / name)
    said = []
    assert checkpoint.latest_valid(tmp_path, said.append) == tmp_path / "last.pt"
    assert said == []
    os.truncate(tmp_path / "last.pt", 500)
    assert checkpoint.latest_valid(tmp_path, said.append) == tmp_path / "checkpoint_epoch_2.pt"
    assert len(said) == 1 and "last.pt: damaged" in said[0]
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    assert checkpoint.latest_valid(tmp_path) is None
    assert checkpoint.latest_valid(tmp_path / "nowhere") is None


def test_a_full_disk_leaves_the_old_checkpoint_and_no_rubbish(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(state(3), path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # the kernel refuses, as on a full disk
    try:
        with pytest.raises(KwelaError, match=r"last\.pt: not saved: File too large") as caught:
            checkpoint.save(state(4), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.status == 1
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_that_could_not_be_read_back_never_replaces_one_that_can(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(state(3), path)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.save(state(4) | {"extra": Bomb()}, path)
    assert checkpoint.load(path)["progress"]["step"] == 3


def test_the_weights_to_use_are_the_average_where_there_is_one():
    assert checkpoint.weights({"model": {"w": 1}, "ema": None}) == {"w": 1}
    assert checkpoint.weights({"model": {"w": 1}, "ema": {"w": 2}}) == {"w": 2}


def test_what_killed_saves_left_is_removed(tmp_path):
    checkpoint.save(state(), tmp_path / "last.pt")
    (tmp_path / ".best.pt.tmp").write_bytes(b"half")
    checkpoint.prune(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
