"""Set what a campaign has reached beside what the playbook hoped for. What wasn't measured says so.

Shares are in 0..1, losses in nats. The figures come from the campaign's state and from its last evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kwela.campaign.decide.json_files import JsonObject, read_json
from kwela.campaign.run import evaluation
from kwela.campaign.run.campaign_state import CampaignState, agreed_usd

EVALUATION = "evaluation"
NOT_MEASURED = "not measured"
MET, MISSED = "met", "missed"
MARKS = {MET: "✅", MISSED: "❌", NOT_MEASURED: "🟡"}

# The playbook's targets.
LEAST_AUTHENTICITY = 0.40
MOST_VAL_LOSS = 2.5
MOST_LATENCY, MOST_FIRST_AUDIO = 45.0, 10.0  # seconds
LATENCY_CLIP = 30.0  # seconds of the clip that its latencies are of
# The advice of its decision tree on a cost that runs away is by the training loss.
ABORT_LOSS, EXTEND_LOSS = 3.5, 3.0

FAULTS = "silent", "looping", "clipping"  # the damage judge's measures that are shares of the sound
MOST_FAULTY = 0.5  # a fault in more of the sound than this means no coherent audio


class EvaluationFiles(NamedTuple):
    """What the last evaluation left: the answers of the two judges, and how the tuned samples were made."""

    authenticity: JsonObject
    damage: JsonObject
    generation: JsonObject


@dataclass(frozen=True)
class DashboardRow:
    """A row of the playbook's dashboard. status: met, missed or not measured."""

    metric: str
    baseline: str
    target: str
    actual: str
    status: str


def read_evaluation(folder: Path) -> EvaluationFiles:
    """Return what the last evaluation left in checkpoint folder `folder`; {} for what is not there."""
    place = folder / EVALUATION
    return EvaluationFiles(
        read_json(place / evaluation.AUTHENTICITY),
        read_json(place / evaluation.DAMAGE),
        read_json(place / evaluation.TUNED / evaluation.GENERATION),
    )


def figure_text(value: float | None, form: str, unit: str = "") -> str:
    """Return a figure in a format, such as ".3f"; "not measured" for None."""
    return NOT_MEASURED if value is None else f"{value:{form}}{unit}"


def score_text(authenticity: JsonObject) -> str:
    """Return the authenticity judge's score with its interval, such as "45.0% [37.0% .. 53.0%]"."""
    if authenticity.get("score") is None or not authenticity.get("ci"):
        return NOT_MEASURED
    low, high = authenticity["ci"]
    old = f" (by version {version} of the judge)" if (version := outdated_version(authenticity)) else ""
    return f"{authenticity['score']:.1%} [{low:.1%} .. {high:.1%}]{old}"


def outdated_version(authenticity: JsonObject) -> int | None:
    """Return the version of the authenticity judge's features that gave an answer; None for today's.

    Figures of two versions do not compare. An answer that names no version is of version 1.
    """
    from kwela.judge.authenticity.features import FEATURES_VERSION

    version = int(authenticity.get("features_version", 1))
    return None if version == FEATURES_VERSION else version


def dashboard(folder: Path, state: CampaignState) -> list[DashboardRow]:
    """Return the playbook's key performance indicators, with its baselines and targets; ours beside them."""
    authenticity, _, generation = read_evaluation(folder)
    low, base = (authenticity.get("ci") or [None])[0], authenticity.get("base")
    untuned_score = f"; untuned here {base:.1%}" if base is not None else ""
    seconds, first_audio = generation.get("seconds"), generation.get("first_audio_seconds")
    clip_seconds = (generation.get("of") or {}).get("seconds")
    comparable = clip_seconds is not None and clip_seconds >= LATENCY_CLIP
    loss, untuned_loss = state.curve.best_val_loss, figure_text(state.curve.base, ".3f")
    spent, agreed = state.totals.usd, agreed_usd(state)
    return [
        DashboardRow(
            "Authenticity Score",
            f"10-20%{untuned_score}",
            "40-50%",
            score_text(authenticity),
            _status(low, lambda share: share >= LEAST_AUTHENTICITY),
        ),
        DashboardRow(
            "Generation Latency",
            "60-120s",
            "30-45s",
            _latency_text(generation),
            _status(seconds if comparable else None, lambda latency: latency <= MOST_LATENCY),
        ),
        DashboardRow(
            "Training Cost",
            "N/A",
            f"≤${agreed:,.0f}",
            f"${spent:,.2f}{_extension_text(state)}",
            MET if spent <= agreed else MISSED,
        ),
        DashboardRow(
            "Validation Loss",
            f"5.2; untuned here {untuned_loss}",
            "≤2.5",
            figure_text(loss, ".3f"),
            _status(loss, lambda nats: nats <= MOST_VAL_LOSS),
        ),
        DashboardRow(
            "Time to First Audio",
            "60s",
            "<10s",
            figure_text(first_audio, ".1f", "s"),
            _status(first_audio, lambda latency: latency < MOST_FIRST_AUDIO),
        ),
    ]


