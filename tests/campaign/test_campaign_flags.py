"""Each red flag goes up on its evidence, and stays down without."""

from __future__ import annotations

import http.server
import json
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kwela.campaign.decide import red_flags
from kwela.campaign.decide.loss_curve import LossCurve
from kwela.campaign.decide.red_flags import Observations, RedFlagLog, find_red_flags
from kwela.campaign.money import ledger
from kwela.campaign.money.clock import DAY, HOUR, FakeClock
from kwela.campaign.money.ledger import Ledger
from kwela.campaign.run.campaign_log import CampaignLog
from kwela.campaign.run.campaign_state import TABLE, read_state
from kwela.campaign.run.notify import RETRY_INTERVAL, Messenger
from kwela.campaign.run.red_flag_monitor import RedFlagMonitor
from kwela.playbook import Flags, Notify, PlaybookConfig

LIMITS = Flags()


def seen(view: Observations, limits: Flags = LIMITS) -> list[str]:
    return [one.name for one in find_red_flags(view, limits)]


def trained(loss: Any, hours: float = 100.0, windows: int = 500, seed: int = 0) -> Observations:
    """A run of `hours` whose training loss is `loss(share of the way)` with noise."""
    rng = np.random.default_rng(seed)
    steps = [10 * (k + 1) for k in range(windows)]
    train = [(step, float(loss(step / steps[-1]) + 0.1 * rng.standard_normal())) for step in steps]
    times = [(hours * HOUR * k / 200, int(steps[-1] * k / 200)) for k in range(201)]
    return Observations(LossCurve(steps[-1], 1, train), hours * HOUR, times)


def test_a_loss_that_falls_raises_nothing_and_one_that_does_not_is_seen() -> None:
    assert seen(trained(lambda x: 4.5 - x)) == []
    assert seen(trained(lambda x: 4.5)) == ["loss_not_falling"]
    assert seen(trained(lambda x: 4.5 + x)) == ["loss_not_falling"]
    assert seen(trained(lambda x: 4.5 - min(1.0, 4 * x))) == [
        "loss_not_falling"
    ]  # it fell, but not these three days


def test_before_three_days_nothing_is_said_of_its_slope() -> None:
    assert seen(trained(lambda x: 4.5, hours=70.0)) == []


def test_the_slope_test_is_seldom_wrong_on_a_slow_fall() -> None:
    alarms = sum(seen(trained(lambda x: 4.5 - 0.1 * x, seed=seed)) != [] for seed in range(40))
    assert alarms <= 2


def test_a_loss_that_is_not_finite_stops() -> None:
    view = Observations(LossCurve(20, 1, [(10, 4.0), (20, None)]), 100.0, [])
    assert [(one.name, one.action) for one in find_red_flags(view, LIMITS)] == [("nan", "stop")]
    told = Observations(LossCurve(), 1.0, [], training_error="step 7: loss is not finite")
    assert find_red_flags(told, LIMITS)[0].evidence == "step 7: loss is not finite"


def test_a_spike_is_seen_where_noise_is_not() -> None:
    calm = trained(lambda x: 4.5 - x, hours=10.0)
    assert seen(calm) == []
    spiked = replace(calm, curve=LossCurve(5000, 1, [*calm.curve.train[:-1], (5000, 6.5)]))
    assert seen(spiked) == ["loss_spike"]


def after(losses: list[float], last: float | None) -> Observations:
    """A run of a window a step: `losses`, and one more."""
    return Observations(LossCurve(len(losses) + 1, 1, list(enumerate([*losses, last], 1))), 100.0, [])


def test_a_spike_is_eight_deviations_above_the_median_of_the_fifty_windows_before() -> None:
    before = [1.0, 1.2] * 25  # median 1.1, median deviation 0.1
    least = 1.1 + 8 * 1.4826 * 0.1
    assert seen(after(before, least - 0.001)) == [] and seen(after(before, least + 0.001)) == ["loss_spike"]
    assert seen(after([9.0] * 60 + before, least + 0.001)) == ["loss_spike"], "what is older does not count"
    (spike,) = find_red_flags(after(before, 2.5826), LIMITS)
    assert (
        "2.583" in spike.evidence
        and "9 dev" not in spike.evidence
        and "10 deviations above 1.100" in spike.evidence
    )


def test_a_few_high_windows_before_do_not_move_what_a_spike_is_measured_from() -> None:
    (spike,) = find_red_flags(after([1.0, 1.2] * 20 + [3.0] * 10, 9.0), LIMITS)
    assert "above 1.200" in spike.evidence


def test_twenty_windows_must_stand_before_a_spike() -> None:
    assert (
        seen(after([1.0, 1.2] * 10, 9.0)) == ["loss_spike"] and seen(after([1.0, 1.2] * 9 + [1.0], 9.0)) == []
    )


