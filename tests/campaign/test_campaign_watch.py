"""Nothing stops the watch on money: messages, prompts, meters, terminals and children that hang."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kwela import terminal
from kwela.campaign.run import child_process, message_sender, notify
from kwela.campaign.run.campaign_log import CampaignLog
from kwela.campaign.run.child_process import ChildProcess
from kwela.campaign.run.commands import CommandFailed, CommandRunner
from kwela.campaign.run.notify import Messenger
from kwela.campaign.run.side_thread import SideThread
from kwela.campaign.run.watchdog import Money, Watchdog
from kwela.cli import campaign_commands
from kwela.errors import KwelaError
from kwela.machines import gpu, interruption, programs
from kwela.playbook import Notify, PlaybookConfig

TOPIC = "arn:aws:sns:us-east-1:123456789012:campaign"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes a request and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"


def kept(unsent: Path) -> list[str]:
    return [json.loads(line)["message"]["text"] for line in unsent.read_text().splitlines()]


def test_a_receiver_that_does_not_answer_is_not_waited_for(tmp_path: Path, silent_server: str) -> None:
    log: list[str] = []
    messenger = Messenger(Notify(webhook=silent_server), log.append, tmp_path / "unsent")
    began = time.monotonic()
    messenger.send({"text": "flag"}, 0.0)
    for turn in range(3):
        messenger.retry(float(turn))
    assert time.monotonic() - began < 1.0  # the control: the message itself may take five seconds
    assert kept(tmp_path / "unsent") == ["flag"]  # also if this process is killed now
    messenger.finish(9.0, seconds=0.2)
    assert time.monotonic() - began < 3.0 and "no answer within" in log[-1]
    assert kept(tmp_path / "unsent") == ["flag"]


def test_a_channel_that_hangs_is_killed_after_its_time_and_tried_again(
    tmp_path: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.3)
    log: list[str] = []
    messenger = Messenger(Notify(webhook=silent_server), log.append, tmp_path / "unsent")
    messenger.send({"text": "flag"}, 0.0)
    child = messenger._under_way["webhook"][0].process
    time.sleep(0.4)
    messenger.retry(1.0)
    assert child.wait(5) == -signal.SIGKILL and log == [
        "webhook: not sent, will be tried again: no answer within 0 s"
    ]
    messenger.retry(2.0)
    assert not messenger._under_way  # it rests
    messenger.retry(1.0 + notify.RETRY_INTERVAL)
    assert messenger._under_way
    messenger.finish(400.0, seconds=0)


@pytest.fixture
def prompting_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials by a role that asks for an MFA code, as botocore does on the terminal."""
    (tmp_path / "config").write_text(
        "[default]\nregion = us-east-1\n"
        "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/admin\nsource_profile = default\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/someone\nregion = us-east-1\n"
        f"[profile slow]\ncredential_process = {sys.executable} -c 'import time; time.sleep(60)'\n"
    )
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = x\naws_secret_access_key = y\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_prompt_for_a_code_is_an_answer_and_not_a_wait(
    tmp_path: Path, prompting_profile: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mfa")
    log: list[str] = []
    messenger = Messenger(Notify(sns_topic=TOPIC), log.append, tmp_path / "unsent")
    messenger.send({"text": "flag"}, 0.0)
    messenger.finish(0.0, seconds=30)
    assert "MFA code, which nobody can type here" in log[0] and kept(tmp_path / "unsent") == ["flag"]
    assert "MFA code" in notify.try_out(Notify(sns_topic=TOPIC))["SNS"]


def test_a_credential_process_that_hangs_is_not_waited_for(
    tmp_path: Path, prompting_profile: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "slow")
    began = time.monotonic()
    assert "no answer within" in notify.try_out(Notify(sns_topic=TOPIC), seconds=1.5)["SNS"]
    assert time.monotonic() - began < 5


class Discord(http.server.BaseHTTPRequestHandler):
    """Refuses Python's own agent, and a message without the text under its own name."""

    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = (
            403 if self.headers["User-Agent"].startswith("Python") else 204 if body.get("content") else 400
        )
        self.got.append(body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"" if status == 204 else b"error code: 1010")

    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_webhook_that_refuses_pythons_agent_gets_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = type("Handler", (Discord,), {"got": []})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        message_sender.send("webhook", url, {"text": "flag"})
        assert handler.got[-1]["text"] == handler.got[-1]["content"] == "flag"
        assert notify.try_out(Notify(webhook=url)) == {"webhook": ""} and len(handler.got) == 1
        monkeypatch.setattr(message_sender, "AGENT", "Python-urllib/3.11")  # the control
        with pytest.raises(OSError, match="403: error code: 1010"):
            message_sender.send("webhook", url, {"text": "flag"})
        server.shutdown()


class Strict(Discord):
    """Takes no text of over 2,000 characters and none about poison; has moved from /old to /new."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fits = len(body["content"]) <= 2000 and "poison" not in body["content"]
        status = 301 if self.path == "/old" else 204 if fits else 400
        self.got.append(body["text"] if status == 204 else status)
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "/new")
        self.end_headers()

    def do_GET(self) -> None:
        self.got.append("GET")
        self.send_response(200)
        self.end_headers()


def deliver(messenger: Messenger, until: Callable[[], bool]) -> None:
    """Go on with the messages, at one reading of the campaign's clock."""
    deadline = time.monotonic() + 10
    while not until() and time.monotonic() < deadline:
        messenger.retry(1.0)
        time.sleep(0.02)


def test_a_message_that_is_refused_or_long_holds_up_no_other(tmp_path: Path) -> None:
    handler = type("Handler", (Strict,), {"got": []})
    log: list[str] = []
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        messenger = Messenger(Notify(webhook=f"{url}/hook"), log.append, tmp_path / "unsent")
        texts = ["poison", "two", f"begin {'x' * 200_000} end"]  # more than a pipe takes
        for text in texts:
            messenger.send({"text": text}, 0.0)
        deliver(messenger, lambda: handler.got.count(400) == 2)
        messenger.finish(1.0)
        sent = [text for text in handler.got if text != 400]
        assert sent[0] == "two" and sent[1].startswith("begin ") and sent[1].endswith(" end")
        assert kept(tmp_path / "unsent") == ["poison"] and "400" in log[0]
        assert handler.got.count(400) == 2  # tried again behind the others, then it rests

        handler.got.clear()
        moved = Messenger(Notify(webhook=f"{url}/old"), log.append, tmp_path / "moved")
        moved.send({"text": "flag"}, 0.0)
        deliver(moved, lambda: "/new" in log[-1])
        assert handler.got == [301] and kept(tmp_path / "moved") == ["flag"]  # not lost by a GET of /new
        server.shutdown()


def child(tmp_path: Path, script: str) -> ChildProcess:
    return ChildProcess([sys.executable, "-c", script], tmp_path / "lock")


DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


def test_a_notice_shortens_the_time_that_a_deaf_child_has(tmp_path: Path) -> None:
    deaf = child(tmp_path, DEAF)
    time.sleep(0.3)
    began, turns = time.monotonic(), []
    grace = iter([60.0] * 3 + [0.2] * 1000)
    assert deaf.stop(lambda: next(grace), lambda: turns.append(1)) == -signal.SIGKILL
    assert time.monotonic() - began < 5 and len(turns) > 3  # the ledger and the budget go on meanwhile
    assert deaf.process.pid not in child_process.running_groups


def test_a_child_that_survives_its_kill_is_an_error_and_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = child(tmp_path, DEAF)
    monkeypatch.setattr(child_process, "KILL_WAIT", 0.1)
    real = child_process._signal_group
    monkeypatch.setattr(child_process, "_signal_group", lambda group, number: None)  # as one in a lost disk
    with pytest.raises(KwelaError, match="doesn't end even when it is killed"):
        deaf.stop(lambda: 0.0)
    real(deaf.process.pid, signal.SIGKILL)
    deaf.process.wait(10)
    child_process.running_groups.discard(deaf.process.pid)


def test_a_command_is_ended_where_the_ledger_can_not_be_written(tmp_path: Path) -> None:
    def full() -> None:
        raise KwelaError("disk full")

    runner = CommandRunner(tmp_path / "lock", full, lambda: False, lambda: 5.0)
    with pytest.raises(KwelaError, match="disk full"):
        runner.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    assert child_process.stop_orphan(tmp_path / "lock") is None  # nothing runs on


def test_the_last_line_of_an_endless_log_is_found_at_its_end(tmp_path: Path) -> None:
    runner = CommandRunner(tmp_path / "lock", lambda: time.sleep(0.05), lambda: False)
    script = "import sys; sys.stderr.write('x' * 10**6 + '\\nerror: out of memory\\n'); sys.exit(1)"
    with pytest.raises(CommandFailed, match=r"^out of memory$"):
        runner.run([sys.executable, "-c", script], tmp_path / "log")


def test_a_meter_that_hangs_is_left_out_until_it_answers() -> None:
    answers = threading.Event()
    thread = SideThread("meter", 0.05)
    assert thread.call(lambda: 40.0, None) == 40.0
    assert thread.call(lambda: answers.wait(10), None) is None and thread.hangs
    began = time.monotonic()
    assert thread.call(lambda: 1.0, None) is None and time.monotonic() - began < 0.04  # at once
    answers.set()
    time.sleep(0.05)
    assert thread.call(lambda: 50.0, None) == 50.0
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0, None)


