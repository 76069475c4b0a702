"""One GPU instance on EC2, found again by its tag `kwela=NAME`: launched, started, stopped, looked at.

- Spot is asked for through InstanceMarketOptions as a *persistent* request that is stopped, not terminated, when EC2
  takes it back: only such an instance can be stopped and started by hand, and EC2 starts it again by itself.
- The root volume is the data volume: encrypted, and kept when the instance is terminated.
- Region, profile and credentials are found as boto3 finds them; AWS_ENDPOINT_URL serves for tests.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws.prices import REGION

PORTS = {22: "SSH", 6006: "TensorBoard"}
TAG = "kwela"
# The Deep Learning Base AMI: NVIDIA's driver, CUDA, and (Ubuntu 24.04) a Python that is new enough.
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
IMAGE_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
IMAGE_NAMES = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"
CHECKIP = "https://checkip.amazonaws.com"

# Codes of EC2's that another minute, zone or quota may mend, and what to do about them.
LATER = {
    "InsufficientInstanceCapacity": "no capacity now: try again later, or another --type or --region",
    "IncorrectSpotRequestState": "its spot request is not ready: wait a minute and try again",
    "MaxSpotInstanceCountExceeded": "the account's spot quota is used up: ask for more (Service Quotas, G and VT spot)",
    "SpotMaxPriceTooLow": "the spot price is above the limit: try again later or --market on-demand",
    "VcpuLimitExceeded": "the account's vCPU quota is used up: ask for more (Service Quotas, G and VT)",
}
# How the codes begin of what is the caller's to mend: no permission, an expired token, a value that can't be.
REFUSED = (
    *(
        "AccessDenied",
        "AuthFailure",
        "AuthorizationError",
        "ExpiredToken",
        "Invalid",
        "Parameter",
        "Signature",
    ),
    *("Unauthorized", "UnrecognizedClient", "Validation"),
)


@dataclass(frozen=True)
class Machine:
    """An instance of ours that is not terminated."""

    id: str
    name: str
    state: str  # pending, running, stopping, stopped
    type: str
    market: str  # spot, on-demand
    zone: str
    address: str | None  # public IPv4
    launched: datetime  # the last start
    disk_gb: int
    volumes: tuple[str, ...]
    spot_request: str | None  # cancel it before terminating the instance, or EC2 launches another

    @property
    def hours(self) -> float:
        """Since the last start; 0 unless it is running."""
        return (datetime.now(UTC) - self.launched).total_seconds() / 3600 if self.state == "running" else 0.0


@dataclass(frozen=True)
class Wanted:
    """What to launch."""

    name: str
    type: str
    key_name: str
    address: str  # the only one that may reach ports 22 and 6006
    spot: bool
    disk_gb: int
    elastic_ip: bool
    profile: str | None  # an IAM instance profile: what the machine itself may do


@dataclass(frozen=True)
class Image:
    id: str
    name: str
    root: str  # the root volume's device


@contextmanager
def one_line() -> Iterator[None]:
    """Inside, what AWS refuses is a UserError (exit 2) and what it can't do now a KwelaError (1), in one line."""
    from botocore import exceptions, parsers

    try:
        yield
    except exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in LATER:
            raise KwelaError(f"AWS: {LATER[code]} ({code})") from error
        kind = UserError if code.startswith(REFUSED) else KwelaError
        raise kind(f"AWS refused {error.operation_name}: {' '.join(message.split())} ({code})") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise UserError(
            "no AWS credentials: run aws configure, or set AWS_PROFILE to one that has them"
        ) from error
    except (
        *(exceptions.HTTPClientError, exceptions.ConnectionError),
        *(exceptions.WaiterError, parsers.ResponseParserError),
    ) as error:
        raise KwelaError(f"AWS doesn't answer as it should: {str(error).splitlines()[0]}") from error
    except exceptions.BotoCoreError as error:
        raise UserError(f"AWS settings: {' '.join(str(error).split())}") from error


