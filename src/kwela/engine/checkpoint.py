"""Checkpoints: one file that is complete or absent, shows damage, and can't run code.

- A checkpoint is written beside its place, flushed to the disk, and then renamed over the old one. A kill or
  a full disk at any moment leaves the old file or the new one.
- A checkpoint is what torch.save writes (a zip) with its SHA-256 as the zip's comment. Plain `torch.load`
  opens it too.
- It is read with weights_only: tensors, numbers, strings and containers of them. Anything else is refused
  without being executed.
- A checksum proves that a file is undamaged; it does not prove that kwela wrote it. So no record may be
  compressed, and `load` checks the shape of the state once (see checkpoint_shape); other code relies on that.

Keys: format, family, tokenizer_hash, model, ema, optimizer, scheduler, scaler, rng_per_rank, progress {epoch,
samples, step}, stopping, config, extra, meta. What differs between two equal runs (paths, times, hosts)
stands in config, extra and meta alone. `scheduler` and `rng_per_rank` (the seed of each rank's next step) are
kept as a record only: learning rates and seeds are functions of the step.
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
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from kwela import files
from kwela.config import fault_words
from kwela.engine import checkpoint_shape
from kwela.errors import UserError

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"
M = TypeVar("M", bound=nn.Module)

_MARK = b"kwela-sha256:"
_COMMENT = len(_MARK) + 64  # bytes: the mark and the hash in hex
_TAIL = _COMMENT + 2  # with the two bytes before it in which the zip states the comment's length


def save(state: dict[str, Any], path: Path, *more: Path) -> None:
    """Write `state` to `path`, then copy it to each of `more`. Each file is complete or not written.

    Raises KwelaError if the disk refuses (full, over quota), UserError where a file is in the way or
    permission lacks: the files that were there stay, and no temporary one.
    """
    _replace(path, lambda file: _write(state, file), _reads_back)
    for other in more:
        copy(path, other)


def copy(path: Path, other: Path) -> None:
    """Copy the checkpoint `path` to `other`, which is complete or not written. Raises as `save`."""
    # The bytes are copied, not linked: damage to one checkpoint must not reach the others.
    with path.open("rb") as source:
        _replace(other, lambda file: shutil.copyfileobj(source, file, 1 << 20))


def load(path: Path) -> dict[str, Any]:
    """Return the state in `path`, with its tensors on the CPU.

    Raises UserError if the file is missing, damaged, of another program, or holds code.
    """
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
    except Exception as error:  # a damaged pickle can make torch raise almost any exception
        raise UserError(
            f"{path}: can't be read: damaged, cut short, or of another program ({_line(error)[:200]}); "
            "take another checkpoint"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this version of kwela (format {FORMAT})")
    if fault := checkpoint_shape.fault(state):
        raise UserError(f"{path}: not a checkpoint that kwela wrote: {fault}")
    return state


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights to use: the running average where training kept one, or else those of the model."""
    return state["ema"] or state["model"]


def rebuild(
    path: Path,
    state: dict[str, Any],
    family: str,
    settings: type[BaseModel],
    build: Callable[[dict[str, Any]], M],
    tokenizer_hash: str = "",
) -> M:
    """Return the model of a loaded checkpoint, in eval mode, with the weights to use.

    path: for messages. settings: the schema of config["model"]. build: the model, a function of those
    settings. Raises UserError for a checkpoint of another family or tokenizer, with settings that are
    missing or out of range, or with weights that don't fit them.
    """
    if state["family"] != family:
        raise UserError(f"{path}: a checkpoint of {state['family']}, not of {family}")
    if state["tokenizer_hash"] != tokenizer_hash:
        hashes = (state["tokenizer_hash"], tokenizer_hash)
        checkpoint_hash, kwela_hash = (value[:12] or "none" for value in hashes)
        raise UserError(f"{path}: made for tokenizer {checkpoint_hash}, this kwela has {kwela_hash}")
    _check_settings(path, settings, state["config"].get("model"))
    model = build(state["config"]["model"])
    try:
        model.load_state_dict(weights(state))
    except RuntimeError as error:  # its first line names the class alone
        raise UserError(f"{path}: its weights don't fit its settings: {_line(error, -1)}") from None
    return model.eval()


def _check_settings(path: Path, schema: type[BaseModel], settings: Any) -> None:
    try:
        given = schema.model_validate(settings, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("config", "model", *first["loc"]))
        raise UserError(f"{path}: {key}: {fault_words(first)}") from None
    missing = schema.model_fields.keys() - given.model_fields_set
    if missing:
        raise UserError(f"{path}: config.model.{min(missing)}: missing")


def latest_valid(folder: Path, damaged: Callable[[str], None] = lambda reason: None) -> Path | None:
    """Return the newest valid checkpoint in `folder`: last.pt, or else the one with the most steps, or None.

    damaged: called with one line for each file that is skipped, which says why.
    """
    newest: tuple[int, Path] | None = None
    for path in sorted(folder.glob("*.pt"), key=lambda path: path.name != LAST):
        try:
            state = load(path)
        except UserError as error:
            damaged(str(error))
            continue
        if not state["optimizer"]:  # it holds weights alone and can't be resumed
            continue
        step = state["progress"]["step"]
        if path.name == LAST:
            return path
        if newest is None or step > newest[0]:
            newest = step, path
    return newest[1] if newest else None


def prune(folder: Path) -> None:
    """Remove the temporary files that killed saves left. Checkpoints are all kept."""
    for path in folder.glob(".*.pt.tmp"):  # a campaign writes temporary files of other names here
        path.unlink(missing_ok=True)


class _HashingFile:
    """A file that hashes what is written to it, and keeps the error with which the disk refused a write."""

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
    hashing_file = _HashingFile(file)
    try:
        torch.save(state, cast(IO[bytes], hashing_file))
    except RuntimeError:
        if hashing_file.refused is not None:  # torch reports its own failure instead of the disk's
            raise hashing_file.refused from None
        raise
    file.seek(-2, os.SEEK_END)  # a zip ends with the length of its comment, which is 0 so far
    file.write(_COMMENT.to_bytes(2, "little") + _MARK + hashing_file.hash.hexdigest().encode())


def _reads_back(temporary: Path) -> None:
    # A state that `load` would refuse must not replace a good one. With mmap no tensor is read.
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
    # From the first byte on: else torch, which counts offsets from there, would find another directory than
    # zipfile.
    if min((record.header_offset for record in records), default=-1) != 0:
        raise UserError(f"{path}: refused: something stands before its records")
    stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    if not stored or sum(record.file_size for record in records) > file.seek(0, os.SEEK_END):
        raise UserError(f"{path}: refused: its records are compressed or overlap, which kwela's never do")


def _line(error: Exception, which: int = 0) -> str:
    """Return line `which` of the error's message, or the name of its class where it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[which].strip()


def _replace(
    path: Path, write: Callable[[IO[bytes]], Any], check: Callable[[Path], None] = lambda temporary: None
) -> None:
    with files.draft(path, what="not saved") as temporary:
        with temporary.open("wb") as file:
            write(file)
        check(temporary)
