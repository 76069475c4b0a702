"""Checkpoints: one file, whole or absent, that says if it was damaged and can't run code.

- Written beside its place, flushed to disk, then renamed over the old one; so a kill or a full disk at any moment
  leaves the old file or the new one.
- A checkpoint is what torch.save writes (a zip) with its SHA-256 as the zip's comment: plain `torch.load` opens it too.
- Read with weights_only: tensors, numbers, strings and containers of them. Anything else is refused unexecuted.
- A checksum proves that a file is undamaged, not that kwela wrote it. So nothing is inflated, and what a state holds is
  checked once, in `load`; those who use it rely on that.

Keys: format, family, tokenizer_hash, model, ema, optimizer, scheduler, scaler, rng_per_rank,
progress {epoch, samples, step}, stopping, config, extra, meta. What differs between two runs of the same (paths, times,
hosts) stands in config, extra and meta alone. `scheduler` and `rng_per_rank` (the seed of each rank's next step) are
on record only: rates and seeds are functions of the step.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kwela import files
from kwela.config import MODELS
from kwela.errors import UserError

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"
M = TypeVar("M", bound=nn.Module)

_MARK = b"kwela-sha256:"
_COMMENT = len(_MARK) + 64  # bytes: the mark and the hash in hex
_TAIL = _COMMENT + 2  # and before them, the two bytes in which the zip states the comment's length

# What must be where in a state. What else `optimizer`, `scaler` and `stopping` must hold, those who load them know.
_PARTS: dict[str, type | tuple[type, ...]] = {
    "family": str,
    "tokenizer_hash": str,
    "model": dict,
    "ema": (dict, type(None)),
    "optimizer": dict,
    "scaler": dict,
    "progress.epoch": int,
    "progress.samples": int,
    "progress.step": int,
    "stopping": dict,
    "config.seed": int,
    "config.data.train_manifest": str,
    "config.data.val_manifest": str,
    "config.data.batch_size": int,
    "config.training.grad_accum_steps": int,
    "config.training.early_stopping.monitor": str,
    "extra": dict,
    "meta.data_hash": str,
    "meta.global_batch": int,
    "meta.val": dict,
    "meta.window": list,
    "meta.seconds": (int, float),
    "meta.facts.started": str,
    "meta.facts.resumes": list,
}
_PLAIN = ("progress", "stopping", "config", "meta")  # what JSON could hold: no tensors
_DEEPEST, _MOST = (
    16,
    100_000,
)  # levels and values of those: a pickled list may hold another many times, and so on


def save(state: dict[str, Any], path: Path, *more: Path) -> None:
    """Write `state` to `path`, then copy it to each of `more`, each whole or not at all.

    Raises KwelaError if the disk refuses (full, over quota), UserError where a file is in the way or permission lacks:
    the files that were there stay, and no temporary one.
    """
    _replace(path, lambda file: _write(state, file), _reads_back)
    for other in more:
        copy(path, other)


def copy(path: Path, other: Path) -> None:
    """Make `other` a checkpoint equal to `path`, whole or not at all. Raises as `save`."""
    # Bytes, not a hard link: damage to one checkpoint must leave the others whole.
    with path.open("rb") as source:
        _replace(other, lambda file: shutil.copyfileobj(source, file, 1 << 20))


def load(path: Path) -> dict[str, Any]:
    """The state in `path`, tensors on the CPU. Raises UserError if it is missing, damaged, foreign or holds code."""
    try:
        with path.open("rb") as file:
            _verify(path, file)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:
        raise UserError(f"{path}: refused: it holds objects other than tensors and plain values") from None
    except Exception as error:  # an odd pickle makes torch raise just about anything
        raise UserError(f"{path}: can't be read: {_line(error)}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this version of kwela (format {FORMAT})")
    wrong = _wrong(state)
    if wrong:
        raise UserError(f"{path}: not a checkpoint that kwela wrote: {wrong}")
    return state


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights to use of a loaded checkpoint: the running average where training kept one, else the model's."""
    return state["ema"] or state["model"]


def rebuild(
    path: Path,
    state: dict[str, Any],
    family: str,
    build: Callable[[dict[str, Any]], M],
    tokenizer_hash: str = "",
) -> M:
    """The model of a loaded checkpoint, in eval mode, with the weights to use.

    path: for messages. build: a family's model from its settings, config["model"]. Raises UserError for a checkpoint of
    another family or tokenizer, with settings that are missing or out of range, or whose weights don't fit them.
    """
    if state["family"] != family:
        raise UserError(f"{path}: a checkpoint of {state['family']}, not of {family}")
    if state["tokenizer_hash"] != tokenizer_hash:
        theirs, ours = (hash_[:12] or "none" for hash_ in (state["tokenizer_hash"], tokenizer_hash))
        raise UserError(f"{path}: made for tokenizer {theirs}, this kwela has {ours}")
    _check_settings(path, family, state["config"].get("model"))
    model = build(state["config"]["model"])
    try:
        model.load_state_dict(weights(state))
    except RuntimeError as error:  # its first line names the class alone
        raise UserError(f"{path}: its weights don't fit its settings: {_line(error, -1)}") from None
    return model.eval()


