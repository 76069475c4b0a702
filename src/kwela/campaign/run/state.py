"""Where a campaign stands, worked out from its files alone: for the orchestrator, `status` and `report` alike.

`orchestrator_state.json` is the same in one small file, for scripts (the playbook's daily check reads `elapsed_time`,
in billed seconds). It is never the only place of anything: damaged, it is written anew from the ledger.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from kwela import files
from kwela.campaign.decide import gate, red_flags
from kwela.campaign.decide.gate import GateDecision
from kwela.campaign.decide.json_files import JsonObject, count_or_zero, read_json
from kwela.campaign.decide.loss_curve import LossCurve, read_loss_curve
from kwela.campaign.money import costs, ledger, ledger_rows, plan
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.money.costs import Totals
from kwela.errors import UserError
from kwela.playbook import PlaybookConfig

NAME = "orchestrator_state.json"
TABLE = "amapiano_proxy"


@dataclass(frozen=True)
class Standing:
    """Everything that is known of a campaign between two looks."""

    model: str  # what is tuned, as it began
    speed: float  # of the clock; other than 1: a rehearsal
    rows: list[JsonObject]  # of the ledger
    bill: Totals
    curve: LossCurve
    training: JsonObject  # status.json
    steps: int  # planned
    verdict: GateDecision | None
    decided: JsonObject  # its line in the ledger; {} without one
    override: JsonObject | None  # of that verdict, by somebody who gave a reason

    @property
    def finished(self) -> bool:
        return self.training.get("state") == "finished"

    @property
    def fraction(self) -> float:
        return 1.0 if self.finished else min(1.0, self.curve.step / self.steps)

    @property
    def forecast(self) -> float | None:
        """Dollars at the end, at the pace so far; None before there is a pace."""
        return (
            forecast(self.rows, self.bill, self.curve.step, self.steps)
            if not self.finished
            else self.bill.usd
        )

    @property
    def stands(self) -> str:
        """The verdict that counts, an override included; "" before there is one."""
        if self.verdict is None:
            return ""
        return gate.GO if self.override else self.verdict.verdict

    @property
    def told(self) -> str:
        """The verdict in words: GO; NO-GO, overridden: the panel heard it; not held."""
        if self.verdict is None:
            return "not held"
        return self.verdict.verdict + (f", overridden: {self.override['why']}" if self.override else "")

    @property
    def earned(self) -> bool:
        """Whether the gate itself said GO."""
        return self.stands == gate.GO and not self.override


def forecast(rows: list[JsonObject], bill: Totals, step: int, steps: int) -> float | None:
    """What the campaign will have cost at `steps`, at the pace and price of all steps so far."""
    past = costs.step_history(rows)
    start = next((seconds for seconds, reached in past if reached > 0), None)
    if step <= 0 or start is None or bill.billed_seconds <= 0:
        return None
    first = max((seconds for seconds, reached in past if reached == 0 and seconds <= start), default=0.0)
    each = (bill.billed_seconds - first) / step
    left = max(0, steps - step) * each
    rate = bill.gpu_usd / bill.billed_seconds + bill.disk_usd / bill.billed_seconds
    return bill.usd + left * rate


def look(
    folder: Path, settings: PlaybookConfig, rows: list[JsonObject] | None = None, bill: Totals | None = None
) -> Standing:
    """The standing of the campaign in checkpoint folder `folder`. rows, bill: of a ledger that is open here."""
    rows = ledger_rows.read_rows(folder / ledger.NAME)[0] if rows is None else rows
    decided = ledger_rows.latest(rows, "gate")
    override = ledger_rows.latest(rows, "override")
    if decided is None or (override and override["at"] < decided["at"]):
        override = None
    began = (ledger_rows.campaign_row(rows) or {"settings": {}})["settings"]
    planned = count_or_zero(read_json(folder / "run.json").get("steps"))
    return Standing(
        began.get("model_name", settings.model_name),
        began.get("speed", 1.0),
        rows,
        bill or costs.add_up(rows),
        read_loss_curve(folder),
        read_json(folder / "status.json"),
        planned or plan.planned_steps(settings, clips(settings)),
        gate.from_json(decided) if decided else None,
        decided or {},
        override,
    )


def clips(settings: PlaybookConfig) -> int | None:
    """Training clips of the data set; None where there is none yet."""
    report = read_json(settings.dataset_dir / TABLE / "dataset_report.json")
    split = report.get("clips_by_split")
    return count_or_zero(split.get("train") if isinstance(split, dict) else report.get("kept")) or None


def identity(settings: PlaybookConfig, speed: float) -> JsonObject:
    """What makes it this campaign. Paths are relative, so that the whole tree may move to another machine."""
    data = os.path.relpath(settings.dataset_dir, settings.checkpoint_dir)
    return {"model_name": settings.model_name, "dataset_dir": data, "speed": speed}


def rehearse(settings: PlaybookConfig) -> None:
    """Give a rehearsal folders of its own, beside the campaign's."""
    for name in ("checkpoint_dir", "tensorboard_dir"):
        place = getattr(settings, name)
        setattr(settings, name, place.with_name(f"{place.name}-rehearsal"))


def write(folder: Path, standing: Standing, ours: JsonObject, gpu: float | None) -> None:
    """orchestrator_state.json, atomically."""
    forecast = standing.forecast
    state = {
        "elapsed_time": round(standing.bill.billed_seconds, 3),
        "elapsed_hours": round(standing.bill.billed_seconds / HOUR, 3),
        "days": round(standing.bill.days, 4),
        "training_days": round(standing.bill.training_seconds / DAY, 4),
        "step": standing.curve.step,
        "epoch": standing.curve.epoch,
        "cost_usd": round(standing.bill.usd, 4),
        "forecast_usd": None if forecast is None else round(forecast, 2),
        "budget_usd": standing.bill.budget_usd,
        "gate": standing.stands or None,
        "flags": sorted(red_flags.flags_up(folder)),
        "gpu_percent": gpu,
        "campaign": ours,
    }
    files.write(folder / NAME, json.dumps(state, indent=1) + "\n")


def check(folder: Path, ours: JsonObject) -> bool:
    """Whether the state file is whole, or absent. Raises UserError saying what differs, if it is another campaign's."""
    path = folder / NAME
    if not path.exists():
        return True
    theirs = read_json(path).get("campaign")
    if not isinstance(theirs, dict) or not theirs:
        return False
    differs = [
        f"{key} {theirs.get(key)}, here {value}" for key, value in ours.items() if theirs.get(key) != value
    ]
    if differs:
        raise UserError(
            f"{path}: of another campaign: {'; '.join(differs)}; give this one a checkpoint_dir of its own"
        )
    return True
