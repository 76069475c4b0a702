"""Draw the report's pictures: the losses, the dollars, the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kwela import plots
from kwela.campaign.money.costs import gpu_usd_by_day
from kwela.campaign.run.campaign_state import CampaignState

LONGEST_TITLE = 70  # characters
MARKETS = {"spot": plots.GREEN, "on-demand": plots.ORANGE}


@plots.optional
def draw_losses(state: CampaignState, out: Path) -> Path:
    """Draw training and validation loss over steps; a dashed line is the untuned model. Returns `out`."""
    figure, (axis,) = plots.sheet(1, 1, (8, 3.6))
    train = [(step, value) for step, value in state.curve.train if value is not None]
    val = [(step, value) for step, value in state.curve.val if value is not None]
    baselines = {} if state.curve.base is None else {"untuned, validation": state.curve.base}
    plots.draw_loss_curve(axis, train, val, baselines, "cross-entropy (nats)")
    return plots.save(figure, out)


@plots.optional
def draw_costs(state: CampaignState, out: Path) -> Path:
    """Draw GPU dollars by campaign day and market, and all dollars beside the budget. Returns `out`."""
    from matplotlib.ticker import MaxNLocator

    figure, (daily, total) = plots.sheet(1, 2, (8, 3.2))
    by_day = gpu_usd_by_day(state.rows)
    days = range(1, max([day for day, _ in by_day], default=1) + 1)
    bottom = np.zeros(len(days))
    for market in sorted({market for _, market in by_day}):
        heights = np.array([by_day.get((day, market), 0.0) for day in days])
        daily.bar(days, heights, bottom=bottom, color=MARKETS.get(market, plots.GREY), label=market)
        bottom += heights
    daily.set(xlabel="campaign day", ylabel="GPU dollars a day", ylim=(0, 1.25 * max(bottom.max(), 0.01)))
    daily.legend(frameon=False)
    spent = state.totals.setup_usd + np.cumsum([0.0, *(bottom + state.totals.disk_usd / len(days))])
    total.plot([0, *days], spent, color=plots.RED, linewidth=1.8, label="spent, disk and setup included")
    total.axhline(state.totals.budget_usd, color=plots.BLUE, linewidth=1, linestyle="--", label="budget")
    total.set(xlabel="campaign day", ylabel="dollars")
    total.set_ylim(0, None)
    total.legend(frameon=False)
    for axis in daily, total:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return plots.save(figure, out)


@plots.optional
def draw_spectrograms(clips: Sequence[tuple[str, Path]], out: Path) -> Path:
    """Draw the spectrograms of clips, (title, audio file), two in a row. Returns `out`."""
    import soundfile

    rows = -(-len(clips) // 2)
    figure, axes = plots.sheet(rows, 2, (8, 1.55 * rows))
    for axis in axes[len(clips) :]:
        axis.axis("off")
    for axis, (title, path) in zip(axes, clips, strict=False):
        wave, rate = soundfile.read(path, always_2d=True)
        plots.draw_spectrogram(axis, wave.mean(1), rate, loudest_db=0.0)
        axis.set_ylim(0, min(16, rate / 2000))
        title = title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 2]} …"
        axis.set_title(title, fontsize=7, loc="left", parse_math=False)  # a prompt may hold a $
        axis.tick_params(labelsize=6)
        axis.label_outer()
    return plots.save(figure, out)