def test_where_all_windows_are_alike_a_deviation_is_a_thousandth() -> None:
    assert seen(after([2.0] * 30, 2.017)) == ["loss_spike"] and seen(after([2.0] * 30, 2.015)) == []


def test_only_the_last_loss_need_be_finite() -> None:
    curve = LossCurve(3, 1, [(1, None), (2, 3.0)], [(1, None), (2, 3.0)])
    assert seen(Observations(curve, 1.0, [])) == []
    assert seen(Observations(replace(curve, train=[*curve.train, (3, None)]), 1.0, [])) == ["nan"]
    assert seen(Observations(replace(curve, val=[*curve.val, (3, None)]), 1.0, [])) == ["nan"]
    (flag,) = find_red_flags(Observations(replace(curve, val=[(3, None)]), 1.0, []), LIMITS)
    assert "step 3" in flag.evidence


def slow(windows: int, hours: float, fall: float = 0.0) -> Observations:
    """A run of `hours` of which `windows` windows, of ten steps each, lie within the last 72 h."""
    rng = np.random.default_rng(0)
    train = [(10 * k, 4.0 - fall * k + 0.01 * rng.standard_normal()) for k in range(1, windows + 6)]
    return Observations(
        LossCurve(train[-1][0], 1, train), hours * HOUR, [(0.0, 0), ((hours - 72) * HOUR, 50)]
    )


def test_the_trend_of_the_loss_needs_three_days_and_twenty_windows() -> None:
    assert seen(slow(20, 72)) == ["loss_not_falling"] and seen(slow(19, 72)) == []
    assert seen(slow(20, 100, fall=0.01)) == []
    late = slow(20, 72)
    assert seen(replace(late, step_times=[(1.0, 0), (2.0, 50)])) == [], (
        "its training is younger than three days"
    )


def test_a_trend_is_of_the_last_three_days_alone() -> None:
    fell_before = slow(30, 100)
    steep = [
        (step, loss + 5.0 - step / 10) if step <= 50 else (step, loss)
        for step, loss in fell_before.curve.train
    ]
    assert seen(replace(fell_before, curve=LossCurve(350, 1, steep))) == ["loss_not_falling"]
    (flag,) = find_red_flags(slow(30, 100, fall=-0.01), LIMITS)
    assert "slope +1 a thousand steps over 72 h" in flag.evidence and "p = 1.00" in flag.evidence


@pytest.mark.parametrize(
    ("samples", "up"),
    [
        ([(0, 49.0), (900, 50.0), (1800, 50.0)], True),
        ([(0, 50.0), (900, 50.0), (1800, 50.0)], False),
        ([(1, 10.0), (900, 10.0), (1800, 10.0)], False),  # a second less than half an hour
        ([(0, 100.0), (60, 10.0), (1860, 10.0)], True),  # what is older does not count
    ],
)
def test_a_gpu_is_idle_by_its_mean_of_half_an_hour(samples: list[tuple[float, float]], up: bool) -> None:
    view = Observations(LossCurve(), max(1800.0, samples[-1][0]), [], samples)
    assert (seen(view) == ["gpu_idle"]) is up


def test_a_gpu_that_was_not_measured_for_half_an_hour_is_no_idle_one() -> None:
    assert seen(Observations(LossCurve(), 3600.0, [], [(0, 10.0), (1799, 10.0)])) == []


def test_an_idle_gpu_says_its_mean() -> None:
    (flag,) = find_red_flags(Observations(LossCurve(), 1800.0, [], [(0, 20.0), (1800, 30.0)]), LIMITS)
    assert (
        flag.evidence == "25 % over 30 min" and flag.threshold == "50 % for 30 min" and flag.action == "warn"
    )


def test_just_an_hour_without_a_step_and_just_enough_of_a_disk_are_no_flags() -> None:
    edge = Observations(LossCurve(5), 1.0, [], seconds_since_step=3600.0, free_gb=10.0)
    assert seen(edge) == []
    assert seen(replace(edge, seconds_since_step=3600.1, free_gb=9.99)) == ["no_step", "disk_filling"]


