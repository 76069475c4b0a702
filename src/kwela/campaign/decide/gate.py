"""Go or no-go, by rules that were written down before.

    fails     any measured rule of the playbook's matrix, or no gain over the untuned model   -> NO-GO
    unknown   a metric that couldn't be measured                                              -> HOLD
    open      an interval that straddles its threshold, a red flag that is up,
              a forecast over the budget                                                      -> CONDITIONAL-GO
    passes    all of them                                                                     -> GO

What fails outweighs what is unknown, what is unknown what is open. Authenticity passes by the lower end of its
interval: a score of 42 % from a dozen clips proves little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from kwela.playbook import Thresholds

GO, CONDITIONAL, NO_GO, HOLD = "GO", "CONDITIONAL-GO", "NO-GO", "HOLD"
BAR = "=" * 50

PHASE_3 = {
    "estimated_phase_3_timeline": "7 months",
    "estimated_phase_3_cost": "$85,000 - $185,000",
}
# The decision matrix: what to do where a rule fails.
ADVICE = {
    "authenticity": "Escalate to Phase 3: Full Amapiano dataset collection",
    "cost": "Budget review: agree to a larger budget or a smaller plan",
    "val loss": "Model issue: look at the learning rate, the data and the base model first",
    "gain over base": "Model issue: training has not improved on the untuned model",
}


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at. Losses in nats, shares in 0..1; None: not measured."""

    days: float  # since the first billed instance
    hours: float  # billed
    cost_usd: float
    val_loss: float | None
    base_loss: float | None  # the untuned model on the same clips
    authenticity: float | None
    interval: tuple[float, float] | None
    why_not: str = ""  # authenticity is None
    flags: tuple[str, ...] = ()  # that are up
    forecast_usd: float | None = None
    budget_usd: float | None = None
    training_days: float | None = None  # of `days`


@dataclass(frozen=True)
class Rule:
    name: str
    outcome: str  # passes, fails, open, unknown
    said: str


@dataclass(frozen=True)
class Verdict:
    verdict: str
    evidence: Evidence
    rules: list[Rule] = field(default_factory=list)

    def those(self, outcome: str) -> list[Rule]:
        return [rule for rule in self.rules if rule.outcome == outcome]

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "evidence": asdict(self.evidence),
            "rules": [asdict(rule) for rule in self.rules],
        }


def decide(evidence: Evidence, limits: Thresholds) -> Verdict:
    """The verdict on `evidence`."""
    rules = [_authenticity(evidence, limits), _cost(evidence, limits), *_loss(evidence, limits)]
    if evidence.flags:
        rules.append(Rule("red flags", "open", f"up: {', '.join(evidence.flags)}"))
    else:
        rules.append(Rule("red flags", "passes", "none is up"))
    if evidence.forecast_usd is not None and evidence.budget_usd is not None:
        over = evidence.forecast_usd > evidence.budget_usd
        said = f"${evidence.forecast_usd:,.2f} at the end, ${evidence.budget_usd:,.2f} agreed"
        rules.append(Rule("forecast", "open" if over else "passes", said))
    for outcome, verdict in (("fails", NO_GO), ("unknown", HOLD), ("open", CONDITIONAL)):
        if any(rule.outcome == outcome for rule in rules):
            return Verdict(verdict, evidence, rules)
    return Verdict(GO, evidence, rules)


def _authenticity(evidence: Evidence, limits: Thresholds) -> Rule:
    name, least = "authenticity", limits.min_authenticity_score
    if evidence.authenticity is None or evidence.interval is None:
        return Rule(name, "unknown", f"not measured: {evidence.why_not or 'no samples were judged'}")
    low, high = evidence.interval
    said = (
        f"{evidence.authenticity:.1%} [{low:.1%} .. {high:.1%}], at least {least:.0%} asked of the lower end"
    )
    outcome = "passes" if low >= least else "open" if evidence.authenticity >= least else "fails"
    return Rule(name, outcome, said)


