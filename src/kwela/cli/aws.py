"""`kwela aws`: the GPU instance that a campaign rents, and the alarm on its bill."""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from kwela.cli.output import Json, speaking
from kwela.errors import KwelaError, UserError

aws_app = typer.Typer(
    help="A GPU instance on AWS, and its bill.", no_args_is_help=True, rich_markup_mode=None
)


class Market(StrEnum):
    spot = "spot"
    on_demand = "on-demand"


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", name):
        raise UserError(f"--name {name}: letters, digits and - only, 63 at most")
    return name


Name = Annotated[str, typer.Option(help="Which one, if you have several.", callback=_plain)]
Region = Annotated[str | None, typer.Option(help="Default: as the AWS CLI finds it, else us-east-1.")]
Profile = Annotated[str | None, typer.Option(help="Of ~/.aws; default: as the AWS CLI finds it.")]
From = Annotated[
    str | None, typer.Option("--from", help="The one IPv4 address let in; default: this machine's.")
]
NAME = "phase-2-5"


@aws_app.command("launch")
def launch(
    key_name: Annotated[str, typer.Option(help="Your SSH key pair's name in that region.")],
    instance_type: Annotated[str, typer.Option("--type", help="EC2 instance type.")] = "g4dn.xlarge",
    market: Annotated[Market, typer.Option(help="How it is paid for.")] = Market.on_demand,
    disk_gb: Annotated[int, typer.Option(min=50, max=16384, help="Of its encrypted gp3 disk.")] = 500,
    elastic_ip: Annotated[bool, typer.Option("--elastic-ip", help="An address that stays.")] = False,
    machine_profile: Annotated[
        str | None,
        typer.Option(
            "--iam-instance-profile", help="By its name: what the machine itself may do, such as send to SNS."
        ),
    ] = None,
    address: From = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    name: Name = NAME,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Launch the GPU instance, after saying what it costs and asking.

    Ports 22 and 6006 are open to your address alone. The disk stays, and costs, even when the instance is terminated.
    Run it twice and there is still one instance: it is named.

    \b
    kwela aws launch --key-name my-key --market spot
    kwela aws launch --key-name my-key --iam-instance-profile kwela-machine
    """
    from kwela.machines.aws import bill, instance

    with speaking(as_json) as say:
        session = instance.connect(region, profile)
        if there := instance.find(session, name):
            if elastic_ip:
                if not yes and not instance.elastic_address(session, name):
                    print(f"{name} is there already; {bill.address_cost()}")
                    _ask("Give it an Elastic IP?", as_json)
                there = instance.give_address(session, there)
            then = "" if there.state in ("pending", "running") else " (kwela aws start starts it)"
            facts = bill.facts(session, there)
            say(facts, f"{name} is there already, {there.state}{then}\n{bill.lines(facts)}")
            return
        offered = instance.zones(session, instance_type)
        instance.check_key(session, key_name)
        caller = instance.caller_address(address)
        ami = instance.image(session)
        spot = instance.spot_prices(session, instance_type) if market is Market.spot else None
        print(bill.offer(session, name, instance_type, ami.name, spot, disk_gb, elastic_ip))
        if not yes:
            _ask("Launch it?", as_json)
        if spot:
            offered.sort(key=lambda zone: spot.get(zone, math.inf))  # the cheapest zone first
        wanted = instance.Wanted(
            name, instance_type, key_name, caller, spot is not None, disk_gb, elastic_ip, machine_profile
        )
        made = instance.launch(session, wanted, ami, offered)
        facts = bill.facts(session, made)
        say(facts, f"{bill.lines(facts)}\nssh -i {key_name}.pem ubuntu@{made.address}")


@aws_app.command("start")
def start(
    address: From = None,
    name: Name = NAME,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Start the stopped instance and wait until it runs; your address of today is let in.

    \b
    kwela aws start
    """
    from kwela.machines.aws import bill, instance

    with speaking(as_json) as say:
        session = instance.connect(region, profile)
        caller = None
        try:
            caller = instance.caller_address(address)
        except UserError as unknown:
            if address:
                raise
            print(f"{unknown}; the security group stays as it is")
        machine = instance.start(session, name, caller)
        facts = bill.facts(session, machine)
        say(facts, bill.lines(facts))


@aws_app.command("stop")
def stop(name: Name = NAME, region: Region = None, profile: Profile = None, as_json: Json = False) -> None:
    """Stop the instance and wait until it has: what runs on it gets SIGTERM, and time to save.

    \b
    kwela aws stop
    """
    from kwela.machines.aws import bill, instance

    with speaking(as_json) as say:
        session = instance.connect(region, profile)
        machine = instance.stop(session, name)
        facts = bill.facts(session, machine)
        say(facts, bill.lines(facts))


@aws_app.command("status")
def status(name: Name = NAME, region: Region = None, profile: Profile = None, as_json: Json = False) -> None:
    """Say whether the instance runs, since when, and what it costs.

    \b
    kwela aws status
    """
    from kwela.machines.aws import bill, instance

    with speaking(as_json) as say:
        session = instance.connect(region, profile)
        machine = instance.find(session, name)
        if machine is None:
            text = f"{name}: no instance in {session.region_name} (kwela aws launch makes one)"
            say({"name": name, "state": "none"}, "\n".join([text, *bill.kept(session, name)]))
        else:
            facts = bill.facts(session, machine)
            say(facts, bill.lines(facts))


@aws_app.command("alarm")
def alarm(
    email: Annotated[
        str | None, typer.Option(help="Who is told; without it, say how the alarm stands.")
    ] = None,
    dollars: Annotated[float, typer.Option(min=1, help="The account's charges in a month.")] = 600,
    name: Name = NAME,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """A billing alarm at $600, by e-mail, and a letter when an instance stops.

    The alarm is hours late: what stops a run in time is its own budget.

    \b
    kwela aws alarm --email you@example.com
    """
    from kwela.machines.aws import alarm as billing
    from kwela.machines.aws import instance
    from kwela.machines.aws.prices import REGION

    with speaking(as_json) as say:
        session = instance.connect(profile=profile)
        stands = billing.set_up(session, name, email, dollars) if email else billing.look(session, name)
        if stands.dollars is None:
            raise UserError("no billing alarm yet: kwela aws alarm --email you@example.com makes one")
        lines = [f"Billing alarm at ${stands.dollars:,.2f} a month ({stands.state})"]
        for who, confirmed in stands.emails.items():
            lines.append(
                f"  {who}: {'confirmed' if confirmed else 'NOT CONFIRMED: follow the link that AWS mailed'}"
            )
        if stands.topic:
            lines.append(f"  topic {stands.topic} (a campaign's notify.sns_topic may be the same)")
        if stops := billing.mails_stops(session, name):
            lines.append(
                f"  mails too when an instance of {REGION} stops; of another region's it doesn't hear"
            )
        else:
            lines.append("  nobody is told when an instance stops: kwela aws alarm --email you@example.com")
        if stands.state == "INSUFFICIENT_DATA":
            lines.append(
                "  No charges counted yet. Is Billing > Preferences > CloudWatch billing alerts switched on?"
            )
        say({**asdict(stands), "ready": stands.ready, "mails_stops": stops}, "\n".join(lines))


def _ask(question: str, as_json: bool) -> None:
    try:
        agreed = typer.confirm(question, err=as_json)
    except typer.Abort:
        raise UserError("kwela aws launch: nobody answers: --yes goes on without asking") from None
    if not agreed:
        raise KwelaError("nothing was launched")
