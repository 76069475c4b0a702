"""Find figures of the playbook that can't all be true, with the sum that shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kwela.campaign.money.plan import ALARM_USD, PLAYBOOK_CLIPS
from kwela.campaign.money.scenarios import scenarios
from kwela.playbook import PlaybookConfig

# Figures that the playbook prints and that no setting holds.
FINAL_HOURS, FINAL_STEP = 1348.8, 15964
STOPPED_WHEN_IDLE_USD = 500.0
FIRST_TRAINING_DAY = 8


@dataclass(frozen=True)
class Contradiction:
    """Figures that exclude each other. why: the sum that shows it."""

    figures: str
    why: str


def contradictions(settings: PlaybookConfig) -> Iterator[Contradiction]:
    """Yield what excludes itself in the playbook. Prices, days and limits are those of `settings`."""
    yield from _of_the_gate_and_the_days(settings)
    yield from _of_the_limits(settings)
    yield from _of_the_totals(settings)
    yield from _of_the_training(settings)


def _of_the_gate_and_the_days(settings: PlaybookConfig) -> Iterator[Contradiction]:
    price, budget, days = settings.gpu_cost_per_hour, settings.budget_usd, settings.plan_days
    usd_a_day, gate_day = 24 * price, settings.week_5_threshold_days
    limit = settings.go_nogo_thresholds.max_cost_usd
    if (at_gate := gate_day * usd_a_day) > limit:
        yield Contradiction(
            f"the gate's example: ${at_gate:,.2f}, all metrics pass; its threshold: ${limit:,.0f}",
            f"{gate_day:g} days x 24 h x ${price:.2f} = ${at_gate:,.2f}: "
            "on demand the gate can only say NO-GO",
        )
    optimistic = scenarios(settings)["optimistic"]
    if optimistic > budget > 0 and usd_a_day:
        last_day = (budget - settings.setup_cost_usd) / usd_a_day
        yield Contradiction(
            f"optimistic: ${optimistic:,.0f}; budget: ${budget:,.0f}",
            f"{optimistic / budget:.1f} times the budget, which is spent on day {last_day:.0f}",
        )
    if (days_left := days - FIRST_TRAINING_DAY + 1) > 0:
        yield Contradiction(
            f"training: {days:g} days x 24 h, ${days * usd_a_day:,.0f}; "
            f"it starts on day {FIRST_TRAINING_DAY}",
            f"from day {FIRST_TRAINING_DAY} to day {days:g} there are {days_left:g} days: "
            f"${days_left * usd_a_day:,.0f}",
        )
    if days > 28:
        yield Contradiction(
            f"timeline: 4 weeks; completion: day {days:g}", f"{days:g} days are {days / 7:g} weeks"
        )


def _of_the_limits(settings: PlaybookConfig) -> Iterator[Contradiction]:
    price, budget = settings.gpu_cost_per_hour, settings.budget_usd
    usd_a_day, gate_day = 24 * price, settings.week_5_threshold_days
    limit = settings.go_nogo_thresholds.max_cost_usd
    if max(limit, ALARM_USD) > budget:
        yield Contradiction(
            f"budget ${budget:,.0f}; gate ${limit:,.0f}; alarm ${ALARM_USD:,.0f}; "
            "extension from $600 to $800",
            "a budget that holds is spent before the gate's limit, the alarm or the extension is reached",
        )
    if settings.flag_cost_usd < gate_day * usd_a_day:
        yield Contradiction(
            f"${usd_a_day:.0f} a day; red flag at ${settings.flag_cost_usd:,.0f} before day {gate_day:g}",
            f"the flag is up on day {settings.flag_cost_usd / usd_a_day:.0f} without anything being wrong",
        )
    if (final := FINAL_HOURS * price) > budget:
        yield Contradiction(
            f"final line: ${final:,.2f}; expected final cost and criterion of success: ${budget:,.0f}",
            f"{FINAL_HOURS:,.1f} h x ${price:.2f} = ${final:,.2f}",
        )


def _of_the_totals(settings: PlaybookConfig) -> Iterator[Contradiction]:
    budget, setup, by_scenario = settings.budget_usd, settings.setup_cost_usd, scenarios(settings)
    realistic, pessimistic = by_scenario["realistic"], by_scenario["pessimistic"]
    if abs(realistic / STOPPED_WHEN_IDLE_USD - 1) > 0.02:
        yield Contradiction(
            f"spot, stopped in idle hours: ${STOPPED_WHEN_IDLE_USD:,.0f} (optimistic), "
            f"${realistic:,.0f} (realistic)",
            f"{settings.plan_days:g} x {settings.hours_per_day:g} h x ${settings.spot_cost_per_hour:.2f} = "
            f"${realistic:,.2f}, with setup ${realistic + setup:,.2f}",
        )
    if abs(budget - realistic) > 1:
        yield Contradiction(
            f"NO-GO saves ${budget - pessimistic:,.0f} of the full training; that costs ${realistic:,.0f}",
            f"${budget:,.0f} - ${pessimistic:,.0f} is of what was agreed; "
            f"of the training it is ${realistic - pessimistic:,.0f}",
        )
    if setup:
        yield Contradiction(
            f"setup of ${setup:,.0f} in the optimistic scenario; none in the other two",
            f"with it they are ${realistic + setup:,.0f} and ${pessimistic + setup:,.0f}",
        )


def _of_the_training(settings: PlaybookConfig) -> Iterator[Contradiction]:
    clips_a_step = settings.batch_size * settings.gradient_accumulation_steps
    epochs, usd_a_day = settings.num_epochs, 24 * settings.gpu_cost_per_hour
    if (steps := epochs * math.ceil(PLAYBOOK_CLIPS / clips_a_step)) != FINAL_STEP:
        yield Contradiction(
            f"step {FINAL_STEP:,} at epoch {epochs}; {PLAYBOOK_CLIPS:,} clips; {clips_a_step} clips a step",
            f"that makes {steps:,} steps; "
            f"{FINAL_STEP:,} would be {PLAYBOOK_CLIPS * epochs / FINAL_STEP:.0f} clips a step",
        )
    yield Contradiction(
        "LR 1.00e-07 at step 10; 1e-5 after 500 steps of warm-up", "10 / 500 x 1e-5 = 2.00e-07"
    )
    yield Contradiction(
        f"seven days of preparation for $30-35; ${usd_a_day:.0f} a day",
        f"seven days on cost ${7 * usd_a_day:,.0f}: the machine must have been off for six of them",
    )
