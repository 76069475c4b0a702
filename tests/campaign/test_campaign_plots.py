"""The report's pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kwela.campaign.money import costs
from kwela.campaign.money.clock import HOUR, FakeClock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.report import campaign_plots


@pytest.mark.parametrize("hours", [2, 30, 24 * 50])
def test_a_campaigns_days_are_whole(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    book = Ledger(None, clock)
    book.open({}, 500.0, 25.0)
    book.begin_span(Machine("i", "spot", 0.39))
    clock.sleep(hours * HOUR)
    book.bill_until_now(1)
    drawn: list[Any] = []
    monkeypatch.setattr("kwela.plots.save", lambda figure, out: drawn.append(figure))
    campaign_plots.draw_costs(
        SimpleNamespace(rows=book.rows, totals=costs.add_up(book.rows)), Path("cost.png")
    )  # type: ignore[arg-type]
    for axis in drawn[0].axes:
        low, high = axis.get_xlim()
        ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == round(tick) for tick in ticks)
