"""Checkpoints: one file, whole or absent, that says if it was damaged and can't run code.

- Written beside its place, flushed to disk, then renamed over the old one; so a kill or a full disk at any moment
  leaves the old file or the new one.
- A checkpoint is what torch.save writes (a zip) with its SHA-256 as the zip's comment: plain `torch.load` opens it too.
- Read with weights_only: tensors, numbers, strings and containers of them. Anything else is refused unexecuted.

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
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from kwela.errors import KwelaError, UserError

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"
M = TypeVar("M", bound=nn.Module)

_MARK = b"kwela-sha256:"
_COMMENT = len(_MARK) + 64  # bytes: the mark and the hash in hex
_TAIL = _COMMENT + 2  # and before them, the two bytes in which the zip states the comment's length


def save(state: dict[str, Any], path: Path, *more: Path) -> None:
    """Write `state` to `path`, then copy it to each of `more`, each whole or not at all.

    Raises KwelaError if the disk refuses (full, over quota): the files that were there stay, and no temporary one.
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
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:
        raise UserError(f"{path}: refused: it holds objects other than tensors and plain values") from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: can't be read: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this version of kwela (format {FORMAT})")
    return state


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights to use of a loaded checkpoint: the running average where training kept one, else the model's."""
    return state["ema"] or state["model"]


def rebuild(
    path: Path, state: dict[str, Any], family: str, build: Callable[[dict[str, Any]], M], tokenizer_hash: str = ""
) -> M:
    """The model of a loaded checkpoint, in eval mode, with the weights to use.

    path: for messages. build: a family's model from its settings, config["model"]. Raises UserError for a checkpoint of
    another family or tokenizer, or whose weights don't fit its settings.
    """
    if state["family"] != family:
        raise UserError(f"{path}: a checkpoint of {state['family']}, not of {family}")
    if state["tokenizer_hash"] != tokenizer_hash:
        theirs, ours = (hash_[:12] or "none" for hash_ in (state["tokenizer_hash"], tokenizer_hash))
        raise UserError(f"{path}: made for tokenizer {theirs}, this kwela has {ours}")
    try:
        model = build(state["config"]["model"])
        model.load_state_dict(weights(state))
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: its weights don't fit its settings: {str(error).splitlines()[0]}") from None
    return model.eval()


def latest_valid(folder: Path, damaged: Callable[[str], None] = lambda reason: None) -> Path | None:
    """The newest whole checkpoint in `folder`: last.pt, else the one with the most steps; None if there is none.

    damaged: told, for each file that is skipped, the one line that says why.
    """
    newest: tuple[int, Path] | None = None
    for path in sorted(folder.glob("*.pt"), key=lambda path: path.name != LAST):
        try:
            step = int(load(path)["progress"]["step"])
        except UserError as error:
            damaged(str(error))
            continue
        if path.name == LAST:
            return path
        if newest is None or step > newest[0]:
            newest = step, path
    return newest[1] if newest else None


def prune(folder: Path) -> None:
    """Remove what killed saves left behind. Checkpoints themselves are all kept."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """SHA-256 of the whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    _replace(path, lambda file: file.write(text.encode()))


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
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KwelaError(f"{path}: not saved: {error.strerror}; what was there before stays") from error
    finally:
        temporary.unlink(missing_ok=True)
