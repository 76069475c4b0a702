"""`campaign check` and `plan` name, before day 1, what can never work: gates, prompts, receivers, prices."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_campaign import config

from kwela import files, playbook, stats
from kwela.campaign.decide.gate_obstacles import gate_obstacles
from kwela.campaign.money import ledger, plan
from kwela.campaign.money.clock import FakeClock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.run import readiness
from kwela.campaign.run.commands import CampaignCommands
from kwela.campaign.run.running_campaign import SIGNAL, Environment, RunningCampaign
from kwela.errors import KwelaError
from kwela.machines import programs
from kwela.playbook import PlaybookConfig

EVALUATION = {"reference_dir": "reference", "contrast_dir": "contrast"}


def settings(folder: Path, **changes: Any) -> PlaybookConfig:
    changes = {"evaluation": EVALUATION, **changes}
    return playbook.load(config(folder, **changes))


@pytest.mark.parametrize(
    ("evaluation", "says"),
    [
        ({}, ""),
        ({"samples": 6}, ""),
        ({"seconds": 300}, ""),
        ({"contrast_dir": "reference"}, "contrast_dir: it and reference_dir hold the same clips"),
        ({"contrast_dir": "reference/other"}, "hold the same clips"),
        ({"samples": 3}, "evaluation.samples: 3 pairs can't reach p < 0.05 (at best 0.25)"),
        ({"samples": 5}, "6 are the least"),
        ({"seconds": 600}, "evaluation.seconds: 600: kwela generate audio makes up to 300"),
        ({"prompts": ["", "x"]}, "evaluation.prompts: number 1 is empty"),
        ({"prompts": ["x", " \t\n"]}, "evaluation.prompts: number 2 is empty"),
        ({"prompts": ["é" * 60_000]}, "number 1 has 60,000 characters: 2,000 at most"),
    ],
)
def test_an_evaluation_that_can_not_be_made_is_named(
    tmp_path: Path, evaluation: dict[str, Any], says: str
) -> None:
    found = settings(tmp_path, evaluation=EVALUATION | evaluation)
    problems = list(gate_obstacles(found))
    assert (says in problems[0] and len(problems) == 1) if says else not problems, problems
    warnings = plan._warnings(found)
    assert all(problem in warnings for problem in problems)


def test_a_disk_that_is_full_for_a_time_costs_no_second_and_no_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    commands = CampaignCommands([], *[lambda *_: []] * 3)  # type: ignore[arg-type]
    campaign = RunningCampaign(settings(tmp_path), commands, clock, Environment("i"))
    campaign.folder.mkdir()
    campaign.recover()
    real = files.append

    def full(path: Path, line: str, what: str = "") -> None:
        raise KwelaError(f"{path}: no line added: No space left on device")

    monkeypatch.setattr(files, "append", full)
    campaign.settings.flags.disk_filling.free_gb = 1e9
    for _ in range(3):
        clock.sleep(3600)
        campaign.do_periodic_work()
        campaign.monitor.update(campaign.read_state(), 0.0)
    said = capsys.readouterr().out
    assert said.count("the money is counted on") == 1 and said.count("RED FLAG disk_filling") == 1
    assert campaign.ledger.total().billed_seconds == 3 * 3600
    monkeypatch.setattr(files, "append", real)
    clock.sleep(3600)
    campaign.do_periodic_work()
    on_disk = Ledger(campaign.folder / ledger.NAME, clock)
    assert on_disk.total().billed_seconds == 4 * 3600


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"min_authenticity_score": 0.9, "max_val_loss": 5}, ""),
        ({"min_authenticity_score": 0.97}, "min_authenticity_score: 0.97: if all 82 clips passed"),
        ({"min_authenticity_score": 1.0}, "raise evaluation.samples"),
        ({"max_cost_usd": 10}, "max_cost_usd: 10 is below setup_cost_usd (25)"),
        ({"min_gain_over_base": 5, "max_val_loss": 3.5}, "min_gain_over_base: 5 nats"),
    ],
)
def test_a_threshold_that_nothing_can_reach_is_named(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    found = settings(
        tmp_path, go_nogo_thresholds=changes, setup_cost_usd=25 if "max_cost_usd" in changes else 0
    )
    problems = list(gate_obstacles(found))
    assert (says in problems[0]) if says else not problems, problems


def test_the_least_number_of_pairs_is_the_judges_own() -> None:
    import numpy as np

    p = [stats.paired_permutation(np.ones(n), np.zeros(n), resamples=20_000) for n in (5, 6)]
    assert p[0] > 0.05 > p[1]  # what gate_obstacles works out is what the judge draws


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"gpu_cost_per_hour": 1.3, "budget_usd": 500}, "the budget of $500 is spent on day"),
        ({"go_nogo_thresholds": {"max_cost_usd": 30}, "budget_usd": 5000}, "a NO-GO is certain"),
        ({"gpu_cost_per_hour": 1.3, "budget_usd": 500, "market": "spot", "spot_cost_per_hour": 0.2}, ""),
    ],
)
def test_a_gate_that_the_money_does_not_reach_is_an_item_of_check(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    days = {"week_5_threshold_days": 35, "plan_days": 56, "gate_at_fraction": None}
    found = settings(tmp_path, **{**days, **changes})
    items = readiness._gate_items(found)
    assert items[0].state == (readiness.FAIL if says else readiness.PASS) and says in items[0].detail, items


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes every message. What it took is in `got`."""

    got: list[dict[str, Any]]
    status = 204

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[tuple[str, type[Hook]]]:
    handler = type("Handler", (Hook,), {"got": []})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", handler
        server.shutdown()


