"""What a rented machine is, what a cloud must offer for one, and which clouds there are.

A cloud is a package with a function `connect(region, profile)` that returns a `Provider`, and one line in
`PROVIDERS`. The commands (`kwela CLOUD launch` and so on) and the campaign know this module only. Prices are
US dollars, times are UTC, and a gigabyte is 10^9 bytes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

DEFAULT_NAME = "phase-2-5"  # of a machine, where the user gives none


class MachineState(StrEnum):
    """The states of a machine that has not been ended for good."""

    PENDING = (
        "pending"  # launched or started, and not reachable yet: the hours are charged from the next state on
    )
    RUNNING = "running"  # reachable: the hours, the disk and the address are charged
    STOPPING = "stopping"  # its processes got SIGTERM and are ending: no more hours are charged
    STOPPED = "stopped"  # it can be started again: the disk, and an address that stays, are charged


@dataclass(frozen=True)
class Machine:
    """A rented machine that has not been ended for good."""

    id: str  # as the cloud names it
    name: str  # as the user names it
    state: MachineState
    type: str
    market: str  # spot, on-demand
    zone: str
    address: str | None  # public IPv4
    launched: datetime  # the last start
    disk_gb: int
    volumes: tuple[str, ...]
    spot_request: (
        str | None
    )  # a request that launches another machine when this one ends; it must be cancelled first

    @property
    def hours(self) -> float:
        """The hours since the last start. They are 0 unless the machine is running."""
        if self.state != MachineState.RUNNING:
            return 0.0
        return (datetime.now(UTC) - self.launched).total_seconds() / 3600


@dataclass(frozen=True)
class MachineRequest:
    """What to launch."""

    name: str
    type: str
    key_name: str
    address: str | None  # the only IPv4 address that may reach the machine; None: this machine's
    spot: bool
    disk_gb: int
    fixed_address: bool  # whether the machine gets an address that stays
    profile: str | None  # what the machine itself may do, by the cloud's name for it


class Offer(NamedTuple):
    """A request that the cloud can fulfil: the type, the key and the image exist."""

    request: MachineRequest
    text: str  # for a reader: the price of an hour and of the plan, the disk, and what earlier machines left
    details: Any  # what the provider itself needs for the launch


class Bill(NamedTuple):
    """What a machine is and costs."""

    facts: dict[str, Any]  # the fields of `Machine`, and region, hours, price (an hour) and disk_usd_month
    text: str  # the same for a reader


class Remain(NamedTuple):
    """Something that still costs money under a machine's name and is no part of the machine."""

    kind: str  # disk, snapshot, address, spot request, instance, schedule; "unknown": it can't be looked at
    id: str  # as the cloud names it
    usd_month: float | None  # None where the price isn't known or what it starts costs by the hour
    text: str  # what it is
    end: str  # the command that ends it

    def line(self) -> str:
        """Return a line for a reader."""
        if self.kind == "unknown":
            return f"  {self.text}"
        cost = f"${self.usd_month:,.2f} a month" if self.usd_month is not None else "it costs money"
        return f"  {self.id}: {self.text}: {cost} until {self.end}"


class ListPrices(NamedTuple):
    """The cloud's published prices for the machine that it offers unless asked for another, in dollars."""

    type: str
    on_demand: float  # an hour
    spot: float  # an hour; it moves
    transfer_out: float  # a gigabyte to the internet


@dataclass(frozen=True)
class Alarm:
    """The alarm on an account's charges. `dollars` is None where there is no alarm."""

    dollars: float | None  # a month
    state: str  # OK, ALARM, INSUFFICIENT_DATA (no charges were counted yet); "" without an alarm
    emails: dict[str, bool]  # address -> whether its owner has confirmed it
    topic: str | None  # the channel that sends the letters

    @property
    def ready(self) -> bool:
        """Whether a person would receive the alarm."""
        return self.dollars is not None and any(self.emails.values())


