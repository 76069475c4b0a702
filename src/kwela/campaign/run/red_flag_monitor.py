"""Observe what files don't hold (the GPU, the clock, the disk), and raise and lower the red flags."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable

from kwela.campaign.decide import red_flags
from kwela.campaign.decide.red_flags import Observations, RedFlag, RedFlagLog
from kwela.campaign.money.clock import DAY, HOUR, ClockReading
from kwela.campaign.money.costs import step_history
from kwela.campaign.run import success_criteria
from kwela.campaign.run.campaign_log import CampaignLog
from kwela.campaign.run.campaign_state import CampaignState
from kwela.errors import KwelaError
from kwela.playbook import PlaybookConfig

METER_INTERVAL = 60.0  # seconds
LONG_SUSPENSION = 60.0  # seconds of suspension that are reported
STOP_FLAG_LASTS = DAY  # how long the flag of an unexpected stop stays up


class RedFlagMonitor:
    """meter: percent of the GPU in use, None without one. now: the clock when this process began.

    speed: of a rehearsal's clock, which makes no step any faster.
    """

    def __init__(
        self,
        settings: PlaybookConfig,
        meter: Callable[[], float | None],
        log: CampaignLog,
        now: ClockReading,
        speed: float = 1.0,
    ) -> None:
        self.folder, self.settings, self.meter, self.log = settings.checkpoint_dir, settings, meter, log
        self.speed = speed
        self.flag_log = RedFlagLog(self.folder)
        samples = settings.flags.gpu_idle.minutes * 60 / METER_INTERVAL
        # (billed seconds, percent); a sample more than the flag looks back on
        self.gpu: deque[tuple[float, float]] = deque(maxlen=int(samples) + 2)
        self.suspended_seconds, self.metered_at = now.up - now.awake, float("-inf")
        stop_flag = self.flag_log.up.get("instance_stopped")
        self.unexpected_stop, self.stopped_at = stop_flag.evidence if stop_flag else "", now.up
        # The flags that were up before: a person who resumes has seen them, so they don't stop training
        # again.
        self.seen_flags = set(self.flag_log.up)
        self._log_trouble = ""  # why a flag could not be written down
        self.last_step, self.last_step_at = -1, 0.0  # and the billed second in which it was first seen

    @property
    def gpu_percent(self) -> float | None:
        """The last reading of the meter."""
        return self.gpu[-1][1] if self.gpu else None

    def measure(self, now: ClockReading, billed_seconds: float) -> None:
        """Read the meter, if it is time, and notice that the machine was suspended."""
        suspended = now.up - now.awake
        new_suspension = suspended - self.suspended_seconds
        if new_suspension > LONG_SUSPENSION:
            self.note_unexpected_stop(f"the machine was suspended for {new_suspension / HOUR:.1f} h", now)
        if now.up - self.stopped_at > STOP_FLAG_LASTS:
            self.unexpected_stop = ""
        self.suspended_seconds = suspended
        if now.awake - self.metered_at >= METER_INTERVAL:
            self.metered_at = now.awake
            if (percent := self.meter()) is not None:
                self.gpu.append((billed_seconds, percent))

    def note_unexpected_stop(self, evidence: str, now: ClockReading) -> None:
        """Note that the machine stopped though nobody asked for it."""
        self.unexpected_stop, self.stopped_at = evidence, now.up

    def note_progress(self, state: CampaignState) -> None:
        """Note that training started or made a step. The time without a step is counted from here."""
        self._log_trouble = ""  # why a flag could not be written down
        self.last_step, self.last_step_at = state.curve.step, state.totals.billed_seconds

    def update(self, state: CampaignState, at: float, training_error: str = "") -> str:
        """Raise and lower flags, and report each. at: unix seconds.

        Returns a flag that stops training, as "name: evidence"; "" if there is none.
        """
        if state.curve.step != self.last_step:
            self.note_progress(state)
        observations = Observations(
            state.curve,
            state.totals.billed_seconds,
            step_history(state.rows),
            tuple(self.gpu),
            (state.totals.billed_seconds - self.last_step_at) / self.speed,
            state.totals.usd,
            self.settings.flag_cost_usd,
            state.decision is not None,
            shutil.disk_usage(self.folder).free / 1e9,
            training_error,
            self.unexpected_stop,
        )
        flags = red_flags.find_red_flags(observations, self.settings.flags)
        try:
            raised, cleared = self.flag_log.update(flags, at, state.curve.step)
        except KwelaError as error:  # a full disk: its flag is the one that must get out
            if str(error) != self._log_trouble:
                self.log.say(str(error))
            self._log_trouble, raised, cleared = str(error), *self.flag_log.keep(flags)
        for flag in raised:
            self._report(flag, state)
        for name in cleared:
            self.log.say(f"Red flag {name} is down")
            self.log.plot(f"flags/{name}", 0, state.curve.step)
        self.seen_flags -= set(cleared)
        new_flags = (flag for name, flag in self.flag_log.up.items() if name not in self.seen_flags)
        stopping = next((flag for flag in new_flags if flag.action == "stop"), None)
        return f"{stopping.name}: {stopping.evidence}" if stopping else ""

    def _report(self, flag: RedFlag, state: CampaignState) -> None:
        limits = f"threshold: {flag.threshold}; action: {flag.action}"
        self.log.say(f"🚨 RED FLAG {flag.name}: {flag.evidence} ({limits})")
        if flag.name == "cost_before_gate":
            self.log.say(f"  {success_criteria.advice_on_cost(state)}")
        cost_usd = round(state.totals.usd, 2)
        self.log.notify(f"red flag {flag.name}: {flag.evidence}", cost_usd=cost_usd)
        self.log.plot(f"flags/{flag.name}", 1, state.curve.step)
