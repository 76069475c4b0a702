"""Hold AWS's list prices for Linux in us-east-1, in US dollars, as published in November 2026.

AWS's price list API is asked for those of other regions.

The playbook's own prices ($1.30 and $0.39 for a g4dn.xlarge) are settings of `ai-service/config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

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
SPOT = {"g4dn.xlarge": 0.21}  # between $0.20 and $0.22 in November 2026; it moves
GP3_GB_MONTH = 0.08  # https://aws.amazon.com/ebs/pricing/
SNAPSHOT_GB_MONTH = 0.05  # of what is stored: at most the size of the disk
PUBLIC_ADDRESS_HOUR = 0.005  # an IPv4 address, in use or not; the same in every region
# Dollars a GB to the internet; what comes in is free. https://aws.amazon.com/ec2/pricing/on-demand/
TRANSFER_OUT = 0.09
EBS_PAGE = "https://aws.amazon.com/ebs/pricing"
ASKED_IN = "us-east-1"  # one of the few regions in which the price list API answers, for all regions
PATIENCE = 10  # seconds that it is waited for

_answers: dict[tuple[str, ...], float | None] = {}  # what the price list API said to this process


def on_demand(session: Any, instance_type: str) -> float | None:
    """Return dollars an hour at list price in the session's region; None where it isn't known."""
    if session.region_name == REGION and instance_type in ON_DEMAND:
        return ON_DEMAND[instance_type]
    return _ask(
        session,
        instanceType=instance_type,
        operatingSystem="Linux",
        tenancy="Shared",
        preInstalledSw="NA",
        capacitystatus="Used",
    )


def disk_month(session: Any, gigabytes: float) -> float | None:
    """Return dollars a month for a gp3 volume, in use or not; None where the price isn't known."""
    a_gigabyte = GP3_GB_MONTH if session.region_name == REGION else _ask(session, volumeApiName="gp3")
    return None if a_gigabyte is None else gigabytes * a_gigabyte


def snapshot_month(session: Any, gigabytes: float) -> float | None:
    """Return the most dollars a month that a snapshot of such a volume costs; None where it isn't known."""
    return gigabytes * SNAPSHOT_GB_MONTH if session.region_name == REGION else None


def month_text(dollars: float | None) -> str:
    """Return "$40.00 a month", or that it isn't known and where it stands."""
    return f"${dollars:,.2f} a month" if dollars is not None else f"a price not known here ({EBS_PAGE})"


def _ask(session: Any, **attributes: str) -> float | None:
    """Ask AWS's price list API for the price of the one product with these attributes in the region.

    None without permission (pricing:GetProducts), without an answer, or where the products differ in price.
    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
    """
    key = (session.region_name, *attributes.values())
    if key not in _answers:
        _answers[key] = _answer(session, {"regionCode": session.region_name} | attributes)
    return _answers[key]


def _answer(session: Any, attributes: dict[str, str]) -> float | None:
    from botocore import exceptions, parsers
    from botocore.config import Config

    config = Config(connect_timeout=PATIENCE, read_timeout=PATIENCE, retries={"max_attempts": 1})
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in attributes.items()]
    try:
        client = session.client("pricing", region_name=ASKED_IN, config=config)
        answer = client.get_products(ServiceCode="AmazonEC2", Filters=filters)
        found = {price for product in answer["PriceList"] for price in _dollars(json.loads(product))}
    except (exceptions.ClientError, exceptions.BotoCoreError, parsers.ResponseParserError, EOFError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):  # not the answer that the API describes
        return None
    return found.pop() if len(found) == 1 else None


def _dollars(product: dict[str, Any]) -> Iterator[float]:
    """Yield the prices on demand above 0 of one product of the price list."""
    for term in product["terms"]["OnDemand"].values():
        for dimension in term["priceDimensions"].values():
            if (price := float(dimension["pricePerUnit"]["USD"])) > 0:
                yield price
