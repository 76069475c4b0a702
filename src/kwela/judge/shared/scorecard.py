"""What a judge leaves behind: one JSON, one Markdown page with its plots beside it, and what it prints.

Every figure is a row of a table: {"row", "value", "ci", "n"}. A figure that wasn't measured has value null and a note.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kwela import files
from kwela.stats import Interval


@dataclass(frozen=True)
class Row:
    row: str
    value: float | None = None  # not measured
    ci: list[float] | None = field(default=None, hash=False)  # 95 %
    n: int | None = None
    note: str = ""

    @classmethod
    def of(cls, row: str, interval: Interval, n: int | None = None, note: str = "") -> Row:
        """A row from an interval; NaN means not measured."""
        return (
            cls(row, note=note, n=n)
            if math.isnan(interval.value)
            else cls(row, interval.value, interval.ci, n, note)
        )

    def to_dict(self) -> dict[str, Any]:
        plain = {"row": self.row, "value": self.value, "ci": self.ci, "n": self.n}
        return plain | {"note": self.note} if self.note else plain


@dataclass
class Section:
    """A table with what to make of it: `text` above, picture below."""

    title: str
    rows: list[Row]
    text: str = ""
    unit: str = "value"
    picture: str = ""  # a file beside the page


@dataclass
class Scorecard:
    """A judge's result. warning: the page's first line (what the labels are, what wasn't there to compare with)."""

    title: str
    warning: str = ""
    quick: bool = False
    seed: int = 0
    sections: dict[str, Section] = field(default_factory=dict)  # by the name of the table in the JSON
    verdicts: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # further keys of the JSON

    def add(
        self, name: str, title: str, rows: list[Row], text: str = "", unit: str = "value", picture: str = ""
    ) -> None:
        self.sections[name] = Section(title, rows, text, unit, picture)

    def refuse(self, why: str) -> Scorecard:
        """The evidence is too thin: no number."""
        self.sections.clear()
        self.verdicts = {"status": "refused", "why": why}
        return self

    def to_dict(self) -> dict[str, Any]:
        tables = {name: [row.to_dict() for row in section.rows] for name, section in self.sections.items()}
        about = {"warning": self.warning, "quick": self.quick, "seed": self.seed}
        whole = {**self.more, "tables": tables, "verdicts": self.verdicts, **about}
        return json.loads(
            json.dumps(whole), parse_constant=lambda name: None
        )  # JSON has no NaN and no infinity

    def write(self, folder: Path, name: str) -> None:
        """`<name>.json` and `<name>.md` in `folder`. Pictures are drawn there by the judge."""
        files.write(folder / f"{name}.json", json.dumps(self.to_dict(), indent=1) + "\n")
        files.write(folder / f"{name}.md", self.page())

    def page(self) -> str:
        lines = [f"{self.warning}\n"] if self.warning else []
        lines += [f"# {self.title}\n", self._how() + "\n"]
        if self.verdicts:
            lines += [
                f"- **{name.replace('_', ' ')}**: {_said(value)}" for name, value in self.verdicts.items()
            ] + [""]
        for section in self.sections.values():
            lines += [f"## {section.title}\n"]
            if section.text:
                lines += [section.text + "\n"]
            if section.rows:
                lines += [f"| | {section.unit} | 95 % interval | n | |", "|---|---|---|---|---|"]
                cells = [[cell.replace("|", "\\|") for cell in _cells(row)] for row in section.rows]
                lines += [f"| {' | '.join(row)} |" for row in cells] + [""]
            if section.picture:
                lines += [f"![{section.title}]({section.picture})\n"]
        return "\n".join(lines).rstrip() + "\n"

    def _how(self) -> str:
        less = (
            "With --quick: fewer items and resamples, wider intervals than in full."
            if self.quick
            else "In full."
        )
        return f"{less} Seed {self.seed}."

    def summary(self) -> str:
        """What a terminal shows: the verdicts and each table in plain lines."""
        lines = [self.warning] if self.warning else []
        lines += [self._how()]
        lines += [f"{name.replace('_', ' ')}: {_said(value)}" for name, value in self.verdicts.items()]
        for section in self.sections.values():
            lines += ["", f"{section.title} ({section.unit})" if section.rows else section.title]
            width = max([36, *(len(row.row) for row in section.rows)])
            for row in section.rows:
                label, value, ci, n, note = _cells(row)
                lines.append(
                    f"  {label:{width}} {value:>10}  {ci:20} {'n=' + n if n else '':8} {note}".rstrip()
                )
        return "\n".join(lines)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    ci = f"{row.ci[0]:.3g} .. {row.ci[1]:.3g}" if row.ci else ""
    value = "not measured" if row.value is None or not math.isfinite(row.value) else f"{row.value:.3g}"
    return row.row, value, ci, "" if row.n is None else str(row.n), row.note


def _said(value: Any) -> str:
    """A verdict for a reader: figures short, {"value", "ci"} as a figure and its interval."""
    if isinstance(value, dict) and value.keys() >= {"value", "ci"}:
        low, high = value["ci"] or (None, None)
        return _said(value["value"]) + ("" if low is None else f" [{_said(low)} .. {_said(high)}]")
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_said(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else "not measured"
    return "not measured" if value is None else str(value)
