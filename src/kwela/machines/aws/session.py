"""Open a session with AWS, and turn its errors into one line for the user.

Region, profile and credentials are found as the AWS CLI (version 2) finds them. Tests set AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws.prices import REGION

# EC2's error codes that another minute, zone or quota may mend, and what to do about them.
LATER = {
    "InsufficientInstanceCapacity": "no capacity now: try again later, or another --type or --region",
    "IncorrectSpotRequestState": "its spot request is not ready: wait a minute and try again",
    "MaxSpotInstanceCountExceeded": (
        "the account's spot quota is used up: ask for more (Service Quotas, G and VT spot)"
    ),
    "SpotMaxPriceTooLow": "the spot price is above the limit: try again later or --market on-demand",
    "VcpuLimitExceeded": "the account's vCPU quota is used up: ask for more (Service Quotas, G and VT)",
}
# How the error codes begin that the caller can mend: no permission, an expired token, an impossible value.
REFUSED = (
    "AccessDenied",
    "AuthFailure",
    "AuthorizationError",
    "ExpiredToken",
    "Invalid",
    "Parameter",
    "Signature",
    "Unauthorized",
    "UnrecognizedClient",
    "Validation",
)


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what AWS refuses into a UserError and what it can't do now into a KwelaError, in one line each."""
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
    except EOFError as error:  # botocore asks for the code of an MFA device on the terminal
        raise UserError(
            "the AWS profile asks for an MFA code and nobody can type it here: run it in a terminal, or use "
            "credentials that need no code (an instance's role)"
        ) from error
    except exceptions.BotoCoreError as error:
        raise UserError(f"AWS settings: {' '.join(str(error).split())}") from error


def open_session(region: str | None = None, profile: str | None = None) -> Any:
    """Return a boto3 session.

    region: None is the choice of the AWS CLI: AWS_REGION, which boto3 alone doesn't read, then
    AWS_DEFAULT_REGION, then the profile's; else us-east-1. Raises UserError for an unknown region or profile,
    or without boto3.
    """
    try:
        import boto3
    except ModuleNotFoundError:
        raise UserError(
            "kwela aws needs boto3: pip install 'kwela[aws]' (scripts/install.sh brings it)"
        ) from None
    with one_line():
        session = boto3.Session(profile_name=profile)
        usual = _cli_region(session) or REGION
        region = region or usual
        known = session.get_available_regions("ec2")
        if region not in known:
            raise UserError(f"{region}: no such AWS region (such as {REGION}, {', '.join(known[-3:])})")
        if session.region_name != region:
            session = boto3.Session(profile_name=profile, region_name=region)
    session.usual_region = usual
    return session


def _cli_region(session: Any) -> str | None:
    """Return the region that the AWS CLI would take without --region."""
    return os.environ.get("AWS_REGION") or session.region_name or None


def region_option(session: Any) -> str:
    """Return " --region X" for a command that a reader may type; "" where the AWS CLI takes X anyway."""
    return "" if session.region_name == session.usual_region else f" --region {session.region_name}"
