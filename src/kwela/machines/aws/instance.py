"""Find, start and stop one GPU instance on EC2, which has the tag `kwela=NAME`.

- The root volume is the data volume. It is encrypted, and it is kept when the instance is terminated.
- Every function takes a boto3 session (`kwela.machines.aws.session`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws.session import one_line, region_option
from kwela.machines.provider import DEFAULT_NAME, Machine, MachineState

PORTS = {22: "SSH", 6006: "TensorBoard"}
TAG = "kwela"
OPEN_REQUEST = ("open", "active", "disabled")  # states of a spot request that may launch an instance yet
# The Deep Learning Base AMI: NVIDIA's driver, CUDA, and (Ubuntu 24.04) a Python that is new enough.
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
IMAGE_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
IMAGE_NAMES = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"


@dataclass(frozen=True)
class Image:
    """An Amazon machine image (AMI)."""

    id: str
    name: str
    root: str  # the root volume's device


def find(session: Any, name: str) -> Machine | None:
    """Return the instance of that name, unless it was terminated. Of several it is the last one launched."""
    ec2 = client(session)
    states = [state.value for state in MachineState]
    filters = [{"Name": f"tag:{TAG}", "Values": [name]}, {"Name": "instance-state-name", "Values": states}]
    with one_line():
        reservations = ec2.describe_instances(Filters=filters)["Reservations"]
        instances = [each for reservation in reservations for each in reservation["Instances"]]
        if not instances:
            return None
        newest = max(instances, key=lambda each: each["LaunchTime"])
        volumes = [disk["Ebs"]["VolumeId"] for disk in newest["BlockDeviceMappings"] if "Ebs" in disk]
        sizes = [v["Size"] for v in ec2.describe_volumes(VolumeIds=volumes)["Volumes"]] if volumes else []
    return Machine(
        id=newest["InstanceId"],
        name=name,
        state=MachineState(newest["State"]["Name"]),
        type=newest["InstanceType"],
        market="spot" if newest.get("InstanceLifecycle") == "spot" else "on-demand",
        zone=newest["Placement"]["AvailabilityZone"],
        address=newest.get("PublicIpAddress") or None,
        launched=newest["LaunchTime"],
        disk_gb=sum(sizes),
        volumes=tuple(volumes),
        spot_request=newest.get("SpotInstanceRequestId"),
    )


def zones(session: Any, instance_type: str) -> list[str]:
    """Return the region's zones that offer the type, in order. Raises UserError if none does."""
    filters = [{"Name": "instance-type", "Values": [instance_type]}]
    with one_line():
        answer = session.client("ec2").describe_instance_type_offerings(
            LocationType="availability-zone", Filters=filters
        )
    names = sorted(offering["Location"] for offering in answer["InstanceTypeOfferings"])
    if not names:
        raise UserError(f"{session.region_name} has no {instance_type}: choose another --region or --type")
    return names


def key_names(session: Any) -> list[str]:
    """Return the names of the region's key pairs, in order."""
    with one_line():
        return sorted(pair["KeyName"] for pair in session.client("ec2").describe_key_pairs()["KeyPairs"])


def check_key(session: Any, name: str) -> None:
    """Check that the region has a key pair of that name. Raises UserError that lists the names there are."""
    known = key_names(session)
    if name not in known:
        choice = (
            f"there are {', '.join(known)}" if known else "there is none: aws ec2 create-key-pair makes one"
        )
        raise UserError(f"--key-name {name}: no such key pair in {session.region_name}; {choice}")


