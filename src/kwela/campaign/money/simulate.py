"""The whole life of a campaign, thousands of times: a fake clock, a drawn spot market, drawn failures and results.

Money is counted by the ledger and the verdict is the gate's: the code of a real campaign. What is drawn stands in
`Odds`, and is an assumption: neither spot markets nor fine-tunes promise anything.
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
from kwela.campaign.money import ledger, scenarios
from kwela.campaign.money.clock import DAY, HOUR, Fake
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.playbook import PlaybookConfig

BUDGET = "BUDGET"  # the outcome of a campaign that stopped before it overspent
MOST_DAYS = 400
CAP = f"over {MOST_DAYS} days"  # looked at no further


@dataclass(frozen=True)
class Odds:
    """What is drawn for each campaign, each day, each interruption."""

    needs: tuple[float, float] = (0.9, 1.15)  # hours, times the plan's
    price_spread: float = 0.15  # standard deviation of the logarithm of a day's spot price
    notices: float = 0.05  # spot notices a day of running
    capacity: float = 3.0  # mean hours until a machine is to be had again
    crashes: float = 0.05  # a day; each loses up to `save_hours` of work
    save_hours: float = 1.0
    true_share: tuple[float, float] = (
        0.20,
        0.55,
    )  # of authentic samples: the playbook's baseline to above its target
    base_loss: tuple[float, float] = (3.5, 0.2)  # mean, standard deviation
    gain: tuple[float, float] = (0.10, 0.06)  # nats of fine-tuning: audiocraft issue 212 reports about 0.1


@dataclass(frozen=True)
class Life:
    outcome: str
    cost: float
    days: float
    interruptions: int


def campaign(settings: PlaybookConfig, market: str, odds: Odds, rng: np.random.Generator) -> Life:
    """One campaign from its first day to its end."""
    clock = Fake(wall=0.0)
    book = Ledger(None, clock)
    book.open({}, settings.budget_usd, settings.setup_cost_usd)
    hours_a_day = settings.hours_per_day if market == "spot" else 24.0
    price = settings.spot_cost_per_hour if market == "spot" else settings.gpu_cost_per_hour
    left = settings.plan_days * hours_a_day * rng.uniform(*odds.needs)
    needed, verdict, interruptions, drift = left, None, 0, 0.0
    while clock.wall < MOST_DAYS * DAY:
        if market == "spot":
            drift = 0.7 * drift + odds.price_spread * math.sqrt(1 - 0.7**2) * rng.standard_normal()
        machine = Machine(
            "i", market, price * math.exp(drift), settings.disk_gb, settings.disk_usd_per_gb_month
        )
        book.begin(machine)
        bill = book.total()
        disk = settings.disk_gb * settings.disk_usd_per_gb_month / 30  # a day
        spare = bill.budget_usd - bill.usd - disk - machine.price * settings.reserve_minutes / 60
        afford = max(0.0, spare) / machine.price if machine.price else math.inf if spare >= 0 else 0.0
        wanted = min(hours_a_day, left)
        run = min(wanted, afford)
        noticed = market == "spot" and rng.random() < 1 - math.exp(-odds.notices * run / 24)
        run *= rng.random() if noticed else 1.0
        clock.sleep(run * HOUR)
        book.tick(0, "spot notice" if noticed else "stopped")
        left -= run
        if rng.random() < 1 - math.exp(-odds.crashes * run / 24):
            left = min(needed, left + odds.save_hours * rng.random())
        bill = book.total()
        due = bill.days >= settings.week_5_threshold_days or 1 - left / needed >= (
            settings.gate_at_fraction or 1
        )
        if verdict is None and (due or left <= 1e-6):
            verdict = _gate(bill, settings, odds, rng)
            if verdict in (gate.NO_GO, gate.HOLD):
                return Life(verdict, bill.usd, bill.days, interruptions)
        if left <= 1e-6:
            return Life(str(verdict), bill.usd, bill.days, interruptions)
        if afford < wanted and not noticed:
            return Life(BUDGET, bill.usd, bill.days, interruptions)
        interruptions += noticed
        off = rng.exponential(odds.capacity) if noticed else 24 - run
        clock.reboot(off * HOUR, orderly=True)
    return Life(CAP, book.total().usd, book.total().days, interruptions)


def _gate(bill: ledger.Totals, settings: PlaybookConfig, odds: Odds, rng: np.random.Generator) -> str:
    clips = settings.evaluation.samples
    passed = int(rng.binomial(clips, rng.uniform(*odds.true_share)))
    share = stats.wilson(passed, clips)
    base = rng.normal(*odds.base_loss)
    loss = base - rng.normal(*odds.gain)
    seen = gate.Evidence(
        bill.days, bill.seconds / HOUR, bill.usd, loss, base, share.value, (share.low, share.high)
    )
    return gate.decide(seen, settings.go_nogo_thresholds).verdict


def run(
    settings: PlaybookConfig, market: str, runs: int, seed: int = 0, odds: Odds | None = None
) -> dict[str, Any]:
    """The contract's object: distributions of cost (dollars), days and outcomes over `runs` campaigns."""
    odds = odds or Odds()
    rng = np.random.default_rng(seed)
    turns = terminal.with_progress_bar(range(runs), "Simulating" if sys.stderr.isatty() else "")
    lives = [campaign(settings, market, odds, rng) for _ in turns]
    outcomes = Counter(life.outcome for life in lives)
    return {
        "runs": runs,
        "market": market,
        "cost": _spread([life.cost for life in lives]),
        "days": _spread([life.days for life in lives]),
        "outcomes": {
            name: outcomes[name] / runs
            for name in (gate.GO, gate.CONDITIONAL, gate.NO_GO, gate.HOLD, BUDGET, CAP)
        },
        "over_budget": sum(life.cost > settings.budget_usd for life in lives) / runs,
        "scenarios": scenarios.scenarios(settings),
        "exclusions": [asdict(one) for one in scenarios.exclusions(settings)],
        "assumptions": asdict(odds),
    }


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    odds = Odds(**result["assumptions"])
    least, most = odds.true_share
    lines = [
        f"Drawn, not known: authentic share {100 * least:.0f}-{100 * most:.0f} %, untuned loss {odds.base_loss[0]:g} ± "
        f"{odds.base_loss[1]:g}, gain {odds.gain[0]:.2f} ± {odds.gain[1]:.2f} nats, {odds.notices:g} spot notices "
        "a day. The outcomes are as good as these.",
        f"{result['runs']:,} campaigns on {result['market']} machines",
        "",
    ]
    for name, unit in (("cost", "$"), ("days", "")):
        low, likely, high = (f"{unit}{result[name][q]:,.0f}" for q in ("p5", "p50", "p95"))
        lines.append(f"{name}: {likely} (median), {low} to {high} (90 % of them)")
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
    lines += [f"  - {one['figures']}\n      {one['why']}" for one in result["exclusions"]]
    return "\n".join(lines)


def _spread(values: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(values, q)) for q in (5, 50, 95)}
