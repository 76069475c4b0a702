"""A cloud with its machines in this process: the smallest provider. Another cloud is a package like it."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

from kwela.errors import UserError
from kwela.machines.provider import (
    Alarm,
    Bill,
    ListPrices,
    Machine,
    MachineRequest,
    MachineState,
    Notice,
    Offer,
    Provider,
    Remain,
    ThisMachine,
)

MACHINES: dict[str, Machine] = {}
NOTICES: list[Notice] = []
PRICE = 0.25  # dollars an hour


class MemoryAccount:
    """The one account there is."""

    name = "memory"
    default_type = "thought"
    region = "here"

    def account(self) -> str:
        return "nobody"

    def key_names(self) -> list[str]:
        return ["my-key"]

    def find(self, name: str) -> Machine | None:
        return MACHINES.get(name)

    def offer(self, request: MachineRequest) -> Offer:
        if request.key_name not in self.key_names():
            raise UserError(f"--key-name {request.key_name}: no such key pair")
        return Offer(request, f"{request.type}: ${PRICE:.2f} an hour", None)

    def launch(self, offer: Offer) -> Machine:
        wanted = offer.request
        machine = Machine(
            id="m-1",
            name=wanted.name,
            state=MachineState.RUNNING,
            type=wanted.type,
            market="spot" if wanted.spot else "on-demand",
            zone="here-1",
            address="192.0.2.1",
            launched=datetime.now(UTC),
            disk_gb=wanted.disk_gb,
            volumes=(),
            spot_request=None,
        )
        MACHINES[wanted.name] = machine
        return machine

    def start(self, name: str, address: str | None = None) -> Machine:
        return self._change(name, MachineState.RUNNING)

    def stop(self, name: str) -> Machine:
        return self._change(name, MachineState.STOPPED)

    def price(self, machine: Machine) -> float | None:
        return PRICE

    def bill(self, machine: Machine) -> Bill:
        facts = asdict(machine) | {"launched": machine.launched.isoformat(), "price": PRICE}
        return Bill(facts, f"{machine.name}: {machine.state} at ${PRICE:.2f} an hour")

    def remains(self, name: str, machine: Machine | None = None) -> list[Remain]:
        return [] if machine else [Remain("disk", "d-1", 1.0, "a disk", "forget it")]

    def list_prices(self) -> ListPrices:
        return ListPrices(self.default_type, PRICE, PRICE / 2, 0.0)

    def disk_month(self, gigabytes: float) -> float | None:
        return 0.0

    def hours_a_day(self, name: str) -> float | None:
        return None

    def has_fixed_address(self, name: str) -> bool:
        return True

    def fix_address(self, machine: Machine) -> Machine:
        return machine

    def fixed_address_cost(self) -> str:
        return "no cost"

    def alarm(self, name: str) -> Alarm:
        return Alarm(600.0, "OK", {"you@example.com": True}, None)

    def notice(self) -> Notice | None:
        return NOTICES[0] if NOTICES else None

    def this_machine(self) -> ThisMachine | None:
        return ThisMachine("m-1", "spot") if MACHINES else None

    def _change(self, name: str, state: MachineState) -> Machine:
        if name not in MACHINES:
            raise UserError(f"no machine named {name}")
        MACHINES[name] = replace(MACHINES[name], state=state)
        return MACHINES[name]


def connect(region: str | None = None, profile: str | None = None) -> Provider:
    return MemoryAccount()
