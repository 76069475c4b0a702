"""The gate decides by its rules alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kwela.campaign import gate
from kwela.campaign.gate import Evidence, decide
from kwela.playbook import Thresholds

LIMITS = Thresholds()
GOOD = Evidence(35.0, 700.0, 298.0, 2.834, 3.1, 0.45, (0.37, 0.53), forecast_usd=462.0, budget_usd=500.0)
PLAYBOOK = Evidence(35.0, 840.0, 1092.00, 2.834, 5.2, 0.423, (0.36, 0.49))  # "All metrics PASS" there


@pytest.mark.parametrize(
    ("change", "verdict", "rule"),
    [
        ({}, gate.GO, None),
        ({"interval": (0.31, 0.6)}, gate.CONDITIONAL, "authenticity"),
        ({"authenticity": 0.28, "interval": (0.2, 0.38)}, gate.NO_GO, "authenticity"),
        ({"authenticity": None, "interval": None, "why_not": "refused"}, gate.HOLD, "authenticity"),
        ({"cost_usd": 600.01}, gate.NO_GO, "cost"),
        ({"cost_usd": 600.0}, gate.GO, None),
        ({"val_loss": 3.6, "base_loss": 4.0}, gate.NO_GO, "val loss"),
        ({"val_loss": None}, gate.HOLD, "val loss"),
        ({"base_loss": 2.8}, gate.NO_GO, "gain over base"),
        ({"base_loss": None}, gate.HOLD, "gain over base"),
        ({"flags": ["gpu_idle"]}, gate.CONDITIONAL, "red flags"),
        ({"forecast_usd": 501.0}, gate.CONDITIONAL, "forecast"),
        ({"authenticity": None, "interval": None, "cost_usd": 700.0}, gate.NO_GO, "cost"),
        ({"authenticity": None, "interval": None, "flags": ["nan"]}, gate.HOLD, "authenticity"),
    ],
)
def test_each_rule_decides_as_written(change: dict, verdict: str, rule: str | None) -> None:
    found = decide(replace(GOOD, **change), LIMITS)
    assert found.verdict == verdict
    outcome = {gate.NO_GO: "fails", gate.HOLD: "unknown", gate.CONDITIONAL: "open"}.get(verdict)
    assert [one.name for one in found.rules if one.outcome == outcome] == ([rule] if rule else [])


def test_the_playbooks_own_example_is_a_no_go_on_cost_alone() -> None:
    found = decide(PLAYBOOK, LIMITS)
    assert found.verdict == gate.NO_GO and [rule.name for rule in found.those("fails")] == ["cost"]
    text = gate.block(found)
    assert (
        "  Elapsed: 35.0 days (840.0 hours)\n  Cost: $1,092.00\n  Best Val Loss: 2.834\n  Est. Authenticity: 42.3%"
        in text
    )
    assert "PASS" not in text and "$1,092.00, at most $600.00" in text


def test_without_that_cost_it_would_pass() -> None:
    assert decide(replace(PLAYBOOK, cost_usd=592.0), LIMITS).verdict == gate.GO


def test_the_printed_block_of_a_go_has_the_playbooks_lines() -> None:
    text = gate.block(decide(GOOD, LIMITS))
    bar = "=" * 50
    assert text.startswith(f"{bar}\nWEEK 5 CHECKPOINT: Go/No-Go DECISION POINT\n{bar}\nWeek 5 Metrics:\n")
    closing = "All metrics PASS ✅\n\n✅ GO DECISION: Continue to full training\nMetrics meet minimum thresholds\n"
    assert text.endswith(f"Evaluating thresholds...\n{closing}{bar}")


def test_an_abort_report_has_the_playbooks_keys_and_survives_json() -> None:
    found = decide(
        replace(GOOD, authenticity=0.28, interval=(0.2, 0.37), cost_usd=458.5, val_loss=3.2, base_loss=3.5), LIMITS
    )
    report = json.loads(json.dumps(gate.abort_report(found, 1738160580.0), allow_nan=False))
    assert report["abort_timestamp"] == "2025-01-29T14:23:00"
    assert report["metrics"] == {"estimated_authenticity": 0.28, "cost_usd": 458.5, "best_val_loss": 3.2}
    assert report["recommendation"] == "Escalate to Phase 3: Full Amapiano dataset collection"
    assert list(report["failed_rules"]) == ["authenticity"]
    assert gate.restore(report["evidence"]) == found
