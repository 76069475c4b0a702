"""The rows of a run's data, and how a resumed run goes on without rows that can't be read any more.

- A run numbers its items once, when it begins. The numbers stay, whatever is left out later: the order of an
  epoch is the permutation of all numbers with the left-out ones skipped, and an item's random draws are
  those of its number. So the rest keeps its order and its draws, and what was trained stays trained.
- A row is left out while it can't be read, or while it is missing from the manifest because it could not be
  read. A row that can be read again comes back. A row that was changed, added or moved, or taken out although
  its files can be read, makes the data another: see `difference`.
- Every checkpoint carries the rows with the number of their items, so that a later session can tell all this.
"""

from __future__ import annotations

import base64
import datetime
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from kwela.engine import order
from kwela.engine.row_faults import Fault, Row, RowFailed
from kwela.engine.task import RowTask, Sides
from kwela.errors import UserError

SIDES = ("train", "val")
# More rows than this at once are no accident of a file: a disk or a mount is away.
MOST_FAULTY_ROWS, MOST_FAULTY_SHARE = 16, 0.1
_NAMED = 3  # rows that one line names
_MAX_BYTES = 1 << 28  # of unpacked rows in a checkpoint


class LeftOut(BaseModel):
    """A row that is left out, as run.json shows it. step, at: when it was left out."""

    model_config = ConfigDict(extra="forbid")

    side: str
    row: str
    files: dict[str, str]
    reason: str
    may_pass: bool
    step: NonNegativeInt
    at: str


class _Side(BaseModel):
    """The rows of one side as the run began with them, in order.

    items: how many each row gives. left_out, failed: some of them, by their index in the lists. failed: the
    epoch whose draws showed the fault.
    """

    model_config = ConfigDict(extra="forbid")

    keys: list[str]
    places: list[str]
    files: list[dict[str, str]]
    items: list[NonNegativeInt]
    left_out: dict[NonNegativeInt, LeftOut] = {}
    failed: dict[NonNegativeInt, NonNegativeInt] = {}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    train: _Side
    val: _Side


@dataclass
class DataRows:
    """The rows of both sides. A task that names no rows has none, and nothing can be left out of it."""

    sides: Sides[_Side] | None = None
    _packed: str | None = field(default=None, repr=False)

    # ---- as a checkpoint keeps them

    @classmethod
    def begin(cls, task: object) -> DataRows:
        """Record the rows of `task` as a run begins."""
        if not isinstance(task, RowTask):
            return cls()
        sides = []
        for rows, readings in zip(task.rows(), task.read_rows(), strict=True):
            items = [0 if isinstance(reading, Fault) else reading for reading in readings]
            keys, places, files = ([row[part] for row in rows] for part in range(3))
            sides.append(_Side(keys=keys, places=places, files=files, items=items))
        return cls((sides[0], sides[1]))

    @classmethod
    def of(cls, state: dict[str, Any]) -> DataRows:
        """Return the rows in a checkpoint's state; of one that recorded none, DataRows without any.

        Raises ValueError for a record that does not fit.
        """
        packed = state["meta"].get("rows")
        if packed is None:
            return cls()
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(base64.b64decode(packed), _MAX_BYTES)
            record = _Record.model_validate_json(text)
        except (zlib.error, TypeError, ValueError) as error:
            raise ValueError(f"the record of its rows: {str(error).splitlines()[0]}") from None
        for side in (record.train, record.val):
            if not len(side.keys) == len(side.places) == len(side.files) == len(side.items):
                raise ValueError("the record of its rows: lists of different lengths")
            if any(row >= len(side.keys) for row in (*side.left_out, *side.failed)):
                raise ValueError("the record of its rows: a row that is not there")
        return cls((record.train, record.val))

    def pack(self) -> str | None:
        """Return the rows as a checkpoint keeps them: one string."""
        if self.sides and self._packed is None:
            text = _Record(train=self.sides[0], val=self.sides[1]).model_dump_json().encode()
            if len(text) <= _MAX_BYTES:
                self._packed = base64.b64encode(zlib.compress(text)).decode()
        return self._packed

    # ---- the order of the items

    def numbers(self, side: int) -> np.ndarray | None:
        """Return the number of each item that is used, int64, ascending; None if nothing is left out."""
        if not self.sides or not self.sides[side].left_out:
            return None
        return np.flatnonzero(_used(self.sides[side]))

    def order_of_epoch(self, seed: int, epoch: int, item_count: int) -> np.ndarray:
        """Return the order of the `item_count` training items that are used, as indexes of them."""
        if not self.sides or not self.sides[0].left_out:
            return order.permutation(seed, epoch, item_count)
        used = _used(self.sides[0])
        numbers = order.permutation(seed, epoch, len(used))
        return (np.cumsum(used) - 1)[numbers[used[numbers]]]

    def samples_after(self, before: DataRows, seed: int, epoch: int, samples: int) -> int:
        """Return how far an epoch is whose first `samples` items were trained with the rows of `before`."""
        if not (self.sides and before.sides and samples):
            return samples
        used_before, used_now = _used(before.sides[0]), _used(self.sides[0])
        numbers = order.permutation(seed, epoch, len(used_now))
        trained = np.flatnonzero(used_before[numbers])[:samples]
        return int(used_now[numbers[: trained[-1] + 1]].sum())

    # ---- faults

    def note_failure(self, failure: RowFailed) -> bool:
        """Record that a row failed. Return whether it is one of the rows."""
        for side in self.sides or ():
            if failure.place in side.places:
                side.failed[side.places.index(failure.place)] = failure.epoch
                self._packed = None
                return True
        return False

    def left_out(self) -> list[dict[str, Any]]:
        """Return what run.json says of the rows that are left out."""
        return [row.model_dump() for side in self.sides or () for row in side.left_out.values()]


