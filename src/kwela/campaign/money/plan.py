"""Work out what a campaign would take and cost, before a dollar is spent.

Hours come from a measured speed (a probe, or items a second that the user gives), with a range; without
either, from the playbook's plan of so many days. Each price list is shown with on-demand hours, spot hours,
and spot hours of a machine that stops when nobody needs it. Ranges are (low, likely, high).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from kwela.campaign.decide.gate_obstacles import gate_obstacles
from kwela.campaign.decide.judge_requirements import unmet_requirement
from kwela.campaign.money import prices
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.money.costs import MONTH
from kwela.campaign.money.prices import Prices
from kwela.playbook import PlaybookConfig

HOURS_UNCERTAINTY = 0.2  # either way, of hours worked out from one figure of speed
SPOT_REPEATED_WORK = (
    0.03  # of the hours: waiting for capacity, starting again, work since the last checkpoint
)
PLAYBOOK_CLIPS = 7982  # of the playbook's data set, which is priced where there is none yet
DATASET_GB = 11.5  # the three archives, which come in free
DOWNLOAD_GB = 5.0  # weights, samples and report, fetched once
ALARM_USD = 600.0  # the playbook's billing alarm
CLIP_SECONDS = 60.0, 120.0  # to make one of 30 s: the playbook's generation latency before training


@dataclass(frozen=True)
class Workload:
    """GPU hours of the whole training, as a range; None: as many as the days of the plan have.

    steps: as a probe counted them; None: as the settings make them.
    """

    hours: tuple[float, float, float] | None
    source: str
    steps: int | None = None

    def hours_over(self, settings: PlaybookConfig, hours_a_day: float) -> tuple[float, float, float]:
        """Return the hours on a machine that runs `hours_a_day`."""
        return self.hours or (settings.plan_days * hours_a_day,) * 3


@dataclass(frozen=True)
class RentalOption:
    """A way to rent. hours, days and usd are ranges. epochs: of the largest plan that fits the budget."""

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
    unreachable: list[str]  # why the gate can't be reached, or what it would find


@dataclass(frozen=True)
class Plan:
    """Every way to rent, and what holds of all of them."""

    source: str
    clips: int | None  # of training; None: no data set yet, and `PLAYBOOK_CLIPS` are priced
    steps: int
    epochs: int
    rows: list[RentalOption]
    transfer_usd: float
    gate_hours: tuple[float, float]  # to make the clips that the gate judges; not in the rows
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as `kwela campaign plan --json` prints it."""
        return asdict(self)


def planned_steps(settings: PlaybookConfig, clips: int | None) -> int:
    """Return the optimiser steps of the whole plan on `clips` training clips."""
    clips_a_step = settings.batch_size * settings.gradient_accumulation_steps
    return settings.num_epochs * math.ceil((clips or PLAYBOOK_CLIPS) / clips_a_step)


def workload_of_hours(hours: float, source: str, steps: int | None = None) -> Workload:
    """Return the workload that one measurement of speed makes likely."""
    low, high = hours * (1 - HOURS_UNCERTAINTY), hours * (1 + HOURS_UNCERTAINTY)
    return Workload((low, hours, high), f"{source}, ±{HOURS_UNCERTAINTY:.0%}", steps)


def workload_at_speed(settings: PlaybookConfig, clips: int | None, clips_a_second: float) -> Workload:
    """Return the workload at a speed that the user gives."""
    seconds = (clips or PLAYBOOK_CLIPS) * settings.num_epochs / clips_a_second
    return workload_of_hours(seconds / HOUR, f"{clips_a_second:g} clips/s given")


