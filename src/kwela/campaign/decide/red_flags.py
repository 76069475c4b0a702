"""Find red flags: what was observed, the threshold it passed, and what is done about it.

A flag goes up once, with its evidence, and comes down when its evidence is gone; each of the two is a line of
`flags.jsonl`. Where there is no evidence yet (too few windows, no GPU meter), no flag goes up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kwela import files
from kwela.campaign.decide.json_files import read_json_lines
from kwela.campaign.decide.loss_curve import LossCurve
from kwela.playbook import Flag, Flags

NAME = "flags.jsonl"
SIGNIFICANCE = 0.05  # of the one-sided slope test
LEAST_WINDOWS = 20  # of training loss that a test needs
STRETCHES = 24  # whose means the slope is fitted to


@dataclass(frozen=True)
class Observations:
    """What the flags are found in. Seconds are billed ones."""

    curve: LossCurve
    seconds: float
    step_times: Sequence[tuple[float, int]]  # (seconds, step), in order of time
    gpu: Sequence[tuple[float, float]] = ()  # (seconds, percent in use)
    seconds_since_step: float = 0.0  # since the last step of the training under way
    cost_usd: float = 0.0
    flag_cost_usd: float = float("inf")
    gate_decided: bool = False
    free_gb: float = float("inf")
    training_error: str = ""  # the message with which training failed
    unexpected_stop: str = ""  # what is known of one, in words


@dataclass(frozen=True)
class RedFlag:
    """A flag that is up."""

    name: str
    evidence: str
    threshold: str
    action: str  # warn or stop


def find_red_flags(observations: Observations, limits: Flags) -> list[RedFlag]:
    """Return the flags that the observations give reason to."""
    return [
        *_loss_flags(observations, limits),
        *_machine_flags(observations, limits),
        *_cost_flags(observations, limits),
    ]


def _loss_flags(seen: Observations, limits: Flags) -> Iterator[RedFlag]:
    curve = seen.curve
    last_losses = [loss for _, loss in curve.train[-1:] + curve.val[-1:]]
    if "not finite" in seen.training_error or None in last_losses:
        evidence = seen.training_error or f"step {curve.step}: a loss is not finite"
        yield _flag("nan", limits.nan, evidence, "every loss is finite")
    losses = [(step, loss) for step, loss in curve.train if loss is not None]
    if evidence := _not_falling(losses, seen, limits.loss_not_falling.hours):
        threshold = f"a fall within {limits.loss_not_falling.hours:g} h"
        yield _flag("loss_not_falling", limits.loss_not_falling, evidence, threshold)
    if evidence := _spike(losses, limits.loss_spike.mads):
        yield _flag("loss_spike", limits.loss_spike, evidence, f"{limits.loss_spike.mads:g} deviations")
    if evidence := _overfitting(curve, limits.overfitting.evaluations):
        threshold = f"{limits.overfitting.evaluations} evaluations in a row"
        yield _flag("overfitting", limits.overfitting, evidence, threshold)


def _not_falling(losses: list[tuple[int, float]], seen: Observations, hours: float) -> str:
    """Return evidence that the loss of the last `hours` of training has no falling trend; "" without any.

    A least-squares line is fitted to the means of two dozen stretches, which are nearly independent where
    single windows are not, and its slope gets a one-sided test.
    """
    from scipy.stats import linregress  # takes a second to import, which `status` has no use for

    start = seen.seconds - hours * 3600
    earlier_steps = [step for seconds, step in seen.step_times if seconds <= start]
    recent = [(step, loss) for step, loss in losses if earlier_steps and step > earlier_steps[-1]]
    if not earlier_steps or len(recent) < LEAST_WINDOWS:
        return ""
    stretches = np.array_split(np.array(recent), STRETCHES)
    x, y = np.array([stretch.mean(0) for stretch in stretches if len(stretch)]).T
    fit = linregress(x, y, alternative="less")
    if fit.pvalue < SIGNIFICANCE and fit.slope < 0:
        return ""
    slope = f"slope {fit.slope * 1000:+.2g} a thousand steps over {hours:g} h"
    return f"{slope}, p = {fit.pvalue:.2f} that it falls by chance"


def _spike(losses: list[tuple[int, float]], most_deviations: float) -> str:
    """Return evidence that the last loss lies far above the fifty before it; "" without any.

    A deviation is 1.4826 median absolute deviations, which is a standard deviation where losses are normal.
    """
    before = np.array([loss for _, loss in losses[-51:-1]])
    if len(before) < LEAST_WINDOWS:
        return ""
    step, last = losses[-1]
    median = float(np.median(before))
    deviation = 1.4826 * float(np.median(np.abs(before - median))) or 1e-3 * median
    deviations = (last - median) / deviation
    if deviations <= most_deviations:
        return ""
    return f"step {step}: loss {last:.3f}, {deviations:.0f} deviations above {median:.3f}"


def _overfitting(curve: LossCurve, evaluations: int) -> str:
    """Return evidence that validation rose at each of the last `evaluations` while training fell; else ""."""
    val = [(step, loss) for step, loss in curve.val if loss is not None][-evaluations - 1 :]
    if len(val) <= evaluations or not all(later[1] > sooner[1] for sooner, later in pairwise(val)):
        return ""
    means = []
    for (start, _), (end, _) in pairwise(val):
        between = [loss for step, loss in curve.train if loss is not None and start < step <= end]
        if not between:
            return ""
        means.append(float(np.mean(between)))
    if not all(later < sooner for sooner, later in pairwise(means)):
        return ""
    return f"validation {val[0][1]:.3f} -> {val[-1][1]:.3f} while training {means[0]:.3f} -> {means[-1]:.3f}"


def _machine_flags(seen: Observations, limits: Flags) -> Iterator[RedFlag]:
    idle = limits.gpu_idle
    start = seen.seconds - idle.minutes * 60
    recent = [percent for seconds, percent in seen.gpu if seconds >= start]
    metered_long_enough = bool(seen.gpu) and seen.gpu[0][0] <= start
    if recent and metered_long_enough and (mean := float(np.mean(recent))) < idle.percent:
        evidence = f"{mean:.0f} % over {idle.minutes:g} min"
        yield _flag("gpu_idle", idle, evidence, f"{idle.percent:g} % for {idle.minutes:g} min")
    if seen.seconds_since_step > limits.no_step.minutes * 60:
        evidence = f"step {seen.curve.step} for {seen.seconds_since_step / 60:.0f} min"
        yield _flag("no_step", limits.no_step, evidence, f"{limits.no_step.minutes:g} min")
    if seen.unexpected_stop:
        threshold = "no stop that nobody asked for"
        yield _flag("instance_stopped", limits.instance_stopped, seen.unexpected_stop, threshold)
    if seen.free_gb < limits.disk_filling.free_gb:
        threshold = f"{limits.disk_filling.free_gb:g} GB free"
        yield _flag("disk_filling", limits.disk_filling, f"{seen.free_gb:.1f} GB free", threshold)


def _cost_flags(seen: Observations, limits: Flags) -> Iterator[RedFlag]:
    if not seen.gate_decided and seen.cost_usd > seen.flag_cost_usd:
        evidence, threshold = f"${seen.cost_usd:,.2f} before the gate", f"${seen.flag_cost_usd:,.2f}"
        yield _flag("cost_before_gate", limits.cost_before_gate, evidence, threshold)


def _flag(name: str, settings: Flag, evidence: str, threshold: str) -> RedFlag:
    return RedFlag(name, evidence, threshold, settings.action)


class RedFlagLog:
    """The flags that are up. `flags.jsonl` keeps them over restarts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.up: dict[str, RedFlag] = flags_up(folder)

    def update(self, flags: Sequence[RedFlag], at: float, step: int) -> tuple[list[RedFlag], list[str]]:
        """Record which flags went up and which came down, and return both. at: unix seconds.

        Raises KwelaError if the file can't be written; `keep` then does the same without the file.
        """
        raised, cleared = self._changes(flags)
        for flag in raised:
            details = {"evidence": flag.evidence, "threshold": flag.threshold, "action": flag.action}
            files.append(
                self.path, json.dumps({"at": at, "state": "up", "flag": flag.name, **details, "step": step})
            )
        for name in cleared:
            files.append(self.path, json.dumps({"at": at, "state": "down", "flag": name, "step": step}))
        return self.keep(flags)

    def keep(self, flags: Sequence[RedFlag]) -> tuple[list[RedFlag], list[str]]:
        """Remember which flags are up, and return which went up and which came down."""
        raised, cleared = self._changes(flags)
        self.up = {flag.name: flag for flag in flags}
        return raised, cleared

    def _changes(self, flags: Sequence[RedFlag]) -> tuple[list[RedFlag], list[str]]:
        now_up = {flag.name for flag in flags}
        raised = [flag for flag in flags if flag.name not in self.up]
        return raised, [name for name in self.up if name not in now_up]


def flags_up(folder: Path) -> dict[str, RedFlag]:
    """Return the flags that are up by name, as `flags.jsonl` in `folder` has them."""
    up: dict[str, RedFlag] = {}
    for row in read_json_lines(folder / NAME):
        name, *details = (str(row.get(key, "")) for key in ("flag", "evidence", "threshold", "action"))
        if row.get("state") == "up":
            up[name] = RedFlag(name, *details)
        else:
            up.pop(name, None)
    return up
