"""Looks at what can't be read from files (the GPU, the clock, the disk), and raises the red flags."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable

from kwela.campaign.decide import red_flags
from kwela.campaign.money import costs
from kwela.campaign.money.clock import DAY, HOUR, ClockReading
from kwela.campaign.run import results
from kwela.campaign.run.announce import Teller
from kwela.campaign.run.state import Standing
from kwela.playbook import PlaybookConfig

GPU_EVERY = 60.0  # seconds
ASLEEP = 60.0  # seconds of suspension worth telling of
TOLD = DAY  # how long the flag of an unexpected stop stays up


class Lookout:
    """meter: percent of the GPU in use, None without one. now: the clock when the session began.

    speed: of a rehearsal's clock, which makes no step any faster.
    """

    def __init__(
        self,
        settings: PlaybookConfig,
        meter: Callable[[], float | None],
        teller: Teller,
        now: ClockReading,
        speed: float = 1.0,
    ) -> None:
        self.folder, self.settings, self.meter, self.teller = settings.checkpoint_dir, settings, meter, teller
        self.speed = speed
        self.board = red_flags.RedFlagLog(self.folder)
        span = settings.flags.gpu_idle.minutes * 60 / GPU_EVERY  # a sample more than the flag looks back on
        self.gpu: deque[tuple[float, float]] = deque(maxlen=int(span) + 2)  # (billed seconds, percent)
        self.asleep, self.metered = now.up - now.awake, float("-inf")
        before = self.board.up.get("instance_stopped")
        self.stopped, self.stopped_at = (
            before.evidence if before else "",
            now.up,
        )  # a stop that nobody asked for
        self.known = set(self.board.up)  # whoever resumes has seen them: they stop nothing again
        self.step, self.moved = -1, 0.0  # the last step seen, and the billed second in which it was

    def measure(self, time: ClockReading, billed: float) -> None:
        """Read the meter, if it is time, and notice a machine that was suspended. billed: seconds."""
        asleep = time.up - time.awake
        if asleep - self.asleep > ASLEEP:
            self.went(f"the machine was suspended for {(asleep - self.asleep) / HOUR:.1f} h", time)
        if time.up - self.stopped_at > TOLD:
            self.stopped = ""
        self.asleep = asleep
        if time.awake - self.metered >= GPU_EVERY:
            self.metered = time.awake
            if (percent := self.meter()) is not None:
                self.gpu.append((billed, percent))

    def went(self, evidence: str, time: ClockReading) -> None:
        """Note a stop of the machine that nobody asked for. time: now."""
        self.stopped, self.stopped_at = evidence, time.up

    def begin(self, now: Standing) -> None:
        """Training begins here: the time since the last step counts from now."""
        self.step, self.moved = now.curve.step, now.bill.billed_seconds

    def look(self, now: Standing, at: float, trouble: str = "") -> str:
        """Raise and lower flags, telling of each; returns one that says stop, "" if none does. at: unix seconds."""
        if now.curve.step != self.step:
            self.begin(now)
        view = red_flags.Observations(
            now.curve,
            now.bill.billed_seconds,
            costs.step_history(now.rows),
            tuple(self.gpu),
            (now.bill.billed_seconds - self.moved) / self.speed,
            now.bill.usd,
            self.settings.flag_cost_usd,
            now.verdict is not None,
            shutil.disk_usage(self.folder).free / 1e9,
            trouble,
            self.stopped,
        )
        raised, cleared = self.board.update(
            red_flags.find_red_flags(view, self.settings.flags), at, now.curve.step
        )
        say, plot, tell = self.teller.say, self.teller.plot, self.teller.tell
        for seen in raised:
            say(
                f"🚨 RED FLAG {seen.name}: {seen.evidence} (threshold: {seen.threshold}; action: {seen.action})"
            )
            if seen.name == "cost_before_gate":
                say(f"  {results.over_budget(now)}")
            tell(f"red flag {seen.name}: {seen.evidence}", self.metered, cost_usd=round(now.bill.usd, 2))
            plot(f"flags/{seen.name}", 1, now.curve.step)
        for name in cleared:
            say(f"Red flag {name} is down")
            plot(f"flags/{name}", 0, now.curve.step)
        self.known -= set(cleared)
        news = (seen for seen in self.board.up.values() if seen.name not in self.known)
        stop = next((seen for seen in news if seen.action == "stop"), None)
        return f"{stop.name}: {stop.evidence}" if stop else ""