def test_validation_must_rise_three_times_in_a_row_and_training_fall_between_each() -> None:
    train = [(step, 4.0 - step / 1000) for step in range(10, 510, 10)]
    val = [(0, 9.0), (100, 3.0), (200, 3.1), (300, 3.2), (400, 3.3)]
    assert seen(Observations(LossCurve(400, 1, train, val), 1.0, [])) == ["overfitting"], (
        "the four last ones count"
    )
    (flag,) = find_red_flags(Observations(LossCurve(400, 1, train, val), 1.0, []), LIMITS)
    assert (
        "3.000 -> 3.300" in flag.evidence
        and "3.845 -> 3.645" in flag.evidence
        and "3 evaluations" in flag.threshold
    )
    assert seen(Observations(LossCurve(400, 1, train, val[1:]), 1.0, [])) == ["overfitting"]
    assert seen(Observations(LossCurve(400, 1, train, val[2:]), 1.0, [])) == [], "two rises"
    level = [*val[:3], (300, 3.1), (400, 3.3)]
    assert seen(Observations(LossCurve(400, 1, train, level), 1.0, [])) == [], "equal is no rise"
    blind = [row for row in train if not 200 < row[0] <= 300]
    assert seen(Observations(LossCurve(400, 1, blind, val), 1.0, [])) == [], (
        "no training between two evaluations"
    )
    stalled = [(step, min(loss, 3.8) if step <= 300 else 3.8) for step, loss in train]
    assert seen(Observations(LossCurve(400, 1, stalled, val), 1.0, [])) == []
    with_nan = [*val[:3], (250, None), *val[3:]]
    assert seen(Observations(LossCurve(400, 1, train, with_nan), 1.0, [])) == ["overfitting"]
    lost_window = [(step, None if step == 250 else loss) for step, loss in train]
    assert "overfitting" in seen(Observations(LossCurve(400, 1, lost_window, val), 1.0, []))


@pytest.mark.parametrize(
    ("percent", "minutes", "up"), [(30.0, 40, True), (90.0, 40, False), (30.0, 20, False)]
)
def test_an_idle_gpu(percent: float, minutes: int, up: bool) -> None:
    gpu = [(60.0 * k, percent) for k in range(minutes + 1)]
    assert (seen(Observations(LossCurve(), minutes * 60.0, [], gpu)) == ["gpu_idle"]) is up


def test_validation_that_rises_while_training_falls() -> None:
    train = [(step, 4.0 - step / 1000) for step in range(10, 410, 10)]
    rising = [(0, 3.0), (100, 3.1), (200, 3.2), (300, 3.3), (400, 3.4)]
    assert seen(Observations(LossCurve(400, 1, train, rising), 1.0, [])) == ["overfitting"]
    assert seen(Observations(LossCurve(400, 1, train, [*rising[:-1], (400, 3.25)]), 1.0, [])) == []
    level = [(step, 4.0) for step, _ in train]
    assert seen(Observations(LossCurve(400, 1, level, rising), 1.0, [])) == []


def test_steps_money_disk_and_stops() -> None:
    quiet = Observations(
        LossCurve(5), 1e5, [], seconds_since_step=59 * 60, cost_usd=400.0, flag_cost_usd=400.0, free_gb=10.0
    )
    assert seen(quiet) == []
    assert seen(replace(quiet, seconds_since_step=61 * 60)) == ["no_step"]
    assert seen(replace(quiet, cost_usd=400.01)) == ["cost_before_gate"]
    assert seen(replace(quiet, cost_usd=400.01, gate_decided=True)) == []
    assert seen(replace(quiet, free_gb=9.9)) == ["disk_filling"]
    assert seen(replace(quiet, unexpected_stop="gone for 3 h")) == ["instance_stopped"]


def test_a_flag_goes_up_once_comes_down_and_is_remembered(tmp_path: Path) -> None:
    one = find_red_flags(Observations(LossCurve(5), 1.0, [], free_gb=1.0), LIMITS)
    board = RedFlagLog(tmp_path)
    assert board.update(one, 1.0, 5) == (one, [])
    assert board.update(one, 2.0, 6) == ([], [])
    again = RedFlagLog(tmp_path)
    assert list(again.up) == ["disk_filling"] and again.update(one, 3.0, 7) == ([], [])
    assert again.update([], 4.0, 8) == ([], ["disk_filling"]) and RedFlagLog(tmp_path).up == {}
    rows = [json.loads(line) for line in (tmp_path / red_flags.NAME).read_text().splitlines()]
    assert [row["state"] for row in rows] == ["up", "down"]
    assert (
        rows[0]["evidence"] == "1.0 GB free"
        and rows[0]["threshold"] == "10 GB free"
        and rows[0]["action"] == "warn"
    )