def test_nvidia_smi_that_hangs_is_killed_and_not_started_again_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho >> {tmp_path}/started\nexec sleep 60\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    real = programs.output
    monkeypatch.setattr(programs, "output", lambda command, _: real(command, 0.2))
    monkeypatch.setattr(programs.os, "killpg", lambda *_: None)  # as one that waits for the driver
    assert gpu.utilisation() is None and gpu.utilisation() is None
    assert (tmp_path / "started").read_text().count("\n") == 1
    hanging = programs._hanging["nvidia-smi"]
    os.kill(hanging.pid, signal.SIGKILL)
    hanging.wait(5)
    assert gpu.utilisation() is None and (tmp_path / "started").read_text().count("\n") == 2
    os.kill(programs._hanging.pop("nvidia-smi").pid, signal.SIGKILL)


def test_a_pipe_that_nobody_empties_does_not_stop_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PATIENCE", 0.2)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as pipe:
        began = time.monotonic()
        for _ in range(40):
            terminal.say("x" * 5000, stream)  # more than a pipe holds
        assert time.monotonic() - began < 2
        os.read(pipe.fileno(), 1 << 20)
        terminal.say("heard again", stream)
        assert os.read(pipe.fileno(), 1 << 20).endswith(b"heard again\n")


def settings(tmp_path: Path) -> PlaybookConfig:
    return PlaybookConfig(checkpoint_dir=tmp_path, proxy_groups={"drums": ["drum"]})


