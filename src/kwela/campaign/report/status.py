"""One screen: how far, how well, how dear, and how long to the gate."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from kwela.campaign.decide import red_flags
from kwela.campaign.decide.json_files import read_json
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.money.ledger import LINE_INTERVAL
from kwela.campaign.run import results, state
from kwela.playbook import PlaybookConfig

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60


def facts(folder: Path, settings: PlaybookConfig) -> dict[str, Any]:
    """The contract's object, and what the screen shows beside it."""
    now = state.look(folder, settings)
    up = red_flags.flags_up(folder).values()
    forecast = now.forecast
    return {
        "step": now.curve.step,
        "epoch": now.curve.epoch,
        "elapsed_hours": round(now.bill.billed_seconds / HOUR, 3),
        "cost_usd": round(now.bill.usd, 2),
        "forecast_usd": None if forecast is None else round(forecast, 2),
        "budget_usd": now.bill.budget_usd,
        "gate": now.stands or None,
        "flags": [seen.name for seen in up],
        "state": now.training.get("state"),
        "silent_seconds": _silent(folder),
        "steps": now.steps,
        "days": round(now.bill.days, 2),
        "training_days": round(now.bill.training_seconds / DAY, 2),
        "days_to_gate": None if now.verdict else round(_days_to_gate(now, settings), 2),
        "gpu_percent": read_json(folder / state.NAME).get("gpu_percent"),
        "loss": now.curve.last_train_loss,
        "best_val_loss": now.curve.best_val_loss,
        "base_loss": now.curve.base,
    }


def _silent(folder: Path) -> int | None:
    """Seconds since an orchestrator last wrote down where it stands; None if none has."""
    path = folder / state.NAME
    return round(max(0.0, time.time() - path.stat().st_mtime)) if path.exists() else None


def _silence(told: dict[str, Any]) -> str:
    silent = told["silent_seconds"] or 0
    lost = told["state"] == "running" and silent > 2 * LINE_INTERVAL
    return f" (so it said, but no orchestrator was heard of for {silent / 60:,.0f} min)" if lost else ""


def _days_to_gate(now: state.Standing, settings: PlaybookConfig) -> float:
    """Until its day, or until its share of the steps at the pace so far, if that is sooner."""
    day = settings.week_5_threshold_days - now.bill.days
    if settings.gate_at_fraction is None or not now.curve.step:
        return day
    steps = settings.gate_at_fraction * now.steps - now.curve.step
    return min(day, steps * now.bill.training_seconds / DAY / now.curve.step)


def screen(folder: Path, settings: PlaybookConfig) -> str:
    """The same for a reader."""
    now, told = state.look(folder, settings), facts(folder, settings)
    up = red_flags.flags_up(folder)
    losses = [loss for _, loss in now.curve.train if loss is not None]
    gpu = results.number(told["gpu_percent"], ".0f", " %")
    forecast = "no pace yet" if told["forecast_usd"] is None else f"${told['forecast_usd']:,.2f}"
    early = f", or at {settings.gate_at_fraction:.0%} of the steps" if settings.gate_at_fraction else ""
    due = f"in {max(0.0, told['days_to_gate']):.1f} days" if told["days_to_gate"] is not None else ""
    gate = told["gate"] or f"{due} (day {settings.week_5_threshold_days:g}{early})"
    best = (
        f"{results.number(told['best_val_loss'], '.3f')} (untuned {results.number(told['base_loss'], '.3f')})"
    )
    rehearsal = "REHEARSAL, no dollar is real: " if now.speed != 1 else ""
    lines = [
        f"{rehearsal}{now.model}, {told['state'] or 'not started'}{_silence(told)}, day {told['days']:.1f} "
        f"({told['training_days']:.1f} of training)",
        f"progress  {bar(now.fraction)} step {told['step']:,} of {told['steps']:,}, epoch {told['epoch']}",
        f"loss      {sparkline(losses)} {results.number(told['loss'], '.3f')}",
        f"best val  {best}",
        f"GPU       {gpu}",
        f"cost      {bar(told['cost_usd'] / max(told['budget_usd'], 1e-9))} ${told['cost_usd']:,.2f} of "
        f"${told['budget_usd']:,.2f}, {told['elapsed_hours']:,.1f} billed hours",
        f"forecast  {forecast}",
        f"gate      {gate}",
        f"red flags {', '.join(f'{seen.name} ({seen.evidence})' for seen in up.values()) or 'none'}",
    ]
    if told["cost_usd"] > settings.flag_cost_usd:
        lines.append(f"advice    {results.over_budget(now)}")
    return "\n".join(lines)


def bar(share: float, width: int = 20) -> str:
    done = round(width * min(1.0, max(0.0, share)))
    return f"[{'#' * done}{'.' * (width - done)}]"


def sparkline(values: list[float], width: int = WIDTH) -> str:
    """The values' course in `width` characters, each the mean of its stretch."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(k * len(values) / count) for k in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(
        BLOCKS[min(7, int(8 * (mean - low) / (high - low)))] if high > low else BLOCKS[0] for mean in means
    )
