"""The playbook's own arithmetic: its three scenarios, and which of its figures can't all be true."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kwela.campaign.money.plan import ALARM_USD, CLIPS
from kwela.playbook import PlaybookConfig

# Printed in the playbook, and nowhere a setting.
FINAL_HOURS, FINAL_STEP, STOPPING_IDLE, FIRST_DAY = 1348.8, 15964, 500.0, 8


@dataclass(frozen=True)
class Exclusion:
    """Figures of the playbook that exclude each other, and the sum that shows it."""

    figures: str
    why: str


def scenarios(settings: PlaybookConfig) -> dict[str, float]:
    """Dollars, by the playbook's formula alone: days x hours a day x price, setup only where it adds it.

    With its own figures: 1,772 (56 days on demand, and setup), 437 (56 days of 20 spot hours) and 273 (35 of them).
    """
    idle = settings.hours_per_day * settings.spot_cost_per_hour
    return {
        "optimistic": settings.setup_cost_usd + settings.plan_days * 24 * settings.gpu_cost_per_hour,
        "realistic": settings.plan_days * idle,
        "pessimistic": settings.week_5_threshold_days * idle,
        "optimistic_on_spot": settings.plan_days * 24 * settings.spot_cost_per_hour,
    }


def exclusions(settings: PlaybookConfig) -> Iterator[Exclusion]:
    """What the playbook says that excludes itself; prices, days and limits are those of `settings`."""
    gpu, spot, budget, setup = (
        settings.gpu_cost_per_hour,
        settings.spot_cost_per_hour,
        settings.budget_usd,
        settings.setup_cost_usd,
    )
    days, week_5, limit = (
        settings.plan_days,
        settings.week_5_threshold_days,
        settings.go_nogo_thresholds.max_cost_usd,
    )
    found, a_day = scenarios(settings), 24 * gpu
    whole, idle = found["optimistic"], found["realistic"]
    if (at_gate := week_5 * a_day) > limit:
        yield Exclusion(
            f"the gate's example: ${at_gate:,.2f}, all metrics pass; its threshold: ${limit:,.0f}",
            f"{week_5:g} days x 24 h x ${gpu:.2f} = ${at_gate:,.2f}: on demand the gate can only say NO-GO",
        )
    if whole > budget > 0 and a_day:
        yield Exclusion(
            f"optimistic: ${whole:,.0f}; budget: ${budget:,.0f}",
            f"{whole / budget:.1f} times the budget, which is spent on day {(budget - setup) / a_day:.0f}",
        )
    if (left := days - FIRST_DAY + 1) > 0:
        yield Exclusion(
            f"training: {days:g} days x 24 h, ${days * a_day:,.0f}; it starts on day {FIRST_DAY}",
            f"from day {FIRST_DAY} to day {days:g} there are {left:g} days: ${left * a_day:,.0f}",
        )
    if days > 28:
        yield Exclusion(
            f"timeline: 4 weeks; completion: day {days:g}", f"{days:g} days are {days / 7:g} weeks"
        )
    if max(limit, ALARM_USD) > budget:
        yield Exclusion(
            f"budget ${budget:,.0f}; gate ${limit:,.0f}; alarm ${ALARM_USD:,.0f}; extension from $600 to $800",
            "a budget that holds is spent before the gate's limit, the alarm or the extension is reached",
        )
    if settings.flag_cost_usd < week_5 * a_day:
        yield Exclusion(
            f"${a_day:.0f} a day; red flag at ${settings.flag_cost_usd:,.0f} before day {week_5:g}",
            f"the flag is up on day {settings.flag_cost_usd / a_day:.0f} without anything being wrong",
        )
    if (last := FINAL_HOURS * gpu) > budget:
        yield Exclusion(
            f"final line: ${last:,.2f}; expected final cost and criterion of success: ${budget:,.0f}",
            f"{FINAL_HOURS:,.1f} h x ${gpu:.2f} = ${last:,.2f}",
        )
    if abs(idle / STOPPING_IDLE - 1) > 0.02:
        yield Exclusion(
            f"spot, stopped in idle hours: ${STOPPING_IDLE:,.0f} (optimistic), ${idle:,.0f} (realistic)",
            f"{days:g} x {settings.hours_per_day:g} h x ${spot:.2f} = ${idle:,.2f}, with setup ${idle + setup:,.2f}",
        )
    stopped = found["pessimistic"]
    if abs(budget - idle) > 1:
        yield Exclusion(
            f"NO-GO saves ${budget - stopped:,.0f} of the full training; that costs ${idle:,.0f}",
            f"${budget:,.0f} - ${stopped:,.0f} is of what was agreed; of the training it is ${idle - stopped:,.0f}",
        )
    if setup:
        others = found["realistic"] + setup, found["pessimistic"] + setup
        yield Exclusion(
            f"setup of ${setup:,.0f} in the optimistic scenario; none in the other two",
            f"with it they are ${others[0]:,.0f} and ${others[1]:,.0f}",
        )
    batch, epochs = settings.batch_size * settings.gradient_accumulation_steps, settings.num_epochs
    if (total := epochs * math.ceil(CLIPS / batch)) != FINAL_STEP:
        yield Exclusion(
            f"step {FINAL_STEP:,} at epoch {epochs}; {CLIPS:,} clips; {batch} clips a step",
            f"that makes {total:,} steps; {FINAL_STEP:,} would be {CLIPS * epochs / FINAL_STEP:.0f} clips a step",
        )
    yield Exclusion("LR 1.00e-07 at step 10; 1e-5 after 500 steps of warm-up", "10 / 500 x 1e-5 = 2.00e-07")
    yield Exclusion(
        f"seven days of preparation for $30-35; ${a_day:.0f} a day",
        f"seven days on cost ${7 * a_day:,.0f}: the machine must have been off for six of them",
    )
