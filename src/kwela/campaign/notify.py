"""Tells people, by webhook and SNS. Without a network it tries again later, as long as it runs."""

from __future__ import annotations

import json
import urllib.request
from collections import deque
from collections.abc import Callable
from typing import Any

from kwela.playbook import Notify

TIMEOUT = 5.0  # seconds
AGAIN = 300.0  # seconds until the next try
MOST = 100  # messages kept


class Messenger:
    """Sends what `say` is told; `retry` sends what is left over. log: told of what couldn't be sent."""

    def __init__(self, whom: Notify, log: Callable[[str], None]) -> None:
        self.log = log
        self.ways: list[tuple[str, Callable[[dict[str, Any]], None]]] = []
        if whom.webhook:
            self.ways.append(("webhook", lambda message: _post(whom.webhook, message)))
        if whom.sns_topic:
            self.ways.append(("SNS", lambda message: _publish(whom.sns_topic, message)))
        self.left: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MOST)
        self.tried = float("-inf")

    def say(self, message: dict[str, Any], now: float) -> None:
        """message: {"text", ...}. now: any clock's seconds, for `retry`."""
        self.left.extend((way, message) for way in range(len(self.ways)))
        self.tried = float("-inf")
        self.retry(now)

    def retry(self, now: float) -> None:
        if not self.left or now - self.tried < AGAIN:
            return
        self.tried = now
        failed: set[int] = set()
        for _ in range(len(self.left)):
            way, message = self.left.popleft()
            name, send = self.ways[way]
            try:
                if way in failed:
                    raise ConnectionError
                send(message)
            except Exception as error:  # boto3 and urllib raise a zoo; none of it may stop a campaign
                self.left.append((way, message))
                if way not in failed:
                    why = (str(error).splitlines() or [type(error).__name__])[0]
                    self.log(f"{name}: not sent, will be tried again: {why}")
                failed.add(way)


def _post(url: str, message: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(message).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT):
        pass


def _publish(topic: str, message: dict[str, Any]) -> None:
    import boto3
    from botocore.config import Config

    patient = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"max_attempts": 1})
    client = boto3.client("sns", region_name=topic.split(":")[3] or None, config=patient)
    client.publish(TopicArn=topic, Subject="kwela campaign", Message=json.dumps(message, indent=1))
