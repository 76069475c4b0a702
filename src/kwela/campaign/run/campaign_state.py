"""Work out where a campaign stands from its files alone: for the orchestrator, `status` and `report` alike.

`orchestrator_state.json` holds the same in one small file, for scripts (the playbook's daily check reads
`elapsed_time`, in billed seconds). No fact stands only there: a damaged one is written anew from the ledger.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from kwela import files
from kwela.campaign.decide import gate, red_flags
from kwela.campaign.decide.gate import GateDecision
from kwela.campaign.decide.json_files import JsonObject, count_or_zero, read_json
from kwela.campaign.decide.loss_curve import LossCurve, read_loss_curve
from kwela.campaign.money import costs, ledger, plan
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.money.costs import Totals, add_up
from kwela.campaign.money.ledger_rows import LedgerRow, campaign_row, latest, read_rows
from kwela.errors import UserError
from kwela.playbook import PlaybookConfig

NAME = "orchestrator_state.json"
TABLE = "amapiano_proxy"  # the folder of the data set that a campaign trains on
REHEARSAL_SUFFIX = "-rehearsal"


class StateFile(BaseModel):
    """The content of `orchestrator_state.json`. Seconds, hours and dollars are billed ones."""

    elapsed_time: float  # seconds
    elapsed_hours: float
    days: float  # of the calendar, since day 1 began
    training_days: float = 0.0  # of the calendar, since training first ran
    step: int
    epoch: int
    cost_usd: float
    forecast_usd: float | None
    budget_usd: float
    gate: str | None  # the verdict that counts
    flags: list[str]  # that are up
    gpu_percent: float | None = None
    campaign: dict[str, Any] = Field(min_length=1)  # as `campaign_identity` makes it


@dataclass(frozen=True)
class CampaignState:
    """Everything that is known of a campaign at one moment."""

    model: str  # what is tuned, as the campaign began
    speed: float  # of the clock; other than 1 in a rehearsal
    rows: list[LedgerRow]
    totals: Totals
    curve: LossCurve
    training: JsonObject  # status.json
    steps: int  # planned
    decision: GateDecision | None
    gate_row: LedgerRow  # the decision's line in the ledger; {} without one
    override: LedgerRow | None  # the line of a person who overrode that decision

    @property
    def is_finished(self) -> bool:
        """Whether training has ended."""
        return self.training.get("state") == "finished"

    @property
    def progress(self) -> float:
        """The share of the planned steps that is done, in 0..1."""
        return 1.0 if self.is_finished else min(1.0, self.curve.step / self.steps)

    @property
    def forecast_usd(self) -> float | None:
        """Dollars at the end, at the pace so far; None before there is a pace."""
        if self.is_finished:
            return self.totals.usd
        return costs.forecast(self.rows, self.totals, self.curve.step, self.steps)

    @property
    def verdict(self) -> str:
        """The verdict that counts: GO where a person overrode the gate's; "" before it has decided."""
        if self.decision is None:
            return ""
        return gate.GO if self.override else self.decision.verdict

    @property
    def verdict_text(self) -> str:
        """The verdict in words, such as "GO", "NO-GO, overridden: the panel listened" or "not decided"."""
        if self.decision is None:
            return "not decided"
        return self.decision.verdict + (f", overridden: {self.override['why']}" if self.override else "")

    @property
    def gate_said_go(self) -> bool:
        """Whether the gate itself said GO, not a person."""
        return self.verdict == gate.GO and not self.override