def test_check_asks_until_a_test_message_got_through(tmp_path: Path, hook: tuple[str, type[Hook]]) -> None:
    url, handler = hook
    found = settings(tmp_path, notify={"webhook": url})
    (item,) = readiness._notify_items(found)
    assert item.state == readiness.ASK and "--try-notify" in item.detail and handler.got == []
    handler.status = 403
    assert readiness.try_notify(found, "me") == ["webhook: HTTP status 403"]
    assert next(readiness._notify_items(found)).state == readiness.ASK
    handler.status = 204
    assert readiness.try_notify(found, "me") == ["webhook: a test message was taken"]
    assert next(readiness._notify_items(found)).state == readiness.PASS and len(handler.got) == 2
    other = settings(tmp_path, notify={"webhook": f"{url}/2"})
    assert next(readiness._notify_items(other)).state == readiness.ASK  # of another receiver nothing is known


def test_check_names_a_receiver_that_is_not_there_and_asks_where_there_is_none(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    (item,) = readiness._notify_items(settings(tmp_path, notify={"webhook": url}))
    assert item.state == readiness.FAIL and "refused" in item.detail
    silent = settings(tmp_path, notify={})
    assert list(readiness._notify_items(silent)) == []
    assert [item.state for item in readiness._questions(silent) if item.name == "notify"] == [readiness.ASK]


# ------------------------------------------------------------------ the ledger and the daily stop


def test_a_machine_that_is_stopped_each_day_is_billed_for_its_hours_alone(tmp_path: Path) -> None:
    """Ten days of 20 hours. Without the machine's own word on its end, two idle hours a day would be added."""
    billed = {}
    for why in (ledger.GOES_DOWN, SIGNAL):
        clock = FakeClock()
        book = Ledger(tmp_path / f"{why}.jsonl", clock)
        book.open({}, 500.0, 0.0)
        for _ in range(10):
            book.begin_span(Machine("i", "spot", 0.39))
            clock.sleep(20 * 3600)
            book.bill_until_now(1, why)
            clock.reboot(4 * 3600)
        book.begin_span(Machine("i", "spot", 0.39))
        billed[why] = book.total().billed_seconds / 3600
    assert billed[ledger.GOES_DOWN] == pytest.approx(200, abs=0.4)
    assert billed[SIGNAL] == pytest.approx(220, abs=0.4)  # the control: a person may leave the machine on


@pytest.mark.parametrize(("goes_down", "why"), [(True, ledger.GOES_DOWN), (False, SIGNAL)])
def test_a_stop_with_the_machine_is_told_from_one_without_it(
    tmp_path: Path, goes_down: bool, why: str
) -> None:
    commands = CampaignCommands([], *[lambda *_: []] * 3)  # type: ignore[arg-type]
    environment = replace(Environment("i"), goes_down=lambda: goes_down)
    campaign = RunningCampaign(settings(tmp_path), commands, FakeClock(), environment)
    campaign.folder.mkdir()
    campaign.recover()
    campaign.end_span(SIGNAL)
    assert campaign.ledger.rows[-1]["why"] == why


def test_systemd_says_whether_the_machine_goes_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    systemctl = tmp_path / "systemctl"
    for state, goes_down in (("stopping", True), ("running", False), ("degraded", False)):
        systemctl.write_text(f"#!/bin/sh\necho {state}\n")
        systemctl.chmod(0o755)
        assert programs.machine_goes_down() is goes_down
    systemctl.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.machine_goes_down() is False
