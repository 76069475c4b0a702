"""Draw the pictures of reports and scorecards in one style: sheets of axes, loss curves and spectrograms.

Pictures are PNG files, written whole or not at all. Matplotlib takes half a second to import, so functions
import it.

Titles and labels are often texts of users: prompts, tags, names of files. `save` shows every text of a figure
as it was typed, so a `$` begins no formula, and finds fonts for what DejaVu Sans lacks. All figures are made
by `new_figure` and written by `save`; a test looks for others.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from kwela import files, fonts, tables, terminal
from kwela.errors import UserError

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
BLACK, BLUE, SKY, GREEN, ORANGE, RED, PINK, GREY = (
    "#222222", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#a8a8a8",
)  # fmt: skip
SEVERAL = (BLUE, BLACK, ORANGE, PINK, GREEN)
N_FFT, HOP = 2048, 512  # samples of a spectrogram's window, and between two windows
RANGE = 80.0  # dB that a spectrogram shows
LONGEST_LINE, MOST_LINES = 200, 12  # characters and lines of one text that a picture shows
_SILENCE = -100.0  # dB of full scale; a clip without louder sound is drawn dark

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Points = Sequence[tuple[int, float]]  # (step, value)


def new_figure(size: tuple[float, float], facecolor: Any = "white", layout: Any = None) -> Any:
    """Return an empty figure of `size` (width, height in inches)."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, facecolor=facecolor, layout=layout)


def sheet(rows: int, columns: int, size: tuple[float, float], **more: Any) -> tuple[Any, list[Any]]:
    """Return a figure of `size` (width, height in inches) and its axes, row by row.

    more: passed on to `Figure.subplots`.
    """
    figure = new_figure(size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **more).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
        axis.set_axisbelow(True)
    return figure, axes


def save(figure: Any, path: Path, dpi: int = 110) -> Path:
    """Write the figure as a PNG and return `path`; equal figures give equal bytes. Raises as `write`.

    Its texts are shown as typed: no mathematics, escapes for control characters, long lines cut.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    with _texts_as_typed(figure):
        figure.savefig(
            picture, dpi=dpi, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None}
        )
    files.write(path, picture.getvalue(), durable=False)
    return path


def as_typed(text: str) -> str:
    """Return `text` as a picture shows it: long lines cut, escapes in place of control characters."""
    lines = terminal.printable(text).replace("\t", " ").split("\n")
    cut = [line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 2]} …" for line in lines]
    return "\n".join(cut[:MOST_LINES] + ["…"] * (len(cut) > MOST_LINES))


@contextlib.contextmanager
def _texts_as_typed(figure: Any) -> Iterator[None]:
    """Make every text of a figure one that is not parsed, those of ticks that drawing adds included."""
    from matplotlib import rc_context, rcParams
    from matplotlib.font_manager import fontManager, get_font
    from matplotlib.text import Text

    texts = []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for ticker in (axis.major, axis.minor):
            ticker.formatter = _plain_formatter(ticker.formatter)
            ticker.formatter.set_axis(axis)
        texts += axis.get_ticklabels(which="both")
    texts += figure.findobj(Text)
    for text in texts:
        text.set_text(as_typed(text.get_text()))
        text.set(parse_math=False, usetex=False)
    settings: Any = {"text.parse_math": False, "text.usetex": False}
    if found := fonts.for_text("".join({text.get_text() for text in texts})):
        for file in found:
            fontManager.addfont(file)
        settings["font.family"] = [*rcParams["font.family"], *(get_font(file).family_name for file in found)]
        for text in texts:
            text.set_fontfamily(settings["font.family"])
    with rc_context(settings), warnings.catch_warnings():
        # Where no font has a character, a box stands in its place.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # for very long texts
        yield


def _plain_formatter(formatter: Any) -> Any:
    """Return a formatter of ticks whose texts need no parser."""
    from matplotlib import ticker

    if isinstance(formatter, ticker.LogFormatterMathtext):
        return ticker.LogFormatter(formatter._base)  # type: ignore[attr-defined]
    if isinstance(formatter, ticker.FixedFormatter):
        formatter.seq = [as_typed(str(label)) for label in formatter.seq]
    elif isinstance(formatter, ticker.FuncFormatter):
        given = formatter.func
        formatter.func = lambda value, place: as_typed(given(value, place))
    return formatter


def optional(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result | None]:
    """Make a function that draws a picture one that never ends the work it belongs to.

    Where drawing fails in any way (but for Ctrl-C), the reason is said on stderr, and None is returned.
    """

    @functools.wraps(draw)
    def attempt(*args: Arguments.args, **named: Arguments.kwargs) -> Result | None:
        try:
            return draw(*args, **named)
        except Exception as error:
            what = draw.__name__.removeprefix("_").replace("_", " ")
            reason = " ".join(str(error).split())[:300]
            terminal.say(f"picture left out ({what}): {type(error).__name__}: {reason}", sys.stderr)
            return None

    return attempt


def add_legend(figure: Any, axis: Any, columns: int = 4) -> None:
    """Put the axis's legend below the whole figure. Matplotlib leaves out labels that begin with "_"."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def draw_loss_curve(
    axis: Any, train: Points, validation: Points, baselines: Mapping[str, float], unit: str
) -> None:
    """Draw a loss over the optimiser's steps: training, validation, and each baseline as a dashed line.

    unit: the label of the loss's axis.
    """
    if train:
        axis.plot(*zip(*train, strict=True), color=GREY, linewidth=1, label="training")
    if validation:
        axis.plot(
            *zip(*validation, strict=True),
            color=RED,
            linewidth=1.8,
            marker="o",
            markersize=3,
            label="validation",
        )
    for color, (name, value) in zip((BLUE, GREEN, PINK, ORANGE, SKY) * len(baselines), baselines.items()):
        axis.axhline(value, color=color, linewidth=1, linestyle="--", label=name.replace("_", " "))
    axis.set(xlabel="optimiser steps", ylabel=unit)
    axis.legend(frameon=False, fontsize=8)