def difference(state: dict[str, Any], task: object) -> str | None:
    """Return in words how the task's rows differ from a checkpoint's; None if its run may go on with them.

    They may be fewer, by rows whose files can't be read. "": nothing more is known of them. Raises ValueError
    as `DataRows.of`.
    """
    before = DataRows.of(state)
    if not before.sides or not isinstance(task, RowTask):
        return ""
    for side, rows in zip(before.sides, task.rows(), strict=True):
        found = _match(side, rows)
        if isinstance(found, str):
            return found
        for index in sorted(set(range(len(side.keys))) - set(found)):
            known = index in side.left_out or index in side.failed
            if not (known or side.items[index] == 0 or task.examine(_row(side, index))):
                return f"{side.places[index]} was taken out, and its files can be read"
    return None


def resumed(state: dict[str, Any], task: RowTask, step: int) -> DataRows:
    """Return the rows of the run that saved `state`, with those left out that can't be read now.

    Raises UserError where too many can't be read, or a file gives another number of items than it did.
    """
    rows = DataRows.of(state)
    assert rows.sides
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for name, side, current, readings in zip(SIDES, rows.sides, task.rows(), task.read_rows(), strict=True):
        found = _match(side, current)
        if isinstance(found, str):
            raise UserError(f"the data are not those of the run: {found}")
        faults: dict[int, Fault] = {}
        for index, reading, row in zip(found, readings, current, strict=True):
            side.places[index] = row.place
            if isinstance(reading, Fault):
                faults[index] = reading
            elif reading != side.items[index] and side.items[index]:
                was = f"{reading} training items, and {side.items[index]} as the run began"
                raise UserError(f"{row.place}: its file has changed: it gives {was}; put the old one back")
        _check_count(side, {index: fault for index, fault in faults.items() if side.items[index]})
        for index in set(range(len(side.keys))) - set(found):
            faults[index] = task.examine(_row(side, index)) or Fault("taken out of the manifest")
        side.left_out = {
            index: _left_out(name, side, index, fault, step, at)
            for index, fault in sorted(faults.items())
            if side.items[index]
        }
    return rows


