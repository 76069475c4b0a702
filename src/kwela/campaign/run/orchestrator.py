"""Keep a training going for weeks inside a budget, and stop it when it should stop.

- Training is a child process. It is started again after a crash, and goes on from its checkpoint after a
  notice or a reboot.
- The costs are checked every few seconds: the run ends, with a checkpoint, while there is still enough money
  for the last save and the report.
- At the gate training pauses with a checkpoint, samples are made and judged, and the verdict is written down
  once.
- The run ends by raising the error that its exit status stands for: see errors.py.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import filelock

from kwela import files
from kwela.campaign.decide import gate
from kwela.campaign.money.clock import HOUR
from kwela.campaign.money.ledger_rows import latest
from kwela.campaign.run import gate_procedure, success_criteria
from kwela.campaign.run.campaign_state import best_model
from kwela.campaign.run.evaluation import remove_outdated
from kwela.campaign.run.running_campaign import BUDGET, GATE, NOTICE, RECHECK, SIGNAL, RunningCampaign
from kwela.campaign.run.success_criteria import NOT_MEASURED, figure_text
from kwela.campaign.run.training_supervisor import TrainingSupervisor
from kwela.engine import signals
from kwela.errors import BudgetSpent, Hold, Interrupted, KwelaError, NoGo, UserError

LOCK = ".orchestrator.lock"


class Orchestrator:
    """Runs a campaign until training has ended, or something ends it sooner."""

    def __init__(self, campaign: RunningCampaign) -> None:
        self.campaign = campaign
        self.supervisor = TrainingSupervisor(campaign)

    def run(self, *, gate_now: bool = False, override: str = "", unattended: bool = False) -> None:
        """Go on with the campaign to its end.

        gate_now: hold the gate at once. override: why to go on against a HOLD or NO-GO; it is recorded.
        unattended: a campaign that stopped for a person stays stopped.
        Raises NoGo, Hold, BudgetSpent, Interrupted, UserError (bad input, another campaign's folder, another
        orchestrator at work) or KwelaError.
        """
        campaign = self.campaign
        with self._locked_folder(), campaign.watched():
            end_watch = campaign.environment.watch(lambda notice: campaign.request_stop(NOTICE))
            handlers = {number: signal.signal(number, self._on_signal) for number in signals.stop_signals()}
            try:
                campaign.recover()
                self._run_recovered(gate_now, override, unattended)
            finally:
                end_watch()
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                campaign.log.close(campaign.clock.read().awake)

    @contextlib.contextmanager
    def _locked_folder(self) -> Iterator[None]:
        """Make the campaign's folder, and keep another orchestrator out of it."""
        folder = self.campaign.folder
        lock = filelock.FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise UserError(f"{folder}: another orchestrator is at work in this folder") from None
        except OSError as error:
            raise files.write_error(folder, error) from None
        try:
            yield
        finally:
            lock.release()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.campaign.request_stop(SIGNAL)

    def _run_recovered(self, gate_now: bool, override: str, unattended: bool) -> None:
        campaign = self.campaign
        options_are_valid = False
        try:
            self._check_options(gate_now, override, unattended)
            options_are_valid = True
            self._record_override(override)
            self._banner()
            self._refuse_after_verdict(gate_now)
            self._train_and_hold_gates(gate_now)
            self._finish()
        except Exception as error:
            if options_are_valid:  # a usage error ends the run, and nobody is notified of it
                campaign.notify(f"ended: {error}")
            span = campaign.ledger.span
            if span and not span["why"]:  # the run ended without a reason on record; the machine may run on
                with contextlib.suppress(KwelaError, OSError):  # a full disk
                    campaign.end_span("not gone on")
            raise

    # ------------------------------------------------------------------ before training

    def _check_options(self, gate_now: bool, override: str, unattended: bool) -> None:
        """Raise UserError for options that don't fit the verdict, KwelaError where a person is waited for."""
        rows, verdict = self.campaign.ledger.rows, self.campaign.read_state().verdict
        if gate_now and override:
            raise UserError("--override with --gate-now: choose one")
        if gate_now and verdict == gate.GO:
            raise UserError("--gate-now: the gate was held, and is held once: GO")
        if override and verdict not in (gate.HOLD, gate.NO_GO):
            raise UserError(f"--override: for a HOLD or NO-GO; here {verdict or 'the gate was not held yet'}")
        stopped, resumed = latest(rows, "stopped"), latest(rows, "resumed")
        if stopped and (resumed is None or resumed["at"] <= stopped["at"]):
            if unattended:
                raise KwelaError(
                    f"stopped by {stopped['why']}: a person must look; without --unattended it goes on"
                )
            self.campaign.ledger.record("resumed")

    def _record_override(self, override: str) -> None:
        decision = self.campaign.read_state().decision
        if override and decision:
            self.campaign.ledger.record("override", why=override, verdict=decision.verdict)
            self.campaign.log.say(f"{decision.verdict} overridden: {override}")

    def _banner(self) -> None:
        campaign = self.campaign
        folder = campaign.environment.config_folder
        campaign.log.banner(campaign.read_state(), campaign.price, folder, campaign.speed)

    def _refuse_after_verdict(self, gate_now: bool) -> None:
        """Raise NoGo or Hold again where the gate said so: its verdict holds after a restart."""
        campaign = self.campaign
        state = campaign.read_state()
        if state.decision and state.verdict == gate.NO_GO:
            report = campaign.folder / gate_procedure.ABORT_REPORT
            campaign.log.say(gate.decision_text(state.decision))
            if not report.exists():  # killed between the verdict and its report
                gate_procedure.write_abort_report(campaign, state.decision, state.gate_row["at"])
            raise NoGo(f"the gate said NO-GO; see {report}")
        if state.decision and state.verdict == gate.HOLD and not gate_now:
            campaign.log.say(gate.decision_text(state.decision))
            raise Hold("the gate holds: --gate-now decides anew, --override REASON goes on")

    # ------------------------------------------------------------------ training

    def _train_and_hold_gates(self, gate_now: bool) -> None:
        """Train to the end, with a stop at the gate and at each daily check."""
        campaign = self.campaign
        while not (state := campaign.read_state()).is_finished:
            campaign.check_budget()
            reason = GATE if gate_now and state.curve.step > 0 else self.supervisor.train(gate_now)
            gate_now = gate_now and not reason  # after a crash the gate is still to be held
            if reason in (NOTICE, SIGNAL):
                campaign.end_span(reason)
                step = campaign.read_state().curve.step
                raise Interrupted(
                    f"{reason}: checkpointed at step {step}; run the same command again (--resume) to go on"
                )
            if reason == BUDGET:
                campaign.check_budget()
            if reason in (GATE, RECHECK):
                gate_procedure.hold_gate(campaign, reason)

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        """Hold the gate if it wasn't held before, and say the last lines and the criteria of success."""
        campaign, say = self.campaign, self.campaign.log.say
        remove_outdated(campaign.folder / success_criteria.EVALUATION, best_model(campaign.folder))
        if not campaign.has_trained:  # training ended in an earlier process: say again what it said then
            last_val_loss = campaign.read_state().curve.last_val_loss
            say(f"Training complete!\nBest model saved: {files.display_path(best_model(campaign.folder))}")
            say(f"Final validation loss: {figure_text(last_val_loss, '.3f')}")
        self._judge_last_weights()
        campaign.end_span("finished")
        state = campaign.read_state()
        totals = state.totals
        say(f"Total elapsed: {totals.days:.1f} days ({totals.billed_seconds / HOUR:,.1f} hours)")
        say(f"Total cost: ${totals.usd:,.2f}")
        say("\nSuccess criteria:")
        for status, text in success_criteria.criteria(campaign.folder, state):
            suffix = f": {status}" if status == NOT_MEASURED else ""
            say(f"{success_criteria.MARKS[status]} {text}{suffix}")
        campaign.notify("training complete")

    def _judge_last_weights(self) -> None:
        """Hold the gate on the last weights if it is open, else measure them if there is money for it."""
        campaign = self.campaign
        state = campaign.read_state()
        if state.decision is None or state.verdict == gate.HOLD:
            gate_procedure.hold_gate(campaign, GATE)
        elif state.verdict == gate.CONDITIONAL and campaign.has_trained:
            gate_procedure.hold_gate(campaign, RECHECK)  # it may end as a GO
        else:
            try:
                campaign.check_budget()
                if reason := gate_procedure.measure(campaign).why_not:
                    campaign.log.say(f"Authenticity not measured: {reason}")
            except BudgetSpent as error:
                campaign.log.say(f"Authenticity not measured: {error}")
