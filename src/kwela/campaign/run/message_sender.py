"""Send one message, as a process that may be killed: `python -m kwela.campaign.run.message_sender`.

It reads {"way": "webhook" or "SNS", "to": a URL or an ARN, "message": an object} from stdin. It exits with 0
once the message is sent, else with the reason as the last line of stderr: with REFUSED where the receiver
answers but takes no such message, with 1 for all else. The process has no terminal, so a library that asks
for a password or an MFA code gets no answer, and fails instead of waiting.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

from kwela import __version__, terminal

TIMEOUT = 5.0  # seconds for one answer of the network
AGENT = f"kwela/{__version__}"  # some services refuse Python-urllib, for robots use it
REFUSED = 3  # exit status
REFUSALS = (
    400,
    413,
    422,
)  # HTTP's status codes that speak of the message alone
LONGEST_CONTENT = 2000  # characters; Discord refuses more
ANSWER_SHOWN = 200  # bytes of what a webhook answered
NOBODY_TYPES = (
    "the AWS credentials ask for an MFA code, which nobody can type here: "
    "give the machine a role (kwela aws launch --iam-instance-profile)"
)


class RefusedMessage(OSError):
    """The receiver answers, and does not take this message."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would ask for the new address by GET, and the message would be lost."""

    def redirect_request(self, *_: Any) -> None:
        return None


def send(way: str, to: str, message: dict[str, Any]) -> None:
    """Send the message. Raises whatever the network, boto3 or the receiver's refusal raises."""
    {"webhook": _post, "SNS": _publish}[way](to, message)


def check(way: str, to: str) -> None:
    """Find out whether messages could be sent, and send none. Raises as `send`.

    A webhook can only be asked whether its host answers. Of SNS it is asked who we are, by the same
    credentials as for a message.
    """
    if way == "SNS":
        _client("sts", to).get_caller_identity()
        return
    request = urllib.request.Request(to, headers={"User-Agent": AGENT}, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:  # it answers; what it says to HEAD tells nothing of POST
        error.close()


def _post(url: str, message: dict[str, Any]) -> None:
    # "content" is Discord's name of the text; others pass over what they don't know.
    body = {**message, "content": terminal.shorten(message.get("text", ""), LONGEST_CONTENT)}
    headers = {"Content-Type": "application/json", "User-Agent": AGENT}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(ANSWER_SHOWN).decode(errors="replace").split())
        if 300 <= error.code < 400 and (moved := error.headers.get("Location")):
            said = f"it has moved to {moved[:ANSWER_SHOWN]}: write that address in notify.webhook"
        kind = RefusedMessage if error.code in REFUSALS else OSError
        raise kind(f"HTTP status {error.code}{f': {said}' if said else ''}") from None


def _publish(topic: str, message: dict[str, Any]) -> None:
    text = json.dumps(message, indent=1)
    _client("sns", topic).publish(TopicArn=topic, Subject="kwela campaign", Message=text)


def _client(service: str, topic: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"max_attempts": 1})
    return boto3.client(service, region_name=topic.split(":")[3] or None, config=config)


def main() -> int:
    """Do what stdin says. Returns the exit status: 0, 1 or REFUSED."""
    order = json.loads(sys.stdin.readline())
    status = 1
    try:
        if order.get("check"):
            check(order["way"], order["to"])
        else:
            send(order["way"], order["to"], order["message"])
    except EOFError:  # a prompt for an MFA code, on a stdin that has ended
        reason = NOBODY_TYPES
    except Exception as error:  # boto3 and urllib raise errors of many kinds
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        status = REFUSED if isinstance(error, RefusedMessage) else 1
    else:
        return 0
    terminal.say(reason, sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