def draw_run_loss(metrics: Path, out: Path, metric: str, title: str, unit: str) -> Path:
    """Draw a run's loss curve from its metrics.jsonl, with the baselines that it must beat; return `out`.

    metric: the training loss's name in a row; validation's is `val_<metric>`. Raises UserError if `metrics`
    can't be read or holds no validation yet.
    """
    rows = [row for _, row in tables.read_jsonl(metrics, "metrics")]
    train = [(row["step"], row[metric]) for row in rows if row["split"] == "train" and metric in row]
    validation = [(row["step"], row[f"val_{metric}"]) for row in rows if row["split"] == "val"]
    if not validation:
        raise UserError(f"{metrics}: no validation yet")
    baselines: dict[str, float] = next(
        (row["baselines"] for row in reversed(rows) if row.get("baselines")), {}
    )
    figure, (axis,) = sheet(1, 1, (8, 4.5))
    draw_loss_curve(axis, train, validation, baselines, unit)
    axis.set_title(title, loc="left", fontsize=11)
    # An untrained model's first losses would squeeze the rest into a line.
    later = [value for _, value in validation + train[len(train) // 4 :]] + list(baselines.values())
    top, bottom = max(later), min(later)
    axis.set_ylim(max(0, bottom - 0.1 * (top - bottom)), top + 0.15 * (top - bottom))
    return save(figure, out)


def draw_spectrogram(axis: Any, wave: np.ndarray, rate: int, loudest_db: float | None = None) -> Any:
    """Draw the spectrogram of `wave` (samples,) over seconds and kHz; return the picture, for a colour bar.

    It shows 80 dB below `loudest_db`, in dB of full scale; None stands for the wave's own loudest point.
    """
    from scipy.signal import stft

    wave = np.pad(wave, (0, max(0, N_FFT - len(wave))))
    _, seconds, bins = stft(wave, rate, nperseg=N_FFT, noverlap=N_FFT - HOP)
    level = 20 * np.log10(np.maximum(2 * np.abs(bins), 1e-9))
    loudest = max(float(level.max()), _SILENCE) if loudest_db is None else loudest_db
    picture = axis.imshow(
        level - loudest,
        origin="lower",
        aspect="auto",
        extent=(0, seconds[-1], 0, rate / 2000),
        vmin=-RANGE,
        vmax=0,
        cmap="magma",
    )
    axis.grid(visible=False)
    axis.set(xlabel="seconds", ylabel="kHz")
    return picture
