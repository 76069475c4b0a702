"""Write what a judge found: one JSON file, one Markdown page, and the summary that a terminal shows.

Every figure is a row of a table: {"row", "value", "ci", "n"}. A figure that was not measured has the value
null and a note.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kwela import files, terminal
from kwela.stats import Interval


@dataclass(frozen=True)
class ScorecardRow:
    """One figure of a table.

    label: the JSON's "row". value: None where it was not measured. ci: the ends of the 95 % interval, or
    None. n: how many items the figure is made from.
    """

    label: str
    value: float | None = None
    ci: list[float] | None = field(default=None, hash=False)
    n: int | None = None
    note: str = ""

    @classmethod
    def from_interval(
        cls, label: str, interval: Interval, n: int | None = None, note: str = ""
    ) -> ScorecardRow:
        """Make a row from an interval; a value of NaN means that it was not measured."""
        if math.isnan(interval.value):
            return cls(label, note=note, n=n)
        return cls(label, interval.value, interval.ci, n, note)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as the JSON has it."""
        figures = {"row": self.label, "value": self.value, "ci": self.ci, "n": self.n}
        return figures | {"note": self.note} if self.note else figures


@dataclass
class Section:
    """A table with its explanation above and its picture below."""

    title: str
    rows: list[ScorecardRow]
    text: str = ""
    unit: str = "value"
    picture: str = ""  # a file beside the page


@dataclass
class Scorecard:
    """The result of a judge.

    warning: the first line of the page, for example what the labels are, or what there was nothing to compare
    with. sections: by the name of their table in the JSON. extra_json: further keys of the JSON.
    """

    title: str
    warning: str = ""
    quick: bool = False
    seed: int = 0
    sections: dict[str, Section] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    extra_json: dict[str, Any] = field(default_factory=dict)

    def add(
        self,
        name: str,
        title: str,
        rows: list[ScorecardRow],
        text: str = "",
        unit: str = "value",
        picture: str = "",
    ) -> None:
        """Add a section; its fields are those of `Section`."""
        self.sections[name] = Section(title, rows, text, unit, picture)

    def refuse(self, why: str) -> Scorecard:
        """Drop all figures, because the evidence is too thin, and give the reason instead."""
        self.sections.clear()
        self.verdicts = {"status": "refused", "why": why}
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; NaN and infinity, which JSON does not have, become null."""
        tables = {name: [row.to_dict() for row in section.rows] for name, section in self.sections.items()}
        settings = {"warning": self.warning, "quick": self.quick, "seed": self.seed}
        whole = {**self.extra_json, "tables": tables, "verdicts": self.verdicts, **settings}
        return json.loads(json.dumps(whole), parse_constant=lambda name: None)

    def write(self, folder: Path, name: str) -> None:
        """Write `<name>.json` and `<name>.md` into `folder`. The judge draws the pictures there itself."""
        files.write(folder / f"{name}.json", json.dumps(self.to_dict(), indent=1) + "\n")
        files.write(folder / f"{name}.md", self.page())

    def page(self) -> str:
        """Return the Markdown page."""
        lines = [f"{self.warning}\n"] if self.warning else []
        lines += [f"# {self.title}\n", self._settings_line() + "\n"]
        if self.verdicts:
            lines += [f"- **{name}**: {text}" for name, text in self._verdict_texts()] + [""]
        for section in self.sections.values():
            lines += [f"## {section.title}\n"]
            if section.text:
                lines += [section.text + "\n"]
            if section.rows:
                lines += [f"| | {section.unit} | 95 % interval | n | |", "|---|---|---|---|---|"]
                cells = [[_table_cell(cell) for cell in _cells(row)] for row in section.rows]
                lines += [f"| {' | '.join(row)} |" for row in cells] + [""]
            if section.picture:
                lines += [f"![{section.title}]({section.picture})\n"]
        return "\n".join(lines).rstrip() + "\n"

    def summary(self) -> str:
        """Return what a terminal shows: the verdicts, and each table in plain lines."""
        lines = [self.warning] if self.warning else []
        lines += [self._settings_line()]
        lines += [f"{name}: {text}" for name, text in self._verdict_texts()]
        for section in self.sections.values():
            lines += ["", f"{section.title} ({section.unit})" if section.rows else section.title]
            width = max([36, *(len(row.label) for row in section.rows)])
            for row in section.rows:
                label, value, ci, n, note = _cells(row)
                lines.append(
                    f"  {label:{width}} {value:>10}  {ci:20} {'n=' + n if n else '':8} {note}".rstrip()
                )
        return "\n".join(lines)

    def _settings_line(self) -> str:
        quick = "With --quick: fewer items and resamples, wider intervals than in full."
        return f"{quick if self.quick else 'In full.'} Seed {self.seed}."

    def _verdict_texts(self) -> list[tuple[str, str]]:
        return [(name.replace("_", " "), _verdict_text(value)) for name, value in self.verdicts.items()]


def _table_cell(text: str) -> str:
    """Return a cell of a Markdown table; a name of a file may hold a line feed."""
    return terminal.printable(text).replace("|", "\\|").replace("\n", " ")


def _cells(row: ScorecardRow) -> tuple[str, str, str, str, str]:
    ci = f"{row.ci[0]:.3g} .. {row.ci[1]:.3g}" if row.ci else ""
    value = "not measured" if row.value is None or not math.isfinite(row.value) else f"{row.value:.3g}"
    return row.label, value, ci, "" if row.n is None else str(row.n), row.note


def _verdict_text(value: Any) -> str:
    """Write a verdict for a reader: figures short, {"value", "ci"} as a figure and its interval."""
    if isinstance(value, dict) and value.keys() >= {"value", "ci"}:
        low, high = value["ci"] or (None, None)
        interval = "" if low is None else f" [{_verdict_text(low)} .. {_verdict_text(high)}]"
        return _verdict_text(value["value"]) + interval
    if isinstance(value, dict):
        parts = [f"{key.replace('_', ' ')} {_verdict_text(item)}" for key, item in value.items()]
        return ", ".join(parts) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_verdict_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else "not measured"
    return "not measured" if value is None else str(value)
