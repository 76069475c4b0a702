"""What the judges' pictures share: a bare sheet, colours for all kinds of colour vision, dots with intervals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwela import files

if TYPE_CHECKING:
    from kwela.judge.page import Row

# Okabe and Ito's.
BLACK, BLUE, SKY, GREEN, ORANGE, RED, PINK, GREY = (
    "#222222", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#a8a8a8",
)  # fmt: skip


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
    figure.savefig(picture, dpi=dpi, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    files.write(path, picture.getvalue(), durable=False)


def legend(figure: Any, axis: Any, columns: int = 4) -> None:
    """The axis's legend below the whole figure."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def dots(axis: Any, lines: Sequence[str], systems: Mapping[str, Mapping[str, Row]], colours: Mapping[str, str]) -> None:
    """Values with their intervals: a line for each of `lines`, from the top; systems: name -> line -> row."""
    for k, (name, rows) in enumerate(systems.items()):
        for at, line in enumerate(lines):
            row = rows.get(line)
            if row is None or row.value is None:
                continue
            y = at + 0.16 * (k - (len(systems) - 1) / 2)
            if row.ci:
                axis.plot(row.ci, [y, y], color=colours[name], linewidth=1.6, alpha=0.6)
            axis.plot([row.value], [y], "o", color=colours[name], markersize=5)
        axis.plot([], [], "o-", color=colours[name], label=name)
    axis.axvline(0, color=BLACK, linewidth=0.8)
    axis.set_yticks(range(len(lines)), lines)
    axis.set_ylim(len(lines) - 0.4, -0.6)
