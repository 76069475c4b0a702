"""What a campaign has reached, beside what the playbook hoped for. What wasn't measured says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kwela.campaign.decide import gate
from kwela.campaign.decide.json_files import JsonObject, read_json
from kwela.campaign.money import ledger_rows
from kwela.campaign.money.clock import DAY, HOUR
from kwela.campaign.run import evaluation
from kwela.campaign.run.state import Standing

ABORT, EVALUATION = "abort_report.json", "evaluation"
NOT_MEASURED = "not measured"
MET, MISSED, OPEN = "met", "missed", NOT_MEASURED
FAULTS, MOST = (
    ("silent", "looping", "clipping"),
    0.5,
)  # of the damage judge's measures, the shares of the sound
PLAYBOOK_SECONDS = 30.0  # the clip that its latencies are of
MARKS = {MET: "✅", MISSED: "❌", OPEN: "🟡"}


@dataclass(frozen=True)
class Figure:
    """A row of the playbook's dashboard."""

    metric: str
    baseline: str
    target: str
    actual: str
    status: str  # met, missed, not measured


def evidence(now: Standing, measured: evaluation.Measured, flags: Iterable[str]) -> gate.GateMeasurements:
    """What the gate looks at. flags: those that are up."""
    return gate.GateMeasurements(
        now.bill.days,
        now.bill.billed_seconds / HOUR,
        now.bill.usd,
        now.curve.best_val_loss,
        now.curve.base,
        measured.authenticity,
        measured.interval,
        measured.why_not,
        tuple(sorted(flags)),
        now.forecast,
        now.bill.budget_usd,
        now.bill.training_seconds / DAY,
    )


def best(folder: Path) -> Path:
    """The model to use: the stripped one, else the checkpoint it is made from."""
    stripped = folder / "best_model.pt"
    return stripped if stripped.is_file() else folder / "best.pt"


def number(value: float | None, form: str, unit: str = "") -> str:
    return NOT_MEASURED if value is None else f"{value:{form}}{unit}"


def score(authenticity: JsonObject) -> str:
    """The judge's answer, such as 45.0% [37.0% .. 53.0%]; it counts by its lower end."""
    if authenticity.get("score") is None or not authenticity.get("ci"):
        return NOT_MEASURED
    low, high = authenticity["ci"]
    return f"{authenticity['score']:.1%} [{low:.1%} .. {high:.1%}]"


def judged(folder: Path) -> tuple[JsonObject, JsonObject, JsonObject]:
    """What the last evaluation left: authenticity, damage, and how the samples were made."""
    place = folder / EVALUATION
    made = read_json(place / evaluation.TUNED / evaluation.GENERATION)
    return read_json(place / evaluation.AUTHENTICITY), read_json(place / evaluation.DAMAGE), made


def dashboard(folder: Path, now: Standing) -> list[Figure]:
    """The playbook's key performance indicators, with its baselines and targets; ours beside them where measured."""
    authenticity, _, made = judged(folder)
    low, base = (authenticity.get("ci") or [None])[0], authenticity.get("base")
    reached = _reached(low, lambda share: share >= 0.40)
    seconds, first = made.get("seconds"), made.get("first_audio_seconds")
    own = f"; untuned here {base:.1%}" if base is not None else ""
    loss, untuned = now.curve.best_val_loss, f"; untuned here {number(now.curve.base, '.3f')}"
    spent, agreed = now.bill.usd, agreed_usd(now)
    cost = f"${spent:,.2f}{_extended(now)}"
    long = (made.get("of") or {}).get("seconds")
    took = (
        ""
        if seconds is None
        else f" for {number(long, 'g', ' s')} on {made.get('device') or 'an unknown device'}"
    )
    latency, sooner = f"{number(seconds, '.1f', 's')}{took}", number(first, ".1f", "s")
    alike = seconds if long is not None and long >= PLAYBOOK_SECONDS else None
    return [
        Figure("Authenticity Score", f"10-20%{own}", "40-50%", score(authenticity), reached),
        Figure("Generation Latency", "60-120s", "30-45s", latency, _reached(alike, lambda took: took <= 45)),
        Figure("Training Cost", "N/A", f"≤${agreed:,.0f}", cost, MET if spent <= agreed else MISSED),
        Figure(
            "Validation Loss",
            f"5.2{untuned}",
            "≤2.5",
            number(loss, ".3f"),
            _reached(loss, lambda nats: nats <= 2.5),
        ),
        Figure("Time to First Audio", "60s", "<10s", sooner, _reached(first, lambda took: took < 10)),
    ]