def test_what_a_lost_network_kept_back_is_sent_when_it_is_there_again(tmp_path: Path) -> None:
    got: list[Any] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        port = server.server_port
        log: list[str] = []
        server.socket.close()  # the network is lost
        hook, unsent = Notify(webhook=f"http://127.0.0.1:{port}/hook"), tmp_path / "unsent.jsonl"
        messenger = Messenger(hook, log.append, unsent)
        messenger.send({"text": "first"}, now=0.0)
        messenger.finish(0.0)
        messenger.send({"text": "second"}, now=1.0)
        messenger.finish(1.0)
        assert got == [] and len(log) == 1 and "webhook: not sent, will be tried again" in log[0]
    with http.server.HTTPServer(("127.0.0.1", port), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        messenger.retry(RETRY_INTERVAL - 1)  # too soon
        messenger.finish(RETRY_INTERVAL - 1)
        assert got == []
        assert Messenger(Notify(), log.append, unsent).waiting == deque()  # nobody to tell
        later = Messenger(hook, log.append, unsent)  # the session ended: the next one knows of them
        later.finish(0.0)
        server.shutdown()
    assert (
        [message["text"] for message in got] == ["first", "second"]
        and not later.waiting
        and not unsent.exists()
    )


def test_a_flag_that_stopped_a_session_does_not_stop_the_next_one_too(tmp_path: Path) -> None:
    settings = PlaybookConfig(checkpoint_dir=tmp_path, proxy_groups={"drums": ["drum"]})
    settings.flags.disk_filling.action, settings.flags.disk_filling.free_gb = "stop", 1e9
    book = Ledger(tmp_path / ledger.NAME, FakeClock())
    book.open({}, 500.0, 0.0)
    said = []
    for _ in range(2):
        session = RedFlagMonitor(
            settings, lambda: None, CampaignLog(settings, None, None), FakeClock().read()
        )
        said.append([session.update(read_state(tmp_path, settings), 0.0) for _ in range(2)])
    assert all("disk_filling" in stop for stop in said[0]) and said[1] == ["", ""]
    settings.flags.disk_filling.free_gb = 0
    assert session.update(read_state(tmp_path, settings), 0.0) == "" and red_flags.flags_up(tmp_path) == {}
    settings.flags.disk_filling.free_gb = 1e9
    assert "disk_filling" in session.update(read_state(tmp_path, settings), 0.0)  # it came back: that is news


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_the_minutes_without_a_step_are_the_machines_own_however_fast_a_rehearsals_clock_is(
    tmp_path: Path, speed: float
) -> None:
    settings = PlaybookConfig(checkpoint_dir=tmp_path, proxy_groups={"drums": ["drum"]})
    settings.flags.disk_filling.free_gb = 0
    book = Ledger(tmp_path / ledger.NAME, FakeClock())
    book.open({}, 500.0, 0.0)
    session = RedFlagMonitor(
        settings, lambda: None, CampaignLog(settings, None, None), FakeClock().read(), speed
    )
    now = read_state(tmp_path, settings)
    session.note_progress(now)
    for minutes, up in ((59, []), (61, ["no_step"])):
        billed = replace(
            now, totals=replace(now.totals, billed_seconds=now.totals.billed_seconds + minutes * 60 * speed)
        )
        session.update(billed, 0.0)
        assert list(red_flags.flags_up(tmp_path)) == up


@pytest.mark.parametrize(
    "junk", ['{"step": "many"}', '{"split": "val", "step": null, "baselines": [1]}', "[" * 100000]
)
def test_junk_in_the_files_of_a_run_is_no_traceback(tmp_path: Path, junk: str) -> None:
    for name in ("metrics.jsonl", "status.json", "flags.jsonl", "run.json", "ledger.jsonl"):
        (tmp_path / name).write_text(f"{junk}\n")
    settings = PlaybookConfig(checkpoint_dir=tmp_path, dataset_dir=tmp_path, proxy_groups={"drums": ["drum"]})
    (tmp_path / TABLE).mkdir()
    (tmp_path / TABLE / "dataset_report.json").write_text('{"clips_by_split": [1], "kept": "many"}')
    now = read_state(tmp_path, settings)
    assert now.curve.step == 0 and now.steps > 0 and now.rows == []


def test_an_unexpected_stop_is_a_flag_for_a_day_and_over_a_restart(tmp_path: Path) -> None:
    settings = PlaybookConfig(checkpoint_dir=tmp_path, proxy_groups={"drums": ["drum"]})
    clock, book = FakeClock(), Ledger(tmp_path / ledger.NAME, FakeClock())
    book.open({}, 500.0, 0.0)
    log = CampaignLog(settings, None, None)
    first = RedFlagMonitor(settings, lambda: None, log, clock.read())
    clock.suspend(3 * HOUR)
    for again in (False, True):
        session = RedFlagMonitor(settings, lambda: None, log, clock.read()) if again else first
        for _ in range(2):
            session.measure(clock.read(), 0.0)
            session.update(read_state(tmp_path, settings), 0.0)
            clock.sleep(HOUR)
        assert list(red_flags.flags_up(tmp_path)) == ["instance_stopped"]
    clock.sleep(DAY)
    session.measure(clock.read(), 0.0)
    session.update(read_state(tmp_path, settings), 0.0)
    assert red_flags.flags_up(tmp_path) == {}
    assert "suspended for 3.0 h" in (tmp_path / red_flags.NAME).read_text()
