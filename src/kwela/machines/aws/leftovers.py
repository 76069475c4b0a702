"""Find what a name still costs beside its instance: disks, snapshots, addresses, spot requests, instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kwela.errors import UserError
from kwela.machines.aws import prices
from kwela.machines.aws.instance import OPEN_REQUEST, TAG
from kwela.machines.aws.session import one_line, region_option
from kwela.machines.provider import Machine, MachineState, Remain

MONTH = 730  # hours
ADDRESS_MONTH = prices.PUBLIC_ADDRESS_HOUR * MONTH


def remains(session: Any, name: str, machine: Machine | None = None) -> list[Remain]:
    """Return what costs money under that name and is no part of `machine`.

    What the account may not look at is named with the refusal; the other kinds are still looked for.
    """
    found: list[Remain] = []
    kinds: dict[str, Callable[[Any, str, Machine | None], Iterator[Remain]]] = {
        "instances": _instances,
        "spot requests": _spot_requests,
        "addresses": _addresses,
        "disks": _volumes,
        "snapshots": _snapshots,
    }
    for kind, look in kinds.items():
        try:
            with one_line():
                found += look(session, name, machine)
        except UserError as error:
            found.append(Remain("unknown", kind, None, f"{kind} were not looked for: {error}", ""))
    return found


def _tagged(name: str) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{TAG}", "Values": [name]}]


def _instances(session: Any, name: str, machine: Machine | None) -> Iterator[Remain]:
    states = {"Name": "instance-state-name", "Values": [state.value for state in MachineState]}
    answer = session.client("ec2").describe_instances(Filters=[*_tagged(name), states])
    for each in (one for group in answer["Reservations"] for one in group["Instances"]):
        if machine is None or each["InstanceId"] != machine.id:
            state, kind = each["State"]["Name"], each["InstanceType"]
            text = f"a second instance of that name, {kind}, {state}"
            end = f"aws ec2 terminate-instances --instance-ids {each['InstanceId']}"
            yield _remain(session, "instance", each["InstanceId"], None, text, end)


def _spot_requests(session: Any, name: str, machine: Machine | None) -> Iterator[Remain]:
    answer = session.client("ec2").describe_spot_instance_requests(Filters=_tagged(name))
    for each in answer["SpotInstanceRequests"]:
        request = each["SpotInstanceRequestId"]
        is_the_machines = machine is not None and (
            request == machine.spot_request or each.get("InstanceId") == machine.id
        )
        if each["State"] in OPEN_REQUEST and not is_the_machines:
            kind, state = each.get("Type", "persistent"), each["State"]
            text = f"a {kind} spot request, {state}: EC2 may launch an instance"
            end = f"aws ec2 cancel-spot-instance-requests --spot-instance-request-ids {request}"
            yield _remain(session, "spot request", request, None, text, end)


def _addresses(session: Any, name: str, machine: Machine | None) -> Iterator[Remain]:
    for each in session.client("ec2").describe_addresses(Filters=_tagged(name))["Addresses"]:
        tied = each.get("InstanceId")
        if machine is not None and tied == machine.id:
            continue
        text = f"Elastic IP {each['PublicIp']}, {f'tied to {tied}' if tied else 'tied to no instance'}"
        end = f"aws ec2 release-address --allocation-id {each['AllocationId']}"
        yield _remain(session, "address", each["AllocationId"], ADDRESS_MONTH, text, end)


def _volumes(session: Any, name: str, machine: Machine | None) -> Iterator[Remain]:
    filters = [*_tagged(name), {"Name": "status", "Values": ["available"]}]
    for each in session.client("ec2").describe_volumes(Filters=filters)["Volumes"]:
        volume, size = each["VolumeId"], each["Size"]
        text = f"a disk of {size} GB, {each['AvailabilityZone']}, left of an earlier instance"
        end = f"aws ec2 delete-volume --volume-id {volume}"
        yield _remain(session, "disk", volume, prices.disk_month(session, size), text, end)


def _snapshots(session: Any, name: str, machine: Machine | None) -> Iterator[Remain]:
    """Yield the snapshots with the tag, and those of the name's disks, which the console makes without it."""
    ec2 = session.client("ec2")
    volumes = [each["VolumeId"] for each in ec2.describe_volumes(Filters=_tagged(name))["Volumes"]]
    ways = [_tagged(name), *([[{"Name": "volume-id", "Values": volumes}]] if volumes else [])]
    found = {
        each["SnapshotId"]: each
        for way in ways
        for each in ec2.describe_snapshots(OwnerIds=["self"], Filters=way)["Snapshots"]
    }
    for snapshot, each in found.items():
        cost = prices.snapshot_month(session, each["VolumeSize"])
        text = f"a snapshot of {each['VolumeId']}, {each['VolumeSize']} GB or less"
        end = f"aws ec2 delete-snapshot --snapshot-id {snapshot}"
        yield _remain(session, "snapshot", snapshot, cost, text, end)


def _remain(session: Any, kind: str, which: str, cost: float | None, text: str, end: str) -> Remain:
    return Remain(kind, which, cost, text, f"{end}{region_option(session)}")
