"""Decide GO or NO-GO by rules that were written down before the campaign began.

    fails     a rule of the playbook's matrix that was measured, or no gain over the untuned model   -> NO-GO
    unknown   a metric that couldn't be measured                                                     -> HOLD
    open      an interval that straddles its threshold, a red flag that is up, a forecast over the budget
    -> CONDITIONAL-GO
    passes    all of them                                                                            -> GO

The first of these outcomes that any rule has decides. Authenticity passes by the lower end of its interval,
because a score of 42 % from a dozen clips proves little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from kwela.playbook import Thresholds

GO, CONDITIONAL, NO_GO, HOLD = "GO", "CONDITIONAL-GO", "NO-GO", "HOLD"
SEPARATOR = "=" * 50

PHASE_3 = {
    "estimated_phase_3_timeline": "7 months",
    "estimated_phase_3_cost": "$85,000 - $185,000",
}
NEXT_STEP = "kwela campaign report (drafts of the failure analysis, Phase 3 plan and budget request)"
# The playbook's decision matrix: what to do where a rule fails.
ACTIONS = {
    "authenticity": "Escalate to Phase 3: Full Amapiano dataset collection",
    "cost": "Budget review: agree to a larger budget or a smaller plan",
    "val loss": "Model issue: look at the learning rate, the data and the base model first",
    "gain over base": "Model issue: training has not improved on the untuned model",
}


@dataclass(frozen=True)
class GateMeasurements:
    """The figures that the gate decides on. Losses are in nats, shares in 0..1; None means not measured."""

    days: float  # since the first billed instance
    hours: float  # billed
    cost_usd: float
    val_loss: float | None
    base_loss: float | None  # of the untuned model on the same clips
    authenticity: float | None
    interval: tuple[float, float] | None  # of authenticity, 95 %
    why_not: str = ""  # why authenticity is None
    flags: tuple[str, ...] = ()  # the red flags that are up
    forecast_usd: float | None = None
    budget_usd: float | None = None
    training_days: float | None = None  # of `days`


@dataclass(frozen=True)
class RuleResult:
    """What one rule came to. outcome: passes, fails, open or unknown."""

    name: str
    outcome: str
    explanation: str


@dataclass(frozen=True)
class GateDecision:
    """A verdict with the measurements and the rules that it rests on."""

    verdict: str
    measurements: GateMeasurements
    rules: list[RuleResult] = field(default_factory=list)

    def rules_that(self, outcome: str) -> list[RuleResult]:
        """Return the rules with this outcome."""
        return [rule for rule in self.rules if rule.outcome == outcome]

    def to_json(self) -> dict[str, Any]:
        """Return the decision as the ledger and `abort_report.json` hold it."""
        rules = [
            {"name": rule.name, "outcome": rule.outcome, "said": rule.explanation} for rule in self.rules
        ]
        return {"verdict": self.verdict, "evidence": asdict(self.measurements), "rules": rules}


_MEASUREMENTS = TypeAdapter(GateMeasurements)


def from_json(row: dict[str, Any]) -> GateDecision:
    """Return the decision that `GateDecision.to_json` wrote. Raises ValueError for wrong types."""
    rules = [RuleResult(rule["name"], rule["outcome"], rule["said"]) for rule in row["rules"]]
    return GateDecision(row["verdict"], _MEASUREMENTS.validate_python(row["evidence"]), rules)


def decide(measurements: GateMeasurements, limits: Thresholds) -> GateDecision:
    """Apply every rule to the measurements and return the decision."""
    rules = [
        _authenticity(measurements, limits),
        _cost(measurements, limits),
        *_loss(measurements, limits),
        _red_flags(measurements),
        *_forecast(measurements),
    ]
    outcomes = {rule.outcome for rule in rules}
    for outcome, verdict in (("fails", NO_GO), ("unknown", HOLD), ("open", CONDITIONAL)):
        if outcome in outcomes:
            return GateDecision(verdict, measurements, rules)
    return GateDecision(GO, measurements, rules)


def _authenticity(measurements: GateMeasurements, limits: Thresholds) -> RuleResult:
    name, threshold = "authenticity", limits.min_authenticity_score
    score, interval = measurements.authenticity, measurements.interval
    if score is None or interval is None:
        reason = measurements.why_not or "no samples were judged"
        return RuleResult(name, "unknown", f"not measured: {reason}")
    low, high = interval
    explanation = f"{score:.1%} [{low:.1%} .. {high:.1%}], the lower end must be at least {threshold:.0%}"
    outcome = "passes" if low >= threshold else "open" if score >= threshold else "fails"
    return RuleResult(name, outcome, explanation)


def _cost(measurements: GateMeasurements, limits: Thresholds) -> RuleResult:
    explanation = f"${measurements.cost_usd:,.2f}, at most ${limits.max_cost_usd:,.2f}"
    outcome = "passes" if measurements.cost_usd <= limits.max_cost_usd else "fails"
    return RuleResult("cost", outcome, explanation)


def _loss(measurements: GateMeasurements, limits: Thresholds) -> list[RuleResult]:
    loss, base_loss = measurements.val_loss, measurements.base_loss
    if loss is None:
        return [RuleResult("val loss", "unknown", "not measured: no validation yet")]
    outcome = "passes" if loss <= limits.max_val_loss else "fails"
    val_loss = RuleResult("val loss", outcome, f"{loss:.3f}, at most {limits.max_val_loss:g}")
    if base_loss is None:
        unknown = RuleResult("gain over base", "unknown", "not measured: no loss of the untuned model")
        return [val_loss, unknown]
    gain, least = base_loss - loss, limits.min_gain_over_base
    outcome = "passes" if gain > 0 and gain >= least else "fails"
    explanation = f"{gain:+.3f} nats (untuned {base_loss:.3f}), at least {least:g} and above 0"
    return [val_loss, RuleResult("gain over base", outcome, explanation)]


def _red_flags(measurements: GateMeasurements) -> RuleResult:
    if measurements.flags:
        return RuleResult("red flags", "open", f"up: {', '.join(measurements.flags)}")
    return RuleResult("red flags", "passes", "none is up")


def _forecast(measurements: GateMeasurements) -> list[RuleResult]:
    forecast, budget = measurements.forecast_usd, measurements.budget_usd
    if forecast is None or budget is None:
        return []
    explanation = f"${forecast:,.2f} at the end, ${budget:,.2f} agreed"
    return [RuleResult("forecast", "open" if forecast > budget else "passes", explanation)]


def decision_text(decision: GateDecision) -> str:
    """Return the block that the playbook prints, and below each of its parts what they leave out."""
    seen = decision.measurements
    lines = [SEPARATOR, "WEEK 5 CHECKPOINT: Go/No-Go DECISION POINT", SEPARATOR, "Week 5 Metrics:"]
    lines += [f"  Elapsed: {seen.days:.1f} days ({seen.hours:,.1f} hours)", f"  Cost: ${seen.cost_usd:,.2f}"]
    lines.append(f"  Best Val Loss: {_figure(seen.val_loss, '.3f')}")
    lines.append(f"  Est. Authenticity: {_figure(seen.authenticity, '.1%')}")
    if seen.training_days is not None:
        lines.append(f"  Training: {seen.training_days:.1f} days of these")
    if seen.interval:
        lines.append(f"  95% Interval: {seen.interval[0]:.1%} .. {seen.interval[1]:.1%}")
    lines += [f"  Untuned Val Loss: {_figure(seen.base_loss, '.3f')}", "", "Evaluating thresholds..."]
    marks = {"fails": "FAIL ❌", "unknown": "NOT MEASURED", "open": "OPEN"}
    lines += [
        f"  {rule.name}: {marks[rule.outcome]} ({rule.explanation})"
        for rule in decision.rules
        if rule.outcome in marks
    ]
    if decision.verdict == GO:
        lines.append("All metrics PASS ✅")
    return "\n".join([*lines, "", *_closing_lines(decision), SEPARATOR])


def _closing_lines(decision: GateDecision) -> list[str]:
    failed, unknown, open_ = (
        ", ".join(rule.name for rule in decision.rules_that(outcome))
        for outcome in ("fails", "unknown", "open")
    )
    if decision.verdict == GO:
        return ["✅ GO DECISION: Continue to full training", "Metrics meet minimum thresholds"]
    if decision.verdict == CONDITIONAL:
        return [
            "⚠️ CONDITIONAL-GO DECISION: Continue, conditions are checked daily",
            f"Conditions: {open_}",
        ]
    if decision.verdict == NO_GO:
        return ["❌ NO-GO DECISION: Abort", f"Failed: {failed}", *recommended_actions(decision)]
    return [
        "⏸ HOLD: a metric couldn't be measured",
        f"Not measured: {unknown}",
        "Make it measurable and run again with --gate-now, or go on with --override REASON",
    ]


def recommended_actions(decision: GateDecision) -> list[str]:
    """Return what the decision matrix says of each rule that failed."""
    return [ACTIONS[rule.name] for rule in decision.rules_that("fails")]


def abort_report(decision: GateDecision, now: float) -> dict[str, Any]:
    """Return the content of `abort_report.json`. now: unix seconds."""
    measurements = decision.measurements
    time = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    return {
        "abort_timestamp": time.isoformat(timespec="seconds"),
        "reason": "Week 5 metrics below threshold",
        "metrics": {
            "estimated_authenticity": measurements.authenticity,
            "cost_usd": round(measurements.cost_usd, 2),
            "best_val_loss": measurements.val_loss,
        },
        "recommendation": recommended_actions(decision)[0],
        **PHASE_3,
        "failed_rules": {rule.name: rule.explanation for rule in decision.rules_that("fails")},
        "evidence": decision.to_json(),
        "next_step": NEXT_STEP,
    }


def _figure(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)
