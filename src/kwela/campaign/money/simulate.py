"""Simulate a whole campaign thousands of times, with drawn prices, interruptions, failures and results.

The ledger counts the money and the gate gives the verdict: both are the code of a real campaign. `Odds` holds
what is drawn. The odds are assumptions: neither spot markets nor fine-tunes promise anything.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kwela import stats, terminal
from kwela.campaign.decide import gate
from kwela.campaign.decide.gate import GateMeasurements
from kwela.campaign.money.clock import DAY, HOUR, FakeClock
from kwela.campaign.money.contradictions import contradictions
from kwela.campaign.money.costs import Totals
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.money.scenarios import scenarios
from kwela.playbook import PlaybookConfig

BUDGET = "BUDGET"  # the outcome of a campaign that stopped before it overspent
MOST_DAYS = 400
TOO_LONG = f"over {MOST_DAYS} days"  # the outcome of a campaign that is simulated no further
DRIFT_MEMORY = 0.7  # share of a day's deviation from the spot price that the next day keeps
NOTHING_LEFT = 1e-6  # hours


@dataclass(frozen=True)
class Odds:
    """What is drawn for each campaign, each day, each interruption. Ranges are (low, high), drawn evenly."""

    needs: tuple[float, float] = (0.9, 1.15)  # hours, times the plan's
    price_spread: float = 0.15  # standard deviation of the logarithm of a day's spot price
    notices: float = 0.05  # spot notices a day of running
    capacity: float = 3.0  # mean hours until a machine can be rented again
    crashes: float = 0.05  # a day; each loses up to `save_hours` of work
    save_hours: float = 1.0
    # Share of authentic samples: from the playbook's baseline to above its target.
    true_share: tuple[float, float] = (0.20, 0.55)
    base_loss: tuple[float, float] = (3.5, 0.2)  # mean, standard deviation
    gain: tuple[float, float] = (0.10, 0.06)  # nats of fine-tuning: audiocraft issue 212 reports about 0.1


@dataclass(frozen=True)
class SimulatedCampaign:
    """How one campaign ended, what it cost in dollars, and after how many days."""

    outcome: str
    cost: float
    days: float
    interruptions: int


def simulate_campaign(
    settings: PlaybookConfig, market: str, odds: Odds, rng: np.random.Generator
) -> SimulatedCampaign:
    """Simulate one campaign from its first day to its end. Each turn of the loop is a stretch of training."""
    clock = FakeClock(wall=0.0)
    ledger = Ledger(None, clock)
    ledger.open({}, settings.budget_usd, settings.setup_cost_usd)
    hours_a_day = settings.hours_per_day if market == "spot" else 24.0
    hours_needed = settings.plan_days * hours_a_day * rng.uniform(*odds.needs)
    hours_left, verdict, interruptions, drift = hours_needed, None, 0, 0.0

    def ended(outcome: str) -> SimulatedCampaign:
        totals = ledger.total()
        return SimulatedCampaign(outcome, totals.usd, totals.days, interruptions)

    while clock.wall < MOST_DAYS * DAY:
        if market == "spot":
            noise = odds.price_spread * math.sqrt(1 - DRIFT_MEMORY**2) * rng.standard_normal()
            drift = DRIFT_MEMORY * drift + noise
        machine = _machine(settings, market, drift)
        ledger.begin_span(machine)
        affordable = _affordable_hours(settings, machine, ledger.total())
        wanted = min(hours_a_day, hours_left)
        hours = min(wanted, affordable)
        noticed = market == "spot" and rng.random() < 1 - math.exp(-odds.notices * hours / 24)
        hours *= rng.random() if noticed else 1.0
        clock.sleep(hours * HOUR)
        ledger.bill_until_now(0, "spot notice" if noticed else "stopped")
        hours_left -= hours
        if rng.random() < 1 - math.exp(-odds.crashes * hours / 24):
            hours_left = min(hours_needed, hours_left + odds.save_hours * rng.random())
        totals = ledger.total()
        finished = hours_left <= NOTHING_LEFT
        share_done = 1 - hours_left / hours_needed
        is_due = totals.days >= settings.week_5_threshold_days or share_done >= (
            settings.gate_at_fraction or 1
        )
        if verdict is None and (is_due or finished):
            verdict = _drawn_verdict(totals, settings, odds, rng)
            if verdict in (gate.NO_GO, gate.HOLD):
                return ended(verdict)
        if finished:
            return ended(str(verdict))
        if affordable < wanted and not noticed:
            return ended(BUDGET)
        interruptions += noticed
        hours_off = rng.exponential(odds.capacity) if noticed else 24 - hours
        clock.reboot(hours_off * HOUR, orderly=True)
    return ended(TOO_LONG)


def _machine(settings: PlaybookConfig, market: str, drift: float) -> Machine:
    """Return the machine of a day. drift: the logarithm of its price over the market's."""
    price = settings.spot_cost_per_hour if market == "spot" else settings.gpu_cost_per_hour
    return Machine("i", market, price * math.exp(drift), settings.disk_gb, settings.disk_usd_per_gb_month)


