"""No dollar is lost, none is counted twice, whatever happens to the process, the machine, the clock or the
file.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwela.campaign.money import clock, costs, ledger, ledger_rows
from kwela.campaign.money.clock import DAY, FakeClock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.errors import UserError

T4 = Machine("i-1", "spot", 0.39)
SETTINGS = {"model_name": "m"}
UNTIL_RESUMED = 400.0  # seconds at most from a start of the machine until the campaign is resumed


def opened(path: Path, clock: FakeClock, copy: str = "") -> Ledger:
    book = Ledger(path, clock)
    book.merge(copy)
    book.open(SETTINGS, 500.0, 0.0)
    book.begin_span(T4)
    return book


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Life:
    """A campaign to which things happen, beside what its machine was truly on for."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path, self.clock, self.draw = folder / "ledger.jsonl", FakeClock(), random.Random(seed)
        self.on = self.most = 0.0  # seconds truly billed, and the most that is added for what nobody saw
        self.copy, self.copied = "", 0.0
        self.book = opened(self.path, self.clock)

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.on += seconds

    def train(self) -> None:
        for step in range(self.draw.randint(1, 6)):
            self.sleep(self.draw.uniform(1, ledger.LINE_INTERVAL))
            self.book.bill_until_now(step)
        if self.draw.random() < 0.5:
            self.copy, self.copied = self.path.read_text(), self.clock.wall  # a checkpoint takes it along

    def killed(self) -> None:
        self.sleep(self.draw.uniform(0, 5000))

    def suspended(self) -> None:
        self.clock.suspend(self.draw.uniform(0, 90000))

    def clock_set(self) -> None:
        self.clock.jump(self.draw.uniform(-1e7, 1e7))

    def torn(self) -> None:
        """Power goes while a line is written; the machine starts again."""
        whole = self.path.read_bytes()
        self.sleep(self.draw.uniform(0, ledger.LINE_INTERVAL))
        self.book.bill_until_now(0)
        size = len(self.path.read_bytes())
        with self.path.open("r+b") as file:
            file.truncate(self.draw.randint(len(whole), size - 1))
        self.off(2 * ledger.LINE_INTERVAL)

    def power_cut(self) -> None:
        self.sleep(self.draw.uniform(0, ledger.LINE_INTERVAL))
        self.off(2 * ledger.LINE_INTERVAL)

    def spot(self) -> None:
        self.book.bill_until_now(0, "spot notice")
        self.sleep(self.draw.uniform(0, 120))
        self.off(120.0)

    def on_in_between(self) -> None:
        """Stopped, and started and stopped again by somebody who didn't resume."""
        self.power_cut()
        for _ in range(self.draw.randint(1, 3)):
            self.sleep(self.draw.uniform(0, ledger.AUTO_SHUTDOWN - UNTIL_RESUMED))
            self.off(ledger.AUTO_SHUTDOWN)

    def finished_early(self) -> None:
        """HOLD, say: the auto-shutdown stops the machine within two hours."""
        self.book.bill_until_now(0, "gate: HOLD")
        self.sleep(self.draw.uniform(0, ledger.AUTO_SHUTDOWN))
        self.off(ledger.AUTO_SHUTDOWN)

    def disk_lost(self) -> None:
        """Only what the last checkpoint holds is left. Of machines that came and went since, nothing is
        known.
        """
        if self.copy:
            self.path.unlink()
            if json.loads(self.copy.splitlines()[-1])["boot"] != str(self.clock.boots):
                self.most += self.clock.wall - self.copied

    def off(self, unseen: float) -> None:
        orderly = self.draw.random() < 0.3
        self.most += 0 if orderly else unseen
        self.clock.reboot(self.draw.choice([0.0, 10.0, 3000.0, 200000.0]), orderly)
        self.sleep(self.draw.uniform(0, UNTIL_RESUMED))

    def happen(self, what: str) -> None:
        getattr(self, what)()
        self.book = opened(self.path, self.clock, self.copy)