def _check_settings(path: Path, family: str, settings: Any) -> None:
    schema = MODELS[family]
    try:
        given = schema.model_validate(settings, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("config", "model", *first["loc"]))
        raise UserError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from None
    missing = schema.model_fields.keys() - given.model_fields_set
    if missing:
        raise UserError(f"{path}: config.model.{min(missing)}: missing")


def latest_valid(folder: Path, damaged: Callable[[str], None] = lambda reason: None) -> Path | None:
    """The newest whole checkpoint in `folder`: last.pt, else the one with the most steps; None if there is none.

    damaged: told, for each file that is skipped, the one line that says why.
    """
    newest: tuple[int, Path] | None = None
    for path in sorted(folder.glob("*.pt"), key=lambda path: path.name != LAST):
        try:
            state = load(path)
        except UserError as error:
            damaged(str(error))
            continue
        if not state["optimizer"]:  # weights alone, for use
            continue
        step = state["progress"]["step"]
        if path.name == LAST:
            return path
        if newest is None or step > newest[0]:
            newest = step, path
    return newest[1] if newest else None


def prune(folder: Path) -> None:
    """Remove what killed saves left behind. Checkpoints themselves are all kept."""
    for path in folder.glob(".*.pt.tmp"):  # others, such as a campaign, write their own drafts here
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """SHA-256 of the whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hashing:
    """A file that hashes what passes, and remembers why the disk refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.refused: OSError | None = None

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.refused = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(state: dict[str, Any], file: IO[bytes]) -> None:
    passing = _Hashing(file)
    try:
        torch.save(state, cast(IO[bytes], passing))
    except RuntimeError:
        if passing.refused is not None:  # torch reports its own failure, not the disk's
            raise passing.refused from None
        raise
    file.seek(-2, os.SEEK_END)  # a zip ends with the length of its comment: none so far
    file.write(_COMMENT.to_bytes(2, "little") + _MARK + passing.hash.hexdigest().encode())


def _reads_back(temporary: Path) -> None:
    # A state that load would refuse must not replace one that it takes. Mapped, so no tensor is read.
    torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)


def _verify(path: Path, file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END) - _TAIL
    if size > 0:
        file.seek(size + 2)
        comment = file.read()
    if size <= 0 or not comment.startswith(_MARK):
        raise UserError(f"{path}: damaged, or not a checkpoint of kwela (no checksum at its end)")
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0:
        block = file.read(min(size, 1 << 20))
        digest.update(block)
        size -= len(block)
    digest.update(b"\0\0")
    if digest.hexdigest().encode() != comment[len(_MARK) :]:
        raise UserError(f"{path}: damaged (its checksum does not match its content)")
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    # From the first byte on: else torch, which counts offsets from there, would find another directory than zipfile.
    if min((record.header_offset for record in records), default=-1) != 0:
        raise UserError(f"{path}: refused: something stands before its records")
    stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    if not stored or sum(record.file_size for record in records) > file.seek(0, os.SEEK_END):
        raise UserError(f"{path}: refused: its records are compressed or overlap, which kwela's never do")


def _wrong(state: dict[str, Any]) -> str | None:
    """What in a state is missing or of the wrong type, in words."""
    for place, kind in _PARTS.items():
        value: Any = state
        for key in place.split("."):
            if not isinstance(value, dict) or key not in value:
                return f"{place} is missing"
            value = value[key]
        if not isinstance(value, kind):
            return f"{place} is of type {type(value).__name__}"
        if isinstance(value, int) and value < 0:
            return f"{place} is {value}"
    if not isinstance(state["config"].get("model", {}), dict):
        return "config.model is not a group of settings"
    for part in ("model", "ema"):
        if not all(isinstance(name, str) and _solid(value) for name, value in (state[part] or {}).items()):
            return f"{part} holds other things than named tensors"
    return next(
        (f"{part} holds other things than plain values" for part in _PLAIN if not _plain(state[part])), None
    )


def _solid(value: Any) -> bool:
    """Whether it is a tensor that has as many numbers as it says: not a view that repeats a few."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _plain(value: Any) -> bool:
    """Whether it is made of numbers, strings, lists and dicts with string keys: level by level, so that it ends."""
    level, count = [value], 0
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict) and all(isinstance(key, str) for key in one):
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif not (one is None or isinstance(one, str | int | float)):
                return False
            if count + len(below) > _MOST:
                return False
        level, count = below, count + len(below)
    return not level


def _line(error: Exception, which: int = 0) -> str:
    """A line of the error's message; some have none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[which].strip()


def _replace(
    path: Path, write: Callable[[IO[bytes]], Any], check: Callable[[Path], None] = lambda temporary: None
) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        check(temporary)
        temporary.replace(path)
        files.sync(path.parent)
    except OSError as error:
        raise files.unwritable(path, error, "not saved", files.STAYS) from error
    finally:
        temporary.unlink(missing_ok=True)
