"""The gate decides by its rules alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kwela.campaign.decide import gate
from kwela.campaign.decide.gate import GateMeasurements, decide
from kwela.playbook import Thresholds

LIMITS = Thresholds()
GOOD = GateMeasurements(
    35.0, 700.0, 298.0, 2.834, 3.1, 0.45, (0.37, 0.53), forecast_usd=462.0, budget_usd=500.0
)
PLAYBOOK = GateMeasurements(35.0, 840.0, 1092.00, 2.834, 5.2, 0.423, (0.36, 0.49))  # "All metrics PASS" there


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


@pytest.mark.parametrize(
    ("change", "name", "outcome"),
    [
        ({"interval": (0.35, 0.5)}, "authenticity", "passes"),
        ({"interval": (0.349, 0.5)}, "authenticity", "open"),
        ({"authenticity": 0.35, "interval": (0.3, 0.4)}, "authenticity", "open"),
        ({"authenticity": 0.349, "interval": (0.3, 0.4)}, "authenticity", "fails"),
        ({"interval": None}, "authenticity", "unknown"),
        ({"authenticity": None}, "authenticity", "unknown"),
        ({"val_loss": 3.5, "base_loss": 4.0}, "val loss", "passes"),
        ({"val_loss": 3.501, "base_loss": 4.0}, "val loss", "fails"),
        ({"base_loss": 2.834}, "gain over base", "fails"),
        ({"base_loss": 2.835}, "gain over base", "passes"),
        ({"forecast_usd": 500.0}, "forecast", "passes"),
        ({"forecast_usd": 500.01}, "forecast", "open"),
    ],
)
def test_a_figure_on_its_threshold_counts_as_is_written(change: dict, name: str, outcome: str) -> None:
    rules = {rule.name: rule.outcome for rule in decide(replace(GOOD, **change), LIMITS).rules}
    assert rules[name] == outcome


def test_a_gain_that_is_asked_for_must_be_reached() -> None:
    asked = Thresholds(min_gain_over_base=0.25)
    for base, outcome in ((3.25, "passes"), (3.24, "fails")):
        rules = {
            rule.name: rule.outcome
            for rule in decide(replace(GOOD, val_loss=3.0, base_loss=base), asked).rules
        }
        assert rules["gain over base"] == outcome


@pytest.mark.parametrize("unknown", ["forecast_usd", "budget_usd"])
def test_without_a_forecast_or_a_budget_the_two_are_not_compared(unknown: str) -> None:
    rules = decide(replace(GOOD, **{unknown: None}), LIMITS).rules
    assert [rule.name for rule in rules] == [
        "authenticity",
        "cost",
        "val loss",
        "gain over base",
        "red flags",
    ]


def test_rules_say_the_figures_and_the_thresholds() -> None:
    said = {
        rule.name: rule.explanation for rule in decide(replace(GOOD, flags=("nan", "gpu_idle")), LIMITS).rules
    }
    assert (
        "45.0%" in said["authenticity"]
        and "37.0% .. 53.0%" in said["authenticity"]
        and "35%" in said["authenticity"]
    )
    assert "+0.266" in said["gain over base"] and "3.100" in said["gain over base"]
    assert "2.834" in said["val loss"] and "3.5" in said["val loss"]
    assert (
        "$462.00" in said["forecast"]
        and "$500.00" in said["forecast"]
        and "nan, gpu_idle" in said["red flags"]
    )
    unknown = replace(GOOD, authenticity=None, interval=None)
    assert "no samples" in decide(unknown, LIMITS).rules[0].explanation
    assert "too few clips" in decide(replace(unknown, why_not="too few clips"), LIMITS).rules[0].explanation


def test_the_block_shows_what_is_known_and_names_what_decided() -> None:
    whole = gate.decision_text(decide(replace(GOOD, training_days=30.25), LIMITS))
    assert (
        "Training: 30.2 days" in whole
        and "95% Interval: 37.0% .. 53.0%" in whole
        and "Untuned Val Loss: 3.100" in whole
    )
    unknown = gate.decision_text(
        decide(replace(GOOD, authenticity=None, interval=None, val_loss=None), LIMITS)
    )
    assert "Training:" not in unknown and "95% Interval" not in unknown
    assert "Best Val Loss: not measured" in unknown and "authenticity: NOT MEASURED" in unknown
    assert "HOLD" in unknown and "Not measured: authenticity, val loss" in unknown
    opened = gate.decision_text(decide(replace(GOOD, flags=("nan",), forecast_usd=501.0), LIMITS))
    assert (
        "Conditions: red flags, forecast" in opened and "forecast: OPEN" in opened and "cost:" not in opened
    )
    failed = gate.decision_text(decide(replace(GOOD, cost_usd=601.0, val_loss=4.0), LIMITS))
    assert "Failed: cost, val loss, gain over base" in failed and "cost: FAIL" in failed
    assert all(gate.ACTIONS[name] in failed for name in ("cost", "val loss", "gain over base"))


@pytest.mark.parametrize("change", [{}, {"authenticity": None, "interval": None}, {"flags": ("nan",)}])
def test_a_verdict_comes_back_from_its_json(change: dict) -> None:
    found = decide(replace(GOOD, **change), LIMITS)
    assert gate.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_playbooks_own_example_is_a_no_go_on_cost_alone() -> None:
    found = decide(PLAYBOOK, LIMITS)
    assert found.verdict == gate.NO_GO and [rule.name for rule in found.rules_that("fails")] == ["cost"]
    text = gate.decision_text(found)
    assert (
        "  Elapsed: 35.0 days (840.0 hours)\n  Cost: $1,092.00\n  Best Val Loss: 2.834\n  Est. Authenticity: 42.3%"
        in text
    )
    assert "PASS" not in text and "$1,092.00, at most $600.00" in text


def test_without_that_cost_it_would_pass() -> None:
    assert decide(replace(PLAYBOOK, cost_usd=592.0), LIMITS).verdict == gate.GO


def test_the_printed_block_of_a_go_has_the_playbooks_lines() -> None:
    text = gate.decision_text(decide(GOOD, LIMITS))
    bar = "=" * 50
    assert text.startswith(f"{bar}\nWEEK 5 CHECKPOINT: Go/No-Go DECISION POINT\n{bar}\nWeek 5 Metrics:\n")
    closing = (
        "All metrics PASS ✅\n\n✅ GO DECISION: Continue to full training\nMetrics meet minimum thresholds\n"
    )
    assert text.endswith(f"Evaluating thresholds...\n{closing}{bar}")


def test_an_abort_report_has_the_playbooks_keys_and_survives_json() -> None:
    found = decide(
        replace(GOOD, authenticity=0.28, interval=(0.2, 0.37), cost_usd=458.567, val_loss=3.2, base_loss=3.5),
        LIMITS,
    )
    report = json.loads(json.dumps(gate.abort_report(found, 1738160580.0), allow_nan=False))
    assert report["abort_timestamp"] == "2025-01-29T14:23:00"
    assert report["metrics"] == {"estimated_authenticity": 0.28, "cost_usd": 458.57, "best_val_loss": 3.2}
    assert report["recommendation"] == "Escalate to Phase 3: Full Amapiano dataset collection"
    assert list(report["failed_rules"]) == ["authenticity"]
    assert gate.from_json(report["evidence"]) == found
