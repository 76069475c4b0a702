"""Say what an instance is and what it costs, in US dollars, before it is launched and while it exists."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import Any

from kwela import config, playbook
from kwela.errors import UserError
from kwela.machines.aws import instance, leftovers, prices, schedule
from kwela.machines.aws.session import one_line
from kwela.machines.provider import Machine, MachineRequest, MachineState

PLAYBOOK_TYPE = "g4dn.xlarge"  # the instance type that the playbook's prices are for
MONTH = 730  # hours


def offer_text(
    session: Any, request: MachineRequest, image_name: str, spot_prices: dict[str, float] | None
) -> str:
    """Return a table of what the request would cost: an hour, and the playbook's plan, by each known price.

    spot_prices: dollars an hour by zone, cheapest first; None: the request is on demand.
    """
    file = config.repo_root() / playbook.SHIPPED
    plan = playbook.load(file) if file.is_file() else None
    hours = plan.plan_days * plan.hours_per_day if plan else MONTH
    market = "on-demand" if spot_prices is None else "spot"
    lines = [
        f"{request.type}, {market}, {session.region_name}, {image_name}",
        f"  {'price':10} {'an hour':>9} {f'{hours:,.0f} h':>11}",
    ]
    for source, price, note in _known_prices(session, request.type, plan, spot_prices):
        figures = ("?", "?") if price is None else (f"${price:.3f}", f"${price * hours:,.2f}")
        lines.append(f"  {source:10} {figures[0]:>9} {figures[1]:>11}  {note}".rstrip())
    disk = prices.month_text(prices.disk_month(session, request.disk_gb))
    lines.append(f"  {request.disk_gb} GB gp3, encrypted: {disk} until you delete it")
    if request.fixed_address:
        lines.append(f"  {address_cost()}")
    return "\n".join([*lines, *(each.line() for each in leftovers.remains(session, request.name))])


def _known_prices(
    session: Any,
    instance_type: str,
    plan: playbook.PlaybookConfig | None,
    spot_prices: dict[str, float] | None,
) -> list[tuple[str, float | None, str]]:
    """Return (source, dollars an hour or None, note) of the playbook's, the spot and the list price."""
    rows: list[tuple[str, float | None, str]] = []
    if plan and instance_type == PLAYBOOK_TYPE:
        price = plan.gpu_cost_per_hour if spot_prices is None else plan.spot_cost_per_hour
        rows.append(("playbook", price, ""))
    if spot_prices:
        dearest = max(spot_prices.values())
        rows.append(("spot now", min(spot_prices.values()), f"to ${dearest:.3f} in the dearest zone"))
    elif spot_prices is not None:
        rows.append(("spot now", None, "AWS has no history of it here"))
    listed = prices.on_demand(session, instance_type)
    rows.append(("on demand", listed, "" if listed else "see https://aws.amazon.com/ec2/pricing"))
    return rows


def address_cost() -> str:
    """Return a line on the cost of an Elastic IP."""
    return f"Elastic IP: ${leftovers.ADDRESS_MONTH:,.2f} a month until you release it"


def price(session: Any, machine: Machine) -> float | None:
    """Return dollars an hour now, in the machine's own market and zone; None where the price isn't known."""
    if machine.market == "spot":
        return instance.spot_prices(session, machine.type).get(machine.zone)
    return prices.on_demand(session, machine.type)


def facts(session: Any, machine: Machine) -> dict[str, Any]:
    """Return everything known of the machine, for `--json`."""
    return {
        **asdict(machine),
        "region": session.region_name,
        "launched": machine.launched.astimezone(UTC).isoformat(),
        "hours": round(machine.hours, 3),
        "state_reason": _state_reason(session, machine),
        "price": price(session, machine),
        "disk_usd_month": prices.disk_month(session, machine.disk_gb),
        "address_usd_month": leftovers.ADDRESS_MONTH if _has_elastic_address(session, machine) else None,
        **_schedule_facts(session, machine),
    }


def _schedule_facts(session: Any, machine: Machine) -> dict[str, Any]:
    """Return the schedule and its line. An account that may not look at schedules still gets its bill."""
    try:
        found = schedule.look(session, machine.name)
    except UserError as error:
        return {"schedule": None, "schedule_text": f"schedules were not looked for: {error}"}
    if found is None:
        return {"schedule": None, "schedule_text": ""}
    text = found.text(instance.options(session, machine.name), machine)
    return {"schedule": found.facts(), "schedule_text": text}


def _state_reason(session: Any, machine: Machine) -> str:
    """Return why EC2 says that the instance does not run; "" for one that runs."""
    if machine.state == MachineState.RUNNING:
        return ""
    return instance.state_and_reason(session, machine.id)[1]


def _has_elastic_address(session: Any, machine: Machine) -> bool:
    with one_line():
        filters = [{"Name": "instance-id", "Values": [machine.id]}]
        return bool(session.client("ec2").describe_addresses(Filters=filters)["Addresses"])


def lines(facts: dict[str, Any], region: str = "") -> str:
    """Return the facts as lines for a reader. region: as `session.region_option` has it."""
    address = f", {facts['address']}" if facts["address"] else ""
    kind = f"{facts['type']}, {facts['market']}, {facts['zone']}{address}"
    text = [f"{facts['name']}: {facts['id']} {facts['state']}, {kind}"]
    if facts["state_reason"]:
        text.append(f"  EC2's reason: {facts['state_reason']}")
    if facts["state"] == MachineState.RUNNING:
        hours, rate = facts["hours"], facts["price"]
        cost = f" at ${rate:.3f} an hour, ${rate * hours:,.2f}" if rate is not None else ""
        text.append(f"  up {hours:.1f} h since {facts['launched'][:16].replace('T', ' ')} UTC{cost}")
    disk = prices.month_text(facts["disk_usd_month"])
    text.append(f"  disk {facts['disk_gb']} GB: {disk}, running or not")
    if facts["address_usd_month"] is not None:
        text.append(f"  Elastic IP: {prices.month_text(facts['address_usd_month'])}, running or not")
    if facts["spot_request"]:
        command = (
            f"aws ec2 cancel-spot-instance-requests --spot-instance-request-ids {facts['spot_request']}"
            f"{region}"
        )
        text.append(f"  to end it for good, first {command}: or EC2 launches another")
    if facts["schedule_text"]:
        text.append(f"  {facts['schedule_text']}")
    return "\n".join(text)