def read_state(
    folder: Path,
    settings: PlaybookConfig,
    rows: list[LedgerRow] | None = None,
    totals: Totals | None = None,
    curve: LossCurve | None = None,
) -> CampaignState:
    """Return the state of the campaign in checkpoint folder `folder`.

    rows, totals: of a ledger that is open here; curve: as a reader that is open here has it; None: read them.
    Raises UserError for a ledger that can't be read.
    """
    rows = read_rows(folder / ledger.NAME)[0] if rows is None else rows
    gate_row = latest(rows, "gate")
    override = latest(rows, "override")
    if gate_row is None or (override and override["at"] < gate_row["at"]):
        override = None
    began_with = (campaign_row(rows) or {"settings": {}})["settings"]
    steps = count_or_zero(read_json(folder / "run.json").get("steps"))
    return CampaignState(
        began_with.get("model_name", settings.model_name),
        began_with.get("speed", 1.0),
        rows,
        totals or add_up(rows),
        curve or read_loss_curve(folder),
        read_json(folder / "status.json"),
        steps or plan.planned_steps(settings, training_clips(settings)),
        gate.from_json(gate_row) if gate_row else None,
        gate_row or {},
        override,
    )


def training_clips(settings: PlaybookConfig) -> int | None:
    """Return the number of training clips of the data set; None where there is no data set yet."""
    report = read_json(settings.dataset_dir / TABLE / "dataset_report.json")
    split = report.get("clips_by_split")
    return count_or_zero(split.get("train") if isinstance(split, dict) else report.get("kept")) or None


def campaign_identity(settings: PlaybookConfig, speed: float) -> JsonObject:
    """Return what tells this campaign from another. Paths are relative, so that the whole tree may move."""
    data = os.path.relpath(settings.dataset_dir, settings.checkpoint_dir)
    return {"model_name": settings.model_name, "dataset_dir": data, "speed": speed}


def use_rehearsal_folders(settings: PlaybookConfig) -> None:
    """Point the settings to the folders of a rehearsal, which stand beside the campaign's."""
    for name in ("checkpoint_dir", "tensorboard_dir"):
        folder = getattr(settings, name)
        setattr(settings, name, folder.with_name(f"{folder.name}{REHEARSAL_SUFFIX}"))


def best_model(folder: Path) -> Path:
    """Return the model to use: the stripped one, else the checkpoint that it is made from."""
    stripped = folder / "best_model.pt"
    return stripped if stripped.is_file() else folder / "best.pt"


def agreed_usd(state: CampaignState) -> float:
    """Return the budget that was agreed to at first, which an extension doesn't change."""
    first = campaign_row(state.rows)
    return float(first["budget_usd"]) if first else state.totals.budget_usd


def write_state_file(
    folder: Path, state: CampaignState, identity: JsonObject, gpu_percent: float | None
) -> None:
    """Write `orchestrator_state.json`, whole or not at all."""
    totals, forecast = state.totals, state.forecast_usd
    content = StateFile(
        elapsed_time=round(totals.billed_seconds, 3),
        elapsed_hours=round(totals.billed_seconds / HOUR, 3),
        days=round(totals.days, 4),
        training_days=round(totals.training_seconds / DAY, 4),
        step=state.curve.step,
        epoch=state.curve.epoch,
        cost_usd=round(totals.usd, 4),
        forecast_usd=None if forecast is None else round(forecast, 2),
        budget_usd=totals.budget_usd,
        gate=state.verdict or None,
        flags=sorted(red_flags.flags_up(folder)),
        gpu_percent=gpu_percent,
        campaign=identity,
    )
    files.write(folder / NAME, json.dumps(content.model_dump(), indent=1) + "\n")


def read_state_file(folder: Path) -> StateFile | None:
    """Return what `orchestrator_state.json` holds; None where it is absent or damaged."""
    try:
        return StateFile.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def check_state_file(folder: Path, identity: JsonObject) -> bool:
    """Return whether the state file is whole or absent. Raises UserError if it is another campaign's."""
    path = folder / NAME
    if not path.exists():
        return True
    content = read_state_file(folder)
    if content is None:
        return False
    recorded = content.campaign
    differences = [
        f"{key} {recorded.get(key)}, here {value}"
        for key, value in identity.items()
        if recorded.get(key) != value
    ]
    if differences:
        raise UserError(
            f"{path}: of another campaign: {'; '.join(differences)}; "
            "give this one a checkpoint_dir of its own"
        )
    return True
