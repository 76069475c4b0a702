"""Two price lists for one machine: the playbook's, which are settings, and the cloud's own."""

from __future__ import annotations

from dataclasses import dataclass

from kwela.machines import provider
from kwela.playbook import PlaybookConfig


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
    """Return the playbook's prices, which a campaign is billed by, and the list price of its machine."""
    listed = provider.connect().list_prices()
    return [
        Prices("playbook", settings.gpu_cost_per_hour, settings.spot_cost_per_hour),
        Prices("list", listed.on_demand, listed.spot),
    ]


def transfer_out() -> float:
    """Return dollars a GB that is fetched from the cloud."""
    return provider.connect().list_prices().transfer_out