def criteria(folder: Path, state: CampaignState) -> list[tuple[str, str]]:
    """Return the playbook's criteria of success as (met, missed or not measured; the criterion)."""
    authenticity, damage, _ = read_evaluation(folder)
    low, base = (authenticity.get("ci") or [None])[0], authenticity.get("base")
    improved = None if low is None or base is None else low > base and low >= LEAST_AUTHENTICITY
    change = f"{figure_text(base, '.1%')} → {score_text(authenticity)}"
    spent, agreed = state.totals.usd, agreed_usd(state)
    faults = ", ".join(_fault_shares(damage)) or "its faults were not looked for"
    rows = [
        (improved, f"Authenticity improved from 10-20% → 40-50% (here {change})"),
        (spent <= agreed, f"Total cost ≤ ${agreed:,.0f} (${spent:,.2f}{_extension_text(state)})"),
        (_is_coherent(damage), f"Model generates coherent audio ({faults})"),
        (
            _is_unharmed(damage, "cross_entropy"),
            "No catastrophic forgetting (as sure of other music as the untuned model)",
        ),
    ]
    return [({True: MET, False: MISSED, None: NOT_MEASURED}[is_met], text) for is_met, text in rows]


def _latency_text(generation: JsonObject) -> str:
    seconds = generation.get("seconds")
    if seconds is None:
        return NOT_MEASURED
    clip_seconds = figure_text((generation.get("of") or {}).get("seconds"), "g", " s")
    return f"{seconds:.1f}s for {clip_seconds} on {generation.get('device') or 'an unknown device'}"


def _extension_text(state: CampaignState) -> str:
    budget = state.totals.budget_usd
    return f"; extended to ${budget:,.0f}" if budget > agreed_usd(state) else ""


def _status(value: float | None, is_reached: Callable[[float], bool]) -> str:
    return NOT_MEASURED if value is None else MET if is_reached(value) else MISSED


def _is_unharmed(damage: JsonObject, *measures: str) -> bool | None:
    """Return whether no measure is worse than the untuned model's; None where that isn't known."""
    verdicts = {damage.get("verdicts", {}).get(name) for name in measures}
    return False if "worse" in verdicts else True if verdicts == {"not worse"} else None


def _is_coherent(damage: JsonObject) -> bool | None:
    """Return whether no fault is in more of the sound than the untuned model has, nor in most of it."""
    tuned_shares = [_values(damage, fault).get(evaluation.TUNED) or 0.0 for fault in FAULTS]
    return False if max(tuned_shares) > MOST_FAULTY else _is_unharmed(damage, *FAULTS)


def _fault_shares(damage: JsonObject) -> list[str]:
    """Return each fault's share of the sound: tuned, untuned, and real music of other styles."""
    texts = []
    for fault in FAULTS:
        if values := _values(damage, fault):
            tuned, untuned, real = (
                figure_text(values.get(row), ".0%") for row in (evaluation.TUNED, evaluation.BASE, "unseen")
            )
            texts.append(f"{fault} {tuned}, untuned {untuned}, real music {real}")
    return texts


def _values(damage: JsonObject, measure: str) -> dict[str, float | None]:
    return {row["row"]: row["value"] for row in damage.get("tables", {}).get(measure, [])}


def advice_on_cost(state: CampaignState) -> str:
    """Return what the playbook's decision tree says of a cost that runs away."""
    loss = state.curve.last_train_loss
    if loss is not None and loss > ABORT_LOSS:
        return f"loss {loss:.3f} > 3.5: abort, escalate to Phase 3"
    if loss is not None and loss < EXTEND_LOSS:
        return (
            f"loss {loss:.3f} < 3.0: request a budget extension ($600 → $800: kwela campaign extend --to 800)"
        )
    return f"loss {figure_text(loss, '.3f')}: wait for the Go/No-Go decision"
