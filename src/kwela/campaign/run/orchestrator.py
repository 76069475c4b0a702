"""Keeps a training going for weeks, inside a budget, and stops it when it should.

- Training is a child process. It is started again after a crash, and from its checkpoint after a notice or a reboot.
- Money is looked at every few seconds: the run ends, with a checkpoint, while there is still enough for the last save
  and the report.
- At the gate training pauses with a checkpoint, samples are made and judged, and the verdict is written down once.
- It ends by raising what its exit status stands for: see errors.py.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import filelock

from kwela import files
from kwela.campaign.decide import gate
from kwela.campaign.money import ledger, ledger_rows
from kwela.campaign.money.clock import DAY, HOUR, Clock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.run import child, results, state
from kwela.campaign.run import evaluation as commands
from kwela.campaign.run.announce import Teller
from kwela.campaign.run.evaluation import Commands, Measured, Runner, Stopped, measure
from kwela.campaign.run.monitor import Lookout
from kwela.campaign.run.state import Standing
from kwela.engine import signals
from kwela.errors import BudgetSpent, Hold, Interrupted, KwelaError, NoGo, UserError
from kwela.playbook import PlaybookConfig

POLL = 5.0  # seconds between two looks
STRIKES = 3  # crashes in a row without a step between them
LOCK, CHILD_LOCK = ".orchestrator.lock", ".training.lock"
NOTICE, SIGNAL, BUDGET, GATE, RECHECK = "spot notice", "asked to stop", "budget", "gate", "daily check"


@dataclass(frozen=True)
class Surroundings:
    """What the campaign is told by the machine, and where it speaks.

    gpu: percent in use, None without a meter. watch: calls back on a spot notice, from a thread; returns how to end it.
    home: the config's folder. board: TensorBoard's. log: a file that its lines are appended to.
    """

    instance: str
    gpu: Callable[[], float | None] = lambda: None
    watch: Callable[[Callable[[Any], None]], Callable[[], None]] = lambda call: lambda: None
    home: Path | None = None
    board: Path | None = None
    log: Path | None = None


class Campaign:
    """One session of a campaign: what `run` has to remember."""

    def __init__(
        self,
        settings: PlaybookConfig,
        commands: Commands,
        clock: Clock,
        around: Surroundings,
        speed: float = 1.0,
    ) -> None:
        self.settings, self.commands, self.clock, self.around = settings, commands, clock, around
        self.folder, self.speed = settings.checkpoint_dir, speed
        self.ours = state.identity(settings, speed)
        self.teller = Teller(settings, around.log, around.board)
        self.say = self.teller.say
        self.price = settings.spot_cost_per_hour if settings.market == "spot" else settings.gpu_cost_per_hour
        self.halt = threading.Event()  # set by a signal or a notice
        self.why = self.stop_flag = ""
        self.strikes, self.ticked = 0, float("-inf")
        self.trained = False  # in this session
        self.book: Ledger
        self.lookout: Lookout

    # ------------------------------------------------------------------ a session

    def run(self, *, gate_now: bool = False, override: str = "", unattended: bool = False) -> None:
        """Go on until training has ended, or something ends it sooner.

        gate_now: hold the gate at once. override: why to go on against a HOLD or NO-GO; it is recorded.
        unattended: what stopped for a person stays stopped.
        Raises NoGo, Hold, BudgetSpent, Interrupted, UserError (bad input, another campaign's folder, another
        orchestrator at work) or KwelaError.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / LOCK)
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise UserError(f"{self.folder}: another orchestrator is at work in this folder") from None
        except OSError as error:
            raise files.write_error(self.folder, error) from None
        ended = self.around.watch(lambda notice: self._halt(NOTICE))
        before = {number: signal.signal(number, self._signalled) for number in signals.stop_signals()}
        try:
            self._recover()
            self._session(gate_now, override, unattended)
        finally:
            ended()
            for number, handler in before.items():
                signal.signal(number, handler)
            self.teller.close()
            lock.release()

    def _recover(self) -> None:
        """Bring the ledger up to date, whatever happened since its last line."""
        whole = state.check(self.folder, self.ours)
        if stray := child.stop_stray(self.folder / CHILD_LOCK):
            self.say(f"Stopped the training that an earlier orchestrator left running (process {stray})")
        self.book = Ledger(self.folder / ledger.NAME, self.clock)
        if self.book.damaged_lines:
            self.say(f"{self.book.path}: {self.book.damaged_lines} damaged lines left out")
        self.book.merge(ledger.text_in_checkpoint(self.folder))
        if self.book.restored:
            self.say("Ledger restored from the checkpoint's copy; the time since then is billed whole")
        before = ledger_rows.span_rows(self.book.rows)[-1:]
        given = self.settings
        began = given.started.timestamp() if given.started else None
        if kept := self.book.open(self.ours, given.budget_usd, given.setup_cost_usd, began):
            self.say(f"{self.book.path}: keeps {', '.join(kept)}, as it began, whatever the config says now")
        disk = given.disk_gb, given.disk_usd_per_gb_month
        now = self.clock.read()
        machine = Machine(self.around.instance, given.market, self.price, *disk)
        away = self.book.begin_span(machine)
        self.lookout = Lookout(given, self.around.gpu, self.teller, now, self.speed)
        if before and before[0]["boot"] != now.boot and not before[0]["why"]:
            self.lookout.went(
                f"the machine stopped without a word; {away / HOUR:.1f} h until it was resumed", now
            )
        self._write()
        if not whole:
            self.say(f"{self.folder / state.NAME}: damaged; written anew from the ledger")

    def _asked(self, gate_now: bool, override: str, unattended: bool) -> None:
        """Whether what was asked for can be had. Raises UserError, or KwelaError where a person is waited for."""
        stands = self._look().stands
        if gate_now and override:
            raise UserError("--override with --gate-now: choose one")
        if gate_now and stands == gate.GO:
            raise UserError("--gate-now: the gate was held, and is held once: GO")
        if override and stands not in (gate.HOLD, gate.NO_GO):
            raise UserError(f"--override: for a HOLD or NO-GO; here {stands or 'the gate was not held yet'}")
        stopped, resumed = (ledger_rows.latest(self.book.rows, kind) for kind in ("stopped", "resumed"))
        if stopped and (resumed is None or resumed["at"] <= stopped["at"]):
            if unattended:
                raise KwelaError(
                    f"stopped by {stopped['why']}: a person must look; without --unattended it goes on"
                )
            self.book.record("resumed")

    def _session(self, gate_now: bool, override: str, unattended: bool) -> None:
        begun = False
        try:
            self._asked(gate_now, override, unattended)
            begun = True
            self._go(gate_now, override)
        except KwelaError as error:
            if begun:  # a slip of somebody's hand is nobody else's news
                self._tell(f"ended: {error}")
            if (
                self.book.span and not self.book.span["why"]
            ):  # it refused to go on; the machine runs on all the same
                with contextlib.suppress(KwelaError):  # a full disk
                    self._close("not gone on")
            raise

    def _stop(self, why: str, error: KwelaError) -> NoReturn:
        """End in a way that waits for a person."""
        self.book.record("stopped", why=why)
        self._close(why)
        raise error

    def _go(self, gate_now: bool, override: str) -> None:
        now = self._look()
        if override and now.verdict:
            self.book.record("override", why=override, verdict=now.verdict.verdict)
            self.say(f"{now.verdict.verdict} overridden: {override}")
        self.teller.banner(self._look(), self.price, self.around.home, self.speed)
        self._refuse_to_go_on(gate_now)
        hold_gate = gate_now
        while True:
            now = self._look()
            if now.finished:
                break
            self._check_budget(now)
            why = GATE if hold_gate and now.curve.step > 0 else self._train(hold_gate)
            hold_gate = hold_gate and not why  # after a crash it is still to be held
            if why in (NOTICE, SIGNAL):
                self._close(why)
                step = self._look().curve.step
                raise Interrupted(
                    f"{why}: checkpointed at step {step}; run the same command again (--resume) to go on"
                )
            if why == BUDGET:
                self._check_budget(self._look())
            if why in (GATE, RECHECK):
                self._decide(why)
        self._finish()

    def _refuse_to_go_on(self, gate_now: bool) -> None:
        """A verdict that ended the campaign still stands after a restart."""
        now = self._look()
        if now.verdict and now.stands == gate.NO_GO:
            self.say(gate.decision_text(now.verdict))
            if not (self.folder / results.ABORT).exists():  # killed between the verdict and its report
                self._abort(now.verdict, now.decided["at"])
            raise NoGo(f"the gate said NO-GO; see {self.folder / results.ABORT}")
        if now.verdict and now.stands == gate.HOLD and not gate_now:
            self.say(gate.decision_text(now.verdict))
            raise Hold("the gate holds: --gate-now decides anew, --override REASON goes on")

    # ------------------------------------------------------------------ training

    def _train(self, gate_now: bool) -> str:
        """Train until it has ended ("") or something asks to stop, which is returned; a checkpoint is saved by then."""
        before = self._look()
        self.lookout.begin(before)
        training, self.trained = child.Child(self.commands.train, self.folder / CHILD_LOCK), True
        why = ""
        try:
            while (code := training.poll()) is None:
                self._wait()
                now = self._look()
                why = self._reason(now, gate_now and now.curve.step > 0)
                if why:
                    self.say(f"Stopping to save: {why}")
                    grace = child.GRACE if why in (NOTICE, SIGNAL) else child.PATIENCE
                    code = training.stop(grace, self._pulse)
                    break
        except BaseException:  # a full disk, say: training doesn't go on without us
            training.stop()
            raise
        self._pulse()
        now = self._look()
        if code == 0:
            return ""
        if not why:
            self._crashed(code, before, now)
            why = self.why  # of a notice that came in the pause
        elif code not in (Interrupted.status, -signal.SIGTERM):  # SIGTERM: before there was anything to save
            self.say(
                f"Training could not save ({now.training.get('why') or code}): its last checkpoint holds"
            )
        if self.stop_flag:
            self._stop(why, KwelaError(f"stopped by {why}; go on with --resume once it is dealt with"))
        return why

    def _crashed(self, code: int, before: Standing, now: Standing) -> None:
        """Training ended by itself, badly: go on after a while, unless that is no use."""
        fresh = now.training != before.training and now.training.get("exit_status")
        said = str(now.training.get("why") or "") if fresh else ""
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        if code == UserError.status:
            self._stop(
                "bad input", UserError(said or "training refused its input: the line above says which")
            )
        if "not finite" in said:
            self.lookout.look(now, self.book.campaign_time(), said)
            if self.settings.flags.nan.action == "stop":
                self._stop("not finite", KwelaError(f"{said}; the last good checkpoint is in {self.folder}"))
        self.strikes = self.strikes + 1 if now.curve.step <= before.curve.step else 1
        if self.strikes >= STRIKES:
            failed = KwelaError(f"training failed {STRIKES} times at step {now.curve.step} ({said or how})")
            self._stop("training that fails", failed)
        pause = 30.0 * 2**self.strikes
        self.say(
            f"Training ended ({said or how}) at step {now.curve.step}; going on from its checkpoint in {pause:.0f} s"
        )
        until = self.clock.read().awake + pause
        while self.clock.read().awake < until and not self.halt.is_set():
            self._wait()

    def _reason(self, now: Standing, gate_now: bool) -> str:
        """Why training should stop now, if it should."""
        if self.halt.is_set():
            return self.why
        if self._short():
            return BUDGET
        self.stop_flag = self.lookout.look(now, self.book.campaign_time())
        if self.stop_flag:
            return f"red flag {self.stop_flag}"
        if now.verdict is None or gate_now:
            early = self.settings.gate_at_fraction
            due = now.bill.days >= self.settings.week_5_threshold_days or (
                early is not None and now.fraction >= early
            )
            return GATE if due or gate_now else ""
        day_old = now.stands == gate.CONDITIONAL and self.book.campaign_time() - now.decided["at"] >= DAY
        fresh = bool(now.curve.val) and now.curve.val[-1][0] > now.decided.get("step", 0)
        return RECHECK if day_old and fresh else ""

    def _wait(self) -> None:
        self.clock.sleep(POLL)
        self._pulse()

    def _pulse(self) -> None:
        """What goes on while anything runs: the ledger, the meter, messages that weren't sent."""
        time = self.clock.read()
        self.lookout.measure(time, self.book.total().billed_seconds)
        if time.awake - self.ticked >= ledger.LINE_INTERVAL:
            self.ticked = time.awake
            step = self._look().curve.step
            self.book.bill_until_now(step)
            self._write()
            self.teller.plot("campaign/cost_usd", self.book.total().usd, step)
        self.teller.messenger.retry(time.awake)

    # ------------------------------------------------------------------ money

    def _short(self) -> bool:
        """Whether only what is kept for the last save and the report is left."""
        bill = self.book.total()
        return bill.usd + self.price * self.settings.reserve_minutes / 60 > bill.budget_usd

    def _check_budget(self, now: Standing) -> None:
        if self._short():
            self._close(BUDGET)
            raise BudgetSpent(
                f"${now.bill.usd:,.2f} of ${now.bill.budget_usd:,.2f} spent, the rest is kept for the save and the "
                f"report. {results.over_budget(now)}. kwela campaign extend --to DOLLARS, then --resume, goes on"
            )

    # ------------------------------------------------------------------ the gate

    def _decide(self, why: str) -> None:
        """Hold the gate, or check the conditions of a CONDITIONAL-GO anew."""
        measured = self._measure()
        now = self._look()
        verdict = gate.decide(
            results.evidence(now, measured, self.lookout.board.up), self.settings.go_nogo_thresholds
        )
        if why == RECHECK and verdict.verdict == gate.HOLD:  # nothing new is known: the conditions stay
            self.say(
                f"Daily check: not measured: {', '.join(rule.explanation for rule in verdict.rules_that('unknown'))}"
            )
            verdict = replace(verdict, verdict=gate.CONDITIONAL)
        self.book.record("gate", **verdict.to_json(), why=why, step=now.curve.step)
        self.say(gate.decision_text(verdict))
        self._tell(f"gate: {verdict.verdict}")
        self._write()
        if verdict.verdict == gate.NO_GO:
            self._abort(verdict, self.book.campaign_time())
            self._close("gate: NO-GO")
            failed = "; ".join(f"{rule.name} {rule.explanation}" for rule in verdict.rules_that("fails"))
            raise NoGo(f"NO-GO: {failed}; see {self.folder / results.ABORT}")
        if verdict.verdict == gate.HOLD:
            self._close("gate: HOLD")
            unknown = "; ".join(f"{rule.name} {rule.explanation}" for rule in verdict.rules_that("unknown"))
            raise Hold(f"HOLD at step {now.curve.step}, checkpointed: {unknown}")

    def _abort(self, verdict: gate.GateDecision, at: float) -> None:
        report = gate.abort_report(verdict, at)
        files.write(self.folder / results.ABORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")

    def _measure(self) -> Measured:
        runner = Runner(self.folder / CHILD_LOCK, self._wait, lambda: self.halt.is_set() or self._short())
        self.say("Making and judging samples...")
        place, model = self.folder / results.EVALUATION, results.best(self.folder)
        try:
            return measure(self.settings.evaluation, self.commands, place, model, runner)
        except Stopped:
            self._check_budget(self._look())
            self._close(self.why)
            raise Interrupted(
                f"{self.why} while samples were judged: run the same command again (--resume)"
            ) from None

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        """Days 36 to 56: the last lines, the gate if it wasn't held before, and the criteria of success."""
        now = self._look()
        commands.forget(self.folder / results.EVALUATION, results.best(self.folder))
        if not self.trained:  # it ended in an earlier session: say again what training said then
            self.say(f"Training complete!\nBest model saved: {files.display_path(results.best(self.folder))}")
            self.say(f"Final validation loss: {results.number(now.curve.last_val_loss, '.3f')}")
        if now.verdict is None or now.stands == gate.HOLD:
            self._decide(GATE)
        elif now.stands == gate.CONDITIONAL and self.trained:
            self._decide(RECHECK)  # of the last weights: it may end as a GO
        else:  # the last weights are judged too, if there is money for it
            try:
                self._check_budget(now)
                if why := self._measure().why_not:
                    self.say(f"Authenticity not measured: {why}")
            except BudgetSpent as error:
                self.say(f"Authenticity not measured: {error}")
        self._close("finished")
        now = self._look()
        self.say(f"Total elapsed: {now.bill.days:.1f} days ({now.bill.billed_seconds / HOUR:,.1f} hours)")
        self.say(f"Total cost: ${now.bill.usd:,.2f}")
        self.say("\nSuccess criteria:")
        for status, text in results.criteria(self.folder, now):
            self.say(f"{results.MARKS[status]} {text}" + (f": {status}" if status == results.OPEN else ""))
        self._tell("training complete")

    def _tell(self, text: str) -> None:
        bill = self.book.total()
        self.teller.tell(text, self.clock.read().awake, cost_usd=round(bill.usd, 2), days=round(bill.days, 2))

    def _close(self, why: str) -> None:
        self.book.bill_until_now(self._look().curve.step, why)
        self._write()

    def _look(self) -> state.Standing:
        return state.look(self.folder, self.settings, self.book.rows, self.book.total())

    def _write(self) -> None:
        recorded = state.look(self.folder, self.settings, self.book.rows)
        state.write(self.folder, recorded, self.ours, self.lookout.gpu[-1][1] if self.lookout.gpu else None)

    def _halt(self, why: str) -> None:
        self.why = self.why or why
        self.halt.set()

    def _signalled(self, number: int, _: Any) -> None:
        self._halt(SIGNAL)