def connect(region: str | None = None, profile: str | None = None) -> Any:
    """A boto3 session. region: None is boto3's own choice (environment, ~/.aws/config), else us-east-1.

    Raises UserError for an unknown region or profile, or without boto3.
    """
    try:
        import boto3
    except ModuleNotFoundError:
        raise UserError(
            "kwela aws needs boto3: pip install 'kwela[aws]' (scripts/install.sh brings it)"
        ) from None
    with one_line():
        session = boto3.Session(profile_name=profile)
        region = region or session.region_name or REGION
        known = session.get_available_regions("ec2")
        if region not in known:
            raise UserError(f"{region}: no such AWS region (such as {REGION}, {', '.join(known[-3:])})")
        return (
            session
            if session.region_name == region
            else boto3.Session(profile_name=profile, region_name=region)
        )


def caller_address(given: str | None = None, ask: str = CHECKIP) -> str:
    """The caller's public IPv4 address: `given`, checked, or as checkip.amazonaws.com sees it. Raises UserError."""
    if given is None:
        try:
            with urllib.request.urlopen(ask, timeout=10) as answer:
                given = answer.read(64).decode().strip()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{ask} doesn't say this machine's address ({error}): give it with --from"
            ) from None
    try:
        return str(ipaddress.IPv4Address(given))
    except ValueError:
        raise UserError(f"--from {given}: not an IPv4 address (such as 203.0.113.7)") from None


def find(session: Any, name: str) -> Machine | None:
    """The instance of that name, unless it was terminated."""
    ec2 = _ec2(session)
    states = ["pending", "running", "stopping", "stopped"]
    filters = [{"Name": f"tag:{TAG}", "Values": [name]}, {"Name": "instance-state-name", "Values": states}]
    with one_line():
        found = [
            each
            for page in ec2.describe_instances(Filters=filters)["Reservations"]
            for each in page["Instances"]
        ]
        if not found:
            return None
        one = max(found, key=lambda each: each["LaunchTime"])
        volumes = [disk["Ebs"]["VolumeId"] for disk in one["BlockDeviceMappings"] if "Ebs" in disk]
        sizes = [v["Size"] for v in ec2.describe_volumes(VolumeIds=volumes)["Volumes"]] if volumes else []
    return Machine(
        id=one["InstanceId"],
        name=name,
        state=one["State"]["Name"],
        type=one["InstanceType"],
        market="spot" if one.get("InstanceLifecycle") == "spot" else "on-demand",
        zone=one["Placement"]["AvailabilityZone"],
        address=one.get("PublicIpAddress") or None,
        launched=one["LaunchTime"],
        disk_gb=sum(sizes),
        volumes=tuple(volumes),
        spot_request=one.get("SpotInstanceRequestId"),
    )


def zones(session: Any, instance_type: str) -> list[str]:
    """The region's zones that offer the type. Raises UserError if none does."""
    wanted = [{"Name": "instance-type", "Values": [instance_type]}]
    with one_line():
        answer = session.client("ec2").describe_instance_type_offerings(
            LocationType="availability-zone", Filters=wanted
        )
    found = sorted(offer["Location"] for offer in answer["InstanceTypeOfferings"])
    if not found:
        raise UserError(f"{session.region_name} has no {instance_type}: choose another --region or --type")
    return found


def check_key(session: Any, name: str) -> None:
    """Raises UserError, naming the keys there are, unless the region has a key pair of that name."""
    with one_line():
        known = sorted(pair["KeyName"] for pair in session.client("ec2").describe_key_pairs()["KeyPairs"])
    if name not in known:
        there = (
            f"there are {', '.join(known)}" if known else "there is none: aws ec2 create-key-pair makes one"
        )
        raise UserError(f"--key-name {name}: no such key pair in {session.region_name}; {there}")