@dataclass(frozen=True)
class Notice:
    """The announcement that the cloud takes back the machine that reads it."""

    action: str  # terminate, stop or hibernate
    time: datetime  # UTC


class ThisMachine(NamedTuple):
    """The rented machine on which this program runs."""

    id: str | None
    market: str  # spot, on-demand


class Provider(Protocol):
    """One account in one region of a cloud.

    Every method that asks the cloud raises UserError for what the caller can mend (no credentials, no
    permission, a wrong name) and KwelaError for what the cloud can't do now. `notice` and `this_machine` need
    no account and raise nothing.
    """

    name: str  # its key in PROVIDERS
    default_type: str  # the type of machine that is launched unless another is asked for

    @property
    def region(self) -> str:
        """The region, as the cloud names it."""

    def account(self) -> str:
        """Return the account's id."""

    def key_names(self) -> list[str]:
        """Return the names of the SSH key pairs in the region."""

    def find(self, name: str) -> Machine | None:
        """Return the machine of that name, or None where there is none or it was ended for good."""

    def offer(self, request: MachineRequest) -> Offer:
        """Check that the request can be fulfilled, and find what it costs. Nothing is launched or charged."""

    def launch(self, offer: Offer) -> Machine:
        """Launch the machine and wait until it runs."""

    def start(self, name: str, address: str | None = None) -> Machine:
        """Start the stopped machine and wait until it runs; `address`, if any, is the only one let in."""

    def stop(self, name: str) -> Machine:
        """Stop the machine and wait until it has stopped. Its processes get SIGTERM, and its disk stays."""

    def price(self, machine: Machine) -> float | None:
        """Return dollars an hour now, in the machine's market and zone; None where the price isn't known."""

    def bill(self, machine: Machine) -> Bill:
        """Return what the machine is and costs."""

    def remains(self, name: str, machine: Machine | None = None) -> list[Remain]:
        """Return what costs money under that name and is no part of `machine`: what earlier machines left."""

    def list_prices(self) -> ListPrices:
        """Return the published prices of `default_type`. No account is needed, and nothing is asked."""

    def disk_month(self, gigabytes: float) -> float | None:
        """Return dollars a month for a disk in the region; None where the price isn't known."""

    def hours_a_day(self, name: str) -> float | None:
        """Return for how many hours a day a schedule lets the machine run; None where there is none."""

    def has_fixed_address(self, name: str) -> bool:
        """Return whether an address that stays belongs to that name."""

    def fix_address(self, machine: Machine) -> Machine:
        """Give the machine the address of its name that stays. Rent one if there is none."""

    def fixed_address_cost(self) -> str:
        """Return a line that says what an address that stays costs."""

    def alarm(self, name: str) -> Alarm:
        """Return the alarm of that name on the account's charges."""

    def notice(self) -> Notice | None:
        """Return the announced interruption of the machine on which this program runs, if there is one."""

    def this_machine(self) -> ThisMachine | None:
        """Return the machine on which this program runs; None where it isn't one of this cloud."""


class Cloud(NamedTuple):
    """An entry of the registry."""

    title: str  # as people name the cloud
    module: str  # holds `connect(region, profile) -> Provider`; it is imported when it is needed


PROVIDERS = {"aws": Cloud("AWS", "kwela.machines.aws.account")}


def connect(name: str = "aws", region: str | None = None, profile: str | None = None) -> Provider:
    """Return the provider of that name in PROVIDERS. Neither the network nor the cloud's library is used yet.

    region, profile: None leaves the choice to the cloud's own settings.
    """
    provider: Provider = importlib.import_module(PROVIDERS[name].module).connect(region, profile)
    return provider


def any_notice() -> Notice | None:
    """Return the interruption that any of the clouds announces for this machine."""
    return next((notice for name in PROVIDERS if (notice := connect(name).notice())), None)


def this_machine() -> ThisMachine | None:
    """Return this machine as the first cloud that knows it describes it; None if it isn't rented."""
    return next((machine for name in PROVIDERS if (machine := connect(name).this_machine())), None)
