"""Part of an audio file: sound of one sample rate and one number of channels, wherever it comes from."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np


class Damaged(Exception):
    """Sound is missing or wrong inside the file; the message says where."""


class NotAudio(Exception):
    """The file can't be read as audio; the message is the reason."""


class NothingKnown(NotAudio):
    """No decoder knows what the file is."""


class Part(Protocol):
    """Sound of one sample rate and one number of channels."""

    @property
    def rate(self) -> int:
        """The sample rate in Hz."""

    @property
    def channels(self) -> int:
        """The number of channels."""

    @property
    def frames(self) -> int:
        """The samples a channel that decode."""

    @property
    def claimed(self) -> int | None:
        """The samples a channel by the header, or None where it leaves them open."""

    def blocks(self, first: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the samples from `first` to `stop` as float32 (n, channels), full scale 1."""

    def glimpses(self, places: Sequence[int], count: int) -> Iterator[np.ndarray]:
        """Yield about `count` samples from near each place, (n, channels). They need not be exact."""


class Slice(io.RawIOBase):
    """The bytes of a file from `begin` to `end`, as a file of their own."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._file: BinaryIO = path.open("rb")
        self._begin, self._size, self._at = begin, end - begin, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as a file does."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read as a file does."""
        self._file.seek(self._begin + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextlib.contextmanager
def source(path: Path, span: tuple[int, int] | None) -> Iterator[Any]:
    """Give what a decoder opens: the path, or the bytes `span` of it as a file."""
    if span is None:
        yield path
    else:
        with Slice(path, *span) as file:
            yield io.BufferedReader(file, 1 << 16)
