"""What tests ask of the account on moto's server that conftest.py starts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from scratch import ROOT, Done, kwela

US = "us-east-1"
NAMED = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 2026"
LAUNCH = ["aws", "launch", "--key-name", "my-key", "--from", "203.0.113.7"]
Call = tuple[str, str, dict[str, Any]]


def ec2(region: str = US) -> Any:
    return boto3.client("ec2", region_name=region)


def amazons_image(name: str, created: datetime, region: str = US) -> str:
    made = str(ec2(region).register_image(Name=name, RootDeviceName="/dev/sda1")["ImageId"])
    image = ec2_backends[DEFAULT_ACCOUNT_ID][region].amis[made]
    image.owner_alias, image.creation_date = "amazon", created
    return made


def run(*arguments: str) -> Done:
    return kwela(ROOT, *arguments)


def instances() -> list[dict[str, Any]]:
    return [each for group in ec2().describe_instances()["Reservations"] for each in group["Instances"]]


def only() -> dict[str, Any]:
    (one,) = instances()
    return one


def asked_for(calls: list[Call]) -> set[str]:
    """As a policy's actions. What an account may always ask, who it is, is none of them."""
    asked = {
        f"{'cloudwatch' if service == 'monitoring' else service}:{operation}"
        for service, operation, _ in calls
    }
    return asked - {"sts:GetCallerIdentity"}


def actions(policy: str) -> list[str]:
    """Of a policy's statements that list several: the others are implied by a call."""
    listed = [each["Action"] for each in json.loads(policy)["Statement"]]
    return [action for each in listed if isinstance(each, list) for action in each]
