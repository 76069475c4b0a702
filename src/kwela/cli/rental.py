"""Make the commands of a rented machine, such as `kwela aws launch`; they are the same for every cloud."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from kwela import terminal
from kwela.cli.output import Json, speaking
from kwela.errors import KwelaError, UserError
from kwela.machines import provider as providers
from kwela.machines.provider import (
    DEFAULT_NAME,
    Bill,
    Machine,
    MachineRequest,
    MachineState,
    Provider,
)


class Market(StrEnum):
    """Tell how a machine is paid for."""

    spot = "spot"
    on_demand = "on-demand"


def _checked_name(name: str) -> str:
    """Return the name. Raises UserError if a cloud would not accept it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", name):
        raise UserError(f"--name {name}: letters, digits and - only, 63 at most")
    return name


Name = Annotated[str, typer.Option(help="Which one, if you have several.", callback=_checked_name)]
Region = Annotated[str | None, typer.Option(help="Default: as the AWS CLI finds it, else us-east-1.")]
Profile = Annotated[str | None, typer.Option(help="Of ~/.aws; default: as the AWS CLI finds it.")]
AllowedAddress = Annotated[
    str | None, typer.Option("--from", help="The one IPv4 address let in; default: this machine's.")
]

Command = Callable[..., None]


def with_account_options(command: Command) -> Command:
    """Give a command the options that every command of a rented machine has.

    The command takes keyword arguments of its own, and then `account`, an `AccountOptions`.
    """
    own = [each for each in _signature(command).parameters.values() if each.name != "account"]
    shared = list(_signature(_account_options).parameters.values())

    @functools.wraps(command)
    def called(**given: Any) -> None:
        options = AccountOptions(**{each.name: given.pop(each.name) for each in shared})
        command(**given, account=options)

    # Typer reads the options from these two.
    signature = inspect.Signature([*own, *shared])
    called.__signature__ = signature  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return called


def _signature(command: Command) -> inspect.Signature:
    """Return the parameters of a command, with their annotations evaluated."""
    return inspect.signature(command, eval_str=True)


@dataclass(frozen=True)
class AccountOptions:
    """Which machine of which account is meant, and how the result is printed."""

    context: typer.Context
    name: str
    region: str | None
    profile: str | None
    as_json: bool

    def provider(self) -> Provider:
        """Return the provider of the cloud that the command line names: `kwela aws start` names aws."""
        group = self.context.parent
        assert group is not None and group.info_name is not None
        return providers.connect(group.info_name, self.region, self.profile)


