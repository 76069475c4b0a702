"""Another cloud: a package and one line in PROVIDERS give it commands, readiness list and watcher."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import memory_cloud
import pytest
import typer
from typer.testing import CliRunner, Result

from kwela.campaign.run import readiness
from kwela.cli.rental import rental_app
from kwela.errors import UserError
from kwela.machines import interruption, provider
from kwela.machines.provider import Cloud, Notice
from kwela.playbook import PlaybookConfig


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The one line of the registry. AWS is left out, so that nothing asks for a metadata service."""
    monkeypatch.delitem(provider.PROVIDERS, "aws")
    monkeypatch.setitem(provider.PROVIDERS, "memory", Cloud("memory", "memory_cloud"))
    yield
    memory_cloud.MACHINES.clear()
    memory_cloud.NOTICES.clear()


def kwela(*arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.add_typer(rental_app("memory"), name="memory")
    return CliRunner().invoke(app, ["memory", *arguments])


def test_the_commands_launch_stop_start_and_describe_a_machine_of_another_cloud() -> None:
    launched = kwela("launch", "--key-name", "my-key", "--market", "spot", "--from", "203.0.113.7", "--yes")
    assert launched.exit_code == 0, launched.exception
    assert launched.output.splitlines() == [
        "thought: $0.25 an hour",
        "phase-2-5: running at $0.25 an hour",
        "ssh -i my-key.pem ubuntu@192.0.2.1",
    ]
    assert "stopped" in kwela("stop").output
    again = kwela("launch", "--key-name", "my-key", "--yes")
    assert "is there already, stopped (kwela memory start starts it)" in again.output
    assert "running" in kwela("start", "--from", "203.0.113.7").output
    facts = json.loads(kwela("status", "--json").output)
    assert (facts["state"], facts["market"], facts["price"]) == ("running", "spot", 0.25)


def test_the_commands_speak_of_the_cloud_they_belong_to() -> None:
    assert "kwela memory launch makes one" in kwela("status").output
    assert "kwela memory launch --key-name my-key" in kwela("launch", "--help").output
    assert isinstance(kwela("launch", "--key-name", "other", "--yes").exception, UserError)


def test_the_campaigns_readiness_list_asks_another_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    kwela("launch", "--key-name", "my-key", "--market", "spot", "--from", "203.0.113.7", "--yes")
    monkeypatch.setattr(provider, "connect", lambda **_: memory_cloud.connect())
    settings = PlaybookConfig.model_construct(spot_cost_per_hour=0.25)
    states = {item.name: item.state for item in readiness._cloud_items(settings, "phase-2-5", None)}
    assert set(states.values()) == {readiness.PASS} and {"instance", "price", "key pair"} <= states.keys()


def test_the_watcher_and_the_campaign_see_this_machine_on_another_cloud() -> None:
    assert provider.this_machine() is None
    kwela("launch", "--key-name", "my-key", "--from", "203.0.113.7", "--yes")
    assert provider.this_machine() == provider.ThisMachine("m-1", "spot")
    called = threading.Event()
    interruption.watch(lambda _: called.set(), every=0.01)
    assert not called.wait(0.1)
    memory_cloud.NOTICES.append(Notice("stop", datetime(2026, 11, 22, tzinfo=UTC)))
    assert called.wait(5)