def _affordable_hours(settings: PlaybookConfig, machine: Machine, totals: Totals) -> float:
    """Return the hours that the budget still pays for, after a day's disk and the reserve."""
    disk_a_day = settings.disk_gb * settings.disk_usd_per_gb_month / 30
    spare = totals.budget_usd - totals.usd - disk_a_day - machine.price * settings.reserve_minutes / 60
    if machine.price:
        return max(0.0, spare) / machine.price
    return math.inf if spare >= 0 else 0.0


def _drawn_verdict(totals: Totals, settings: PlaybookConfig, odds: Odds, rng: np.random.Generator) -> str:
    """Return what the gate decides on a drawn result of training."""
    clips = settings.evaluation.samples
    passed = int(rng.binomial(clips, rng.uniform(*odds.true_share)))
    share = stats.wilson(passed, clips)
    base_loss = rng.normal(*odds.base_loss)
    loss = base_loss - rng.normal(*odds.gain)
    hours, interval = totals.billed_seconds / HOUR, (share.low, share.high)
    measurements = GateMeasurements(totals.days, hours, totals.usd, loss, base_loss, share.value, interval)
    return gate.decide(measurements, settings.go_nogo_thresholds).verdict


def simulate(
    settings: PlaybookConfig, market: str, runs: int, seed: int = 0, odds: Odds | None = None
) -> dict[str, Any]:
    """Return the distributions of cost (dollars), days and outcomes over `runs` campaigns, for `--json`."""
    odds = odds or Odds()
    rng = np.random.default_rng(seed)
    turns = terminal.with_progress_bar(range(runs), "Simulating" if sys.stderr.isatty() else "")
    campaigns = [simulate_campaign(settings, market, odds, rng) for _ in turns]
    outcomes = Counter(campaign.outcome for campaign in campaigns)
    return {
        "runs": runs,
        "market": market,
        "cost": _percentiles([campaign.cost for campaign in campaigns]),
        "days": _percentiles([campaign.days for campaign in campaigns]),
        "outcomes": {
            name: outcomes[name] / runs
            for name in (gate.GO, gate.CONDITIONAL, gate.NO_GO, gate.HOLD, BUDGET, TOO_LONG)
        },
        "over_budget": sum(campaign.cost > settings.budget_usd for campaign in campaigns) / runs,
        "scenarios": scenarios(settings),
        "exclusions": [asdict(contradiction) for contradiction in contradictions(settings)],
        "assumptions": asdict(odds),
    }


def simulation_text(result: dict[str, Any]) -> str:
    """Return the result of `simulate` for a terminal."""
    odds = Odds(**result["assumptions"])
    least, most = odds.true_share
    lines = [
        f"Drawn, not known: authentic share {100 * least:.0f}-{100 * most:.0f} %, "
        f"untuned loss {odds.base_loss[0]:g} ± {odds.base_loss[1]:g}, "
        f"gain {odds.gain[0]:.2f} ± {odds.gain[1]:.2f} nats, {odds.notices:g} spot notices a day. "
        "The outcomes are as good as these.",
        f"{result['runs']:,} campaigns on {result['market']} machines",
        "",
    ]
    for name, unit in (("cost", "$"), ("days", "")):
        low, median, high = (f"{unit}{result[name][key]:,.0f}" for key in ("p5", "p50", "p95"))
        lines.append(f"{name}: {median} (median), {low} to {high} (90 % of them)")
    lines.append(
        "ended as " + ", ".join(f"{name} {share:.1%}" for name, share in result["outcomes"].items() if share)
    )
    lines += [
        f"over the budget: {result['over_budget']:.1%}",
        "",
        "The playbook's scenarios, by its formula alone:",
    ]
    lines += [f"  {name.replace('_', ' '):20} ${usd:,.0f}" for name, usd in result["scenarios"].items()]
    lines += ["", "Figures of the playbook that exclude each other:"]
    lines += [f"  - {pair['figures']}\n      {pair['why']}" for pair in result["exclusions"]]
    return "\n".join(lines)


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(values, q)) for q in (5, 50, 95)}