EVENTS = ["killed", "suspended", "torn", "power_cut", "spot", "finished_early", "disk_lost", "on_in_between"]


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(EVENTS), max_size=8), st.booleans())
def test_a_thousand_campaigns_killed_at_random_moments_never_lose_or_double_a_dollar(
    seed: int, events: list[str], jumpy: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), seed)
        for event in events:
            life.train()
            if jumpy and event in ("killed", "suspended"):
                life.clock_set()  # on a machine that stays on, a clock that is set changes nothing
                life.happen(event)
                life.clock.wall = life.book.campaign_time()  # put right before the machine goes off
            else:
                life.happen(event)
        life.train()
        billed = costs.add_up(ledger_rows.read_rows(life.path)[0]).billed_seconds
        assert life.on - 1e-3 <= billed <= life.on + life.most + 1e-3
        if not life.most:
            assert billed == pytest.approx(life.on, abs=1e-3)


def test_a_ledger_that_trusted_the_wall_clock_would_be_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path, 1)
    life.train()
    life.book.span["awake"] -= 3600.0  # what a clock that was set would do to it
    life.train()
    assert costs.add_up(life.book.rows).billed_seconds > life.on + 3000


def test_on_one_machine_a_killed_campaign_is_billed_to_the_second(tmp_path: Path) -> None:
    clock = FakeClock()
    opened(tmp_path / "l", clock)
    clock.sleep(7200)
    clock.jump(-1e8)
    book = opened(tmp_path / "l", clock)
    assert book.total().gpu_usd == pytest.approx(2 * 0.39)


def test_the_machine_log_tells_its_earlier_starts(tmp_path: Path) -> None:
    kinds = {"boot": (2, b"reboot"), "login": (7, b"ubuntu"), "off": (1, b"shutdown")}
    noted = [
        ("login", 5),
        ("off", 10),
        ("boot", 100),
        ("off", 130),
        ("boot", 200),
        ("login", 210),
        ("boot", 300),
    ]
    records = [
        (kinds[what][0], 1, b"", b"", kinds[what][1], b"", 0, 0, 0, at, 0, *[0] * 4, b"")
        for what, at in noted
    ]
    packed = [clock._UTMP.pack(*record) for record in records]
    (tmp_path / "wtmp").write_bytes(b"".join(packed) + b"torn")
    assert clock._earlier_starts(tmp_path / "wtmp") == ((100.0, 130.0), (200.0, None))
    (tmp_path / "wtmp.1").write_bytes(b"".join(packed[:3]))  # rotated: a start in one, its end in the other
    (tmp_path / "wtmp").write_bytes(b"".join(packed[3:]))
    assert clock._earlier_starts(tmp_path / "wtmp") == ((100.0, 130.0), (200.0, None))
    (tmp_path / "wtmp").write_bytes(b"torn")
    (tmp_path / "wtmp.1").unlink()
    assert clock._earlier_starts(tmp_path / "wtmp") == clock._earlier_starts(tmp_path / "none") == ()


def test_a_machine_that_was_off_most_of_the_time_is_not_billed_for_it(tmp_path: Path) -> None:
    fake = FakeClock()
    opened(tmp_path / "l", fake)
    fake.sleep(3600)
    fake.reboot(48 * 3600, orderly=True)
    fake.sleep(1800)  # half an hour in between
    fake.reboot(24 * 3600, orderly=True)
    assert opened(tmp_path / "l", fake).total().billed_seconds == pytest.approx(1.5 * 3600)
    other = Ledger(tmp_path / "l", fake)
    fake.reboot(9 * DAY, orderly=True)
    other.begin_span(Machine("i-2", "spot", 0.39))  # its log says nothing of i-1
    assert other.total().billed_seconds == pytest.approx(1.5 * 3600 + 2 * ledger.LINE_INTERVAL)


