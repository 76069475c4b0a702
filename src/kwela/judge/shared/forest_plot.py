"""Draw rows of a scorecard as a forest plot: each figure is a dot, and its interval is a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kwela import plots
from kwela.judge.shared.scorecard import ScorecardRow


@plots.optional
def draw_forest(
    path: Path, panels: Mapping[str, Sequence[ScorecardRow]], unit: str, colours: Mapping[str, str]
) -> None:
    """Draw the rows of each panel as dots with their intervals, and write the picture to `path`.

    panels: title -> rows. A row labelled "line | system" is a dot of that system on that line. Without " | "
    the dot belongs to the first system. A row without a value has no dot. If no row has an interval, all dots
    of a line lie at one height. unit: the label of the horizontal axis. colours: system -> colour; the legend
    keeps this order.
    """
    line_and_system = {
        row: [*row.label.split(" | "), next(iter(colours))][:2] for rows in panels.values() for row in rows
    }
    lines = list(dict.fromkeys(line for line, _ in line_and_system.values()))
    systems_of_rows = {system for _, system in line_and_system.values()}
    systems = [system for system in colours if system in systems_of_rows]
    # The spacing lies between two systems of one line.
    spacing = 0.7 / len(systems) if any(row.ci for row in line_and_system) else 0.0
    height = (0.3 + 0.18 * spacing * len(systems) ** 2) * len(lines) + 1.2
    figure, axes = plots.sheet(1, len(panels), (4 + 3.2 * len(panels), height), sharey=True)
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        for row in rows:
            line, system = line_and_system[row]
            if row.value is not None and system in systems:
                y = lines.index(line) + spacing * (systems.index(system) - (len(systems) - 1) / 2)
                _draw_row(axis, row.value, row.ci, y, colours[system])
        axis.axvline(0, color=plots.BLACK, linewidth=0.8)
        axis.set(xlabel=unit, title=title, ylim=(len(lines) - 0.4, -0.6))
        axis.set_yticks(range(len(lines)), lines)
        axis.locator_params(axis="x", nbins=6)
    if len(systems) > 1:
        for system in systems:
            axes[0].plot([], [], "o-", color=colours[system], label=system)
        plots.add_legend(figure, axes[0])
    plots.save(figure, path)


def _draw_row(axis: Any, value: float, ci: list[float] | None, y: float, colour: str) -> None:
    if ci:
        axis.plot(ci, [y, y], color=colour, linewidth=1.6, alpha=0.6)
    axis.plot([value], [y], "o", color=colour, markersize=5)
