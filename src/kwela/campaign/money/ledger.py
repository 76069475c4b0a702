"""The money, as an append-only file of checksummed lines that outlives whatever happens to the campaign.

One line a fact, flushed to disk before anything relies on it:

    campaign  id, settings, budget_usd, setup_usd, began    the first line
    span      one start of one machine: price, market, disk, from, to, seconds, step, why; repeated as time passes
    budget    a larger budget, agreed to later
    gate      a verdict with its evidence
    override  who went on against it, and why
    stopped   what waits for a person; resumed  that one came

- Of the lines of a span the one with most seconds holds. So a line lost or there twice changes nothing, and two copies
  (on disk, in a checkpoint) merge into one by taking what either has.
- Within a span time is counted by the machine's own clocks (clock.py): a crash between two lines loses nothing, and a
  clock that is set doesn't matter.
- After a new start, unless the machine noted when it went down, the most that it may have cost since is added.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela import files
from kwela.campaign.money.clock import DAY, Clock, Time
from kwela.errors import UserError

NAME = "ledger.jsonl"
TICK = 300.0  # seconds between two lines of a span
# How long an instance may have run on after its last line: killed between two lines (the second may be torn), taken
# back after a notice, or left for the auto-shutdown to stop.
STOPPED = "stopped without a word"
UNSEEN = {
    "": 2 * TICK,
    "spot notice": 120.0,
    STOPPED: 0.0,
}  # the last: a line of ours, in which it is counted
IDLE = 2 * 3600.0
MONTH = 30 * DAY

Row = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """What is paid for: market is "spot" or "on-demand"; price in dollars an hour, disk_usd a GB and month."""

    instance: str
    market: str
    price: float
    disk_gb: float = 0.0
    disk_usd: float = 0.0


@dataclass(frozen=True)
class Totals:
    """Dollars and seconds so far. began: unix seconds of day 1's start; elapsed: calendar seconds since.

    trained: calendar seconds since training first ran.
    """

    gpu_usd: float
    disk_usd: float
    setup_usd: float
    budget_usd: float
    seconds: float
    began: float
    elapsed: float
    trained: float

    @property
    def usd(self) -> float:
        return self.gpu_usd + self.disk_usd + self.setup_usd

    @property
    def days(self) -> float:
        return self.elapsed / DAY


def seal(row: Row) -> str:
    """A row as its line, checksum last."""
    body = json.dumps({key: value for key, value in row.items() if key != "sum"})
    return f'{body[:-1]}, "sum": "{hashlib.sha256(body.encode()).hexdigest()[:16]}"}}\n'


def parse(text: str) -> tuple[list[Row], int]:
    """The whole rows of a ledger's text, each once, and how many lines are damaged."""
    rows: dict[str, Row] = {}
    damaged = 0
    for line in text.split("\n"):
        try:
            row = json.loads(line)
            whole = seal(row).rstrip("\n") == line and "kind" in row
        except (ValueError, AttributeError, TypeError, RecursionError):
            whole = False
        if whole:
            rows.setdefault(row["sum"], row)
        elif line.strip():
            damaged += 1
    return list(rows.values()), damaged


def last(rows: Iterable[Row], kind: str) -> Row | None:
    """The newest row of a kind."""
    return max((row for row in rows if row["kind"] == kind), key=lambda row: row["at"], default=None)


def opening(rows: Iterable[Row]) -> Row | None:
    """The campaign's first line: None in an empty ledger, or one whose first line is damaged."""
    return next((row for row in rows if row["kind"] == "campaign"), None)


def spans(rows: Iterable[Row]) -> list[Row]:
    """The row that holds of each span, in order of time."""
    held: dict[str, Row] = {}
    for row in rows:
        if row["kind"] == "span":
            other = held.get(row["span"], row)
            if (row["seconds"], row["to"]) >= (other["seconds"], other["to"]):
                held[row["span"]] = row
    return sorted(held.values(), key=lambda row: row["from"])


def start(rows: Sequence[Row]) -> float:
    """Unix seconds at which day 1 began: as the campaign was told, else its first line of time."""
    told = [row["began"] for row in rows if row["kind"] == "campaign" and row.get("began") is not None]
    return min([*told, *(row["from"] for row in rows if row["kind"] == "span")], default=0.0)