def make_plan(settings: PlaybookConfig, workload: Workload, clips: int | None) -> Plan:
    """Return the plan. clips: of training, None before there is a data set."""
    rows = [_rental_option(settings, workload, *way) for way in _ways_to_rent(settings)]
    evaluation = settings.evaluation
    least, most = (
        2 * evaluation.samples * evaluation.seconds / 30 * seconds / HOUR for seconds in CLIP_SECONDS
    )
    return Plan(
        workload.source,
        clips,
        workload.steps or planned_steps(settings, clips),
        settings.num_epochs,
        rows,
        DOWNLOAD_GB * prices.transfer_out(),
        (least, most),
        _warnings(settings),
    )


def _ways_to_rent(settings: PlaybookConfig) -> Iterator[tuple[Prices, str, float]]:
    for price_list in prices.both_price_lists(settings):
        yield price_list, "on-demand", 24.0
        yield price_list, "spot", 24.0
        yield price_list, "spot", settings.hours_per_day


def _rental_option(
    settings: PlaybookConfig, workload: Workload, price_list: Prices, market: str, hours_a_day: float
) -> RentalOption:
    rate = price_list.price_of(market)
    repeated = 1 + SPOT_REPEATED_WORK if market == "spot" and workload.hours else 1.0
    low, likely, high = (hours * repeated for hours in workload.hours_over(settings, hours_a_day))
    days = low / hours_a_day, likely / hours_a_day, high / hours_a_day
    disk_a_day = settings.disk_gb * settings.disk_usd_per_gb_month * DAY / MONTH
    usd_a_day = rate * hours_a_day + disk_a_day
    fixed_usd = settings.setup_cost_usd + DOWNLOAD_GB * prices.transfer_out()
    usd = fixed_usd + days[0] * usd_a_day, fixed_usd + days[1] * usd_a_day, fixed_usd + days[2] * usd_a_day
    budget = settings.budget_usd
    if usd[1] > fixed_usd:
        reserve = rate * settings.reserve_minutes / 60
        affordable_share = (budget - fixed_usd - reserve) / (usd[1] - fixed_usd)
    else:
        affordable_share = math.inf
    return RentalOption(
        price_list.name,
        market,
        rate,
        hours_a_day,
        (low, likely, high),
        days,
        usd,
        disk_a_day * days[1],
        "yes" if usd[2] <= budget else "perhaps" if usd[0] <= budget else "no",
        math.floor(settings.num_epochs * min(1.0, max(0.0, affordable_share)) + 1e-9),
        [problem for problem, _ in _gate_problems(settings, days[1], fixed_usd, usd_a_day)],
    )


def money_obstacle(settings: PlaybookConfig) -> str:
    """Return why the plan's days can't lead to a GO at the config's own price; "" if they can."""
    price_list = next(each for each in prices.both_price_lists(settings) if each.name == "playbook")
    rate, fixed_usd = price_list.price_of(settings.market), settings.setup_cost_usd
    disk_a_day = settings.disk_gb * settings.disk_usd_per_gb_month * DAY / MONTH
    usd_a_day = rate * settings.hours_per_day + disk_a_day  # the fewest hours that are planned
    problems = _gate_problems(settings, settings.plan_days, fixed_usd, usd_a_day)
    return next((problem for problem, is_certain in problems if is_certain), "")


def _gate_problems(
    settings: PlaybookConfig, days: float, fixed_usd: float, usd_a_day: float
) -> Iterator[tuple[str, bool]]:
    """Yield why the gate can't be reached in a training of `days`, or what it would find.

    With each problem: whether it rules out a GO.
    """
    gate_day = settings.week_5_threshold_days
    fraction = settings.gate_at_fraction
    if fraction is not None:
        gate_day = min(gate_day, fraction * days)
    elif days < gate_day:
        yield (
            f"training ends before the gate of day {gate_day:g}: the gate then decides at its end; "
            "gate_at_fraction lets it decide sooner",
            False,
        )
        return
    usd = fixed_usd + usd_a_day * gate_day
    limit = settings.go_nogo_thresholds.max_cost_usd
    at_the_gate = f"at the gate (day {gate_day:.3g}) it has cost ${usd:,.0f}"
    if usd > settings.budget_usd:
        last_day = max(0.0, settings.budget_usd - fixed_usd) / usd_a_day if usd_a_day else 0.0
        spent = f"the budget of ${settings.budget_usd:,.0f} is spent on day {last_day:.1f}"
        yield f"{at_the_gate}: {spent}", True
    elif usd > limit:
        yield f"{at_the_gate}, over its own rule's ${limit:,.0f}: a NO-GO is certain", True
    elif usd > settings.flag_cost_usd:
        yield f"{at_the_gate}, past the red flag of ${settings.flag_cost_usd:,.0f}", False


