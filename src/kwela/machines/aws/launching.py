"""Launch one GPU instance on EC2, and say what runs and costs where a later step of the launch failed.

- A spot instance is asked for through InstanceMarketOptions as a *persistent* request, and EC2 stops the
  instance, and does not terminate it, when it takes the instance back. Only such an instance can be stopped
  and started by hand, and EC2 starts it again by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws import bill, instance
from kwela.machines.aws.instance import TAG, Image
from kwela.machines.aws.session import one_line, region_option
from kwela.machines.provider import Machine, MachineRequest

NO_ANSWER = "AWS doesn't answer"  # how one_line begins where it isn't known what AWS did


def launch(session: Any, request: MachineRequest, image: Image, zone_names: Sequence[str]) -> Machine:
    """Launch the instance in the first of the zones that has room, wait until it runs, and return it.

    Raises KwelaError or UserError. Once EC2 has made the instance, the message names it, what it costs, and
    how to go on or to end it.
    """
    assert request.address is not None, "an offer holds the address that is let in"
    ec2 = instance.client(session)
    with one_line():
        subnets = _subnets(ec2, zone_names, session.region_name)
        group = instance.admit(ec2, request.name, request.address, vpc=subnets[0]["VpcId"])
    try:
        with one_line():
            arguments = _run_request(request, image, group)
            instance_id = _run(ec2, arguments, [each["SubnetId"] for each in subnets])
    except KwelaError as error:
        if str(error).startswith(NO_ANSWER):
            options = instance.options(session, request.name)
            hint = f"it may have launched it all the same: look with kwela aws status{options} first"
            raise type(error)(f"{error}; {hint}") from error
        raise
    try:
        with one_line():
            ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id])
        machine = instance.existing(session, request.name)
        return instance.give_address(session, machine) if request.fixed_address else machine
    except KwelaError as error:
        raise KwelaError(_what_there_is(session, request, instance_id, str(error))) from error
    except KeyboardInterrupt:
        raise KwelaError(_what_there_is(session, request, instance_id, "interrupted")) from None


def _what_there_is(session: Any, request: MachineRequest, instance_id: str, failure: str) -> str:
    """Return a line on an instance that EC2 has made, after a later step failed."""
    state, reason = instance.state_and_reason(session, instance_id)
    region, options = region_option(session), instance.options(session, request.name)
    spot = _open_request(session, request, region)
    if state in ("shutting-down", "terminated", "stopping", "stopped"):
        return f"{instance_id} did not come up; it is {state}: {reason or failure}{spot}"
    price = None
    with contextlib.suppress(KwelaError):
        if machine := instance.find(session, request.name):
            price = bill.price(session, machine)
    cost = f"at ${price:.3f} an hour" if price is not None else "and is charged by the hour"
    launch = f"kwela aws launch --key-name {request.key_name} --elastic-ip{options}"
    again = f"{launch} gives it an address; " if request.fixed_address else ""
    return (
        f"{failure}; BUT {instance_id} is {state or 'launched'} {cost}: {again}"
        f"kwela aws status{options} shows it; kwela aws stop{options} stops it; "
        f"aws ec2 terminate-instances --instance-ids {instance_id}{region} ends it{spot}"
    )


def _open_request(session: Any, request: MachineRequest, region: str) -> str:
    """Return what to say of the persistent spot request, which would launch another instance."""
    if not request.spot:
        return ""
    found = []
    with contextlib.suppress(KwelaError), one_line():
        filters = [{"Name": f"tag:{TAG}", "Values": [request.name]}]
        answer = session.client("ec2").describe_spot_instance_requests(Filters=filters)
        found = [
            each["SpotInstanceRequestId"]
            for each in answer["SpotInstanceRequests"]
            if each["State"] in instance.OPEN_REQUEST
        ]
    if not found:
        find = f"aws ec2 describe-spot-instance-requests{region}"
        return f"; its spot request is persistent, and while it is open EC2 launches another: {find} shows it"
    command = f"aws ec2 cancel-spot-instance-requests --spot-instance-request-ids {' '.join(found)}{region}"
    return f"; its persistent spot request is open, and EC2 launches another unless {command} ends it"


def _run_request(request: MachineRequest, image: Image, group: str) -> dict[str, Any]:
    """Return RunInstances' arguments without the subnet."""
    arguments: dict[str, Any] = {
        "ImageId": image.id,
        "InstanceType": request.type,
        "KeyName": request.key_name,
        "MinCount": 1,
        "MaxCount": 1,
        "SecurityGroupIds": [group],
        "InstanceInitiatedShutdownBehavior": "stop",  # kwela idle-watch shuts the machine down
        # Two hops, so that a container on the machine can read a spot notice too.
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 2,
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root,
                "Ebs": {
                    "VolumeSize": request.disk_gb,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": False,
                },
            }
        ],
        "TagSpecifications": [instance.tags(kind, request.name) for kind in ("instance", "volume")],
    }
    if request.profile:
        arguments["IamInstanceProfile"] = {"Name": request.profile}
    if request.spot:
        arguments["TagSpecifications"].append(instance.tags("spot-instances-request", request.name))
        arguments["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
        }
    return arguments


def _subnets(ec2: Any, zone_names: Sequence[str], region: str) -> list[dict[str, Any]]:
    """Return the default subnet of each zone, in the zones' order. Raises UserError if there is none."""
    filters = [{"Name": "default-for-az", "Values": ["true"]}]
    by_zone = {each["AvailabilityZone"]: each for each in ec2.describe_subnets(Filters=filters)["Subnets"]}
    subnets = [by_zone[zone] for zone in zone_names if zone in by_zone]
    if not subnets:
        raise UserError(f"{region} has no default subnet for it: aws ec2 create-default-vpc makes them")
    return subnets


def _run(ec2: Any, arguments: dict[str, Any], subnets: Sequence[str]) -> str:
    """Launch in the first subnet whose zone has room, and return the new instance's id.

    The client token makes a command that is typed twice within a minute launch one instance.
    """
    from botocore import exceptions

    minute = int(time.time()) // 60
    for subnet in subnets:
        token = hashlib.sha256(f"{arguments} {subnet} {minute}".encode()).hexdigest()
        try:
            answer = ec2.run_instances(**arguments, SubnetId=subnet, ClientToken=token)
            return str(answer["Instances"][0]["InstanceId"])
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "InsufficientInstanceCapacity" or subnet == subnets[-1]:
                raise
    raise AssertionError("no subnet was tried")
