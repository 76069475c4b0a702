"""What a campaign would cost, before it starts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_campaign import config

from kwela import playbook
from kwela.campaign.decide import gate
from kwela.campaign.money import contradictions, plan, scenarios, simulate
from kwela.campaign.run import readiness
from kwela.machines.aws import instance
from kwela.machines.aws import prices as aws_prices
from kwela.machines.aws.account import AwsAccount
from kwela.machines.provider import Machine, MachineState
from kwela.playbook import PlaybookConfig


def settings(**changes: Any) -> PlaybookConfig:
    return playbook.load().model_copy(update=changes)


def by_way(made: plan.Plan) -> dict[tuple[str, str, float], plan.RentalOption]:
    return {(row.prices, row.market, row.hours_a_day): row for row in made.rows}


def test_the_playbooks_plan_of_days_costs_what_its_prices_say() -> None:
    playbook_config = settings(disk_gb=0, setup_cost_usd=0)
    rows = by_way(plan.make_plan(playbook_config, plan.Workload(None, "days"), None))
    fetched = plan.DOWNLOAD_GB * 0.09
    assert plan.make_plan(playbook_config, plan.Workload(None, "days"), None).transfer_usd == fetched
    assert rows["playbook", "on-demand", 24].usd[1] == pytest.approx(56 * 24 * 1.30 + fetched)
    assert rows["playbook", "spot", 20].usd[1] == pytest.approx(56 * 20 * 0.39 + fetched)
    assert rows["list", "on-demand", 24].usd[1] == pytest.approx(56 * 24 * 0.526 + fetched)


def test_the_largest_plan_that_fits_does_and_the_next_does_not() -> None:
    playbook_config = settings(disk_gb=0)
    row = by_way(plan.make_plan(playbook_config, plan.workload_of_hours(1000, "a probe"), 1500))[
        "playbook", "on-demand", 24
    ]
    assert row.fits == "no" and 0 < row.epochs < 20
    reserve = 1.30 * playbook_config.reserve_minutes / 60
    fixed = 25 + plan.DOWNLOAD_GB * 0.09
    assert fixed + 1300 * row.epochs / 20 + reserve <= 500 < fixed + 1300 * (row.epochs + 1) / 20 + reserve


def test_hours_from_a_given_speed_have_a_range() -> None:
    work = plan.workload_at_speed(settings(), 1500, 2.0)
    assert work.hours == pytest.approx((10 * 1500 / 3600 * 0.8, 10 * 1500 / 3600, 10 * 1500 / 3600 * 1.2))


def test_spot_hours_have_three_percent_of_repeated_work_and_on_demand_hours_none() -> None:
    rows = by_way(plan.make_plan(settings(disk_gb=0), plan.workload_of_hours(100, "a probe"), 1500))
    assert rows["playbook", "on-demand", 24].hours == pytest.approx((80, 100, 120))
    for prices, hours_a_day in (("playbook", 24), ("playbook", 20), ("list", 20)):
        assert rows[prices, "spot", hours_a_day].hours == pytest.approx((82.4, 103, 123.6))
    assert rows["playbook", "spot", 20].usd[1] == pytest.approx(25 + 5 * 0.09 + 103 * 0.39)
    planned = by_way(plan.make_plan(settings(), plan.Workload(None, "days"), None))
    assert planned["playbook", "spot", 20].hours == (1120, 1120, 1120), "the plan's days have it in them"


def only_row(playbook_config: PlaybookConfig, hours: float) -> plan.RentalOption:
    """The playbook's on-demand row of a measured plan of `hours`."""
    return by_way(plan.make_plan(playbook_config, plan.workload_of_hours(hours, "a probe"), 1500))[
        "playbook", "on-demand", 24
    ]


def test_a_row_by_hand() -> None:
    row = only_row(settings(), 96)  # four days at $1.30; 500 GB cost $40 a month of 30 days
    assert row.days == pytest.approx((3.2, 4, 4.8)) and row.rate == 1.30
    assert row.disk_usd == pytest.approx(4 * 40 / 30)
    assert row.usd == pytest.approx(
        tuple(25 + 5 * 0.09 + days * (24 * 1.30 + 40 / 30) for days in (3.2, 4, 4.8))
    )
    assert (row.fits, row.epochs) == ("yes", 20)


def test_what_fits_is_judged_by_the_high_and_the_low_figure() -> None:
    low, likely, high = only_row(settings(), 96).usd
    fits = [
        only_row(settings(budget_usd=usd), 96).fits for usd in (high, high - 0.01, likely, low, low - 0.01)
    ]
    assert fits == ["yes", "perhaps", "perhaps", "perhaps", "no"]


