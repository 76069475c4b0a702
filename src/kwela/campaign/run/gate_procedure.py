"""Make the gate's decision in a running campaign: measure, decide, record, and end the run if it must end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from kwela import files
from kwela.campaign.decide import gate
from kwela.campaign.decide.gate import GateDecision, GateMeasurements
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.run.campaign_state import CampaignState, best_model
from kwela.campaign.run.commands import CommandRunner, StopRequested
from kwela.campaign.run.evaluation import AuthenticityMeasurement, measure_authenticity
from kwela.campaign.run.running_campaign import CHILD_LOCK, RECHECK, RunningCampaign
from kwela.campaign.run.success_criteria import EVALUATION
from kwela.errors import Hold, Interrupted, NoGo

ABORT_REPORT = "abort_report.json"


def make_gate_decision(campaign: RunningCampaign, why: str) -> None:
    """Let the gate decide (why: GATE), or check the conditions of a CONDITIONAL-GO again (why: RECHECK).

    Raises NoGo or Hold after such a verdict is recorded, and what `measure` raises.
    """
    authenticity = measure(campaign)
    state = campaign.read_state()
    measurements = gate_measurements(state, authenticity, campaign.monitor.flag_log.up)
    decision = gate.decide(measurements, campaign.settings.go_nogo_thresholds)
    if why == RECHECK and decision.verdict == gate.HOLD:  # nothing new is known, so the conditions stay
        unknown = ", ".join(rule.explanation for rule in decision.rules_that("unknown"))
        campaign.log.say(f"Daily check: not measured: {unknown}")
        decision = replace(decision, verdict=gate.CONDITIONAL)
    campaign.ledger.record("gate", **decision.to_json(), why=why, step=state.curve.step)
    campaign.log.say(gate.decision_text(decision))
    campaign.notify(f"gate: {decision.verdict}")
    campaign.write_state_file()
    if decision.verdict == gate.NO_GO:
        write_abort_report(campaign, decision, campaign.ledger.campaign_time())
        campaign.end_span("gate: NO-GO")
        raise NoGo(f"NO-GO: {_explanations(decision, 'fails')}; see {campaign.folder / ABORT_REPORT}")
    if decision.verdict == gate.HOLD:
        campaign.end_span("gate: HOLD")
        unknown = _explanations(decision, "unknown")
        raise Hold(f"HOLD at step {state.curve.step}, checkpointed: {unknown}")


def measure(campaign: RunningCampaign) -> AuthenticityMeasurement:
    """Make and judge samples of the best weights so far. Raises BudgetSpent or Interrupted."""

    def must_stop() -> bool:
        return campaign.stop_requested.is_set() or campaign.only_reserve_is_left()

    lock = campaign.folder / CHILD_LOCK
    runner = CommandRunner(lock, campaign.wait, must_stop, campaign.grace, campaign.do_periodic_work)
    campaign.log.say("Making and judging samples...")
    folder, model = campaign.folder / EVALUATION, best_model(campaign.folder)
    try:
        return measure_authenticity(campaign.settings.evaluation, campaign.commands, folder, model, runner)
    except StopRequested:
        campaign.check_budget()
        campaign.end_span(campaign.stop_reason)
        raise Interrupted(
            f"{campaign.stop_reason} while samples were judged: run the same command again (--resume)"
        ) from None


def gate_measurements(
    state: CampaignState, authenticity: AuthenticityMeasurement, flags: Iterable[str]
) -> GateMeasurements:
    """Return the figures that the gate decides on. flags: the names of those that are up."""
    totals = state.totals
    return GateMeasurements(
        days=totals.days,
        hours=totals.billed_seconds / HOUR,
        cost_usd=totals.usd,
        val_loss=state.curve.best_val_loss,
        base_loss=state.curve.base,
        authenticity=authenticity.authenticity,
        interval=authenticity.interval,
        why_not=authenticity.why_not,
        flags=tuple(sorted(flags)),
        forecast_usd=state.forecast_usd,
        budget_usd=totals.budget_usd,
        training_days=totals.training_seconds / DAY,
    )


def write_abort_report(campaign: RunningCampaign, decision: GateDecision, at: float) -> None:
    """Write `abort_report.json`. at: unix seconds of the decision."""
    report = gate.abort_report(decision, at)
    content = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    files.write(campaign.folder / ABORT_REPORT, content)


def _explanations(decision: GateDecision, outcome: str) -> str:
    return "; ".join(f"{rule.name} {rule.explanation}" for rule in decision.rules_that(outcome))