def test_a_word_in_any_script_stands_in_the_ledger(tmp_path: Path) -> None:
    book = opened(tmp_path / "l", FakeClock())
    book.record("override", why="heard \u2028 by the panel \udce9 → ja", verdict="HOLD")
    again = Ledger(tmp_path / "l", FakeClock())
    assert (
        again.damaged_lines == 0
        and ledger_rows.latest(again.rows, "override")["why"] == "heard \u2028 by the panel \udce9 → ja"
    )


def test_stopped_time_is_not_billed_as_gpu_but_its_disk_is(tmp_path: Path) -> None:
    clock = FakeClock()
    book = Ledger(tmp_path / "l", clock)
    book.open(SETTINGS, 500.0, 25.0)
    book.begin_span(Machine("i", "spot", 0.39, disk_gb=500, disk_usd=0.08))
    for _ in range(12):
        clock.sleep(300)
        book.bill_until_now(1)
    book.bill_until_now(1, "spot notice")
    clock.reboot(9 * DAY)
    again = Ledger(tmp_path / "l", clock)
    away = again.begin_span(Machine("i-2", "spot", 0.39, disk_gb=500, disk_usd=0.08))
    bill = again.total()
    assert away == pytest.approx(9 * DAY)
    assert bill.gpu_usd == pytest.approx(0.39 * (3600 + 120) / 3600)
    assert bill.disk_usd == pytest.approx(40 * (9 + 1 / 24) / 30, rel=1e-3)
    assert bill.usd == pytest.approx(bill.gpu_usd + bill.disk_usd + 25)
    assert bill.days == pytest.approx(9 + 1 / 24, rel=1e-3)


def test_a_damaged_line_is_counted_and_healed_by_the_copy(tmp_path: Path) -> None:
    clock = FakeClock()
    book = opened(tmp_path / "l", clock)
    for step in range(5):
        clock.sleep(300)
        book.bill_until_now(step)
    whole = (tmp_path / "l").read_text()
    (tmp_path / "l").write_text(whole.replace('"seconds": 1500.0', '"seconds": 15.0'))
    hurt = Ledger(tmp_path / "l", clock)
    assert hurt.damaged_lines == 1 and costs.add_up(hurt.rows).billed_seconds == 1200
    hurt.merge(whole)
    assert costs.add_up(hurt.rows).billed_seconds == 1500 and (tmp_path / "l").read_text() == whole
    hurt.begin_span(T4)
    hurt.merge(whole)  # twice changes nothing
    assert costs.add_up(hurt.rows).billed_seconds == 1500 and (tmp_path / "l").read_text().startswith(whole)


def test_another_campaigns_copy_is_not_taken(tmp_path: Path) -> None:
    clock = FakeClock()
    opened(tmp_path / "a", clock)
    ours = opened(tmp_path / "b", clock)
    before = (tmp_path / "b").read_text()
    ours.merge((tmp_path / "a").read_text())
    assert (tmp_path / "b").read_text() == before


def test_another_campaigns_ledger_says_what_differs(tmp_path: Path) -> None:
    clock = FakeClock()
    opened(tmp_path / "l", clock)
    with pytest.raises(UserError, match=r"of another campaign: model_name m, here n; give"):
        Ledger(tmp_path / "l", clock).open({"model_name": "n"}, 500.0, 0.0)
    with pytest.raises(UserError, match=r"budget_usd 500.0, here 800.0 \(kwela campaign extend"):
        Ledger(tmp_path / "l", clock).open(SETTINGS, 800.0, 0.0)