def test_the_largest_plan_keeps_the_reserve_back() -> None:
    likely = only_row(settings(), 96).usd[1]
    reserve = 1.30 * 150 / 60
    whole, half = likely + reserve, 25.45 + (likely - 25.45) / 2 + reserve
    epochs = [
        only_row(settings(budget_usd=usd), 96).epochs
        for usd in (whole + 50, whole, whole - 0.1, half, half - 0.1)
    ]
    assert epochs == [20, 20, 19, 10, 9]
    assert only_row(settings(budget_usd=20.0), 96).epochs == 0


def test_steps_are_whole_batches_of_accumulated_gradients() -> None:
    assert plan.planned_steps(settings(), 1500) == 20 * 47  # of 32 clips
    assert plan.planned_steps(settings(), 1504) == 20 * 47 and plan.planned_steps(settings(), 1505) == 20 * 48
    assert plan.planned_steps(settings(), None) == 20 * 250
    assert plan.make_plan(settings(), plan.Workload(None, "days"), 1500).steps == 940
    assert plan.make_plan(settings(), plan.workload_of_hours(9, "a probe", 123), 1500).steps == 123


def test_gates_in_days_have_their_cost_worked_out() -> None:
    on_demand = 25.45 + 35 * (24 * 1.30 + 40 / 30)  # $1,164 at the gate of day 35
    (why,) = only_row(settings(budget_usd=on_demand - 1), 24 * 40).unreachable
    assert f"it has cost ${on_demand:,.0f}" in why and "is spent on day 35.0" in why
    generous = settings(budget_usd=2000.0)
    limits = generous.go_nogo_thresholds
    for most, flag, said in (
        (on_demand - 1, 400.0, [f"${on_demand - 1:,.0f}: a NO-GO is certain"]),
        (on_demand + 1, on_demand - 1, [f"past the red flag of ${on_demand - 1:,.0f}"]),
        (on_demand + 1, on_demand + 1, []),
    ):
        playbook_config = generous.model_copy(
            update={
                "go_nogo_thresholds": limits.model_copy(update={"max_cost_usd": most}),
                "flag_cost_usd": flag,
            }
        )
        reasons = only_row(playbook_config, 24 * 40).unreachable
        assert len(reasons) == len(said) and all(part in why for part, why in zip(said, reasons, strict=True))
    assert (
        only_row(generous.model_copy(update={"flag_cost_usd": 1e9}), 24 * 35).unreachable[0].count("NO-GO")
        == 1
    )


def test_a_gate_at_a_fraction_comes_when_that_is_sooner() -> None:
    half = settings(gate_at_fraction=0.5, flag_cost_usd=0.0, budget_usd=5000.0)
    assert "(day 20)" in only_row(half, 24 * 40).unreachable[0]
    late = settings(gate_at_fraction=0.95, flag_cost_usd=0.0, budget_usd=5000.0)
    assert "(day 35)" in only_row(late, 24 * 40).unreachable[0]


def test_the_billing_alarm_and_the_gates_limit_are_compared_with_the_budget() -> None:
    warned = [
        plan.make_plan(settings(budget_usd=usd), plan.Workload(None, "days"), 1500).warnings
        for usd in (599.99, 600.0)
    ]
    assert [sum("billing alarm" in why for why in warnings) for warnings in warned] == [1, 0]
    assert [sum("can never fail" in why for why in warnings) for warnings in warned] == [1, 0]


def test_gates_that_cannot_be_reached_are_named() -> None:
    days = plan.make_plan(settings(), plan.Workload(None, "days"), None)
    reasons = by_way(days)["playbook", "on-demand", 24].unreachable
    assert any("the budget of $500 is spent on day 14.6" in why for why in reasons)
    assert not any("a NO-GO is certain" in why for why in reasons)  # the money is gone before
    rich = plan.make_plan(settings(budget_usd=2000.0), plan.Workload(None, "days"), None)
    assert any("a NO-GO is certain" in why for why in by_way(rich)["playbook", "on-demand", 24].unreachable)
    short = by_way(plan.make_plan(settings(), plan.workload_of_hours(80, "a probe"), 1500))[
        "list", "spot", 24
    ].unreachable
    assert "before the gate of day 35" in short[0]
    early = by_way(
        plan.make_plan(settings(gate_at_fraction=0.5), plan.workload_of_hours(80, "a probe"), 1500)
    )["list", "spot", 24]
    assert early.unreachable == []