def image(session: Any) -> Image:
    """The newest Deep Learning AMI: by AWS's public parameter, else among Amazon's own images by name."""
    from botocore import exceptions

    ec2 = _ec2(session)
    with one_line():
        try:
            named = session.client("ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
            found = ec2.describe_images(ImageIds=[named])["Images"]
        except exceptions.ClientError:  # no such parameter in this region, or no permission to read it
            names = [{"Name": "name", "Values": [IMAGE_NAMES]}, {"Name": "state", "Values": ["available"]}]
            found = ec2.describe_images(Owners=["amazon"], Filters=names)["Images"]
    if not found:
        raise UserError(f"{session.region_name} has no image called {IMAGE_NAMES}: choose another --region")
    newest = max(found, key=lambda each: each["CreationDate"])
    return Image(newest["ImageId"], newest["Name"], newest["RootDeviceName"])


def spot_prices(session: Any, instance_type: str) -> dict[str, float]:
    """Dollars an hour now, for each zone, cheapest first; empty where AWS has no history of it."""
    with one_line():
        answer = session.client("ec2").describe_spot_price_history(
            InstanceTypes=[instance_type], ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
        )
    prices = {row["AvailabilityZone"]: float(row["SpotPrice"]) for row in answer["SpotPriceHistory"]}
    return dict(sorted(prices.items(), key=lambda item: (item[1], item[0])))


def kept_volumes(session: Any, name: str) -> list[tuple[str, int, str]]:
    """(volume, GB, zone) of earlier instances of that name, which were terminated: they still cost money."""
    filters = [{"Name": f"tag:{TAG}", "Values": [name]}, {"Name": "status", "Values": ["available"]}]
    with one_line():
        found = session.client("ec2").describe_volumes(Filters=filters)["Volumes"]
    return [(each["VolumeId"], each["Size"], each["AvailabilityZone"]) for each in found]


def launch(session: Any, wanted: Wanted, ami: Image, in_zones: Sequence[str]) -> Machine:
    """Launch it in the first of the zones that has room, wait until it runs, and return it."""
    ec2 = _ec2(session)
    with one_line():
        places = _subnets(ec2, in_zones, session.region_name)
        request: dict[str, Any] = {
            "ImageId": ami.id,
            "InstanceType": wanted.type,
            "KeyName": wanted.key_name,
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": [_admit(ec2, wanted.name, wanted.address, vpc=places[0]["VpcId"])],
            "InstanceInitiatedShutdownBehavior": "stop",  # what idle-watch relies on
            # Two hops, so that a container on the machine sees a spot notice too.
            "MetadataOptions": {
                "HttpTokens": "required",
                "HttpEndpoint": "enabled",
                "HttpPutResponseHopLimit": 2,
            },
            "BlockDeviceMappings": [
                {
                    "DeviceName": ami.root,
                    "Ebs": {
                        "VolumeSize": wanted.disk_gb,
                        "VolumeType": "gp3",
                        "Encrypted": True,
                        "DeleteOnTermination": False,
                    },
                }
            ],
            "TagSpecifications": [_tags(kind, wanted.name) for kind in ("instance", "volume")],
        }
        if wanted.profile:
            request["IamInstanceProfile"] = {"Name": wanted.profile}
        if wanted.spot:
            request["TagSpecifications"].append(_tags("spot-instances-request", wanted.name))
            request["InstanceMarketOptions"] = {
                "MarketType": "spot",
                "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
            }
        made = _run(ec2, request, [place["SubnetId"] for place in places])
        ec2.get_waiter("instance_running").wait(InstanceIds=[made])
    machine = _found(session, wanted.name)
    return give_address(session, machine) if wanted.elastic_ip else machine


def elastic_address(session: Any, name: str) -> str | None:
    """The allocation id of the name's Elastic IP, if it has one."""
    with one_line():
        mine = session.client("ec2").describe_addresses(Filters=[{"Name": f"tag:{TAG}", "Values": [name]}])
    return next((str(each["AllocationId"]) for each in mine["Addresses"]), None)


def give_address(session: Any, machine: Machine) -> Machine:
    """Tie an Elastic IP to the instance: the one its name has, else a new one."""
    ec2 = _ec2(session)
    mine = elastic_address(session, machine.name)
    with one_line():
        if mine is None:
            tags = [_tags("elastic-ip", machine.name)]
            mine = ec2.allocate_address(Domain="vpc", TagSpecifications=tags)["AllocationId"]
        ec2.associate_address(AllocationId=mine, InstanceId=machine.id)
    return _found(session, machine.name)


def start(session: Any, name: str, address: str | None = None) -> Machine:
    """Start a stopped instance and wait until it runs; `address`, if given, is now the only one let in."""
    machine = _found(session, name)
    ec2 = _ec2(session)
    with one_line():
        if address:
            _admit(ec2, name, address)
        if machine.state == "stopping":
            ec2.get_waiter("instance_stopped").wait(InstanceIds=[machine.id])
        if machine.state in ("stopping", "stopped"):
            ec2.start_instances(InstanceIds=[machine.id])
        ec2.get_waiter("instance_running").wait(InstanceIds=[machine.id])
    return _found(session, name)


def stop(session: Any, name: str) -> Machine:
    """Stop an instance and wait until it has stopped: its processes get SIGTERM first. Its disk stays."""
    machine = _found(session, name)
    ec2 = _ec2(session)
    with one_line():
        if machine.state in ("pending", "running"):
            ec2.stop_instances(InstanceIds=[machine.id])
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[machine.id])
    return _found(session, name)


