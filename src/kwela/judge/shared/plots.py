"""What the judges' pictures share: a bare sheet, colours for all kinds of colour vision, dots with intervals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwela import files

if TYPE_CHECKING:
    from kwela.judge.shared.scorecard import ScorecardRow

# Okabe and Ito's.
BLACK, BLUE, SKY, GREEN, ORANGE, RED, PINK, GREY = (
    "#222222", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#a8a8a8",
)  # fmt: skip
SEVERAL = (BLUE, BLACK, ORANGE, PINK, GREEN)


def sheet(rows: int, columns: int, size: tuple[float, float], **more: Any) -> tuple[Any, list[Any]]:
    """A figure and its axes, line by line. more: as `Figure.subplots` takes it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False, **more).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
        axis.set_axisbelow(True)
    return figure, axes


def save(figure: Any, path: Path, dpi: int = 110) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    figure.savefig(
        picture, dpi=dpi, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    files.write(path, picture.getvalue(), durable=False)


def legend(figure: Any, axis: Any, columns: int = 4) -> None:
    """The axis's legend below the whole figure."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def forest(
    path: Path, panels: Mapping[str, Sequence[ScorecardRow]], unit: str, colours: Mapping[str, str]
) -> None:
    """Rows as dots with their intervals, a panel for each title. A row "line | system" is a dot of the system on the
    line, one without is the first system's; what has no value has no dot. Dots without intervals share one height."""
    names = {
        row: [*row.label.split(" | "), next(iter(colours))][:2] for rows in panels.values() for row in rows
    }
    lines = list(dict.fromkeys(line for line, _ in names.values()))
    systems = [system for system in colours if any(system == other for _, other in names.values())]
    apart = 0.7 / len(systems) if any(row.ci for row in names) else 0.0
    size = (4 + 3.2 * len(panels), (0.3 + 0.18 * apart * len(systems) ** 2) * len(lines) + 1.2)
    figure, axes = sheet(1, len(panels), size, sharey=True)
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        for row in rows:
            line, system = names[row]
            if row.value is None or system not in systems:
                continue
            y = lines.index(line) + apart * (systems.index(system) - (len(systems) - 1) / 2)
            axis.plot(
                row.ci or [row.value],
                [y] * len(row.ci or [0]),
                color=colours[system],
                linewidth=1.6,
                alpha=0.6,
            )
            axis.plot([row.value], [y], "o", color=colours[system], markersize=5)
        axis.axvline(0, color=BLACK, linewidth=0.8)
        axis.set(xlabel=unit, title=title, ylim=(len(lines) - 0.4, -0.6))
        axis.set_yticks(range(len(lines)), lines)
        axis.locator_params(axis="x", nbins=6)
    for system in systems if len(systems) > 1 else ():
        axes[0].plot([], [], "o-", color=colours[system], label=system)
    if len(systems) > 1:
        legend(figure, axes[0])
    save(figure, path)