def test_what_holds_of_every_way_to_rent_is_said_once() -> None:
    playbook_config = settings()
    said = plan.plan_text(
        plan.make_plan(playbook_config, plan.workload_of_hours(80, "a probe"), 1500), playbook_config
    )
    assert said.count("before the gate of day 35: the gate then decides at its end") == 1
    some = plan.plan_text(
        plan.make_plan(playbook_config, plan.workload_of_hours(750, "a probe"), 1500), playbook_config
    )
    assert (
        "playbook, on-demand, 24 h/day; playbook, spot, 24 h/day; list, on-demand, 24 h/day; list, spot"
        in some
    )


def test_a_plan_says_whose_clips_and_whose_prices_it_counts() -> None:
    playbook_config = settings()
    here = plan.plan_text(plan.make_plan(playbook_config, plan.Workload(None, "days"), 85), playbook_config)
    assert f"85 training clips of {playbook_config.dataset_dir} (the playbook's set has 7,982)" in here
    assert "a campaign is billed by the rows 'playbook': gpu_cost_per_hour" in here
    none = plan.plan_text(plan.make_plan(playbook_config, plan.Workload(None, "days"), None), playbook_config)
    assert f"no data set in {playbook_config.dataset_dir} yet: the playbook's 7,982 training clips" in none


def test_a_gate_cost_above_the_budget_is_only_a_warning() -> None:
    made = plan.make_plan(settings(), plan.Workload(None, "days"), None)
    assert any("the gate lets $600 pass, the budget is $500" in warning for warning in made.warnings)
    roomy = plan.make_plan(settings(budget_usd=700.0), plan.Workload(None, "days"), None)
    assert not any("budget" in warning for warning in roomy.warnings)
    json.dumps(made.to_dict(), allow_nan=False)


def test_a_plan_that_can_reach_no_go_for_want_of_music_says_so(tmp_path: Path) -> None:
    shipped = plan.make_plan(settings(), plan.Workload(None, "days"), None)
    assert shipped.warnings[-1].endswith("the gate can't measure it: evaluation.reference_dir: not set")
    with_music = playbook.load(config(tmp_path))
    with_music.evaluation.samples = 6
    assert plan.make_plan(with_music, plan.Workload(None, "days"), None).warnings == []


def test_the_time_of_the_gates_clips_stands_beside_the_hours() -> None:
    playbook_config = settings()
    made = plan.make_plan(playbook_config, plan.Workload(None, "days"), None)
    assert made.gate_hours == pytest.approx((2 * 82 * 60 / 3600, 2 * 82 * 120 / 3600))
    assert "not in the hours: 2.7 to 5.5 for the gate's 82 tuned and 82 untuned clips" in plan.plan_text(
        made, playbook_config
    )


def test_the_three_scenarios_are_the_playbooks_within_two_percent() -> None:
    playbook_config = scenarios.scenarios(settings())
    printed = {"optimistic": 1772, "realistic": 437, "pessimistic": 273, "optimistic_on_spot": 520}
    assert playbook_config == {name: pytest.approx(usd, rel=0.02) for name, usd in printed.items()}


def test_the_exclusions_follow_from_the_figures() -> None:
    shipped = [one.figures for one in contradictions.contradictions(settings())]
    assert any("$1,092.00, all metrics pass" in figures for figures in shipped) and len(shipped) >= 10
    why = {one.figures: one.why for one in contradictions.contradictions(settings())}
    assert why["training: 56 days x 24 h, $1,747; it starts on day 8"].endswith("there are 49 days: $1,529")
    saved = why["NO-GO saves $227 of the full training; that costs $437"]
    assert saved == "$500 - $273 is of what was agreed; of the training it is $164"
    cheap = settings(
        gpu_cost_per_hour=0.3, budget_usd=800.0, plan_days=28.0, week_5_threshold_days=21.0, setup_cost_usd=0
    )
    sound = [one.figures for one in contradictions.contradictions(cheap)]
    assert not any(
        word in figures for figures in sound for word in ("budget", "timeline", "red flag", "setup")
    )


def test_simulated_campaigns_never_overspend_and_say_how_they_end() -> None:
    result = simulate.simulate(settings(), "spot", 200)
    assert result["over_budget"] == 0 and sum(result["outcomes"].values()) == pytest.approx(1)
    assert result["cost"]["p5"] < result["cost"]["p50"] < result["cost"]["p95"] <= 500
    assert result["outcomes"][gate.NO_GO] > 0 and result["outcomes"][gate.CONDITIONAL] > 0
    assert result == simulate.simulate(settings(), "spot", 200)
    json.dumps(result, allow_nan=False)
    assert simulate.simulation_text(result).startswith(
        "Drawn, not known: authentic share 20-55 %, untuned loss 3.5 ± 0.2, gain 0.10 ± 0.06 nats, 0.05 spot notices a"
    )


