"""What one process knows of the campaign that it runs: its money, its red flags, and a request to stop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kwela.campaign.decide.loss_curve import LossCurveReader
from kwela.campaign.money import ledger
from kwela.campaign.money.clock import HOUR, Clock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.money.ledger_rows import span_rows
from kwela.campaign.run import campaign_state, child_process
from kwela.campaign.run.campaign_log import CampaignLog
from kwela.campaign.run.campaign_state import CampaignState
from kwela.campaign.run.commands import CampaignCommands
from kwela.campaign.run.red_flag_monitor import RedFlagMonitor
from kwela.campaign.run.side_thread import SideThread
from kwela.campaign.run.success_criteria import advice_on_cost
from kwela.campaign.run.watchdog import Money, Watchdog, say_to_stderr
from kwela.errors import BudgetSpent, Interrupted, KwelaError
from kwela.playbook import PlaybookConfig

POLL_INTERVAL = 5.0  # seconds
METER_PATIENCE = 15.0  # seconds that the GPU's meter is waited for
CHILD_LOCK = ".training.lock"
# Why training stops, as the ledger records it.
NOTICE, SIGNAL, BUDGET, GATE, RECHECK = "spot notice", "asked to stop", "budget", "gate", "daily check"


@dataclass(frozen=True)
class Environment:
    """What the machine tells a campaign, and where the campaign reports.

    gpu: returns percent in use, None without a meter. watch: calls its argument on a spot notice, from a
    thread; returns a function that ends the watch. goes_down: whether this machine is shutting down.
    config_folder: where the config file is. board:
    TensorBoard's folder. log: a file that lines are appended to.
    """

    instance: str
    gpu: Callable[[], float | None] = lambda: None
    watch: Callable[[Callable[[Any], None]], Callable[[], None]] = lambda on_notice: lambda: None
    goes_down: Callable[[], bool] = lambda: False
    config_folder: Path | None = None
    board: Path | None = None
    log: Path | None = None


class RunningCampaign:
    """The campaign of this process. `recover` opens its ledger; nothing else may be called before."""

    ledger: Ledger
    monitor: RedFlagMonitor

    def __init__(
        self,
        settings: PlaybookConfig,
        commands: CampaignCommands,
        clock: Clock,
        environment: Environment,
        speed: float = 1.0,
    ) -> None:
        self.settings, self.commands, self.clock, self.environment = settings, commands, clock, environment
        self.folder, self.speed = settings.checkpoint_dir, speed
        self.identity = campaign_state.campaign_identity(settings, speed)
        self.log = CampaignLog(settings, environment.log, environment.board)
        self.price = settings.spot_cost_per_hour if settings.market == "spot" else settings.gpu_cost_per_hour
        self.curve_reader = LossCurveReader(self.folder)
        self.stop_requested = threading.Event()  # by a signal or a notice
        self.stop_reason = ""
        self.has_trained = False  # in this process
        self._last_line_at = float("-inf")  # awake seconds
        self._line_trouble = ""  # why the ledger's last line could not be written
        self._meter = SideThread("gpu-meter", METER_PATIENCE)
        self._watchdog: Watchdog | None = None

    # ------------------------------------------------------------------ the beginning

    def recover(self) -> None:
        """Bring the ledger up to date, whatever happened since its last line. Raises as `Ledger` does."""
        state_file_is_whole = campaign_state.check_state_file(self.folder, self.identity)
        lock = self.folder / CHILD_LOCK
        if orphan := child_process.stop_orphan(lock, self.grace, self._end_if_asked):
            self.log.say(f"Stopped the training that an earlier orchestrator left running (process {orphan})")
        self._open_ledger()
        self._begin_span()
        self.write_state_file()
        if not state_file_is_whole:
            path = self.folder / campaign_state.NAME
            self.log.say(f"{path}: damaged; written anew from the ledger")

    def _open_ledger(self) -> None:
        settings, path = self.settings, self.folder / ledger.NAME
        self.ledger = Ledger(path, self.clock)
        if self.ledger.damaged_lines:
            self.log.say(f"{path}: {self.ledger.damaged_lines} damaged lines left out")
        self.ledger.merge(ledger.text_in_checkpoint(self.folder))
        if self.ledger.restored:
            self.log.say("Ledger restored from the checkpoint's copy; the time since then is billed in full")
        began = settings.started.timestamp() if settings.started else None
        kept = self.ledger.open(self.identity, settings.budget_usd, settings.setup_cost_usd, began)
        if kept:
            self.log.say(f"{path}: keeps {', '.join(kept)}, as it began, whatever the config says now")

    def _begin_span(self) -> None:
        """Begin to bill this machine, and raise a flag if it stopped without a record."""
        settings, now = self.settings, self.clock.read()
        disk = settings.disk_gb, settings.disk_usd_per_gb_month
        before = span_rows(self.ledger.rows)[-1:]
        machine = Machine(self.environment.instance, settings.market, self.price, *disk)
        away = self.ledger.begin_span(machine)
        self.monitor = RedFlagMonitor(settings, self._gpu_percent, self.log, now, self.speed)
        if before and before[0]["boot"] != now.boot and not before[0]["why"]:
            evidence = f"the machine stopped without a word; {away / HOUR:.1f} h until it was resumed"
            self.monitor.note_unexpected_stop(evidence, now)

    def _end_if_asked(self) -> None:
        """Raise Interrupted if a stop was asked for before anything was begun."""
        if self.stop_requested.is_set():
            raise Interrupted(f"{self.stop_reason}: nothing was begun; run the same command again to go on")

    # ------------------------------------------------------------------ while it runs

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Have a watchdog end this process if the loop hangs where it should stop."""
        self._watchdog = Watchdog(self.stop_requested, say_to_stderr)
        try:
            yield
        finally:
            self._watchdog.close()

    def grace(self) -> float:
        """Return the seconds that a child has to save in, from now on."""
        is_urgent = self.stop_requested.is_set()
        return child_process.GRACE_ON_NOTICE if is_urgent else child_process.GRACE

    def _gpu_percent(self) -> float | None:
        return self._meter.call(self.environment.gpu, None)

    def read_state(self) -> CampaignState:
        """Return the state of now, with the costs of the time since the ledger's last line."""
        rows, totals = self.ledger.rows, self.ledger.total()
        return campaign_state.read_state(self.folder, self.settings, rows, totals, self.curve_reader.read())

    def wait(self) -> None:
        """Wait until training is looked at again, then do the periodic work."""
        self.clock.sleep(POLL_INTERVAL)
        self.do_periodic_work()

    def do_periodic_work(self) -> None:
        """Do the work of every few seconds: bill, measure the GPU, send the messages that failed."""
        now, totals = self.clock.read(), self.ledger.total()
        if self._watchdog:
            limit = totals.budget_usd - self._reserve_usd()
            self._watchdog.turn(Money(totals.usd, self.price * self.speed / HOUR, limit))
        self.monitor.measure(now, totals.billed_seconds)
        if now.awake - self._last_line_at >= ledger.LINE_INTERVAL:
            self._last_line_at = now.awake
            step = self.read_state().curve.step
            self._write_line(step)
            self.log.plot("campaign/cost_usd", self.ledger.total().usd, step)
        self.log.messenger.retry(time.monotonic())

    def _write_line(self, step: int) -> None:
        """Write the ledger's line of now. On a full disk the money is counted on in memory.

        The next line that can be written holds that time too.
        """
        try:
            self.ledger.bill_until_now(step)
            self.write_state_file()
            trouble = ""
        except KwelaError as error:
            trouble = str(error)
        if trouble and trouble != self._line_trouble:
            self.log.say(f"{trouble}; the money is counted on, and the next line holds it")
        self._line_trouble = trouble

    def request_stop(self, reason: str) -> None:
        """Ask training and commands to stop. The first reason counts."""
        self.stop_reason = self.stop_reason or reason
        self.stop_requested.set()

    def notify(self, text: str) -> None:
        """Send a message to people, with the costs so far."""
        totals = self.ledger.total()
        facts = {"cost_usd": round(totals.usd, 2), "days": round(totals.days, 2)}
        self.log.notify(text, **facts)

    def write_state_file(self) -> None:
        """Write `orchestrator_state.json` with what the ledger has recorded."""
        recorded = campaign_state.read_state(
            self.folder, self.settings, self.ledger.rows, curve=self.curve_reader.read()
        )
        campaign_state.write_state_file(self.folder, recorded, self.identity, self.monitor.gpu_percent)

    # ------------------------------------------------------------------ the end of a span

    def end_span(self, why: str) -> None:
        """Bill until now and record why the machine isn't used any more.

        Where it was asked to stop because the machine is shutting down, no idle time after this is billed.
        """
        if why == SIGNAL and self.environment.goes_down():
            why = ledger.GOES_DOWN
        self.ledger.bill_until_now(self.read_state().curve.step, why)
        self.write_state_file()

    def stop_for_a_person(self, why: str, error: KwelaError) -> NoReturn:
        """Record that the campaign waits for a person, and raise `error`."""
        self.ledger.record("stopped", why=why)
        self.end_span(why)
        raise error

    def only_reserve_is_left(self) -> bool:
        """Whether the budget has only what is kept for the last save and the report."""
        totals = self.ledger.total()
        return totals.usd + self._reserve_usd() > totals.budget_usd

    def _reserve_usd(self) -> float:
        return self.price * self.settings.reserve_minutes / 60

    def check_budget(self) -> None:
        """Raise BudgetSpent, with the span ended, if only the reserve is left."""
        if self.only_reserve_is_left():
            state = self.read_state()
            self.end_span(BUDGET)
            raise BudgetSpent(
                f"${state.totals.usd:,.2f} of ${state.totals.budget_usd:,.2f} spent, "
                f"the rest is kept for the save and the report. {advice_on_cost(state)}. "
                "kwela campaign extend --to DOLLARS, then --resume, goes on"
            )
