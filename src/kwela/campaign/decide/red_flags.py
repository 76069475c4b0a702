"""Red flags: what was seen, the threshold it passed, and what is done about it.

A flag goes up once, with its evidence, and comes down when its evidence is gone; both are lines of `flags.jsonl`.
What has no evidence yet (too few windows, no GPU meter) raises nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kwela import files
from kwela.campaign.decide.metrics import Curve, read_rows
from kwela.playbook import Flag, Flags

NAME = "flags.jsonl"
SIGNIFICANT = 0.05  # of the one-sided slope test
WORDS = ("evidence", "threshold", "action")
FEWEST = 20  # windows of training loss that a test needs


@dataclass(frozen=True)
class View:
    """What is looked at. Seconds are billed ones."""

    curve: Curve
    seconds: float
    steps_at: Sequence[tuple[float, int]]  # (seconds, step), as time passed
    gpu: Sequence[tuple[float, float]] = ()  # (seconds, percent)
    since_step: float = 0.0  # seconds since the last step of the training under way
    cost_usd: float = 0.0
    flag_cost_usd: float = float("inf")
    gate_decided: bool = False
    free_gb: float = float("inf")
    trouble: str = ""  # what training said when it failed
    stopped: str = ""  # an unexpected stop, in words


@dataclass(frozen=True)
class Seen:
    """A flag that is up."""

    flag: str
    evidence: str
    threshold: str
    action: str


def look(view: View, limits: Flags) -> list[Seen]:
    """The flags that `view` gives reason to."""
    return [seen for found in (_losses, _machine, _money) for seen in found(view, limits)]


def _losses(view: View, limits: Flags) -> Iterator[Seen]:
    curve = view.curve
    if "not finite" in view.trouble or any(loss is None for _, loss in curve.train[-1:] + curve.val[-1:]):
        yield _seen(
            "nan",
            limits.nan,
            view.trouble or f"step {curve.step}: a loss is not finite",
            "every loss is finite",
        )
    losses = [(step, loss) for step, loss in curve.train if loss is not None]
    if evidence := _not_falling(losses, view, limits.loss_not_falling.hours):
        hours = f"a fall within {limits.loss_not_falling.hours:g} h"
        yield _seen("loss_not_falling", limits.loss_not_falling, evidence, hours)
    before = np.array([loss for _, loss in losses[-51:-1]])
    if len(before) >= FEWEST:
        middle = float(np.median(before))
        spread = 1.4826 * float(np.median(np.abs(before - middle))) or 1e-3 * middle
        if (far := (losses[-1][1] - middle) / spread) > limits.loss_spike.mads:
            said = f"step {losses[-1][0]}: loss {losses[-1][1]:.3f}, {far:.0f} deviations above {middle:.3f}"
            yield _seen("loss_spike", limits.loss_spike, said, f"{limits.loss_spike.mads:g} deviations")
    if evidence := _overfitting(curve, limits.overfitting.evaluations):
        said = f"{limits.overfitting.evaluations} evaluations in a row"
        yield _seen("overfitting", limits.overfitting, evidence, said)


def _not_falling(losses: list[tuple[int, float]], view: View, hours: float) -> str:
    """Evidence that the loss of the last `hours` of training has no falling trend; "" without such.

    A least-squares line through the means of two dozen stretches, which are nearly independent where single windows
    are not, and a one-sided test of its slope.
    """
    from scipy.stats import (
        linregress,
    )  # a second of imports, which `status` and a start would pay for nothing

    start = view.seconds - hours * 3600
    earlier = [step for seconds, step in view.steps_at if seconds <= start]
    recent = [(step, loss) for step, loss in losses if earlier and step > earlier[-1]]
    if not earlier or len(recent) < FEWEST:
        return ""
    parts = np.array_split(np.array(recent), 24)
    x, y = np.array([part.mean(0) for part in parts if len(part)]).T
    fit = linregress(x, y, alternative="less")
    if fit.pvalue < SIGNIFICANT and fit.slope < 0:
        return ""
    return f"slope {fit.slope * 1000:+.2g} a thousand steps over {hours:g} h, p = {fit.pvalue:.2f} that it falls by chance"


def _overfitting(curve: Curve, evaluations: int) -> str:
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


def _machine(view: View, limits: Flags) -> Iterator[Seen]:
    idle = limits.gpu_idle
    recent = [
        (seconds, percent) for seconds, percent in view.gpu if seconds >= view.seconds - idle.minutes * 60
    ]
    long_enough = bool(view.gpu) and view.gpu[0][0] <= view.seconds - idle.minutes * 60
    if recent and long_enough and (mean := float(np.mean([percent for _, percent in recent]))) < idle.percent:
        said = f"{mean:.0f} % over {idle.minutes:g} min"
        yield _seen("gpu_idle", idle, said, f"{idle.percent:g} % for {idle.minutes:g} min")
    if view.since_step > limits.no_step.minutes * 60:
        said = f"step {view.curve.step} for {view.since_step / 60:.0f} min"
        yield _seen("no_step", limits.no_step, said, f"{limits.no_step.minutes:g} min")
    if view.stopped:
        yield _seen(
            "instance_stopped", limits.instance_stopped, view.stopped, "no stop that nobody asked for"
        )
    if view.free_gb < limits.disk_filling.free_gb:
        said = f"{view.free_gb:.1f} GB free"
        yield _seen("disk_filling", limits.disk_filling, said, f"{limits.disk_filling.free_gb:g} GB free")


def _money(view: View, limits: Flags) -> Iterator[Seen]:
    if not view.gate_decided and view.cost_usd > view.flag_cost_usd:
        said = f"${view.cost_usd:,.2f} before the gate"
        yield _seen("cost_before_gate", limits.cost_before_gate, said, f"${view.flag_cost_usd:,.2f}")


def _seen(name: str, flag: Flag, evidence: str, threshold: str) -> Seen:
    return Seen(name, evidence, threshold, flag.action)


class Board:
    """Which flags are up, remembered in `flags.jsonl` across restarts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.up: dict[str, Seen] = up(folder)

    def update(self, seen: Sequence[Seen], at: float, step: int) -> tuple[list[Seen], list[str]]:
        """Note what went up and what came down, and return both. at: unix seconds."""
        now = {one.flag: one for one in seen}
        raised = [one for name, one in now.items() if name not in self.up]
        cleared = [name for name in self.up if name not in now]
        for one in raised:
            self._write({"at": at, "state": "up", **asdict(one), "step": step})
        for name in cleared:
            self._write({"at": at, "state": "down", "flag": name, "step": step})
        self.up = now
        return raised, cleared

    def _write(self, row: dict[str, object]) -> None:
        files.append(self.path, json.dumps(row))


def up(folder: Path) -> dict[str, Seen]:
    """The flags that are up, by what `flags.jsonl` in `folder` says."""
    found: dict[str, Seen] = {}
    for row in read_rows(folder / NAME):
        flag, evidence, threshold, action = (str(row.get(key, "")) for key in ("flag", *WORDS))
        if row.get("state") == "up":
            found[flag] = Seen(flag, evidence, threshold, action)
        else:
            found.pop(flag, None)
    return found
