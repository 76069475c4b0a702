"""Two price lists for one instance: the playbook's, which are settings, and AWS's own."""

from __future__ import annotations

from dataclasses import dataclass

from kwela.machines.aws import prices
from kwela.playbook import PlaybookConfig

INSTANCE = "g4dn.xlarge"
LIST_SPOT = 0.21  # us-east-1, between $0.20 and $0.22 in November 2026; it moves
# Dollars a GB to the internet; what comes in is free. https://aws.amazon.com/ec2/pricing/on-demand/
TRANSFER_OUT = 0.09


@dataclass(frozen=True)
class Prices:
    """Dollars an hour. name: playbook or list."""

    name: str
    on_demand: float
    spot: float

    def price_of(self, market: str) -> float:
        """Return the price of a market, "spot" or "on-demand"."""
        return self.spot if market == "spot" else self.on_demand


def both_price_lists(settings: PlaybookConfig) -> list[Prices]:
    """Return the playbook's prices, which a campaign is billed by, and the list price."""
    list_price = prices.on_demand(INSTANCE)
    assert list_price is not None
    return [
        Prices("playbook", settings.gpu_cost_per_hour, settings.spot_cost_per_hour),
        Prices("list", list_price, LIST_SPOT),
    ]