def test_day_1_is_the_first_billed_instance_and_its_disk_counts_from_then(tmp_path: Path) -> None:
    clock = FakeClock()
    book = Ledger(tmp_path / "l", clock)
    book.open(SETTINGS, 500.0, 25.0, began=clock.wall - 7 * DAY)
    book.begin_span(Machine("i", "spot", 0.39, disk_gb=500, disk_usd=0.08))
    for _ in range(28):
        clock.sleep(DAY)
        book.bill_until_now(1)
    bill = book.total()
    assert bill.days == pytest.approx(35) and bill.training_seconds == pytest.approx(28 * DAY)
    assert bill.disk_usd == pytest.approx(40 * 35 / 30) and bill.gpu_usd == pytest.approx(28 * 24 * 0.39)
    assert min(day for day, _ in costs.gpu_usd_by_day(book.rows)) == 8  # training starts on day 8


def test_dollars_by_day_and_market_add_up(tmp_path: Path) -> None:
    clock = FakeClock()
    book = opened(tmp_path / "l", clock)
    for _ in range(24 * 3):
        clock.sleep(3600)
        book.bill_until_now(1)
    book.begin_span(Machine("i-1", "on-demand", 1.30))
    clock.sleep(3600)
    book.bill_until_now(1)
    days = costs.gpu_usd_by_day(book.rows)
    assert sum(days.values()) == pytest.approx(book.total().gpu_usd)
    assert days[4, "on-demand"] == pytest.approx(1.30) and days[1, "spot"] == pytest.approx(24 * 0.39)


GATE = {
    "kind": "gate",
    "at": 3.0,
    "verdict": "GO",
    "rules": [{"name": "cost", "outcome": "passes", "said": "ok"}],
}
EVIDENCE = {"days": 1.0, "hours": 1.0, "cost_usd": 1.0, "val_loss": 3.0, "base_loss": 3.5,
            "authenticity": 0.5, "interval": [0.4, 0.6]}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"seconds": "many"}, "seconds: must be a number"),
        ({"seconds": None}, "seconds: "),
        ({"price": True}, "price: "),
        ({"to": float("nan")}, "to: must be a finite number"),
        ({"step": 1.5}, "step: must be a whole number"),
        ({"kind": "budget", "at": 1.0}, "budget_usd: is missing"),
        ({"kind": "campaign", "at": 1.0, "id": "a", "settings": {"speed": "fast"}}, "settings.speed: "),
        ({"kind": "override", "at": "now", "why": "heard"}, "at: "),
        ({**GATE, "evidence": EVIDENCE | {"hours": "one"}}, "hours: "),
        ({**GATE, "evidence": EVIDENCE, "rules": [{"name": 1}]}, "rules.0.name: "),
    ],
)
def test_a_line_with_a_fitting_sum_and_a_wrong_type_is_refused_in_one_line(
    tmp_path: Path, row: dict[str, Any], place: str
) -> None:
    path, clock = tmp_path / "l", FakeClock()
    opened(path, clock).bill_until_now(1)
    span = ledger_rows.read_rows(path)[0][-1]
    row = row if "kind" in row else span | row
    with path.open("a") as file:
        file.write(ledger_rows.sealed_line(row))
    with pytest.raises(UserError) as refused:
        Ledger(path, clock)
    assert str(refused.value).startswith(f"{path}: line 4: {place}"), refused.value
    assert "remove it" in str(refused.value) and "\n" not in str(refused.value)


def test_every_kind_of_line_that_a_campaign_writes_is_accepted_and_an_unknown_kind_is_kept(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    book = opened(tmp_path / "l", clock)
    book.record(
        "gate", **{key: value for key, value in GATE.items() if key not in ("kind", "at")}, evidence=EVIDENCE
    )
    for kind, facts in {
        "budget": {"budget_usd": 800, "who": "us"},
        "override": {"why": "heard", "verdict": "HOLD"},
        "stopped": {"why": "nan"},
        "resumed": {},
        "of a later version": {"figure": "any"},
    }.items():
        book.record(kind, **facts)
    again = Ledger(tmp_path / "l", clock)
    assert again.damaged_lines == 0 and len(again.rows) == 8
