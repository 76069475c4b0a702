"""Change bytes of a file the way that damage, bugs of other programs and attackers do.

The same data, other files and seed always give the same result, so a finding is named by its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# Lengths and counts at which readers that trust them go wrong, as big-endian and little-endian bytes.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_TEXTS = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n\n",
    b"../",
    b"NaN",
    b"1e999",
    b"-",
    b'"',
    b"{",
    b"]",
)
LONGEST = 1 << 20  # bytes of a changed file


def mutated(data: bytes, others: Sequence[bytes], seed: int) -> bytes:
    """Return `data` after one to eight changes. others: files from which stretches are taken."""
    dice = random.Random(seed)
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 8))):
        dice.choice(_CHANGES)(changed, others, dice)
    return bytes(changed[:LONGEST])


def _place(data: bytearray, dice: random.Random) -> int:
    """A position, most often near the start, where headers are."""
    reach = min(len(data), 64) if dice.random() < 0.4 else len(data)
    return dice.randrange(reach + 1)


def _flip(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    if data:
        data[_place(data, dice) % len(data)] ^= 1 << dice.randrange(8)


def _overwrite(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    at, count = _place(data, dice), dice.choice((1, 2, 4, 16))
    data[at : at + count] = dice.randbytes(min(count, len(data) - at))


def _number(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    size = dice.choice((1, 2, 4, 8))
    value = dice.choice(_NUMBERS) % (1 << 8 * size)
    at = _place(data, dice)
    data[at : at + size] = value.to_bytes(size, dice.choice(("big", "little")))


def _insert(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    at = _place(data, dice)
    data[at:at] = dice.choice((dice.randbytes(dice.choice((1, 2, 9))), dice.choice(_TEXTS)))


def _delete(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    at = _place(data, dice)
    del data[at : at + dice.choice((1, 2, 4, 64, 1024))]


def _cut(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    del data[_place(data, dice) :]


def _repeat(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    at, size = _place(data, dice), dice.choice((1, 8, 64, 512))
    data[at:at] = bytes(data[at : at + size]) * dice.choice((1, 2, 32))


def _splice(data: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    other = dice.choice(others) if others else bytes(data)
    start = dice.randrange(len(other) + 1)
    at = _place(data, dice)
    data[at : at + dice.choice((0, 64))] = other[start : start + dice.choice((4, 64, 1024))]


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip,
    _flip,
    _overwrite,
    _number,
    _number,
    _insert,
    _delete,
    _cut,
    _repeat,
    _splice,
)
