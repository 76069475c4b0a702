"""Read the notice that EC2 gives, at most two minutes ahead, before it takes a spot instance back.

It comes from the instance metadata service, version 2: a PUT request for a token, then GET requests with it.
`spot/instance-action` is a 404 until the instance is marked. AWS advises to look every 5 seconds. Elsewhere
than on EC2 nothing answers, and there is never a notice.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from datetime import datetime
from http.client import HTTPException

from kwela.machines.provider import Notice

TOKEN_SECONDS = 21600  # six hours, the longest that the service gives; a token refused sooner is renewed
TIMEOUT = 2.0  # seconds; the service is on the machine itself

# A proxy must not be asked for the address of this machine.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def address() -> str:
    """Return the metadata service's address: AWS_EC2_METADATA_SERVICE_ENDPOINT, else EC2's documented one."""
    return os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")


class Metadata:
    """The metadata service at `base` (default: `address()`)."""

    def __init__(self, base: str | None = None) -> None:
        self.base = base or address()
        self._token = ""

    def get(self, path: str) -> str | None:
        """Return the text at `latest/meta-data/PATH`, or None.

        Paths are `instance-id`, `instance-life-cycle` (`spot`, `on-demand`) and so on.
        """
        for _ in range(2):
            try:
                if not self._token:
                    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
                    self._token = self._ask("api/token", ttl, "PUT")
                return self._ask(f"meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 401:
                    return None
                self._token = ""  # expired: once more with a new one
            except (OSError, ValueError, HTTPException):
                return None
        return None

    def notice(self) -> Notice | None:
        """Return the interruption that is announced, if there is one."""
        text = self.get("spot/instance-action")
        try:
            fields = json.loads(text or "")
            return Notice(str(fields["action"]), datetime.fromisoformat(fields["time"]))
        except (ValueError, KeyError, TypeError):
            return None

    def _ask(self, path: str, headers: dict[str, str], method: str = "GET") -> str:
        request = urllib.request.Request(f"{self.base}/latest/{path}", headers=headers, method=method)
        with _open(request, timeout=TIMEOUT) as answer:
            return str(answer.read().decode())
