"""Send messages to people by webhook and SNS.

What could not be sent is kept in a file and tried again, by the next process if need be.
"""

from __future__ import annotations

import json
import urllib.request
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kwela import files
from kwela.campaign.decide.json_files import read_json_lines
from kwela.errors import KwelaError
from kwela.playbook import Notify

NAME = "unsent.jsonl"
TIMEOUT = 5.0  # seconds
RETRY_INTERVAL = 300.0  # seconds until the next try
MOST_KEPT = 100  # messages


class Messenger:
    """Sends messages over each channel that the settings name.

    say: takes a line for the log about what could not be sent. unsent: the file that keeps it, one object a
    line: {"way": "webhook" or "SNS", "message"}.
    """

    def __init__(self, settings: Notify, say: Callable[[str], None], unsent: Path) -> None:
        self.say, self.unsent = say, unsent
        self.channels: dict[str, Callable[[dict[str, Any]], None]] = {}
        if settings.webhook:
            self.channels["webhook"] = lambda message: _post(settings.webhook, message)
        if settings.sns_topic:
            self.channels["SNS"] = lambda message: _publish(settings.sns_topic, message)
        kept = [(row.get("way"), row.get("message")) for row in read_json_lines(unsent)]
        self.waiting: deque[tuple[str, Any]] = deque(
            ((channel, message) for channel, message in kept if channel in self.channels), maxlen=MOST_KEPT
        )
        self.last_try = float("-inf")

    def send(self, message: dict[str, Any], now: float) -> None:
        """Send a message, {"text", ...}. now: seconds of any clock, of which `retry` gets a later reading."""
        self.waiting.extend((channel, message) for channel in self.channels)
        self.last_try = float("-inf")
        self.retry(now)

    def retry(self, now: float) -> None:
        """Send what is left over, if RETRY_INTERVAL has passed since the last try."""
        if not self.waiting or now - self.last_try < RETRY_INTERVAL:
            return
        self.last_try = now
        failed: set[str] = set()
        for _ in range(len(self.waiting)):
            channel, message = self.waiting.popleft()
            if channel in failed:
                self.waiting.append((channel, message))
                continue
            try:
                self.channels[channel](message)
            except (
                Exception
            ) as error:  # boto3 and urllib raise errors of many kinds; none may stop a campaign
                self.waiting.append((channel, message))
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self.say(f"{channel}: not sent, will be tried again: {reason}")
                failed.add(channel)
        self._keep()

    def _keep(self) -> None:
        """Write what is left over to the file."""
        if not self.waiting:
            self.unsent.unlink(missing_ok=True)
            return
        lines = (json.dumps({"way": channel, "message": message}) + "\n" for channel, message in self.waiting)
        try:
            files.write(self.unsent, "".join(lines))
        except KwelaError as error:  # a full disk: this process still tries again
            self.say(str(error))


def _post(url: str, message: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(message).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT):
        pass


def _publish(topic: str, message: dict[str, Any]) -> None:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"max_attempts": 1})
    client = boto3.client("sns", region_name=topic.split(":")[3] or None, config=config)
    client.publish(TopicArn=topic, Subject="kwela campaign", Message=json.dumps(message, indent=1))