def total(rows: list[Row]) -> Totals:
    """What `rows` add up to."""
    held = spans(rows)
    first = opening(rows) or {"setup_usd": 0.0, "budget_usd": 0.0}
    budget = max([first["budget_usd"], *(row["budget_usd"] for row in rows if row["kind"] == "budget")])
    gpu = sum(row["seconds"] / 3600 * row["price"] for row in held)
    # A span reaches to the start of the next: the disk is paid for in between too.
    ends = [*(row["from"] for row in held[1:]), *(row["to"] for row in held[-1:])]
    lengths = [max(row["to"], end) - row["from"] for row, end in zip(held, ends, strict=True)]
    disk = sum(
        row["disk_gb"] * row["disk_usd"] * length / MONTH for row, length in zip(held, lengths, strict=True)
    )
    trained = sum(lengths)
    before = held[0]["from"] - start(rows) if held else 0.0  # the disk is there from day 1 on
    disk += held[0]["disk_gb"] * held[0]["disk_usd"] * before / MONTH if held else 0.0
    billed = sum(row["seconds"] for row in held)
    return Totals(gpu, disk, first["setup_usd"], budget, billed, start(rows), before + trained, trained)


def history(rows: Sequence[Row]) -> list[tuple[float, int]]:
    """(billed seconds of the campaign, step) at each line, in order of time."""
    before: dict[str, float] = {}
    seen = 0.0
    for row in spans(rows):
        before[row["span"]] = seen
        seen += row["seconds"]
    lines = sorted(
        (row for row in rows if row["kind"] == "span"), key=lambda row: (row["from"], row["seconds"])
    )
    return [(before[row["span"]] + row["seconds"], row["step"]) for row in lines]


def by_day(rows: Sequence[Row]) -> dict[tuple[int, str], float]:
    """GPU dollars by (campaign day from 1, market). What was billed between two lines is spread over that time."""
    lines = sorted(
        (row for row in rows if row["kind"] == "span"), key=lambda row: (row["from"], row["seconds"])
    )
    day_1 = start(rows)
    out: dict[tuple[int, str], float] = {}
    done: dict[
        str, tuple[float, float]
    ] = {}  # span -> (days since the campaign began, seconds) of its last line
    for row in lines:
        begun, end = ((row[key] - day_1) / DAY for key in ("from", "to"))
        before, billed = done.get(row["span"], (begun, 0.0))
        usd = (row["seconds"] - billed) / 3600 * row["price"]
        done[row["span"]] = end, row["seconds"]
        for day in range(int(before), int(end) + 1):
            share = (min(end, day + 1) - max(before, day)) / (end - before) if end > before else 1.0
            out[day + 1, row["market"]] = out.get((day + 1, row["market"]), 0.0) + usd * share
    return out


def read(path: Path) -> tuple[list[Row], int]:
    """The whole rows of the file (none if there is none), and how many lines are damaged. Raises UserError."""
    try:
        return parse(path.read_bytes().decode("utf-8", errors="replace"))
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None


