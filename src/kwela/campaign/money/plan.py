"""What a campaign would take and cost, before a dollar is spent.

Hours come from a measured speed (a probe, or items a second that the user gives), with a range; without either, from
the playbook's plan of so many days. Each price list is shown with on-demand hours, spot hours, and spot hours of a
machine that stops when nobody needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from kwela.campaign.decide.measurable import unmeasurable
from kwela.campaign.money import prices
from kwela.campaign.money.clock import DAY
from kwela.campaign.money.ledger import MONTH
from kwela.campaign.money.prices import Prices
from kwela.playbook import PlaybookConfig

SPREAD = 0.2  # either way, of hours worked out from one figure of speed
SPOT_REDONE = 0.03  # of the hours: waiting for capacity, starting again, work since the last checkpoint
CLIPS = 7982  # of the playbook's set: what is priced where there is none yet
DATASET_GB = 11.5  # the three archives, which come in free
OUT_GB = 5.0  # weights, samples and report, fetched once
ALARM_USD = 600.0  # the playbook's billing alarm
A_CLIP = 60.0, 120.0  # seconds to make one of 30 s: the playbook's generation latency before training


@dataclass(frozen=True)
class Work:
    """GPU hours of the whole training: low, likely, high. None: as many as the days of the plan have.

    steps: as a probe counted them; None: by the settings.
    """

    hours: tuple[float, float, float] | None
    source: str
    steps: int | None = None

    def over(self, settings: PlaybookConfig, hours_a_day: float) -> tuple[float, float, float]:
        return self.hours or (settings.plan_days * hours_a_day,) * 3


@dataclass(frozen=True)
class Row:
    """A way to rent. hours, days and usd: low, likely, high. epochs: of the largest plan that fits."""

    prices: str
    market: str
    rate: float
    hours_a_day: float
    hours: tuple[float, float, float]
    days: tuple[float, float, float]
    usd: tuple[float, float, float]
    disk_usd: float
    fits: str  # yes, perhaps, no
    epochs: int
    unreachable: list[str]


@dataclass(frozen=True)
class Plan:
    source: str
    clips: int | None  # of training; None: no data set yet, and `CLIPS` are priced
    steps: int
    epochs: int
    rows: list[Row]
    transfer_usd: float
    gate_hours: tuple[float, float]  # to make the clips that the gate judges; not in the rows
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def steps(settings: PlaybookConfig, clips: int | None) -> int:
    """Optimiser steps of the whole plan on `clips` training clips."""
    whole = settings.batch_size * settings.gradient_accumulation_steps
    return settings.num_epochs * math.ceil((clips or CLIPS) / whole)


def measured(hours: float, source: str, steps: int | None = None) -> Work:
    """Work from one measurement of speed."""
    return Work((hours * (1 - SPREAD), hours, hours * (1 + SPREAD)), f"{source}, ±{SPREAD:.0%}", steps)


def by_throughput(settings: PlaybookConfig, clips: int | None, items_per_second: float) -> Work:
    """Work from a speed in clips a second."""
    seconds = (clips or CLIPS) * settings.num_epochs / items_per_second
    return measured(seconds / 3600, f"{items_per_second:g} clips/s given")


def make(settings: PlaybookConfig, work: Work, clips: int | None) -> Plan:
    """The plan. clips: of training, None before there is a data set."""
    rows = [_row(settings, work, *way) for way in _ways(settings)]
    how = settings.evaluation
    gate_hours = [2 * how.samples * how.seconds / 30 * each / 3600 for each in A_CLIP]
    return Plan(
        work.source,
        clips,
        work.steps or steps(settings, clips),
        settings.num_epochs,
        rows,
        OUT_GB * prices.TRANSFER_OUT,
        (gate_hours[0], gate_hours[1]),
        _warnings(settings),
    )


def _ways(settings: PlaybookConfig) -> Iterator[tuple[Prices, str, float]]:
    for profile in prices.both(settings):
        yield profile, "on-demand", 24.0
        yield profile, "spot", 24.0
        yield profile, "spot", settings.hours_per_day


def _row(settings: PlaybookConfig, work: Work, profile: Prices, market: str, hours_a_day: float) -> Row:
    rate = profile.of(market)
    redone = 1 + SPOT_REDONE if market == "spot" and work.hours else 1.0
    low, likely, high = (hours * redone for hours in work.over(settings, hours_a_day))
    disk_a_day = settings.disk_gb * settings.disk_usd_per_gb_month * DAY / MONTH
    a_day = rate * hours_a_day + disk_a_day
    fixed = settings.setup_cost_usd + OUT_GB * prices.TRANSFER_OUT
    costs = tuple(fixed + hours / hours_a_day * a_day for hours in (low, likely, high))
    budget = settings.budget_usd
    room = (
        (budget - fixed - rate * settings.reserve_minutes / 60) / (costs[1] - fixed)
        if costs[1] > fixed
        else math.inf
    )
    days = tuple(hours / hours_a_day for hours in (low, likely, high))
    return Row(
        profile.name,
        market,
        rate,
        hours_a_day,
        (low, likely, high),
        (days[0], days[1], days[2]),
        (costs[0], costs[1], costs[2]),
        disk_a_day * days[1],
        "yes" if costs[2] <= budget else "perhaps" if costs[0] <= budget else "no",
        math.floor(settings.num_epochs * min(1.0, max(0.0, room)) + 1e-9),
        list(_unreachable(settings, days[1], fixed, a_day)),
    )


def _unreachable(settings: PlaybookConfig, days: float, fixed: float, a_day: float) -> Iterator[str]:
    gate = settings.week_5_threshold_days
    early = settings.gate_at_fraction
    if early is not None:
        gate = min(gate, early * days)
    elif days < gate:
        yield (
            f"training ends before the gate of day {gate:g}: the gate is then held at its end; "
            "gate_at_fraction holds it sooner"
        )
        return
    then = fixed + a_day * gate
    named = f"at the gate (day {gate:.3g}) it has cost ${then:,.0f}"
    if then > settings.budget_usd:
        spent = max(0.0, settings.budget_usd - fixed) / a_day if a_day else 0.0
        yield f"{named}: the budget of ${settings.budget_usd:,.0f} is spent on day {spent:.1f}"
    elif then > settings.go_nogo_thresholds.max_cost_usd:
        yield f"{named}, over its own rule's ${settings.go_nogo_thresholds.max_cost_usd:,.0f}: a NO-GO is certain"
    elif then > settings.flag_cost_usd:
        yield f"{named}, past the red flag of ${settings.flag_cost_usd:,.0f}"


def _warnings(settings: PlaybookConfig) -> list[str]:
    limit, budget = settings.go_nogo_thresholds.max_cost_usd, settings.budget_usd
    out = []
    if limit > budget:
        out.append(
            f"the gate lets ${limit:,.0f} pass, the budget is ${budget:,.0f}: the gate's cost rule can never fail"
        )
    if budget < ALARM_USD:
        out.append(
            f"the billing alarm of ${ALARM_USD:,.0f} rings after the budget of ${budget:,.0f} is spent"
        )
    if why := unmeasurable(settings.evaluation):
        out.append(f"no GO without authenticity, and the gate can't measure it: {why}")
    return out


def text(plan: Plan, settings: PlaybookConfig) -> str:
    """The plan for a terminal."""
    folder = settings.dataset_dir
    lines = [
        f"no data set in {folder} yet: the playbook's {CLIPS:,} training clips"
        if plan.clips is None
        else f"{plan.clips:,} training clips of {folder} (the playbook's set has {CLIPS:,})",
        f"{plan.epochs} epochs, {plan.steps:,} steps; hours from {plan.source}",
        f"budget ${settings.budget_usd:,.2f}; in it ${settings.setup_cost_usd:,.2f} for setup, "
        f"${plan.transfer_usd:.2f} to fetch {OUT_GB:g} GB; {DATASET_GB:g} GB of archives come in free",
        f"not in the hours: {plan.gate_hours[0]:.1f} to {plan.gate_hours[1]:.1f} for the gate's "
        f"{settings.evaluation.samples} tuned and {settings.evaluation.samples} untuned clips, at the playbook's "
        f"{A_CLIP[0]:g} to {A_CLIP[1]:g} s each",
        "",
        f"{'prices':9} {'market':10} {'$/h':>6} {'h/day':>6} {'hours':>16} {'days':>11} {'disk':>6} {'total $':>16}  "
        "fits     largest plan",
    ]
    for row in plan.rows:
        hours, days, usd = _range(row.hours), _range(row.days), _range(row.usd)
        most = f"{row.epochs} of {plan.epochs} epochs"
        lines.append(
            f"{row.prices:9} {row.market:10} {row.rate:6.3f} {row.hours_a_day:6g} {hours:>16} {days:>11} "
            f"{f'${row.disk_usd:,.0f}':>6} {usd:>16}  {row.fits:8} {most}"
        )
    lines += [
        "a campaign is billed by the rows 'playbook': gpu_cost_per_hour, spot_cost_per_hour of the config",
        "",
    ]
    for why in dict.fromkeys(why for row in plan.rows for why in row.unreachable):
        of = [
            f"{row.prices}, {row.market}, {row.hours_a_day:g} h/day"
            for row in plan.rows
            if why in row.unreachable
        ]
        lines.append(why if len(of) == len(plan.rows) else f"{'; '.join(of)}: {why}")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in plan.warnings)]).rstrip()


def _range(values: tuple[float, float, float]) -> str:
    low, likely, high = (f"{value:,.0f}" for value in values)
    return likely if low == high else f"{likely} ({low}-{high})"
