"""Keep a training going for weeks inside a budget, and stop it when it should stop.

- Training is a child process. It is started again after a crash. It continues from its checkpoint after a
  spot notice or a reboot.
- The costs are checked every few seconds. The run ends, with a checkpoint, while there is still enough money
  for the last save and the report.
- At the gate training pauses with a checkpoint. Samples are made and judged, and the verdict is recorded
  once.
- A run that does not reach the end of training raises an error; errors.py gives its exit status.
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
    """Runs a campaign until training ends, or until the gate, the budget, a person or an error ends it."""

    def __init__(self, campaign: RunningCampaign) -> None:
        self.campaign = campaign
        self.supervisor = TrainingSupervisor(campaign)

    def run(self, *, gate_now: bool = False, override: str = "", unattended: bool = False) -> None:
        """Run the campaign from where it stands to its end.

        gate_now: let the gate decide at once. override: the reason to continue against a HOLD or NO-GO; it is
        recorded. unattended: a campaign that waits for a person stays stopped.
        Raises NoGo, Hold, BudgetSpent, Interrupted, UserError (bad input, another campaign's folder, another
        orchestrator at work) or KwelaError.
        """
        campaign = self.campaign
        with self._locked_folder(), campaign.watched():
            end_watch = campaign.environment.watch(lambda notice: campaign.request_stop(NOTICE))
            handlers = {number: signal.signal(number, self._on_signal) for number in signals.stop_signals()}
            try:
                campaign.recover()
                self._run_after_recovery(gate_now, override, unattended)
            finally:
                end_watch()
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                campaign.log.close()

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

    def _run_after_recovery(self, gate_now: bool, override: str, unattended: bool) -> None:
        campaign = self.campaign
        options_are_valid = False
        try:
            self._check_options(gate_now, override, unattended)
            options_are_valid = True
            self._record_override(override)
            self._print_banner()
            self._raise_earlier_verdict(gate_now)
            self._train_and_decide(gate_now)
            self._finish()
        except Exception as error:
            if options_are_valid:  # Nobody is notified of a usage error.
                campaign.notify(f"ended: {error}")
            span = campaign.ledger.span
            # The machine may run on until the auto-shutdown. The next run bills that
            # time only if the span has a reason.
            if span and not span["why"]:
                with contextlib.suppress(KwelaError, OSError):  # A full disk must not hide the first error.
                    campaign.end_span("not gone on")
            raise

    # ------------------------------------------------------------------ before training

    def _check_options(self, gate_now: bool, override: str, unattended: bool) -> None:
        """Raise UserError if an option doesn't fit the verdict, KwelaError if a person must look first."""
        rows, verdict = self.campaign.ledger.rows, self.campaign.read_state().verdict
        if gate_now and override:
            raise UserError("--override with --gate-now: choose one")
        if gate_now and verdict == gate.GO:
            raise UserError("--gate-now: the gate has decided GO, and it decides only once")
        if override and verdict not in (gate.HOLD, gate.NO_GO):
            outcome = f"has decided {verdict}" if verdict else "has not decided yet"
            raise UserError(f"--override overrides a HOLD or NO-GO; the gate {outcome}")
        stopped, resumed = latest(rows, "stopped"), latest(rows, "resumed")
        if stopped and (resumed is None or resumed["at"] <= stopped["at"]):
            if unattended:
                raise KwelaError(
                    f"stopped by {stopped['why']}: a person must look; to continue, leave out --unattended"
                )
            self.campaign.ledger.record("resumed")

    def _record_override(self, override: str) -> None:
        decision = self.campaign.read_state().decision
        if override and decision:
            self.campaign.ledger.record("override", why=override, verdict=decision.verdict)
            self.campaign.log.say(f"{decision.verdict} overridden: {override}")

    def _print_banner(self) -> None:
        campaign = self.campaign
        folder = campaign.environment.config_folder
        campaign.log.banner(campaign.read_state(), campaign.price, folder, campaign.speed)

    def _raise_earlier_verdict(self, gate_now: bool) -> None:
        """Raise NoGo or Hold if that was the gate's verdict, because a restart does not change it."""
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
            raise Hold("the gate has decided HOLD; --gate-now decides again, --override REASON overrides it")

    # ------------------------------------------------------------------ training

    def _train_and_decide(self, gate_now: bool) -> None:
        """Train to the end. Training stops while the gate decides, and for each daily check."""
        campaign = self.campaign
        while not (state := campaign.read_state()).is_finished:
            campaign.check_budget()
            reason = GATE if gate_now and state.curve.step > 0 else self.supervisor.train(gate_now)
            gate_now = gate_now and not reason  # After a crash the gate has not decided yet.
            if reason in (NOTICE, SIGNAL):
                campaign.end_span(reason)
                step = campaign.read_state().curve.step
                raise Interrupted(
                    f"{reason}: checkpointed at step {step}; run the same command again (--resume) to go on"
                )
            if reason == BUDGET:
                campaign.check_budget()
            if reason in (GATE, RECHECK):
                gate_procedure.make_gate_decision(campaign, reason)

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        """Let the gate decide if it is open, then print the totals and the success criteria."""
        campaign, say = self.campaign, self.campaign.log.say
        remove_outdated(campaign.folder / success_criteria.EVALUATION, best_model(campaign.folder))
        if not campaign.has_trained:  # An earlier process trained to the end. Its last lines are repeated.
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
        """Let the gate decide on the last weights if it is open; else measure them while the budget lasts."""
        campaign = self.campaign
        state = campaign.read_state()
        if state.decision is None or state.verdict == gate.HOLD:
            gate_procedure.make_gate_decision(campaign, GATE)
        elif state.verdict == gate.CONDITIONAL and campaign.has_trained:
            gate_procedure.make_gate_decision(campaign, RECHECK)  # The verdict may become GO.
        else:
            try:
                campaign.check_budget()
                if reason := gate_procedure.measure(campaign).why_not:
                    campaign.log.say(f"Authenticity not measured: {reason}")
            except BudgetSpent as error:
                campaign.log.say(f"Authenticity not measured: {error}")
