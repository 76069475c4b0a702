"""The notice that EC2 gives, two minutes ahead at best, before it takes a spot instance back.

Read from the instance metadata service, version 2: a token by PUT, then GET with it. `spot/instance-action` is a 404
until the instance is marked; AWS advises to look every 5 seconds. Elsewhere than on EC2 nothing answers, and nothing
is ever noticed.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException

EVERY = 5.0  # seconds
TOKEN_SECONDS = 21600  # six hours, the longest that the service gives; a token refused sooner is renewed
TIMEOUT = 2.0  # seconds; the service is on the machine itself

# The address is no business of a proxy's.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def address() -> str:
    """Where the metadata service is: AWS_EC2_METADATA_SERVICE_ENDPOINT as AWS's own tools read it, else the usual."""
    return os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")


@dataclass(frozen=True)
class Notice:
    """What will happen to this instance, and when."""

    action: str  # terminate, stop or hibernate
    time: datetime  # UTC


class Metadata:
    """The metadata service at `base` (default: `address()`)."""

    def __init__(self, base: str | None = None) -> None:
        self.base = base or address()
        self._token = ""

    def get(self, path: str) -> str | None:
        """`latest/meta-data/PATH`, such as `instance-type` or `instance-life-cycle` (`spot`, `on-demand`), or None."""
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
        """The interruption that is announced, if one is."""
        text = self.get("spot/instance-action")
        try:
            said = json.loads(text or "")
            return Notice(str(said["action"]), datetime.fromisoformat(said["time"]))
        except (ValueError, KeyError, TypeError):
            return None

    def _ask(self, path: str, headers: dict[str, str], method: str = "GET") -> str:
        request = urllib.request.Request(f"{self.base}/latest/{path}", headers=headers, method=method)
        with _open(request, timeout=TIMEOUT) as answer:
            return str(answer.read().decode())


def watch(
    call: Callable[[Notice], None], base: str | None = None, every: float = EVERY
) -> Callable[[], None]:
    """Look every `every` seconds from a thread of its own; at the first notice `call` it there, once, and end.

    Returns a function that ends the watch; it doesn't hold up the interpreter's exit.
    """
    done = threading.Event()
    metadata = Metadata(base)

    def look() -> None:
        while not done.is_set():
            found = metadata.notice()
            if found and not done.is_set():
                done.set()
                call(found)
                return
            done.wait(every)

    threading.Thread(target=look, name="spot-watch", daemon=True).start()
    return done.set