def retry_failed(rows: DataRows, data: Sides[Any], seed: int, step: int) -> bool:
    """Read again, with the same draws, the rows that failed in training. Return whether any fails again.

    `data`: without the rows that are left out. A row that fails again is left out too.
    """
    assert rows.sides
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found: list[tuple[_Side, int, LeftOut]] = []
    for name, side, items in zip(SIDES, rows.sides, data, strict=True):
        counts = [0 if row in side.left_out else count for row, count in enumerate(side.items)]
        ends = np.cumsum(counts)
        for row, epoch in side.failed.items():
            if row in side.left_out:
                continue
            try:
                for index in range(ends[row] - counts[row], ends[row]):
                    order.read_item(items, index, epoch, seed)
            except RowFailed as failure:
                found.append((side, row, _left_out(name, side, row, failure.fault, step, at)))
    for side, row, left_out in found:
        side.left_out[row] = left_out
    return bool(found)


def describe(before: DataRows, rows: DataRows) -> list[str]:
    """Return a line on the rows that are left out since `before`, and one on those that came back."""
    lines = []
    for one, other, start, end in (
        (before, rows, "Left out from here on", "which can't be read any more; the order of the rest stays"),
        (rows, before, "Used again", "which can be read again"),
    ):
        new = [
            f"{row.row} ({row.reason}{'; may pass: tried again at the next start' * row.may_pass})"
            for old, side in zip(one.sides or (), other.sides or (), strict=True)
            for index, row in side.left_out.items()
            if index not in old.left_out
        ]
        if new:
            more = f" and {len(new) - _NAMED} more, all in run.json" if len(new) > _NAMED else ""
            count = f"{len(new)} row{'s' * (len(new) > 1)}"
            lines.append(f"{start}: {count}, {end}: {'; '.join(new[:_NAMED])}{more}")
    return lines


def excluded(rows: DataRows, task: RowTask) -> Sides[set[int]]:
    """Return the indexes of the task's rows that its data must not hold."""
    assert rows.sides
    out = []
    for side, current in zip(rows.sides, task.rows(), strict=True):
        found = _match(side, current)
        assert not isinstance(found, str)
        out.append({at for at, row in enumerate(found) if row in side.left_out or not side.items[row]})
    return out[0], out[1]


def _match(side: _Side, rows: list[Row]) -> list[int] | str:
    """Return the index in `side` of each of `rows`; in words, the first that is not there in this order."""
    found, index = [], 0
    for row in rows:
        while index < len(side.keys) and side.keys[index] != row.key:
            index += 1
        if index == len(side.keys):
            what = "stands at another place" if row.key in side.keys else "is not one that the run began with"
            return f"{row.place} {what}"
        found.append(index)
        index += 1
    return found


def _check_count(side: _Side, faults: dict[int, Fault]) -> None:
    used = sum(1 for items in side.items if items)
    most = min(max(MOST_FAULTY_ROWS, int(used * MOST_FAULTY_SHARE)), used // 2)
    if len(faults) > most:
        index, fault = next(iter(faults.items()))
        raise UserError(
            f"{side.places[index]}: {fault.reason}; {len(faults)} of {used} rows can't be read: is a disk or "
            f"a network mount away? Bring it back, or take these rows out of the manifest to go on"
        )


def _left_out(name: str, side: _Side, index: int, fault: Fault, step: int, at: str) -> LeftOut:
    if index in side.left_out:  # it stays left out: keep when that began
        return side.left_out[index]
    place, files = side.places[index], side.files[index]
    reason, may_pass = fault.reason.removeprefix(f"{place}: "), fault.may_pass
    return LeftOut(side=name, row=place, files=files, reason=reason, may_pass=may_pass, step=step, at=at)


def _row(side: _Side, index: int) -> Row:
    return Row(side.keys[index], side.places[index], side.files[index])


def _used(side: _Side) -> np.ndarray:
    """Return for each number of the side's items whether its row is used, bool."""
    rows = np.array([row not in side.left_out for row in range(len(side.items))], bool)
    return np.repeat(rows, side.items)
