"""Hold AWS's list prices for Linux in us-east-1, in US dollars, as published in November 2026.

The playbook's own prices ($1.30 and $0.39 for a g4dn.xlarge) are settings of `ai-service/config.json`.
"""

from __future__ import annotations

REGION = "us-east-1"

# An hour on demand. https://aws.amazon.com/ec2/pricing/on-demand/
ON_DEMAND = {
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g4dn.8xlarge": 2.176,
    "g4dn.12xlarge": 3.912,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
}
GP3_GB_MONTH = 0.08  # https://aws.amazon.com/ebs/pricing/
PUBLIC_ADDRESS_HOUR = 0.005  # an IPv4 address, in use or not


def on_demand(instance_type: str, region: str = REGION) -> float | None:
    """Return dollars an hour at list price; None for another type or region, where it isn't known."""
    return ON_DEMAND.get(instance_type) if region == REGION else None


def disk_month(gigabytes: float) -> float:
    """Return dollars a month for a gp3 volume of so many gigabytes, whether its instance runs or not."""
    return gigabytes * GP3_GB_MONTH
