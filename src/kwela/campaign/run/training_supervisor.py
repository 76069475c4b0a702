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
from kwela.errors import Interrupted, KwelaError, UserError

MOST_CRASHES = 3  # in a row without a step between them


class TrainingSupervisor:
    """Trains for a campaign, and counts the crashes of this process."""

    def __init__(self, campaign: RunningCampaign) -> None:
        self.campaign = campaign
        self.crashes = 0  # in a row
        self.stopping_flag = ""  # the red flag that stopped training last

    def train(self, gate_now: bool) -> str:
        """Train until the end ("") or a reason to stop, which is returned; after a crash too that is "".

        A checkpoint is saved by then. gate_now: hold the gate as soon as there is a step. Raises KwelaError
        where training waits for a person.
        """
        campaign = self.campaign
        before = campaign.read_state()
        campaign.monitor.training_begins(before)
        child = ChildProcess(campaign.commands.train, campaign.folder / CHILD_LOCK)
        campaign.has_trained = True
        exit_status, reason = self._watch(child, gate_now)
        campaign.keep_going()
        state = campaign.read_state()
        if exit_status == 0:
            return ""
        if not reason:
            self._after_crash(exit_status, before, state)
            reason = campaign.stop_reason  # of a notice that came in the pause
        elif exit_status not in (Interrupted.status, -signal.SIGTERM):
            # After SIGTERM alone there was nothing to save yet.
            why = state.training.get("why") or exit_status
            campaign.log.say(f"Training could not save ({why}): its last checkpoint holds")
        if self.stopping_flag:
            error = KwelaError(f"stopped by {reason}; go on with --resume once it is dealt with")
            campaign.stop_for_a_person(reason, error)
        return reason

    def _watch(self, child: ChildProcess, gate_now: bool) -> tuple[int, str]:
        """Wait until training ends, or stop it for a reason. Returns its exit status and the reason."""
        campaign = self.campaign
        try:
            while (exit_status := child.poll()) is None:
                campaign.wait()
                state = campaign.read_state()
                if reason := self._reason_to_stop(state, gate_now and state.curve.step > 0):
                    campaign.log.say(f"Stopping to save: {reason}")
                    return child.stop(campaign.grace, campaign.keep_going), reason
        except (
            BaseException
        ):  # such as a full disk: nothing would check the budget of a training that goes on
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
            is_day = state.totals.days >= settings.week_5_threshold_days
            fraction = settings.gate_at_fraction
            is_due = is_day or (fraction is not None and state.progress >= fraction)
            return GATE if is_due or gate_now else ""
        if state.verdict != gate.CONDITIONAL:
            return ""
        is_day_old = campaign.ledger.campaign_time() - state.gate_row["at"] >= DAY
        last_validation = state.curve.val[-1][0] if state.curve.val else 0
        is_validated_since = last_validation > state.gate_row.get("step", 0)
        return RECHECK if is_day_old and is_validated_since else ""

    def _after_crash(self, exit_status: int, before: CampaignState, state: CampaignState) -> None:
        """Training ended badly by itself: wait for a while before it is started again, unless that is no use.

        before: the state as training began. Raises UserError or KwelaError where a person must look.
        """
        campaign = self.campaign
        wrote_status = state.training != before.training and state.training.get("exit_status")
        message = str(state.training.get("why") or "") if wrote_status else ""
        if exit_status < 0:
            cause = message or f"killed by {signal.Signals(-exit_status).name}"
        else:
            cause = message or f"exit status {exit_status}"
        if exit_status == UserError.status:
            refusal = message or "training refused its input: the line above says which"
            campaign.stop_for_a_person("bad input", UserError(refusal))
        if "not finite" in message:
            campaign.monitor.update(state, campaign.ledger.campaign_time(), message)
            if campaign.settings.flags.nan.action == "stop":
                error = KwelaError(f"{message}; the last good checkpoint is in {campaign.folder}")
                campaign.stop_for_a_person("not finite", error)
        step = state.curve.step
        self.crashes = self.crashes + 1 if step <= before.curve.step else 1
        if self.crashes >= MOST_CRASHES:
            error = KwelaError(f"training failed {MOST_CRASHES} times at step {step} ({cause})")
            campaign.stop_for_a_person("training that fails", error)
        pause = 30.0 * 2**self.crashes
        campaign.log.say(
            f"Training ended ({cause}) at step {step}; going on from its checkpoint in {pause:.0f} s"
        )
        end = campaign.clock.read().awake + pause
        while campaign.clock.read().awake < end and not campaign.stop_requested.is_set():
            campaign.wait()