def _cost(evidence: Evidence, limits: Thresholds) -> Rule:
    said = f"${evidence.cost_usd:,.2f}, at most ${limits.max_cost_usd:,.2f}"
    return Rule("cost", "passes" if evidence.cost_usd <= limits.max_cost_usd else "fails", said)


def _loss(evidence: Evidence, limits: Thresholds) -> list[Rule]:
    loss, base = evidence.val_loss, evidence.base_loss
    if loss is None:
        return [Rule("val loss", "unknown", "not measured: no validation yet")]
    fits = loss <= limits.max_val_loss
    rules = [Rule("val loss", "passes" if fits else "fails", f"{loss:.3f}, at most {limits.max_val_loss:g}")]
    if base is None:
        return [*rules, Rule("gain over base", "unknown", "not measured: no loss of the untuned model")]
    gain = base - loss
    better = gain > 0 and gain >= limits.min_gain_over_base
    said = f"{gain:+.3f} nats (untuned {base:.3f}), at least {limits.min_gain_over_base:g} and above 0"
    return [*rules, Rule("gain over base", "passes" if better else "fails", said)]


def block(verdict: Verdict) -> str:
    """The playbook's printed block, and below its lines what they leave out."""
    seen = verdict.evidence
    lines = [BAR, "WEEK 5 CHECKPOINT: Go/No-Go DECISION POINT", BAR, "Week 5 Metrics:"]
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
        f"  {rule.name}: {marks[rule.outcome]} ({rule.said})"
        for rule in verdict.rules
        if rule.outcome in marks
    ]
    if verdict.verdict == GO:
        lines.append("All metrics PASS ✅")
    return "\n".join([*lines, "", *_closing(verdict), BAR])


def _closing(verdict: Verdict) -> list[str]:
    names = {
        outcome: ", ".join(rule.name for rule in verdict.those(outcome))
        for outcome in ("fails", "unknown", "open")
    }
    if verdict.verdict == GO:
        return ["✅ GO DECISION: Continue to full training", "Metrics meet minimum thresholds"]
    if verdict.verdict == CONDITIONAL:
        return [
            "⚠️ CONDITIONAL-GO DECISION: Continue, conditions are checked daily",
            f"Conditions: {names['open']}",
        ]
    if verdict.verdict == NO_GO:
        return ["❌ NO-GO DECISION: Abort", f"Failed: {names['fails']}", *advice(verdict)]
    return [
        "⏸ HOLD: a metric couldn't be measured",
        f"Not measured: {names['unknown']}",
        "Make it measurable and run again with --gate-now, or go on with --override REASON",
    ]


def advice(verdict: Verdict) -> list[str]:
    """What the decision matrix says of each rule that failed."""
    return [ADVICE[rule.name] for rule in verdict.those("fails")]


def abort_report(verdict: Verdict, now: float) -> dict[str, Any]:
    """abort_report.json. now: unix seconds."""
    seen = verdict.evidence
    failed = verdict.those("fails")
    return {
        "abort_timestamp": datetime.fromtimestamp(now, UTC)
        .replace(tzinfo=None)
        .isoformat(timespec="seconds"),
        "reason": "Week 5 metrics below threshold",
        "metrics": {
            "estimated_authenticity": seen.authenticity,
            "cost_usd": round(seen.cost_usd, 2),
            "best_val_loss": seen.val_loss,
        },
        "recommendation": advice(verdict)[0],
        **PHASE_3,
        "failed_rules": {rule.name: rule.said for rule in failed},
        "evidence": verdict.to_dict(),
        "next_step": "kwela campaign report (drafts of the failure analysis, Phase 3 plan and budget request)",
    }


def _figure(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)


def restore(row: dict[str, Any]) -> Verdict:
    """A verdict from what `to_dict` made of it."""
    told = dict(row["evidence"])
    told["interval"] = tuple(told["interval"]) if told["interval"] else None
    told["flags"] = tuple(told["flags"])
    return Verdict(row["verdict"], Evidence(**told), [Rule(**rule) for rule in row["rules"]])
