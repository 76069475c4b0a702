"""AWS as a provider of machines: what `kwela.machines.provider.Provider` asks for, answered by EC2."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from kwela.machines.aws import alarm, bill, instance, launching, leftovers, prices, schedule, spot
from kwela.machines.aws.session import one_line, open_session, region_option
from kwela.machines.provider import (
    Alarm,
    Bill,
    ListPrices,
    Machine,
    MachineRequest,
    Notice,
    Offer,
    Provider,
    Remain,
    ThisMachine,
)
from kwela.machines.public_address import caller_address


class _Details(NamedTuple):
    """What a launch needs beside the request."""

    image: instance.Image
    zones: list[str]  # in the order in which they are tried


class AwsAccount:
    """An AWS account in one region. The session opens when it is first needed."""

    name = "aws"
    default_type = "g4dn.xlarge"  # the playbook's

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        self._region, self._profile = region, profile

    @cached_property
    def session(self) -> Any:
        """The boto3 session. Raises UserError for an unknown region or profile, or without boto3."""
        return open_session(self._region, self._profile)

    @property
    def region(self) -> str:
        """The region, such as us-east-1."""
        return str(self.session.region_name)

    def account(self) -> str:
        """Return the account's number."""
        session = self.session
        with one_line():
            return str(session.client("sts").get_caller_identity()["Account"])

    def key_names(self) -> list[str]:
        """Return the names of the key pairs in the region, in order."""
        return instance.key_names(self.session)

    def find(self, name: str) -> Machine | None:
        """Return the instance of that name, unless it was terminated."""
        return instance.find(self.session, name)

    def offer(self, request: MachineRequest) -> Offer:
        """Check type, key and image, and find what the instance costs. A spot's cheapest zone is first."""
        session = self.session
        zones = instance.zones(session, request.type)
        instance.check_key(session, request.key_name)
        request = replace(request, address=caller_address(request.address))
        image = instance.image(session)
        spot_prices = instance.spot_prices(session, request.type) if request.spot else None
        if spot_prices:
            zones.sort(key=lambda zone: spot_prices.get(zone, math.inf))
        text = bill.offer_text(session, request, image.name, spot_prices)
        return Offer(request, text, _Details(image, zones))

    def launch(self, offer: Offer) -> Machine:
        """Launch the instance in the first zone that has room, and wait until it runs."""
        return launching.launch(self.session, offer.request, offer.details.image, offer.details.zones)

    def start(self, name: str, address: str | None = None) -> Machine:
        """Start the stopped instance and wait until it runs."""
        return instance.start(self.session, name, address)

    def stop(self, name: str) -> Machine:
        """Stop the instance and wait until it has stopped."""
        return instance.stop(self.session, name)

    def price(self, machine: Machine) -> float | None:
        """Return dollars an hour: the zone's spot price now, or the list price on demand."""
        return bill.price(self.session, machine)

    def bill(self, machine: Machine) -> Bill:
        """Return what the instance is and costs."""
        facts = bill.facts(self.session, machine)
        text = bill.lines(facts, region_option(self.session))
        del facts["schedule_text"]
        return Bill(facts, text)

    def remains(self, name: str, machine: Machine | None = None) -> list[Remain]:
        """Return disks, snapshots, addresses, spot requests, schedules and further instances of a name."""
        found = leftovers.remains(self.session, name, machine)
        return found + schedule.remains(self.session, name, machine)

    def list_prices(self) -> ListPrices:
        """Return the list prices of the playbook's type in us-east-1."""
        kind = self.default_type
        return ListPrices(kind, prices.ON_DEMAND[kind], prices.SPOT[kind], prices.TRANSFER_OUT)

    def disk_month(self, gigabytes: float) -> float | None:
        """Return dollars a month for a gp3 disk in the region."""
        return prices.disk_month(self.session, gigabytes)

    def hours_a_day(self, name: str) -> float | None:
        """Return for how many hours a day EventBridge Scheduler lets the instance run."""
        found = schedule.look(self.session, name)
        return found.hours if found else None

    def has_fixed_address(self, name: str) -> bool:
        """Return whether the name has an Elastic IP."""
        return instance.elastic_address(self.session, name) is not None

    def fix_address(self, machine: Machine) -> Machine:
        """Tie the name's Elastic IP to the instance, or a new one."""
        return instance.give_address(self.session, machine)

    def fixed_address_cost(self) -> str:
        """Return a line that says what an Elastic IP costs."""
        return bill.address_cost()

    def alarm(self, name: str) -> Alarm:
        """Return the billing alarm of that name."""
        return alarm.look(self.session, name)

    def notice(self) -> Notice | None:
        """Return the interruption that the metadata service announces for this instance."""
        return spot.Metadata().notice()

    def this_machine(self) -> ThisMachine | None:
        """Return this instance as the metadata service describes it; None elsewhere than on EC2."""
        metadata = spot.Metadata()
        market = metadata.get("instance-life-cycle")
        return ThisMachine(metadata.get("instance-id"), market) if market else None


def connect(region: str | None = None, profile: str | None = None) -> Provider:
    """Return the account in that region. None is the choice of the AWS CLI's settings, else us-east-1."""
    return AwsAccount(region, profile)
