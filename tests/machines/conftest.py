"""Fixtures of this room: an AWS account on moto's server, and a record of what is asked of it."""

from __future__ import annotations

import functools
import logging
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.loaders import JSONFileLoader
from moto.server import ThreadedMotoServer
from moto_account import NAMED, Call, amazons_image, ec2

from kwela.machines.aws import prices


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture(scope="module")
def boto_reads_its_files_once() -> Iterator[None]:
    """Each command is a session of its own, and would parse megabytes of boto's JSON again."""
    read = functools.cache(functools.partial(JSONFileLoader._load_file, JSONFileLoader()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "_load_file", lambda _, *place: read(*place))
        yield


@pytest.fixture
def account(
    server: str, boto_reads_its_files_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account with one key pair; the images that Amazon has are those of `amazons_image`."""
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    prices._answers.clear()
    ec2().create_key_pair(KeyName="my-key")
    amazons_image(f"{NAMED}1006", datetime(2026, 10, 6))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What is asked of AWS: (service, operation, parameters)."""
    made: list[Call] = []
    real = BaseClient._make_api_call

    def record(self: Any, operation: str, wanted: dict[str, Any]) -> Any:
        made.append((self.meta.service_model.signing_name, operation, wanted))
        return real(self, operation, wanted)

    monkeypatch.setattr(BaseClient, "_make_api_call", record)
    return made