def test_on_demand_the_budget_is_gone_long_before_the_gate() -> None:
    result = simulate.simulate(settings(), "on-demand", 20)
    assert result["outcomes"][simulate.BUDGET] == 1 and result["days"]["p95"] < 16


def test_a_perfect_model_on_a_calm_market_goes_through() -> None:
    calm = simulate.Odds((1, 1), 0, 0, 0, 0, 0, (0.9, 0.9), (3.5, 0), (0.1, 0))
    result = simulate.simulate(settings(disk_gb=0, setup_cost_usd=0), "spot", 5, odds=calm)
    assert result["outcomes"][gate.GO] == 1
    assert result["cost"]["p50"] == pytest.approx(436.8, rel=1e-6)


def test_only_money_ends_a_campaign_by_its_budget() -> None:
    """A crash in the last hours isn't it, nor that nobody looks further."""
    free = dict.fromkeys(("gpu_cost_per_hour", "disk_gb", "setup_cost_usd"), 0.0)
    crashing = simulate.Odds(crashes=2.0)
    assert (
        simulate.simulate(settings(**free), "on-demand", 50, odds=crashing)["outcomes"][simulate.BUDGET] == 0
    )
    endless = settings(
        **free, plan_days=2.0 * simulate.MOST_DAYS, week_5_threshold_days=2.0 * simulate.MOST_DAYS
    )
    assert simulate.simulate(endless, "on-demand", 2)["outcomes"] == {
        gate.GO: 0, gate.CONDITIONAL: 0, gate.NO_GO: 0, gate.HOLD: 0, simulate.BUDGET: 0, simulate.TOO_LONG: 1
    }  # fmt: skip


@pytest.mark.parametrize("free", [("gpu_cost_per_hour", "spot_cost_per_hour", "disk_gb"), ("budget_usd",)])
def test_what_costs_nothing_and_a_budget_of_nothing_are_planned_too(free: tuple[str, ...]) -> None:
    playbook_config = settings(**dict.fromkeys(free, 0.0))
    poor = (
        playbook_config.model_copy(update={"budget_usd": 10.0})
        if playbook_config.budget_usd
        else playbook_config
    )
    assert all(row.fits == "no" for row in plan.make_plan(poor, plan.Workload(None, "days"), None).rows)
    for market in ("spot", "on-demand"):
        outcomes = simulate.simulate(playbook_config, market, 2)["outcomes"]
        assert (outcomes[simulate.BUDGET] == 1) == (playbook_config.budget_usd == 0)


@pytest.mark.parametrize(
    ("market", "billed", "state"),
    [
        ("on-demand", 1.30, "fail"),
        ("on-demand", 0.53, "pass"),
        ("spot", 0.39, "fail"),
        ("spot", 0.21, "pass"),
    ],
)
def test_check_compares_what_is_rented_with_what_is_billed(
    market: str, billed: float, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rented = Machine(
        "i-1",
        "phase-2-5",
        MachineState.RUNNING,
        "g4dn.xlarge",
        market,
        "us-east-1a",
        None,
        datetime.now(UTC),
        500,
        (),
        None,
    )
    monkeypatch.setattr(instance, "find", lambda session, name: rented)
    monkeypatch.setattr(instance, "spot_prices", lambda session, instance_type: {"us-east-1a": 0.2})
    key = "spot_cost_per_hour" if market == "spot" else "gpu_cost_per_hour"
    account = AwsAccount()
    account.session = SimpleNamespace(region_name="us-east-1")
    disk, item = readiness._price_items(settings(**{key: billed}), account, "phase-2-5")
    paid = "0.200" if market == "spot" else "0.526"
    assert item.state == state and item.detail.endswith(f": set it to {paid}") == (state == "fail")
    assert disk.state == "pass" and disk.name == "disk price"
    larger, _ = readiness._price_items(settings(disk_gb=100.0), account, "phase-2-5")
    assert larger.state == "fail" and larger.detail.endswith("is 8.00: set them to 500 and 0.08")
    account.session.region_name = "eu-west-1"  # whose list prices we don't know
    monkeypatch.setattr(aws_prices, "_ask", lambda session, **attributes: None)
    assert len(list(readiness._price_items(settings(), account, "phase-2-5"))) == (market == "spot")
