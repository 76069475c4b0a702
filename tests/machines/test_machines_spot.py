"""The spot watcher, beside a metadata service over real HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from machines_imds import Imds, serve

from kwela.machines import interruption
from kwela.machines.aws import spot
from kwela.machines.provider import Notice

NOTICE = '{"action": "terminate", "time": "2026-11-22T08:22:00Z"}'
MARKED = Notice("terminate", datetime(2026, 11, 22, 8, 22, tzinfo=UTC))


@pytest.fixture
def imds() -> Iterator[Imds]:
    with serve() as running:
        yield running


def test_a_notice_is_called_once_and_only_when_it_is_there(imds: Imds) -> None:
    heard: list[Notice] = []
    called = threading.Event()

    def call(notice: Notice) -> None:
        heard.append(notice)
        called.set()

    interruption.watch(call, spot.Metadata(imds.base).notice, every=0.02)
    assert not called.wait(0.3) and heard == []  # 404 until the instance is marked
    assert imds.issued == 1  # one token for all those looks
    imds.paths["spot/instance-action"] = NOTICE
    assert called.wait(5)
    assert not threading.Event().wait(0.2)
    assert heard == [MARKED]


def test_an_expired_token_is_renewed(imds: Imds) -> None:
    metadata = spot.Metadata(imds.base)
    imds.paths["spot/instance-action"] = NOTICE
    assert metadata.notice() == MARKED
    imds.tokens.clear()
    assert metadata.notice() == MARKED
    assert imds.issued == 2


def test_a_watch_that_was_ended_calls_nobody(imds: Imds) -> None:
    heard: list[Notice] = []
    end = interruption.watch(heard.append, spot.Metadata(imds.base).notice, every=0.02)
    end()
    imds.paths["spot/instance-action"] = NOTICE
    threading.Event().wait(0.2)
    assert heard == []


def test_a_malformed_answer_does_not_end_the_watch() -> None:
    body = NOTICE.encode()
    token, notice = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in (b"token", body)
    )
    answers = [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", token, notice]
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                asked, _ = server.accept()
                with asked:
                    asked.recv(4096)
                    asked.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        metadata = spot.Metadata(f"http://127.0.0.1:{server.getsockname()[1]}")
        interruption.watch(lambda _: called.set(), metadata.notice, every=0.02)
        assert called.wait(5)


def test_the_instance_says_what_it_is(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.base + "/")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy would never reach it
    imds.paths |= {"instance-type": "g4dn.xlarge", "instance-life-cycle": "spot"}
    metadata = spot.Metadata()
    assert (metadata.get("instance-type"), metadata.get("instance-life-cycle")) == ("g4dn.xlarge", "spot")
    assert metadata.get("no/such") is None


@pytest.mark.parametrize(
    "body", ["", "null", "[]", "<html>", '{"action": "stop"}', '{"action": "stop", "time": "x"}']
)
def test_what_is_no_notice_is_not_taken_for_one(imds: Imds, body: str) -> None:
    imds.paths["spot/instance-action"] = body
    assert spot.Metadata(imds.base).notice() is None


def test_off_ec2_nothing_is_noticed_and_nothing_fails() -> None:
    assert spot.Metadata("http://127.0.0.1:9").notice() is None
