"""Add up what a campaign has cost, from the rows of its ledger. Times are seconds, money is dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.money.ledger_rows import LedgerRow, campaign_row, span_rows, start_time

MONTH = 30 * DAY


@dataclass(frozen=True)
class Totals:
    """Dollars and seconds so far.

    began: unix seconds of day 1's start. elapsed_seconds: calendar seconds since then. training_seconds:
    calendar seconds since training first ran.
    """

    gpu_usd: float
    disk_usd: float
    setup_usd: float
    budget_usd: float
    billed_seconds: float
    began: float
    elapsed_seconds: float
    training_seconds: float

    @property
    def usd(self) -> float:
        """All dollars together."""
        return self.gpu_usd + self.disk_usd + self.setup_usd

    @property
    def days(self) -> float:
        """Calendar days since the start of day 1."""
        return self.elapsed_seconds / DAY


def add_up(rows: Sequence[LedgerRow]) -> Totals:
    """Return what the rows come to. The disk is paid for from day 1 on, whether the machine runs or not."""
    spans = span_rows(rows)
    first = campaign_row(rows) or {"setup_usd": 0.0, "budget_usd": 0.0}
    budget = max([first["budget_usd"], *(row["budget_usd"] for row in rows if row["kind"] == "budget")])
    gpu_usd = sum(span["seconds"] / HOUR * span["price"] for span in spans)
    # The disk of a span is paid for until the next span begins.
    ends = [*(span["from"] for span in spans[1:]), *(span["to"] for span in spans[-1:])]
    lengths = [max(span["to"], end) - span["from"] for span, end in zip(spans, ends, strict=True)]
    before_first = spans[0]["from"] - start_time(rows) if spans else 0.0
    disk_usd = sum(_disk_usd(span, length) for span, length in zip(spans, lengths, strict=True))
    disk_usd += _disk_usd(spans[0], before_first) if spans else 0.0
    training_seconds = sum(lengths)
    return Totals(
        gpu_usd,
        disk_usd,
        first["setup_usd"],
        budget,
        sum(span["seconds"] for span in spans),
        start_time(rows),
        before_first + training_seconds,
        training_seconds,
    )


def _disk_usd(span: LedgerRow, seconds: float) -> float:
    return float(span["disk_gb"] * span["disk_usd"] * seconds / MONTH)


def step_history(rows: Sequence[LedgerRow]) -> list[tuple[float, int]]:
    """Return (billed seconds of the campaign, step) at each line of a span, in order of time."""
    before: dict[str, float] = {}
    seconds = 0.0
    for span in span_rows(rows):
        before[span["span"]] = seconds
        seconds += span["seconds"]
    return [(before[row["span"]] + row["seconds"], row["step"]) for row in _span_lines(rows)]


def gpu_usd_by_day(rows: Sequence[LedgerRow]) -> dict[tuple[int, str], float]:
    """Return GPU dollars by (campaign day from 1, market).

    What was billed between two lines is spread over the time between them.
    """
    day_1 = start_time(rows)
    dollars: dict[tuple[int, str], float] = {}
    last_line: dict[str, tuple[float, float]] = {}  # span -> (days since day 1 began, billed seconds)
    for row in _span_lines(rows):
        begin, end = ((row[key] - day_1) / DAY for key in ("from", "to"))
        before, billed = last_line.get(row["span"], (begin, 0.0))
        usd = (row["seconds"] - billed) / HOUR * row["price"]
        last_line[row["span"]] = end, row["seconds"]
        for day in range(int(before), int(end) + 1):
            share = (min(end, day + 1) - max(before, day)) / (end - before) if end > before else 1.0
            key = day + 1, row["market"]
            dollars[key] = dollars.get(key, 0.0) + usd * share
    return dollars


def _span_lines(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    lines = [row for row in rows if row["kind"] == "span"]
    return sorted(lines, key=lambda row: (row["from"], row["seconds"]))


def forecast(rows: Sequence[LedgerRow], totals: Totals, step: int, steps: int) -> float | None:
    """Return the dollars at `steps`, at the pace and price so far; None before there is a pace."""
    history = step_history(rows)
    first_step_at = next((seconds for seconds, reached in history if reached > 0), None)
    if step <= 0 or first_step_at is None or totals.billed_seconds <= 0:
        return None
    before_training = [seconds for seconds, reached in history if reached == 0 and seconds <= first_step_at]
    start = max(before_training, default=0.0)
    seconds_a_step = (totals.billed_seconds - start) / step
    seconds_left = max(0, steps - step) * seconds_a_step
    rate = totals.gpu_usd / totals.billed_seconds + totals.disk_usd / totals.billed_seconds
    return totals.usd + seconds_left * rate
