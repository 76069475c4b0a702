"""Tells people, by webhook and SNS. What couldn't be sent is kept, and tried again by the next session too."""

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
AGAIN = 300.0  # seconds until the next try
MOST = 100  # messages kept


class Messenger:
    """Sends what `say` is told; `retry` sends what is left over. log: told of what couldn't be sent.

    unsent: where that is kept, a line each: {"way": "webhook" or "SNS", "message"}.
    """

    def __init__(self, whom: Notify, log: Callable[[str], None], unsent: Path) -> None:
        self.log, self.unsent = log, unsent
        self.ways: dict[str, Callable[[dict[str, Any]], None]] = {}
        if whom.webhook:
            self.ways["webhook"] = lambda message: _post(whom.webhook, message)
        if whom.sns_topic:
            self.ways["SNS"] = lambda message: _publish(whom.sns_topic, message)
        kept = [(row.get("way"), row.get("message")) for row in read_json_lines(unsent)]
        self.left: deque[tuple[str, Any]] = deque(
            ((way, message) for way, message in kept if way in self.ways), maxlen=MOST
        )
        self.tried = float("-inf")

    def say(self, message: dict[str, Any], now: float) -> None:
        """message: {"text", ...}. now: any clock's seconds, for `retry`."""
        self.left.extend((way, message) for way in self.ways)
        self.tried = float("-inf")
        self.retry(now)

    def retry(self, now: float) -> None:
        if not self.left or now - self.tried < AGAIN:
            return
        self.tried = now
        failed: set[str] = set()
        for _ in range(len(self.left)):
            way, message = self.left.popleft()
            try:
                if way in failed:
                    raise ConnectionError
                self.ways[way](message)
            except Exception as error:  # boto3 and urllib raise a zoo; none of it may stop a campaign
                self.left.append((way, message))
                if way not in failed:
                    why = (str(error).splitlines() or [type(error).__name__])[0]
                    self.log(f"{way}: not sent, will be tried again: {why}")
                failed.add(way)
        self._keep()

    def _keep(self) -> None:
        if not self.left:
            self.unsent.unlink(missing_ok=True)
            return
        lines = (json.dumps({"way": way, "message": message}) + "\n" for way, message in self.left)
        try:
            files.write(self.unsent, "".join(lines))
        except (
            KwelaError
        ) as error:  # a full disk: it is tried again all the same, as long as this session lasts
            self.log(str(error))


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
