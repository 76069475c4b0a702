"""Find the public IPv4 address of this machine, from which alone a rented machine may be reached."""

from __future__ import annotations

import ipaddress
import urllib.request

from kwela.errors import UserError

CHECKIP = "https://checkip.amazonaws.com"


def caller_address(address: str | None = None, service: str = CHECKIP) -> str:
    """Return `address` if it is an IPv4 address; None: ask `service` for this machine's.

    Raises UserError for anything else than an IPv4 address, or if the service does not answer.
    """
    if address is None:
        try:
            with urllib.request.urlopen(service, timeout=10) as answer:
                address = answer.read(64).decode().strip()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{service} doesn't say this machine's address ({error}): give it with --from"
            ) from None
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        raise UserError(f"--from {address}: not an IPv4 address (such as 203.0.113.7)") from None