def test_curves_that_can_not_be_written_cost_the_campaign_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "board").touch()  # a file in the folder's place
    log = CampaignLog(settings(tmp_path), None, tmp_path / "board")
    log._writer = Broken()
    for step in range(3):
        log._writer = log._writer or Broken()
        log.plot("campaign/cost_usd", 1.0, step)
    log.close()
    assert capsys.readouterr().out.count("TensorBoard") == 1  # said once


class Broken:
    """TensorBoard's writer on a full disk: its thread's error comes with the next point."""

    def add_scalar(self, *_: Any) -> None:
        raise OSError("No space left on device")

    def close(self) -> None:
        raise OSError("No space left on device")


def test_the_watchdog_ends_a_loop_that_hangs_past_a_stop_or_the_budget(tmp_path: Path) -> None:
    for money, asked, status in ((None, True, 75), (Money(90.0, 100.0, 100.0), False, 4)):
        deaf = child(tmp_path, "import time; time.sleep(60)")
        stop, ended, said = threading.Event(), threading.Event(), list[str]()
        statuses: list[int] = []

        def end(code: int, statuses: list[int] = statuses, ended: threading.Event = ended) -> None:
            statuses.append(code)
            ended.set()

        dog = Watchdog(stop, said.append, end, look_interval=0.02, silence=(0.3, 0.2))
        dog.turn(money)
        if asked:
            stop.set()
        assert ended.wait(10) and statuses == [status] and "ended from outside" in said[-1]
        assert deaf.process.wait(5) == -signal.SIGTERM
        child_process.running_groups.clear()


def test_the_watchdog_leaves_a_loop_alone_that_turns_or_has_money(tmp_path: Path) -> None:
    said, ended = list[str](), list[int]()
    stop = threading.Event()
    dog = Watchdog(stop, said.append, ended.append, look_interval=0.02, silence=(0.2, 0.2))
    stop.set()
    for _ in range(30):
        dog.turn(Money(90.0, 100.0, 100.0))
        time.sleep(0.02)
    assert not ended and not said
    dog.close()
    rich = Watchdog(threading.Event(), said.append, ended.append, look_interval=0.02, silence=(0.1, 0.1))
    rich.turn(Money(1.0, 0.001, 100.0))
    time.sleep(0.4)
    rich.close()
    assert len(said) == 1 and "has not moved" in said[0] and not ended


def test_a_look_for_a_notice_that_fails_is_not_the_last_one() -> None:
    looks, called = iter([ZeroDivisionError(), None, "notice"]), threading.Event()

    def look() -> Any:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    interruption.watch(lambda _: called.set(), look, every=0.01)
    assert called.wait(5)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import time; time.sleep(60)", "no report: it took over 0 minutes"),
        ("import sys; sys.exit(2)", "no report: exit status 2"),
        ("", ""),
    ],
)
def test_a_report_that_hangs_or_fails_is_said_and_ends(
    script: str, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(campaign_commands, "REPORT_SECONDS", 1.0)
    monkeypatch.setattr(campaign_commands, "_kwela", lambda *words: [sys.executable, "-c", script])
    began = time.monotonic()
    campaign_commands.report_after_the_end(Path("config.json"), rehearsal=True)
    said = capfd.readouterr().err
    assert (says in said if says else said == "") and time.monotonic() - began < 10
