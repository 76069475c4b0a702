"""A checkpoint is whole or absent, tells when it was damaged, and runs nobody's code."""

import hashlib
import io
import os
import pickle
import resource
import zipfile

import pytest
import torch
from states import state

from kwela.engine import checkpoint
from kwela.errors import KwelaError, UserError


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


def forged(path, content):
    """A file with a right checksum around whatever torch.save makes of `content`."""
    torch.save(content, path)
    sealed(path, path.read_bytes())


def sealed(path, body):
    """A zip file with its right checksum."""
    comment = checkpoint._MARK + hashlib.sha256(body).hexdigest().encode()
    path.write_bytes(body[:-2] + len(comment).to_bytes(2, "little") + comment)


def test_what_is_saved_comes_back_and_plain_torch_opens_it_too(tmp_path):
    path, kept = tmp_path / "last.pt", state()
    checkpoint.save(kept, path, tmp_path / "best.pt")
    for loaded in (
        checkpoint.load(path),
        checkpoint.load(tmp_path / "best.pt"),
        torch.load(path, weights_only=True),
    ):
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


@pytest.mark.parametrize(
    "place",
    [
        *(
            "family",
            "tokenizer_hash",
            "model",
            "ema",
            "optimizer",
            "scaler",
            "progress",
            "progress.step",
            "stopping",
        ),
        *(
            "config",
            "config.seed",
            "config.training.grad_accum_steps",
            "extra",
            "meta",
            "meta.data_hash",
            "meta.facts",
        ),
    ],
)
def test_a_foreign_state_is_refused_naming_what_it_lacks_and_skipped_by_auto(tmp_path, place):
    *groups, key = place.split(".")
    for wrong in ("absent", object, [3]):
        whole = branch = state()
        for group in groups:
            branch = branch[group]
        del branch[key]
        if wrong != "absent":
            branch[key] = -1 if wrong is object else wrong
        forged(tmp_path / "last.pt", whole)
        with pytest.raises(UserError, match=rf"last\.pt: not a checkpoint that kwela wrote: {place}\S* is "):
            checkpoint.load(tmp_path / "last.pt")
    said = []
    assert checkpoint.latest_valid(tmp_path, said.append) is None and "not a checkpoint" in said[0]
    forged(tmp_path / "last.pt", state())
    assert checkpoint.latest_valid(tmp_path) == tmp_path / "last.pt"  # the control


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("model", {"w": 3}),
        ("model", {1: torch.zeros(1)}),
        ("model", {"w": torch.zeros(1).expand(10**12)}),  # 4 bytes that say they are 4 TB
        ("ema", {"w": [torch.zeros(1)]}),
    ],
)
def test_weights_are_tensors_as_large_as_they_say(tmp_path, part, content):
    forged(tmp_path / "odd.pt", state() | {part: content})
    with pytest.raises(UserError, match=rf"odd\.pt: .*{part} holds other things than named tensors"):
        checkpoint.load(tmp_path / "odd.pt")


def test_settings_are_plain_and_end(tmp_path):
    doubled = [1]
    for _ in range(60):
        doubled = [doubled, doubled]
    wide = [1] * 1000
    for _ in range(5):
        wide = [wide] * 1000
    for odd in ({1: 2}, torch.zeros(1), doubled, wide):
        whole = state()
        whole["config"]["model"] = {"width": odd}
        forged(tmp_path / "odd.pt", whole)
        with pytest.raises(UserError, match="config holds other things than plain values"):
            checkpoint.load(tmp_path / "odd.pt")


def rezipped(path, compression, names=None):
    """The zip at `path` written anew; names: what to write, as (name, content) pairs, else what is there."""
    body = io.BytesIO()
    if names is None:
        with zipfile.ZipFile(path) as old:
            names = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(body, "w", compression) as new:
        for name, content in names:
            new.writestr(name, content)
    return body.getvalue()


@pytest.mark.parametrize(
    "instructions", [b"\x80\x02.", b"\x80\x02h\x05.", b"\x80\x02}(K\x01u.", b"\x80\x02a."]
)
def test_an_odd_pickle_is_one_line(tmp_path, instructions):
    torch.save(state(), tmp_path / "odd.pt")
    with zipfile.ZipFile(tmp_path / "odd.pt") as old:
        names = [
            (name, instructions if name.endswith("data.pkl") else old.read(name)) for name in old.namelist()
        ]
    sealed(tmp_path / "odd.pt", rezipped(tmp_path / "odd.pt", zipfile.ZIP_STORED, names))
    with pytest.raises(UserError, match=r"odd\.pt: "):
        checkpoint.load(tmp_path / "odd.pt")


def test_a_zip_bomb_is_not_inflated(tmp_path, monkeypatch):
    torch.save(state() | {"model": {"w": torch.zeros(10**7)}}, tmp_path / "bomb.pt")
    sealed(tmp_path / "bomb.pt", rezipped(tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED))
    assert (tmp_path / "bomb.pt").stat().st_size < 10**6
    assert torch.load(tmp_path / "bomb.pt", weights_only=True)["model"]["w"].numel() == 10**7  # the control
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(UserError, match=r"bomb\.pt: refused: its records are compressed"):
        checkpoint.load(tmp_path / "bomb.pt")


def test_compressed_records_are_refused_even_where_they_take_no_more_room_than_stored(tmp_path):
    names = [("odd/data.pkl", os.urandom(10**5))]
    sealed(tmp_path / "odd.pt", rezipped(tmp_path / "none", zipfile.ZIP_DEFLATED, names))
    assert (tmp_path / "odd.pt").stat().st_size > 10**5, "the control: its records do not overlap"
    with pytest.raises(UserError, match=r"odd\.pt: refused: its records are compressed"):
        checkpoint.load(tmp_path / "odd.pt")


def test_records_that_overlap_or_do_not_begin_the_file_are_refused(tmp_path):
    path = tmp_path / "odd.pt"
    torch.save(state(size=10**5), path)
    body = path.read_bytes()
    sealed(path, b"before" + body)
    with pytest.raises(UserError, match="something stands before its records"):
        checkpoint.load(path)
    torch.save(state(size=10**5), path)
    start, end = body.index(b"PK\1\2"), body.rindex(b"PK\5\6")
    count, size = int.from_bytes(body[end + 10 : end + 12], "little"), end - start
    if b"PK\6\6" in body[start:]:
        size = body.rindex(b"PK\6\6") - start
    more = body[:start] + body[start : start + size] * 9  # each record nine times, where it lies
    ending = b"PK\5\6" + bytes(4) + (9 * count).to_bytes(2, "little") * 2
    sealed(path, more + ending + (9 * size).to_bytes(4, "little") + start.to_bytes(4, "little") + bytes(2))
    with pytest.raises(UserError, match="compressed or overlap"):
        checkpoint.load(path)


def test_the_newest_whole_checkpoint_is_found_and_the_skipped_are_named(tmp_path):
    for name, step in (
        ("last.pt", 30),
        ("checkpoint_epoch_1.pt", 10),
        ("checkpoint_epoch_2.pt", 20),
        ("best.pt", 10),
    ):
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
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (len(before) // 2, limits[1])
    )  # the kernel refuses, as on a full disk
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
