"""Keep training running as a child process: start it, watch it, stop it, restart it after a crash."""

from __future__ import annotations

import signal

from kwela.campaign.decide import gate
from kwela.campaign.money.clock import DAY
from kwela.campaign.run.campaign_state import CampaignState
from kwela.campaign.run.child_process import ChildProcess
from kwela.campaign.run.running_campaign import (
    BUDGET,
    CHILD_LOCK,
    GATE,
    RECHECK,
    RunningCampaign,
)
from kwela.engine import row_faults
from kwela.errors import Interrupted, KwelaError, UserError

MAX_CRASHES_IN_A_ROW = 3  # A crash after a new step starts a new row.


class TrainingSupervisor:
    """Trains for a campaign, and counts the crashes of training since this orchestrator started."""

    def __init__(self, campaign: RunningCampaign) -> None:
        self.campaign = campaign
        self.crashes_in_a_row = 0
        self.stopping_flag = ""  # the red flag that asks training to stop; "" if none does

    def train(self, gate_now: bool) -> str:
        """Train until training ends, crashes or must stop. Returns the reason to stop.

        The reason is "" at the end of training, and after a crash that training can be restarted from. A
        training that must stop saves a checkpoint first, if it has anything to save. gate_now: let the gate
        decide after the first step. Raises KwelaError if the campaign waits for a person.
        """
        campaign = self.campaign
        state_before = campaign.read_state()
        campaign.monitor.note_progress(state_before)
        child = ChildProcess(campaign.commands.train, campaign.folder / CHILD_LOCK)
        campaign.has_trained = True
        exit_status, reason = self._watch(child, gate_now)
        campaign.do_periodic_work()
        state = campaign.read_state()
        if exit_status == 0:
            return ""
        if not reason:
            self._pause_after_crash(exit_status, state_before, state)
            reason = campaign.stop_reason  # A stop may have been requested during the pause.
        elif exit_status not in (Interrupted.status, -signal.SIGTERM):
            # SIGTERM is left out: it ends a training that has nothing to save yet.
            cause = state.training.get("why") or exit_status
            campaign.log.say(f"Training could not save ({cause}); it will continue from its last checkpoint")
        if self.stopping_flag:
            error = KwelaError(f"stopped by {reason}; repair the cause, then continue with --resume")
            campaign.stop_for_a_person(reason, error)
        return reason

    def _watch(self, child: ChildProcess, gate_now: bool) -> tuple[int, str]:
        """Wait until training ends, or stop it. Returns its exit status and the reason to stop, or ""."""
        campaign = self.campaign
        try:
            while (exit_status := child.poll()) is None:
                campaign.wait()
                state = campaign.read_state()
                if reason := self._reason_to_stop(state, gate_now and state.curve.step > 0):
                    campaign.log.say(f"Stopping to save: {reason}")
                    return child.stop(campaign.grace, campaign.do_periodic_work), reason
        except BaseException:
            # Without the orchestrator nothing checks the budget, so training must not outlive it.
            child.stop(campaign.grace)
            raise
        return exit_status, ""

    def _reason_to_stop(self, state: CampaignState, gate_now: bool) -> str:
        """Return why training should stop now; "" if it should not."""
        campaign, settings = self.campaign, self.campaign.settings
        if campaign.stop_requested.is_set():
            return campaign.stop_reason
        if campaign.only_reserve_is_left():
            return BUDGET
        self.stopping_flag = campaign.monitor.update(state, campaign.ledger.campaign_time())
        if self.stopping_flag:
            return f"red flag {self.stopping_flag}"
        if state.decision is None or gate_now:
            is_gate_day = state.totals.days >= settings.week_5_threshold_days
            fraction = settings.gate_at_fraction
            is_due = is_gate_day or (fraction is not None and state.progress >= fraction)
            return GATE if is_due or gate_now else ""
        if state.verdict != gate.CONDITIONAL:
            return ""
        is_verdict_a_day_old = campaign.ledger.campaign_time() - state.gate_row["at"] >= DAY
        last_validation = state.curve.val[-1][0] if state.curve.val else 0
        is_validated_since = last_validation > state.gate_row.get("step", 0)
        return RECHECK if is_verdict_a_day_old and is_validated_since else ""

    def _pause_after_crash(self, exit_status: int, state_before: CampaignState, state: CampaignState) -> None:
        """Wait before a crashed training is started again, or stop if another start would not help.

        state_before: the state when training started. Raises UserError or KwelaError if a person must look.
        """
        campaign = self.campaign
        wrote_status = state.training != state_before.training and state.training.get("exit_status")
        message = str(state.training.get("why") or "") if wrote_status else ""
        if exit_status < 0:
            cause = message or f"killed by {signal.Signals(-exit_status).name}"
        else:
            cause = message or f"exit status {exit_status}"
        if exit_status == UserError.status and row_faults.GOES_ON not in message:
            error_text = message or "training refused its input; the line above names it"
            campaign.stop_for_a_person("bad input", UserError(error_text))
        if "not finite" in message:
            campaign.monitor.update(state, campaign.ledger.campaign_time(), message)
            if campaign.settings.flags.nan.action == "stop":
                error = KwelaError(f"{message}; the last good checkpoint is in {campaign.folder}")
                campaign.stop_for_a_person("not finite", error)
        step = state.curve.step
        self.crashes_in_a_row = self.crashes_in_a_row + 1 if step <= state_before.curve.step else 1
        if self.crashes_in_a_row >= MAX_CRASHES_IN_A_ROW:
            error = KwelaError(f"training failed {MAX_CRASHES_IN_A_ROW} times at step {step} ({cause})")
            campaign.stop_for_a_person("training that fails", error)
        pause = 30.0 * 2**self.crashes_in_a_row
        campaign.log.say(
            f"Training ended ({cause}) at step {step}; it continues from its checkpoint in {pause:.0f} s"
        )
        end = campaign.clock.read().awake + pause
        while campaign.clock.read().awake < end and not campaign.stop_requested.is_set():
            campaign.wait()