def _ec2(session: Any) -> Any:
    with one_line():  # half a pair of credentials is noticed here
        return session.client("ec2")


def _found(session: Any, name: str) -> Machine:
    machine = find(session, name)
    if machine is None:
        raise UserError(f"no instance named {name} in {session.region_name}: kwela aws launch makes one")
    return machine


def _tags(kind: str, name: str) -> dict[str, Any]:
    tags = [{"Key": TAG, "Value": name}, {"Key": "Name", "Value": f"kwela-{name}"}]
    return {"ResourceType": kind, "Tags": tags}


def _subnets(ec2: Any, in_zones: Sequence[str], region: str) -> list[dict[str, Any]]:
    """The default subnet of each zone, in the zones' order."""
    filters = [{"Name": "default-for-az", "Values": ["true"]}]
    by_zone = {each["AvailabilityZone"]: each for each in ec2.describe_subnets(Filters=filters)["Subnets"]}
    places = [by_zone[zone] for zone in in_zones if zone in by_zone]
    if not places:
        raise UserError(f"{region} has no default subnet for it: aws ec2 create-default-vpc makes them")
    return places


def _run(ec2: Any, request: dict[str, Any], subnets: Sequence[str]) -> str:
    """The id of the new instance, in the first subnet whose zone has room. Typed twice at once it is one instance."""
    from botocore import exceptions

    now = int(time.time()) // 60
    for subnet in subnets:
        same = hashlib.sha256(f"{request} {subnet} {now}".encode()).hexdigest()
        try:
            made = ec2.run_instances(**request, SubnetId=subnet, ClientToken=same)["Instances"][0]
            return str(made["InstanceId"])
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "InsufficientInstanceCapacity" or subnet == subnets[-1]:
                raise
    raise AssertionError("no subnet was tried")


def _admit(ec2: Any, name: str, address: str, vpc: str | None = None) -> str:
    """The id of the name's security group, whose ports are open to `address` and to nobody else. vpc: to make it in."""
    filters = [{"Name": f"tag:{TAG}", "Values": [name]}, {"Name": "group-name", "Values": [f"kwela-{name}"]}]
    groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    wanted = [
        {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "IpRanges": [{"CidrIp": f"{address}/32", "Description": what}],
        }
        for port, what in PORTS.items()
    ]
    if groups:
        group = groups[0]["GroupId"]
        if groups[0]["IpPermissions"]:
            ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=groups[0]["IpPermissions"])
    else:
        group = ec2.create_security_group(
            GroupName=f"kwela-{name}",
            Description="SSH and TensorBoard, from one address",
            TagSpecifications=[_tags("security-group", name)],
            **({"VpcId": vpc} if vpc else {}),
        )["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=wanted)
    return str(group)
