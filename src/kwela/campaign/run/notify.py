"""Send messages to people by webhook and SNS, without ever waiting for the network.

Each message goes through a child process, which has TIMEOUT seconds and no terminal: a server that doesn't
answer, a name that isn't found, a prompt for an MFA code or a credential process that hangs costs the
campaign nothing. A message is kept in a file until it is sent, and tried again, by the next process if need
be. One that its receiver refuses waits behind all others.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kwela import files, terminal
from kwela.campaign.decide.json_files import read_json_lines
from kwela.campaign.run import message_sender
from kwela.errors import KwelaError
from kwela.playbook import Notify

NAME = "unsent.jsonl"
TIMEOUT = 20.0  # seconds that the child has for one message
FINISH = 10.0  # seconds for what is under way when the campaign ends
RETRY_INTERVAL = 300.0  # seconds until the next try
MOST_KEPT = 100  # messages
REASON_BYTES = 4096
LONGEST_TEXT = 3000  # characters; with it an order fits into a pipe, which takes 64 KiB at once
SENDER = [sys.executable, "-m", "kwela.campaign.run.message_sender"]


class Sending:
    """A child process that sends one message. order: as message_sender.py reads it from its stdin."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.deadline = time.monotonic() + TIMEOUT
        self.reason = ""  # why it failed
        self.is_refused = False  # whether the receiver has answered, and does not take this message
        self.process = subprocess.Popen(
            SENDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal, and a group that can be killed with all it started
        )
        assert self.process.stdin and self.process.stderr
        os.set_blocking(self.process.stdin.fileno(), False)  # a message longer than the pipe is not sent
        os.set_blocking(self.process.stderr.fileno(), False)
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def failure(self) -> str | None:
        """Return why the message could not be sent, "" once it is sent, None while it is under way."""
        status = self.process.poll()
        if status is None:
            if time.monotonic() < self.deadline:
                return None
            self.end()
            self.reason = f"no answer within {TIMEOUT:.0f} s"
            return self.reason
        self.is_refused = status == message_sender.REFUSED
        self.reason = "" if status == 0 else self._last_line() or f"exit status {status}"
        self.end()
        return self.reason

    def end(self) -> None:
        """Kill the child and what it started. Nothing is waited for."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stderr:
            self.process.stderr.close()

    def _last_line(self) -> str:
        assert self.process.stderr
        try:
            text = os.read(self.process.stderr.fileno(), REASON_BYTES).decode(errors="replace")
        except OSError:
            text = ""
        return (text.strip().splitlines() or [""])[-1]


class Messenger:
    """Sends messages over each channel that the settings name.

    say: takes a line for the log about what could not be sent. unsent: the file that keeps what is not sent
    yet, one object a line: {"way": "webhook" or "SNS", "message"}.
    """

    def __init__(self, settings: Notify, say: Callable[[str], None], unsent: Path) -> None:
        self.say, self.unsent = say, unsent
        self.channels = receivers(settings)
        kept = [(row.get("way"), row.get("message")) for row in read_json_lines(unsent)]
        self.waiting: deque[tuple[str, Any]] = deque(
            ((channel, message) for channel, message in kept if channel in self.channels), maxlen=MOST_KEPT
        )
        self._under_way: dict[str, tuple[Sending, Any]] = {}  # channel -> the child and its message
        self._not_before: dict[str, float] = {}  # channel -> when it is tried again
        self._refused: dict[str, list[Any]] = {channel: [] for channel in self.channels}
        self._reasons: dict[str, str] = {}  # channel -> why it failed last, which is said once

    def send(self, message: dict[str, Any], now: float) -> None:
        """Begin to send a message, {"text", ...}, and return.

        now: seconds of any clock, of which `retry` gets a later reading.
        """
        if not self.channels:
            return
        if isinstance(text := message.get("text"), str):
            message = {**message, "text": terminal.shorten(text, LONGEST_TEXT)}
        self.waiting.extend((channel, message) for channel in self.channels)
        self._not_before.clear()
        self._keep()
        self.retry(now)

    def retry(self, now: float) -> None:
        """Note what was sent, and go on with what is left over, in order. Returns at once.

        After a failure a channel rests for RETRY_INTERVAL seconds, unless the receiver refused that message
        alone: then the others are tried at once.
        """
        changed = False
        for channel in self.channels:
            while (sending := self._ended(channel)) is not None:
                changed = True
                if not sending.reason:
                    self._reasons.pop(channel, None)
                else:
                    self._say_once(channel, sending.reason)
                    if not sending.is_refused or self._oldest(channel) in self._refused[channel]:
                        self._not_before[channel] = now + RETRY_INTERVAL
                        break
                self._begin(channel)
            if channel not in self._under_way and now >= self._not_before.get(channel, now):
                self._begin(channel)
        if changed:
            self._keep()

    def finish(self, now: float, seconds: float = FINISH) -> None:
        """Wait up to `seconds` for what is under way. What is not sent by then stays in the file."""
        deadline = time.monotonic() + seconds
        self.retry(now)
        while self._under_way and time.monotonic() < deadline:
            time.sleep(0.02)
            self.retry(now)
        for channel, (sending, _) in self._under_way.items():
            sending.end()
            self._say_once(channel, f"no answer within {seconds:.0f} s")
        self._under_way.clear()

    def _ended(self, channel: str) -> Sending | None:
        """Return the channel's sending once it has ended. A message that was sent is forgotten."""
        if channel not in self._under_way:
            return None
        sending, message = self._under_way[channel]
        if sending.failure() is None:
            return None
        del self._under_way[channel]
        if not sending.reason or sending.is_refused:
            refused = [message] * sending.is_refused
            with contextlib.suppress(ValueError):  # pushed out by newer ones
                self.waiting.remove((channel, message))
                self.waiting.extend((channel, each) for each in refused)
            others = [other for other in self._refused[channel] if other != message]
            self._refused[channel] = [*others, *refused][-MOST_KEPT:]
        return sending

    def _oldest(self, channel: str) -> Any:
        return next((message for way, message in self.waiting if way == channel), None)

    def _begin(self, channel: str) -> None:
        """Start to send the channel's oldest message, if there is one."""
        message = self._oldest(channel)
        if message is None:
            return
        try:
            order = {"way": channel, "to": self.channels[channel], "message": message}
            self._under_way[channel] = Sending(order), message
        except OSError as error:  # no memory or process number is left
            self._say_once(channel, str(error))

    def _say_once(self, channel: str, reason: str) -> None:
        if self._reasons.get(channel) != reason:
            self._reasons[channel] = reason
            self.say(f"{channel}: not sent, will be tried again: {reason}")

    def _keep(self) -> None:
        """Write what is left over to the file."""
        lines = (json.dumps({"way": channel, "message": message}) + "\n" for channel, message in self.waiting)
        try:
            if self.waiting:
                files.write(self.unsent, "".join(lines))
            else:
                self.unsent.unlink(missing_ok=True)
        except (KwelaError, OSError) as error:  # a full disk: this process still tries again
            self.say(str(error))


def receivers(settings: Notify) -> dict[str, str]:
    """Return channel -> URL or ARN of those that the settings name."""
    both = {"webhook": settings.webhook, "SNS": settings.sns_topic}
    return {channel: to for channel, to in both.items() if to}


def try_out(
    settings: Notify, seconds: float = TIMEOUT, message: dict[str, Any] | None = None
) -> dict[str, str]:
    """Return channel -> why messages would not get through it, "" if nothing speaks against it.

    message: one that is sent to find out; without it none is sent. All channels together take at most
    `seconds`.
    """
    what = {"check": True} if message is None else {"message": message}
    tries = {way: Sending({"way": way, "to": to, **what}) for way, to in receivers(settings).items()}
    deadline, failures = time.monotonic() + seconds, dict[str, str]()
    while len(failures) < len(tries) and time.monotonic() < deadline:
        known = {way: each.failure() for way, each in tries.items() if way not in failures}
        failures |= {way: failure for way, failure in known.items() if failure is not None}
        time.sleep(0.02)
    for way in tries.keys() - failures.keys():
        tries[way].end()
        failures[way] = f"no answer within {seconds:.0f} s"
    return failures