def _account_options(
    *,
    context: typer.Context,
    name: Name = DEFAULT_NAME,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Hold the shared options, each said once."""


def rental_app(cloud: str) -> typer.Typer:
    """Return the commands of one cloud; `cloud` is its name in PROVIDERS."""
    title = providers.PROVIDERS[cloud].title
    app = typer.Typer(
        name=cloud,
        help=f"A GPU instance on {title}, and its bill.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands: list[Command] = [launch, start, stop, status]
    for command in commands:
        help_text = inspect.cleandoc(command.__doc__ or "").replace("kwela aws", f"kwela {cloud}")
        app.command(command.__name__, help=help_text)(with_account_options(command))
    return app


def launch(
    *,
    key_name: Annotated[str, typer.Option(help="Your SSH key pair's name in that region.")],
    instance_type: Annotated[
        str | None, typer.Option("--type", help="Of machine; default: the cloud's usual one.")
    ] = None,
    market: Annotated[Market, typer.Option(help="How it is paid for.")] = Market.on_demand,
    disk_gb: Annotated[int, typer.Option(min=50, max=16384, help="Of its encrypted gp3 disk.")] = 500,
    elastic_ip: Annotated[bool, typer.Option("--elastic-ip", help="An address that stays.")] = False,
    machine_profile: Annotated[
        str | None,
        typer.Option(
            "--iam-instance-profile", help="By its name: what the machine itself may do, such as send to SNS."
        ),
    ] = None,
    address: AllowedAddress = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    account: AccountOptions,
) -> None:
    """Launch the GPU instance, after saying what it costs and asking.

    Ports 22 and 6006 are open to your address alone. The disk stays, and costs, even when the instance is
    terminated. Run it twice and there is still one instance: it is named.

    \b
    kwela aws launch --key-name my-key --market spot
    kwela aws launch --key-name my-key --iam-instance-profile kwela-machine
    """
    with speaking(account.as_json) as say:
        provider, name = account.provider(), account.name
        if machine := provider.find(name):
            if elastic_ip:
                machine = _give_fixed_address(provider, machine, yes, account.as_json)
            bill = provider.bill(machine)
            say(bill.facts, f"{_exists_already(provider, machine)}\n{bill.text}")
            return
        spot = market is Market.spot
        kind = instance_type or provider.default_type
        request = MachineRequest(name, kind, key_name, address, spot, disk_gb, elastic_ip, machine_profile)
        offer = provider.offer(request)
        terminal.say(offer.text)
        if not yes:
            _ask_to_agree(provider, "Launch it?", account.as_json)
        machine = provider.launch(offer)
        bill = _bill_of_a_machine_that_runs(provider, machine)
        say(bill.facts, f"{bill.text}\nssh -i {key_name}.pem ubuntu@{machine.address}")


def start(
    *,
    address: AllowedAddress = None,
    account: AccountOptions,
) -> None:
    """Start the stopped instance and wait until it runs; your address of today is let in.

    \b
    kwela aws start
    """
    from kwela.machines.public_address import caller_address

    with speaking(account.as_json) as say:
        provider, name = account.provider(), account.name
        caller = None
        try:
            caller = caller_address(address)
        except UserError as error:
            if address:
                raise
            terminal.say(f"{error}; the security group stays as it is")
        bill = _bill_of_a_machine_that_runs(provider, provider.start(name, caller))
        say(bill.facts, bill.text)


def stop(
    *,
    account: AccountOptions,
) -> None:
    """Stop the instance and wait until it has: what runs on it gets SIGTERM, and time to save.

    \b
    kwela aws stop
    """
    with speaking(account.as_json) as say:
        provider, name = account.provider(), account.name
        bill = provider.bill(provider.stop(name))
        say(bill.facts, bill.text)


def status(
    *,
    account: AccountOptions,
) -> None:
    """Say whether the instance runs, since when, and what it costs.

    \b
    kwela aws status
    """
    with speaking(account.as_json) as say:
        provider, name = account.provider(), account.name
        machine = provider.find(name)
        remains = provider.remains(name, machine)
        left = [each.line() for each in remains]
        as_facts = {"remains": [each._asdict() for each in remains]}
        if machine is None:
            text = f"{name}: no instance in {provider.region} (kwela {provider.name} launch makes one)"
            say({"name": name, "state": "none", **as_facts}, "\n".join([text, *left]))
        else:
            bill = provider.bill(machine)
            say({**bill.facts, **as_facts}, "\n".join([bill.text, *left]))


def _bill_of_a_machine_that_runs(provider: Provider, machine: Machine) -> Bill:
    """Return the bill. A machine that runs is named even if the cloud doesn't say what it costs."""
    try:
        return provider.bill(machine)
    except KwelaError as error:
        facts = {**asdict(machine), "launched": machine.launched.isoformat()}
        return Bill(facts, f"{machine.name}: {machine.id} {machine.state}; its bill is not known: {error}")


def _exists_already(provider: Provider, machine: Machine) -> str:
    """Return the line that says that the machine is there, and how to start it if it is stopped."""
    is_up = machine.state in (MachineState.PENDING, MachineState.RUNNING)
    hint = "" if is_up else f" (kwela {provider.name} start starts it)"
    return f"{machine.name} is there already, {machine.state}{hint}"


def _give_fixed_address(provider: Provider, machine: Machine, yes: bool, as_json: bool) -> Machine:
    """Give an existing machine an address that stays; ask first if that address must be rented."""
    if not yes and not provider.has_fixed_address(machine.name):
        terminal.say(f"{machine.name} is there already; {provider.fixed_address_cost()}")
        _ask_to_agree(provider, "Give it an Elastic IP?", as_json)
    return provider.fix_address(machine)


def _ask_to_agree(provider: Provider, question: str, as_json: bool) -> None:
    """Ask the user to agree. Raises KwelaError if the answer is no, UserError if nobody can answer."""
    try:
        agreed = typer.confirm(question, err=as_json)
    except typer.Abort:
        hint = "no one answers: --yes goes on without asking"
        raise UserError(f"kwela {provider.name} launch: {hint}") from None
    if not agreed:
        raise KwelaError("nothing was launched")