def criteria(folder: Path, now: Standing) -> list[tuple[str, str]]:
    """The playbook's criteria of success: (met, missed or not measured; the criterion)."""
    authenticity, damage, _ = judged(folder)
    low, base = (authenticity.get("ci") or [None])[0], authenticity.get("base")
    gained = None if low is None or base is None else low > base and low >= 0.40
    sound, agreed = _coherent(damage), agreed_usd(now)
    change = f"{number(base, '.1%')} → {score(authenticity)}"
    rows = [
        (gained, f"Authenticity improved from 10-20% → 40-50% (here {change})"),
        (now.bill.usd <= agreed, f"Total cost ≤ ${agreed:,.0f} (${now.bill.usd:,.2f}{_extended(now)})"),
        (
            sound,
            f"Model generates coherent audio ({', '.join(_shares(damage)) or 'its faults were not looked for'})",
        ),
        (
            _unharmed(damage, "cross_entropy"),
            "No catastrophic forgetting (as sure of other music as the untuned model)",
        ),
    ]
    return [({True: MET, False: MISSED, None: OPEN}[met], text) for met, text in rows]


def agreed_usd(now: Standing) -> float:
    """The budget that was agreed to at first, which an extension doesn't change."""
    first = ledger_rows.campaign_row(now.rows)
    return float(first["budget_usd"]) if first else now.bill.budget_usd


def _extended(now: Standing) -> str:
    return f"; extended to ${now.bill.budget_usd:,.0f}" if now.bill.budget_usd > agreed_usd(now) else ""


def _reached(value: float | None, asked: Callable[[float], bool]) -> str:
    return OPEN if value is None else MET if asked(value) else MISSED


def _unharmed(damage: JsonObject, *measures: str) -> bool | None:
    """Whether none of them is worse than the base model's; None where that can't be told."""
    found = {damage.get("verdicts", {}).get(name) for name in measures}
    return False if "worse" in found else True if found == {"not worse"} else None


def _coherent(damage: JsonObject) -> bool | None:
    """Whether none of FAULTS is in more of the sound than the untuned model has, nor in most of it."""
    unharmed = _unharmed(damage, *FAULTS)
    mostly = [fault for fault in FAULTS if (_values(damage, fault).get(evaluation.TUNED) or 0.0) > MOST]
    return False if mostly else unharmed


def _shares(damage: JsonObject) -> list[str]:
    """Each fault's share of the sound: tuned, untuned, and real music of other styles."""
    return [
        f"{fault} {number(found.get(evaluation.TUNED), '.0%')}, untuned {number(found.get(evaluation.BASE), '.0%')}, "
        f"real music {number(found.get('unseen'), '.0%')}"
        for fault in FAULTS
        if (found := _values(damage, fault))
    ]


def _values(damage: JsonObject, measure: str) -> dict[str, float | None]:
    return {row["row"]: row["value"] for row in damage.get("tables", {}).get(measure, [])}


def over_budget(now: Standing) -> str:
    """The playbook's decision tree for a cost that runs away."""
    loss = now.curve.last_train_loss
    if loss is not None and loss > 3.5:
        return f"loss {loss:.3f} > 3.5: abort, escalate to Phase 3"
    if loss is not None and loss < 3.0:
        return (
            f"loss {loss:.3f} < 3.0: request a budget extension ($600 → $800: kwela campaign extend --to 800)"
        )
    return f"loss {number(loss, '.3f')}: wait for the Go/No-Go decision"