def image(session: Any) -> Image:
    """Return the newest Deep Learning AMI: by AWS's public parameter, else the newest of Amazon's by name.

    Raises UserError if the region has none.
    """
    from botocore import exceptions

    ec2 = client(session)
    with one_line():
        try:
            image_id = session.client("ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
            images = ec2.describe_images(ImageIds=[image_id])["Images"]
        except exceptions.ClientError:  # no such parameter in this region, or no permission to read it
            filters = [{"Name": "name", "Values": [IMAGE_NAMES]}, {"Name": "state", "Values": ["available"]}]
            images = ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"]
    if not images:
        raise UserError(f"{session.region_name} has no image called {IMAGE_NAMES}: choose another --region")
    newest = max(images, key=lambda each: each["CreationDate"])
    return Image(newest["ImageId"], newest["Name"], newest["RootDeviceName"])


def spot_prices(session: Any, instance_type: str) -> dict[str, float]:
    """Return dollars an hour now by zone, cheapest first; empty where AWS has no history of the type."""
    with one_line():
        answer = session.client("ec2").describe_spot_price_history(
            InstanceTypes=[instance_type], ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
        )
    prices = {row["AvailabilityZone"]: float(row["SpotPrice"]) for row in answer["SpotPriceHistory"]}
    return dict(sorted(prices.items(), key=lambda item: (item[1], item[0])))


def state_and_reason(session: Any, instance_id: str) -> tuple[str, str]:
    """Return an instance's state, and why EC2 says it got there; "" for what isn't known. Raises nothing."""
    with contextlib.suppress(KwelaError, IndexError), one_line():
        answer = session.client("ec2").describe_instances(InstanceIds=[instance_id])
        found = answer["Reservations"][0]["Instances"][0]
        reason = found.get("StateReason", {}).get("Message") or found.get("StateTransitionReason") or ""
        return found["State"]["Name"], reason
    return "", ""


def options(session: Any, name: str) -> str:
    """Return the options with which a `kwela aws` command finds this instance; "" for the usual one."""
    other_name = "" if name == DEFAULT_NAME else f" --name {name}"
    return f"{other_name}{region_option(session)}"


@contextlib.contextmanager
def _state_in_error(session: Any, machine: Machine) -> Iterator[None]:
    """Add to an error what state the instance is in, and why."""
    try:
        yield
    except KwelaError as error:
        state, reason = state_and_reason(session, machine.id)
        because = f" ({reason})" if reason else ""
        raise type(error)(f"{error}; {machine.id} is {state or 'in an unknown state'}{because}") from error


def elastic_address(session: Any, name: str) -> str | None:
    """Return the allocation id of the name's Elastic IP, if it has one."""
    with one_line():
        answer = session.client("ec2").describe_addresses(Filters=[{"Name": f"tag:{TAG}", "Values": [name]}])
    return next((str(each["AllocationId"]) for each in answer["Addresses"]), None)


def give_address(session: Any, machine: Machine) -> Machine:
    """Tie an Elastic IP to the instance: the one that its name has, else a new one."""
    ec2 = client(session)
    allocation = elastic_address(session, machine.name)
    with one_line():
        if allocation is None:
            tagged = [tags("elastic-ip", machine.name)]
            allocation = ec2.allocate_address(Domain="vpc", TagSpecifications=tagged)["AllocationId"]
        ec2.associate_address(AllocationId=allocation, InstanceId=machine.id)
    return existing(session, machine.name)


def start(session: Any, name: str, address: str | None = None) -> Machine:
    """Start a stopped instance and wait until it runs. `address`, if any, is then the only one let in."""
    machine = existing(session, name)
    ec2 = client(session)
    with _state_in_error(session, machine), one_line():
        if address:
            admit(ec2, name, address)
        if machine.state == "stopping":
            ec2.get_waiter("instance_stopped").wait(InstanceIds=[machine.id])
        if machine.state in ("stopping", "stopped"):
            ec2.start_instances(InstanceIds=[machine.id])
        ec2.get_waiter("instance_running").wait(InstanceIds=[machine.id])
    return existing(session, name)


def stop(session: Any, name: str) -> Machine:
    """Stop an instance and wait until it has stopped. Its processes get SIGTERM first, and its disk stays."""
    machine = existing(session, name)
    ec2 = client(session)
    with _state_in_error(session, machine), one_line():
        if machine.state in ("pending", "running"):
            ec2.stop_instances(InstanceIds=[machine.id])
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[machine.id])
    return existing(session, name)


def client(session: Any) -> Any:
    """Return the client of EC2."""
    with one_line():  # half a pair of credentials is noticed here
        return session.client("ec2")


def existing(session: Any, name: str) -> Machine:
    """Return the instance of that name. Raises UserError if there is none."""
    machine = find(session, name)
    if machine is None:
        raise UserError(f"no instance named {name} in {session.region_name}: kwela aws launch makes one")
    return machine


def tags(kind: str, name: str) -> dict[str, Any]:
    """Return the tags of that name as a request has them for a kind of resource."""
    pairs = [{"Key": TAG, "Value": name}, {"Key": "Name", "Value": f"kwela-{name}"}]
    return {"ResourceType": kind, "Tags": pairs}


def admit(ec2: Any, name: str, address: str, vpc: str | None = None) -> str:
    """Open the ports of the name's security group to `address` alone, and return the group's id.

    vpc: where the group is made if there is none.
    """
    filters = [{"Name": f"tag:{TAG}", "Values": [name]}, {"Name": "group-name", "Values": [f"kwela-{name}"]}]
    groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    permissions = [
        {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "IpRanges": [{"CidrIp": f"{address}/32", "Description": service}],
        }
        for port, service in PORTS.items()
    ]
    if groups:
        group = groups[0]["GroupId"]
        if groups[0]["IpPermissions"]:
            ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=groups[0]["IpPermissions"])
    else:
        group = ec2.create_security_group(
            GroupName=f"kwela-{name}",
            Description="SSH and TensorBoard, from one address",
            TagSpecifications=[tags("security-group", name)],
            **({"VpcId": vpc} if vpc else {}),
        )["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)
    return str(group)
