"""Show a campaign on one screen: progress, losses, costs, red flags, and the days to the gate."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from kwela.campaign.decide import red_flags
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.money.ledger import LINE_INTERVAL
from kwela.campaign.run import campaign_state
from kwela.campaign.run.campaign_state import CampaignState, read_state, read_state_file
from kwela.campaign.run.success_criteria import advice_on_cost, figure_text
from kwela.playbook import PlaybookConfig

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 60


def status(folder: Path, settings: PlaybookConfig) -> dict[str, Any]:
    """Return what `kwela campaign status --json` prints about the campaign in checkpoint folder `folder`."""
    return _status_of_state(folder, settings, read_state(folder, settings))


def _status_of_state(folder: Path, settings: PlaybookConfig, state: CampaignState) -> dict[str, Any]:
    totals, forecast, state_file = state.totals, state.forecast_usd, read_state_file(folder)
    return {
        "step": state.curve.step,
        "epoch": state.curve.epoch,
        "elapsed_hours": round(totals.billed_seconds / HOUR, 3),
        "cost_usd": round(totals.usd, 2),
        "forecast_usd": None if forecast is None else round(forecast, 2),
        "budget_usd": totals.budget_usd,
        "hours_a_day": _hours_a_day(state),
        "gate": state.verdict or None,
        "flags": list(red_flags.flags_up(folder)),
        "state": state.training.get("state"),
        "silent_seconds": _silent_seconds(folder),
        "steps": state.steps,
        "days": round(totals.days, 2),
        "training_days": round(totals.training_seconds / DAY, 2),
        "days_to_gate": None if state.decision else round(_days_to_gate(state, settings), 2),
        "gpu_percent": state_file.gpu_percent if state_file else None,
        "loss": state.curve.last_train_loss,
        "best_val_loss": state.curve.best_val_loss,
        "base_loss": state.curve.base,
    }


def _silent_seconds(folder: Path) -> int | None:
    """Return the seconds since an orchestrator last wrote its state file; None if none has."""
    path = folder / campaign_state.NAME
    return round(max(0.0, time.time() - path.stat().st_mtime)) if path.exists() else None


def _days_to_gate(state: CampaignState, settings: PlaybookConfig) -> float:
    """Return the days until the gate decides: on its day, or at its share of the steps if that comes sooner.

    When that share is reached is estimated from the pace so far.
    """
    days = settings.week_5_threshold_days - state.totals.days
    if settings.gate_at_fraction is None or not state.curve.step:
        return days
    steps_left = settings.gate_at_fraction * state.steps - state.curve.step
    return min(days, steps_left * state.totals.training_seconds / DAY / state.curve.step)


def screen(folder: Path, settings: PlaybookConfig) -> str:
    """Return the status of the campaign in `folder` as text for a terminal."""
    state = read_state(folder, settings)
    facts, flags = _status_of_state(folder, settings, state), red_flags.flags_up(folder).values()
    train_losses = [loss for _, loss in state.curve.train if loss is not None]
    cost_bar = bar(facts["cost_usd"] / max(facts["budget_usd"], 1e-9))
    forecast = "not known yet" if facts["forecast_usd"] is None else f"${facts['forecast_usd']:,.2f}"
    rehearsal = "REHEARSAL, no dollar is real: " if state.speed != 1 else ""
    lines = [
        f"{rehearsal}{state.model}, {facts['state'] or 'not started'}{_silence_text(facts)}, "
        f"day {facts['days']:.1f} ({facts['training_days']:.1f} of training)",
        f"progress  {bar(state.progress)} step {facts['step']:,} of {facts['steps']:,}, "
        f"epoch {facts['epoch']}",
        f"loss      {sparkline(train_losses)} {figure_text(facts['loss'], '.3f')}",
        f"best val  {figure_text(facts['best_val_loss'], '.3f')} "
        f"(untuned {figure_text(facts['base_loss'], '.3f')})",
        f"GPU       {figure_text(facts['gpu_percent'], '.0f', ' %')}",
        f"cost      {cost_bar} ${facts['cost_usd']:,.2f} of "
        f"${facts['budget_usd']:,.2f}, {facts['elapsed_hours']:,.1f} billed hours"
        f"{_hours_text(facts, settings)}",
        f"forecast  {forecast}",
        f"gate      {facts['gate'] or _gate_text(facts, settings)}",
        f"red flags {', '.join(f'{flag.name} ({flag.evidence})' for flag in flags) or 'none'}",
    ]
    if facts["cost_usd"] > settings.flag_cost_usd:
        lines.append(f"advice    {advice_on_cost(state)}")
    return "\n".join(lines)


def _hours_a_day(state: CampaignState) -> float | None:
    """Return the billed hours of a day so far, which the forecast goes on with; None on the first day."""
    days = state.totals.training_seconds / DAY
    return round(state.totals.billed_seconds / HOUR / days, 1) if days >= 1 else None


def _hours_text(facts: dict[str, Any], settings: PlaybookConfig) -> str:
    hours = facts["hours_a_day"]
    return "" if hours is None else f" ({hours:g} a day; the plan has {settings.hours_per_day:g})"


def _silence_text(facts: dict[str, Any]) -> str:
    """Return a warning if training should run but no orchestrator has written its state for too long."""
    silent_seconds = facts["silent_seconds"] or 0
    is_too_long = facts["state"] == "running" and silent_seconds > 2 * LINE_INTERVAL
    if not is_too_long:
        return ""
    return f" (last reported {silent_seconds / 60:,.0f} min ago: no orchestrator seems to run)"


def _gate_text(facts: dict[str, Any], settings: PlaybookConfig) -> str:
    fraction = settings.gate_at_fraction
    or_sooner = f", or at {fraction:.0%} of the steps" if fraction else ""
    days = facts["days_to_gate"]
    time_left = f"in {max(0.0, days):.1f} days" if days is not None else ""
    return f"{time_left} (day {settings.week_5_threshold_days:g}{or_sooner})"


def bar(share: float, width: int = 20) -> str:
    """Return a bar of `width` characters that is filled to a share in 0..1."""
    filled = round(width * min(1.0, max(0.0, share)))
    return f"[{'#' * filled}{'.' * (width - filled)}]"


def sparkline(values: list[float], width: int = SPARKLINE_WIDTH) -> str:
    """Draw the values with at most `width` block characters. Each shows the mean of neighbouring values."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(k * len(values) / count) for k in range(count + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(
        BLOCKS[min(7, int(8 * (mean - low) / (high - low)))] if high > low else BLOCKS[0] for mean in means
    )
