"""What an instance is and what it costs, in words: before it is launched, and while it is there."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import Any

from kwela import config, playbook
from kwela.machines.aws import instance, prices

PLAYBOOKS_TYPE = "g4dn.xlarge"  # what the playbook's prices speak of
MONTH = 730  # hours


def offer(
    session: Any,
    name: str,
    instance_type: str,
    image: str,
    spot: dict[str, float] | None,
    disk_gb: int,
    elastic_ip: bool,
) -> str:
    """What it would cost: an hour, and for the playbook's plan, at the playbook's price and at AWS's.

    spot: dollars an hour for each zone, cheapest first; None: on demand.
    """
    file = config.repo_root() / playbook.SHIPPED
    plan = playbook.load(file) if file.is_file() else None
    hours = plan.plan_days * plan.hours_per_day if plan else MONTH
    rows: list[tuple[str, float | None, str]] = []
    if plan and instance_type == PLAYBOOKS_TYPE:
        rows.append(("playbook", plan.gpu_cost_per_hour if spot is None else plan.spot_cost_per_hour, ""))
    if spot:
        rows.append(("spot now", min(spot.values()), f"to ${max(spot.values()):.3f} in the dearest zone"))
    elif spot is not None:
        rows.append(("spot now", None, "AWS has no history of it here"))
    listed = prices.on_demand(instance_type, session.region_name)
    rows.append(("on demand", listed, "" if listed else "see https://aws.amazon.com/ec2/pricing"))
    market = "on-demand" if spot is None else "spot"
    text = [
        f"{instance_type}, {market}, {session.region_name}, {image}",
        f"  {'price':10} {'an hour':>9} {f'{hours:,.0f} h':>11}",
    ]
    for what, price, note in rows:
        figures = ("?", "?") if price is None else (f"${price:.3f}", f"${price * hours:,.2f}")
        text.append(f"  {what:10} {figures[0]:>9} {figures[1]:>11}  {note}".rstrip())
    text.append(
        f"  {disk_gb} GB gp3, encrypted: ${prices.disk_month(disk_gb):,.2f} a month until you delete it"
    )
    if elastic_ip:
        text.append(f"  {address_cost()}")
    return "\n".join([*text, *kept(session, name)])


def address_cost() -> str:
    return f"Elastic IP: ${prices.PUBLIC_ADDRESS_HOUR * MONTH:,.2f} a month until you release it"


def kept(session: Any, name: str) -> list[str]:
    """Lines on the disks that terminated instances left, which cost as before."""
    return [
        f"  {volume} ({size} GB, {zone}) is left of an earlier instance: ${prices.disk_month(size):,.2f} a month "
        f"until aws ec2 delete-volume --volume-id {volume}"
        for volume, size, zone in instance.kept_volumes(session, name)
    ]


def price(session: Any, machine: instance.Machine) -> float | None:
    """Dollars an hour now, in its own market and zone; None where it isn't known."""
    if machine.market == "spot":
        return instance.spot_prices(session, machine.type).get(machine.zone)
    return prices.on_demand(machine.type, session.region_name)


def facts(session: Any, machine: instance.Machine) -> dict[str, Any]:
    """Everything known of the machine, for `--json`."""
    return {
        **asdict(machine),
        "region": session.region_name,
        "launched": machine.launched.astimezone(UTC).isoformat(),
        "hours": round(machine.hours, 3),
        "price": price(session, machine),
        "disk_usd_month": prices.disk_month(machine.disk_gb),
    }


def lines(facts: dict[str, Any]) -> str:
    """The same for a reader."""
    address = f", {facts['address']}" if facts["address"] else ""
    text = [
        f"{facts['name']}: {facts['id']} {facts['state']}, {facts['type']}, {facts['market']}, {facts['zone']}{address}"
    ]
    if facts["state"] == "running":
        up, rate = facts["hours"], facts["price"]
        cost = f" at ${rate:.3f} an hour, ${rate * up:,.2f}" if rate is not None else ""
        text.append(f"  up {up:.1f} h since {facts['launched'][:16].replace('T', ' ')} UTC{cost}")
    text.append(f"  disk {facts['disk_gb']} GB: ${facts['disk_usd_month']:,.2f} a month, running or not")
    if facts["spot_request"]:
        ends = f"aws ec2 cancel-spot-instance-requests --spot-instance-request-ids {facts['spot_request']}"
        text.append(f"  to end it for good, first {ends}: or EC2 launches another")
    return "\n".join(text)