def _warnings(settings: PlaybookConfig) -> list[str]:
    limit, budget = settings.go_nogo_thresholds.max_cost_usd, settings.budget_usd
    warnings = []
    if limit > budget:
        warnings.append(
            f"the gate lets ${limit:,.0f} pass, the budget is ${budget:,.0f}: "
            "the gate's cost rule can never fail"
        )
    if budget < ALARM_USD:
        warnings.append(
            f"the billing alarm of ${ALARM_USD:,.0f} rings after the budget of ${budget:,.0f} is spent"
        )
    if reason := unmet_requirement(settings.evaluation):
        warnings.append(f"no GO without authenticity, and the gate can't measure it: {reason}")
    return [*warnings, *gate_obstacles(settings)]


def plan_text(plan: Plan, settings: PlaybookConfig) -> str:
    """Return the plan for a terminal."""
    folder = settings.dataset_dir
    lines = [
        f"no data set in {folder} yet: the playbook's {PLAYBOOK_CLIPS:,} training clips"
        if plan.clips is None
        else f"{plan.clips:,} training clips of {folder} (the playbook's set has {PLAYBOOK_CLIPS:,})",
        f"{plan.epochs} epochs, {plan.steps:,} steps; hours from {plan.source}",
        f"budget ${settings.budget_usd:,.2f}; in it ${settings.setup_cost_usd:,.2f} for setup, "
        f"${plan.transfer_usd:.2f} to fetch {DOWNLOAD_GB:g} GB; {DATASET_GB:g} GB of archives come in free",
        f"not in the hours: {plan.gate_hours[0]:.1f} to {plan.gate_hours[1]:.1f} for the gate's "
        f"{settings.evaluation.samples} tuned and {settings.evaluation.samples} untuned clips, "
        f"at the playbook's {CLIP_SECONDS[0]:g} to {CLIP_SECONDS[1]:g} s each",
        "",
        f"{'prices':9} {'market':10} {'$/h':>6} {'h/day':>6} {'hours':>16} {'days':>11} {'disk':>6} "
        f"{'total $':>16}  fits     largest plan",
    ]
    for row in plan.rows:
        hours, days, usd = _range_text(row.hours), _range_text(row.days), _range_text(row.usd)
        largest = f"{row.epochs} of {plan.epochs} epochs"
        lines.append(
            f"{row.prices:9} {row.market:10} {row.rate:6.3f} {row.hours_a_day:6g} {hours:>16} {days:>11} "
            f"{f'${row.disk_usd:,.0f}':>6} {usd:>16}  {row.fits:8} {largest}"
        )
    lines += [
        "a campaign is billed by the rows 'playbook': gpu_cost_per_hour, spot_cost_per_hour of the config",
        "",
    ]
    for problem in dict.fromkeys(problem for row in plan.rows for problem in row.unreachable):
        concerned = [
            f"{row.prices}, {row.market}, {row.hours_a_day:g} h/day"
            for row in plan.rows
            if problem in row.unreachable
        ]
        lines.append(problem if len(concerned) == len(plan.rows) else f"{'; '.join(concerned)}: {problem}")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in plan.warnings)]).rstrip()


def _range_text(values: tuple[float, float, float]) -> str:
    low, likely, high = (f"{value:,.0f}" for value in values)
    return likely if low == high else f"{likely} ({low}-{high})"
