"""The report's pictures: the losses, the dollars, the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kwela import plots
from kwela.campaign.money import costs
from kwela.campaign.run.state import Standing

MARKETS = {"spot": plots.GREEN, "on-demand": plots.ORANGE}


def loss(now: Standing, out: Path) -> Path:
    """Training and validation loss over steps, the untuned model as a dashed line."""
    figure, (axis,) = plots.sheet(1, 1, (8, 3.6))
    train = [(step, value) for step, value in now.curve.train if value is not None]
    val = [(step, value) for step, value in now.curve.val if value is not None]
    baselines = {} if now.curve.base is None else {"untuned, validation": now.curve.base}
    plots.draw_loss_curve(axis, train, val, baselines, "cross-entropy (nats)")
    return plots.save(figure, out)


def cost(now: Standing, out: Path) -> Path:
    """GPU dollars by campaign day and market, and what it all comes to beside the budget."""
    from matplotlib.ticker import MaxNLocator

    figure, (daily, whole) = plots.sheet(1, 2, (8, 3.2))
    by_day = costs.gpu_usd_by_day(now.rows)
    days = range(1, max([day for day, _ in by_day], default=1) + 1)
    bottom = np.zeros(len(days))
    for market in sorted({market for _, market in by_day}):
        heights = np.array([by_day.get((day, market), 0.0) for day in days])
        daily.bar(days, heights, bottom=bottom, color=MARKETS.get(market, plots.GREY), label=market)
        bottom += heights
    daily.set(xlabel="campaign day", ylabel="GPU dollars a day", ylim=(0, 1.25 * max(bottom.max(), 0.01)))
    daily.legend(frameon=False)
    spent = now.bill.setup_usd + np.cumsum([0.0, *(bottom + now.bill.disk_usd / len(days))])
    whole.plot([0, *days], spent, color=plots.RED, linewidth=1.8, label="spent, disk and setup included")
    whole.axhline(now.bill.budget_usd, color=plots.BLUE, linewidth=1, linestyle="--", label="budget")
    whole.set(xlabel="campaign day", ylabel="dollars")
    whole.set_ylim(0, None)
    whole.legend(frameon=False)
    for axis in daily, whole:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return plots.save(figure, out)


def samples(clips: Sequence[tuple[str, Path]], out: Path) -> Path:
    """Spectrograms of `clips`: (title, audio file)."""
    import soundfile

    rows = -(-len(clips) // 2)
    figure, axes = plots.sheet(rows, 2, (8, 1.55 * rows))
    for axis in axes[len(clips) :]:
        axis.axis("off")
    for axis, (title, path) in zip(axes, clips, strict=False):
        wave, rate = soundfile.read(path, always_2d=True)
        plots.draw_spectrogram(axis, wave.mean(1), rate, loudest_db=0.0)
        axis.set_ylim(0, min(16, rate / 2000))
        title = title if len(title) <= 70 else f"{title[:68]} …"
        axis.set_title(title, fontsize=7, loc="left", parse_math=False)  # a prompt may hold a $
        axis.tick_params(labelsize=6)
        axis.label_outer()
    return plots.save(figure, out)