class Ledger:
    """The ledger at `path`, opened to write. A torn last line (a power cut) is left behind, not built upon.

    path: None keeps it in memory, for simulations.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.rows, self.damaged = read(path) if path else ([], 0)
        self.span: Row | None = None
        self.restored = False

    def merge(self, text: str) -> None:
        """Take in a checkpoint's copy of this ledger: what the copy has and the file lacks is not lost."""
        copy, _ = parse(text)
        names = {row["id"] for row in [*copy, *self.rows] if row["kind"] == "campaign"}
        whole = (
            self.path.read_text(encoding="utf-8", errors="replace")
            if self.path and self.path.is_file()
            else ""
        )
        if not copy or len(names) != 1 or self.path is None or whole.startswith(text):
            return
        # The copy first, then what is newer: as it would have been without the damage.
        known = {row["sum"] for row in copy}
        newer = [row for row in self.rows if row["sum"] not in known]
        before = total(self.rows).seconds
        files.write(self.path, text + "".join(map(seal, newer)))
        self.rows = [*copy, *newer]
        # Where the copy knows of later times than the disk did, what came after those is lost too.
        self.restored = total(self.rows).seconds > before

    def open(
        self, settings: Row, budget_usd: float, setup_usd: float, began: float | None = None
    ) -> list[str]:
        """Begin the campaign, or make sure that this is it. Raises UserError saying what differs.

        Returns what was given otherwise than when it began, and isn't taken: such as "setup_usd 25.0".
        began: unix seconds at which day 1 began; None: when the first machine is billed here.
        """
        first = opening(self.rows)
        if first is None:
            if self.rows:
                raise UserError(f"{self.path}: its first line is damaged, and no checkpoint has a whole copy")
            money = {"budget_usd": budget_usd, "setup_usd": setup_usd, "began": began}
            self.note("campaign", id=secrets.token_hex(4), settings=settings, **money)
            return []
        theirs = {**first["settings"], "budget_usd": first["budget_usd"]}
        ours = {**settings, "budget_usd": budget_usd}
        differs = [
            f"{key} {theirs.get(key)}, here {ours[key]}" for key in ours if theirs.get(key) != ours[key]
        ]
        if differs:
            hint = " (kwela campaign extend raises a budget)" if theirs["budget_usd"] != budget_usd else ""
            differs[-1] += f"{hint}; give this one a checkpoint_dir of its own"
            raise UserError(f"{self.path}: of another campaign: {'; '.join(differs)}")
        given = {"setup_usd": setup_usd, "began": began}
        return [f"{key} {first[key]}" for key, value in given.items() if value not in (None, first[key])]

    def begin(self, machine: Machine) -> float:
        """Start or go on with a span on `machine`; returns how long nobody kept the ledger, in calendar seconds."""
        now, held, kept = self.clock.read(), spans(self.rows), vars(machine)
        if not held:
            self._span(kept, now, now.wall, 0.0, 0)
            return 0.0
        before = held[-1]
        if before["boot"] == now.boot:
            self.span = before
            same = all(before[key] == value for key, value in kept.items())
            row = self.tick(before["step"], "" if same else "new price or machine")
            if not same:
                self._span(kept, now, row["to"], 0.0, before["step"])
            return now.up - before["up"]
        gap = now.wall - before["to"]
        unseen = max(0.0, gap if self.restored else min(gap, self._unseen(before, machine, now)))
        end = {
            "to": before["to"] + unseen,
            "seconds": before["seconds"] + unseen,
            "why": before["why"] or STOPPED,
        }
        self._append(before | end)
        # Billed from the machine's start, not from when it got round to us. A clock set back says nothing of the gap.
        age = min(now.awake, gap - unseen) if gap >= 0 else now.awake
        self._span(kept, now, max(end["to"], now.wall - age), age, before["step"])
        return max(0.0, gap)

    def _unseen(self, before: Row, machine: Machine, now: Time) -> float:
        """Seconds that the machine of the span `before` was on after its last line, in starts before this one."""
        guess = UNSEEN.get(before["why"], IDLE)
        if before["instance"] != machine.instance:  # this one's log says nothing of that one
            return guess
        since, seconds = before["to"], 0.0
        for start, end in now.earlier:
            if start > since:  # on in between, without the campaign
                seconds += IDLE if end is None else end - start
            elif end is not None and end >= since:
                seconds, guess = seconds + end - since, 0.0
        return seconds + guess

    def tick(self, step: int, why: str = "") -> Row:
        """Bill until now. why: what ended this stretch, if anything did."""
        assert self.span is not None
        now, span = self.clock.read(), self.span
        passed = {
            "to": span["to"] + (now.up - span["up"]),
            "seconds": span["seconds"] + (now.awake - span["awake"]),
        }
        self.span = span | passed | {"up": now.up, "awake": now.awake, "step": step, "why": why}
        self._append(self.span)
        return self.span

    def note(self, kind: str, **facts: Any) -> Row:
        """Record a fact other than time."""
        return self._append({"kind": kind, "at": self.calendar(), **facts})

    def calendar(self) -> float:
        """Unix seconds as the campaign counts them: those of its last line, and what this machine's clock adds."""
        now = self.clock.read()
        return self.span["to"] + now.up - self.span["up"] if self.span else now.wall

    def total(self) -> Totals:
        """What it all costs up to now, the time since the last line included."""
        if self.span is None:
            return total(self.rows)
        now, span = self.clock.read(), self.span
        passed = {
            "to": span["to"] + (now.up - span["up"]),
            "seconds": span["seconds"] + (now.awake - span["awake"]),
        }
        return total([*self.rows, span | passed])

    def _span(self, machine: Row, now: Time, start: float, age: float, step: int) -> None:
        times = {"from": start, "to": start + age, "seconds": age, "up": now.up, "awake": now.awake}
        row = {"kind": "span", "span": secrets.token_hex(4), "boot": now.boot, **machine, **times}
        self.span = self._append(row | {"step": step, "why": ""})

    def _append(self, row: Row) -> Row:
        if self.path is None:
            self.rows.append(row)
            return row
        line = seal(row)
        files.append(self.path, line)
        sealed: Row = json.loads(line)
        self.rows.append(sealed)
        return sealed


def in_checkpoint(folder: Path) -> str:
    """The ledger as the newest whole checkpoint in `folder` carries it; "" without one."""
    if not any(folder.glob("*.pt")):
        return ""
    from kwela.engine import checkpoint  # a second to import

    newest = checkpoint.latest_valid(folder)
    return str(checkpoint.load(newest)["extra"].get("ledger", "")) if newest else ""
