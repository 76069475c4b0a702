"""The rows of a campaign's ledger, and their form as checksummed lines of `ledger.jsonl`.

One line holds one fact. `kind` says which:

    campaign  id, settings, budget_usd, setup_usd, began    the first line span      one start of one machine:
    price, market, disk, from, to, seconds, step, why; repeated as time passes budget    a larger budget,
    agreed to later gate      a verdict with its measurements override  the verdict that a person overrode,
    and why stopped   why the campaign waits for a person; `resumed`: a person came

`at`, `from` and `to` are unix seconds; `seconds`, `up` and `awake` are those of the machine's own clocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kwela.campaign.decide import gate
from kwela.config import fault_words
from kwela.errors import UserError

LedgerRow = dict[str, Any]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Shape(BaseModel):
    """The keys that are read from a row, with their types. Further keys are kept and not checked."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class _Fact(_Shape):
    at: Finite


class _Settings(_Shape):
    model_name: str = ""
    speed: Finite = 1.0


class _Campaign(_Fact):
    id: str
    settings: _Settings
    budget_usd: Finite
    setup_usd: Finite
    began: Finite | None = None


class _Span(_Shape):
    span: str
    boot: str
    instance: str
    market: str
    price: Finite
    disk_gb: Finite
    disk_usd: Finite
    start: Finite = Field(alias="from")
    to: Finite
    seconds: Finite
    up: Finite
    awake: Finite
    step: int
    why: str


class _Budget(_Fact):
    budget_usd: Finite


class _Reason(_Fact):
    why: str


class _Rule(_Shape):
    name: str
    outcome: str
    said: str


class _Gate(_Fact):
    verdict: str
    evidence: dict[str, Any]  # gate.from_json checks these
    rules: list[_Rule]
    step: int = 0


SHAPES: dict[str, type[_Shape]] = {
    "campaign": _Campaign,
    "span": _Span,
    "budget": _Budget,
    "gate": _Gate,
    "override": _Reason,
    "stopped": _Reason,
    "resumed": _Fact,
}


def sealed_line(row: LedgerRow) -> str:
    """Return a row as its line, with the checksum last."""
    body = json.dumps({key: value for key, value in row.items() if key != "sum"})
    return f'{body[:-1]}, "sum": "{hashlib.sha256(body.encode()).hexdigest()[:16]}"}}\n'


def parse_rows(text: str, source: str = "the ledger") -> tuple[list[LedgerRow], int]:
    """Return the whole rows of a ledger's text, each once, and the number of damaged lines.

    A damaged line is one that its checksum does not fit. source: names the text in a message. Raises
    UserError for a line with a fitting checksum and a value of the wrong type: kwela never writes such a
    line.
    """
    rows: dict[str, LedgerRow] = {}
    damaged = 0
    for number, line in enumerate(text.split("\n"), 1):
        try:
            row = json.loads(line)
            is_whole = sealed_line(row).rstrip("\n") == line and "kind" in row
        except (ValueError, AttributeError, TypeError, RecursionError):
            is_whole = False
        if is_whole:
            _check_types(row, f"{source}: line {number}")
            rows.setdefault(row["sum"], row)
        elif line.strip():
            damaged += 1
    return list(rows.values()), damaged


def _check_types(row: LedgerRow, place: str) -> None:
    """Raise UserError where a value has another type than its kind of row asks for."""
    shape = SHAPES.get(str(row["kind"]))
    try:
        if shape:
            shape.model_validate(row)
        if shape is _Gate:
            gate.from_json(row)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{place}: {key}: {fault_words(first)}; kwela did not write this line: remove it"
        ) from None


def read_rows(path: Path) -> tuple[list[LedgerRow], int]:
    """Return what `parse_rows` finds in the file; no file has no rows. Raises UserError."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    return parse_rows(text, str(path))


def latest(rows: Iterable[LedgerRow], kind: str) -> LedgerRow | None:
    """Return the newest row of a kind that has a time (`at`)."""
    return max((row for row in rows if row["kind"] == kind), key=lambda row: row["at"], default=None)


def campaign_row(rows: Iterable[LedgerRow]) -> LedgerRow | None:
    """Return the campaign's first line: None in an empty ledger, or where that line is damaged."""
    return next((row for row in rows if row["kind"] == "campaign"), None)


def span_rows(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Return the row that counts of each span, in order of time: the one with most seconds."""
    counting: dict[str, LedgerRow] = {}
    for row in rows:
        if row["kind"] == "span":
            other = counting.get(row["span"], row)
            if (row["seconds"], row["to"]) >= (other["seconds"], other["to"]):
                counting[row["span"]] = row
    return sorted(counting.values(), key=lambda row: row["from"])


def start_time(rows: Sequence[LedgerRow]) -> float:
    """Return the unix seconds at which day 1 began: as the first line says, else with the first span."""
    stated = [row["began"] for row in rows if row["kind"] == "campaign" and row.get("began") is not None]
    return min([*stated, *(row["from"] for row in rows if row["kind"] == "span")], default=0.0)
