"""The report's pictures: the losses, the dollars, the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kwela.campaign.money import costs
from kwela.campaign.run.state import Standing

TRAIN, VAL, BASE, MARKETS = "#9aa7b4", "#c2410c", "#1d4ed8", {"spot": "#0f766e", "on-demand": "#b45309"}


def loss(now: Standing, out: Path) -> Path:
    """Training and validation loss over steps, the untuned model as a dashed line."""
    figure, axis = _axes((8, 3.6))
    train = [(step, value) for step, value in now.curve.train if value is not None]
    val = [(step, value) for step, value in now.curve.val if value is not None]
    if train:
        axis.plot(*zip(*train, strict=True), color=TRAIN, linewidth=1, label="training")
    if val:
        axis.plot(
            *zip(*val, strict=True), color=VAL, linewidth=1.8, marker="o", markersize=3, label="validation"
        )
    if now.curve.base is not None:
        axis.axhline(now.curve.base, color=BASE, linewidth=1, linestyle="--", label="untuned, validation")
    axis.set(xlabel="optimiser steps", ylabel="cross-entropy (nats)")
    axis.legend(frameon=False)
    return _save(figure, out)


def cost(now: Standing, out: Path) -> Path:
    """GPU dollars by campaign day and market, and what it all comes to beside the budget."""
    from matplotlib.ticker import MaxNLocator

    figure, (daily, whole) = _axes((8, 3.2), 2)
    by_day = costs.gpu_usd_by_day(now.rows)
    days = range(1, max([day for day, _ in by_day], default=1) + 1)
    bottom = np.zeros(len(days))
    for market in sorted({market for _, market in by_day}):
        heights = np.array([by_day.get((day, market), 0.0) for day in days])
        daily.bar(days, heights, bottom=bottom, color=MARKETS.get(market, TRAIN), label=market)
        bottom += heights
    daily.set(xlabel="campaign day", ylabel="GPU dollars a day", ylim=(0, 1.25 * max(bottom.max(), 0.01)))
    daily.legend(frameon=False)
    spent = now.bill.setup_usd + np.cumsum([0.0, *(bottom + now.bill.disk_usd / len(days))])
    whole.plot([0, *days], spent, color=VAL, linewidth=1.8, label="spent, disk and setup included")
    whole.axhline(now.bill.budget_usd, color=BASE, linewidth=1, linestyle="--", label="budget")
    whole.set(xlabel="campaign day", ylabel="dollars")
    whole.set_ylim(0, None)
    whole.legend(frameon=False)
    for axis in daily, whole:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return _save(figure, out)


def samples(clips: Sequence[tuple[str, Path]], out: Path) -> Path:
    """Spectrograms of `clips`: (title, audio file)."""
    import soundfile

    rows = -(-len(clips) // 2)
    figure, axes = _axes((8, 1.55 * rows), rows, 2)
    for axis in np.ravel(axes)[len(clips) :]:
        axis.axis("off")
    for axis, (title, path) in zip(np.ravel(axes), clips, strict=False):
        wave, rate = soundfile.read(path, always_2d=True)
        with np.errstate(divide="ignore"):  # of silence
            axis.specgram(
                wave.mean(1) + 1e-9, NFFT=1024, Fs=rate, noverlap=512, cmap="magma", vmin=-140, vmax=-30
            )
        axis.set_ylim(0, min(16000, rate / 2))
        title = title if len(title) <= 70 else f"{title[:68]} …"
        axis.set_title(title, fontsize=7, loc="left", parse_math=False)  # a prompt may hold a $
        axis.tick_params(labelsize=6)
    return _save(figure, out)


def _axes(size: tuple[float, float], *shape: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = shape if len(shape) == 2 else (1, *(shape or (1,)))
    figure, axes = pyplot.subplots(rows, columns, figsize=size, dpi=130, layout="constrained")
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def _save(figure: Any, out: Path) -> Path:
    from matplotlib import pyplot

    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    pyplot.close(figure)
    return out
