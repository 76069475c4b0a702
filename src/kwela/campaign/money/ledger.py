"""Keep a campaign's money in an append-only file of checksummed lines, which survives a crash at any moment.

Each line is on the disk before anything relies on it. ledger_rows.py says what a line holds.

- Of the lines of a span the one with most seconds counts. So a line that is lost or there twice changes
  nothing, and two copies (on disk, in a checkpoint) merge into one that has every line of either.
- Within a span time is counted by the machine's own clocks (clock.py): a crash between two lines loses
  nothing, and setting the clock changes nothing.
- After a new start of a machine that did not record when it went down, the most that it may have cost since
  is added.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela import files
from kwela.campaign.money.clock import Clock, ClockReading
from kwela.campaign.money.costs import Totals, add_up
from kwela.campaign.money.ledger_rows import (
    LedgerRow,
    campaign_row,
    parse_rows,
    read_rows,
    sealed_line,
    span_rows,
)
from kwela.errors import UserError

NAME = "ledger.jsonl"
LINE_INTERVAL = 300.0  # seconds between two lines of a span
AUTO_SHUTDOWN = 2 * 3600.0  # seconds after which an idle machine is stopped
STOPPED = "stopped without a word"  # `why` of a span whose end nothing recorded
GOES_DOWN = "the machine goes down"  # by a schedule, a person or the auto-shutdown; the charges end with it
# {`why` of a span's last line: the most seconds that the instance may have run after it}. "" means that the
# orchestrator was killed between two lines, of which the second may be torn. After a notice the instance is
# taken away, and after an orderly shutdown it is off. After every other reason it runs until the
# auto-shutdown.
UNRECORDED_SECONDS = {
    "": 2 * LINE_INTERVAL,
    "spot notice": 120.0,
    GOES_DOWN: 120.0,
    STOPPED: 0.0,  # these seconds are in the line already
}


@dataclass(frozen=True)
class Machine:
    """What is paid for. market: "spot" or "on-demand"; price: dollars an hour; disk_usd: a GB and month."""

    instance: str
    market: str
    price: float
    disk_gb: float = 0.0
    disk_usd: float = 0.0


class Ledger:
    """The ledger at `path`, opened to write. A last line that a power cut tore stays; the next begins below.

    path: None keeps the ledger in memory, for simulations. Raises UserError as `read_rows`.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.rows, self.damaged_lines = read_rows(path) if path else ([], 0)
        self.span: LedgerRow | None = None  # the last line of the span that is under way
        self.restored = False  # from a checkpoint's copy

    def merge(self, copy_text: str) -> None:
        """Add the lines of a checkpoint's copy of this ledger that the file lacks. Raises UserError."""
        copy, _ = parse_rows(copy_text, "the checkpoint's copy of the ledger")
        ids = {row["id"] for row in [*copy, *self.rows] if row["kind"] == "campaign"}
        if not copy or len(ids) != 1 or self.path is None or self._text().startswith(copy_text):
            return
        # The copy comes first, then what is newer: the order that the file had before the damage.
        in_copy = {row["sum"] for row in copy}
        newer = [row for row in self.rows if row["sum"] not in in_copy]
        seconds_before = add_up(self.rows).billed_seconds
        files.write(self.path, copy_text + "".join(map(sealed_line, newer)))
        self.rows = [*copy, *newer]
        # Where the copy knows of later times than the file did, what came after those is lost too.
        self.restored = add_up(self.rows).billed_seconds > seconds_before

    def _text(self) -> str:
        if self.path is None or not self.path.is_file():
            return ""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def open(
        self, settings: LedgerRow, budget_usd: float, setup_usd: float, began: float | None = None
    ) -> list[str]:
        """Begin the campaign, or make sure that this is it. Raises UserError saying what differs.

        began: unix seconds at which day 1 began; None: when the first machine is billed here. Returns the
        values of the ledger that are kept where those of the call differ, such as "setup_usd 25.0".
        """
        first = campaign_row(self.rows)
        if first is None:
            if self.rows:
                raise UserError(f"{self.path}: its first line is damaged, and no checkpoint has a whole copy")
            money = {"budget_usd": budget_usd, "setup_usd": setup_usd, "began": began}
            self.record("campaign", id=secrets.token_hex(4), settings=settings, **money)
            return []
        recorded = {**first["settings"], "budget_usd": first["budget_usd"]}
        wanted = {**settings, "budget_usd": budget_usd}
        differences = [
            f"{key} {recorded.get(key)}, here {value}"
            for key, value in wanted.items()
            if recorded.get(key) != value
        ]
        if differences:
            budget_differs = recorded["budget_usd"] != budget_usd
            hint = " (kwela campaign extend raises a budget)" if budget_differs else ""
            differences[-1] += f"{hint}; give this one a checkpoint_dir of its own"
            raise UserError(f"{self.path}: of another campaign: {'; '.join(differences)}")
        asked = {"setup_usd": setup_usd, "began": began}
        return [f"{key} {first[key]}" for key, value in asked.items() if value not in (None, first[key])]

    def begin_span(self, machine: Machine) -> float:
        """Begin a span on `machine`, or continue the last one if the machine has not been restarted.

        Returns the calendar seconds in which nobody kept the ledger.
        """
        now, spans, facts = self.clock.read(), span_rows(self.rows), vars(machine)
        if not spans:
            self._append_span(facts, now, now.wall, 0.0, 0)
            return 0.0
        last = spans[-1]
        if last["boot"] == now.boot:
            self.span = last
            is_same = all(last[key] == value for key, value in facts.items())
            row = self.bill_until_now(last["step"], "" if is_same else "new price or machine")
            if not is_same:
                self._append_span(facts, now, row["to"], 0.0, last["step"])
            return now.up - last["up"]
        gap = now.wall - last["to"]
        if self.restored:
            unrecorded = max(0.0, gap)
        else:
            unrecorded = max(0.0, min(gap, self._unrecorded_seconds(last, machine, now)))
        end = last["to"] + unrecorded
        why = last["why"] or STOPPED
        self._append(last | {"to": end, "seconds": last["seconds"] + unrecorded, "why": why})
        # Billed from the machine's start, not from the moment it reached this line. A clock that was set back
        # says nothing about the gap.
        age = min(now.awake, gap - unrecorded) if gap >= 0 else now.awake
        self._append_span(facts, now, max(end, now.wall - age), age, last["step"])
        return max(0.0, gap)

    def _unrecorded_seconds(self, last: LedgerRow, machine: Machine, now: ClockReading) -> float:
        """Return the seconds that the machine of span `last` was on after that line, before this start."""
        guess = UNRECORDED_SECONDS.get(last["why"], AUTO_SHUTDOWN)
        if last["instance"] != machine.instance:  # the log of this machine says nothing of another
            return guess
        since, seconds = last["to"], 0.0
        for start, end in now.earlier_starts:
            if start > since:  # the machine was on in between, without the campaign
                seconds += AUTO_SHUTDOWN if end is None else end - start
            elif end is not None and end >= since:
                seconds, guess = seconds + end - since, 0.0
        return seconds + guess

    def bill_until_now(self, step: int, why: str = "") -> LedgerRow:
        """Append a line of the span with the time until now. why: what ended the span, if anything did."""
        assert self.span is not None
        now = self.clock.read()
        self.span = self._until(now, self.span) | {"up": now.up, "awake": now.awake, "step": step, "why": why}
        self._append(self.span)
        return self.span

    def record(self, kind: str, **facts: Any) -> LedgerRow:
        """Append a line about something else than time."""
        return self._append({"kind": kind, "at": self.campaign_time(), **facts})

    def campaign_time(self) -> float:
        """Return unix seconds as the campaign counts them.

        They are those of its last line, and the time that the machine's own clock has counted since.
        """
        now = self.clock.read()
        return self.span["to"] + now.up - self.span["up"] if self.span else now.wall

    def total(self) -> Totals:
        """Return what everything costs up to now, with the time since the last line."""
        if self.span is None:
            return add_up(self.rows)
        return add_up([*self.rows, self._until(self.clock.read(), self.span)])

    @staticmethod
    def _until(now: ClockReading, span: LedgerRow) -> LedgerRow:
        """Return the line of the span with the time that has passed since it was written."""
        to, seconds = span["to"] + (now.up - span["up"]), span["seconds"] + (now.awake - span["awake"])
        return span | {"to": to, "seconds": seconds}

    def _append_span(
        self, machine: dict[str, Any], now: ClockReading, start: float, age: float, step: int
    ) -> None:
        times = {"from": start, "to": start + age, "seconds": age, "up": now.up, "awake": now.awake}
        row = {"kind": "span", "span": secrets.token_hex(4), "boot": now.boot, **machine, **times}
        self.span = self._append(row | {"step": step, "why": ""})

    def _append(self, row: LedgerRow) -> LedgerRow:
        if self.path is None:
            self.rows.append(row)
            return row
        line = sealed_line(row)
        files.append(self.path, line)
        sealed: LedgerRow = json.loads(line)
        self.rows.append(sealed)
        return sealed


def text_in_checkpoint(folder: Path) -> str:
    """Return the ledger's text as the newest whole checkpoint in `folder` carries it; "" without one."""
    if not any(folder.glob("*.pt")):
        return ""
    from kwela.engine import checkpoint  # takes a second to import

    newest = checkpoint.latest_valid(folder)
    return str(checkpoint.load(newest)["extra"].get("ledger", "")) if newest else ""
