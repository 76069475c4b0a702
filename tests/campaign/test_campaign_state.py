"""The state file says what the ledger says, and is never the only place of anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kwela.campaign.money import ledger
from kwela.campaign.money.clock import FakeClock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.run import campaign_state
from kwela.campaign.run.campaign_state import (
    campaign_identity,
    check_state_file,
    read_state,
    read_state_file,
    write_state_file,
)
from kwela.errors import UserError
from kwela.playbook import PlaybookConfig


@pytest.fixture
def settings(tmp_path: Path) -> PlaybookConfig:
    """A campaign that has been billed for two hours."""
    settings = PlaybookConfig(
        checkpoint_dir=tmp_path, dataset_dir=tmp_path / "data", proxy_groups={"drums": ["drum"]}
    )
    clock = FakeClock()
    book = Ledger(tmp_path / ledger.NAME, clock)
    book.open(campaign_identity(settings, 1.0), 500.0, 25.0)
    book.begin_span(Machine("i", "spot", 0.39))
    clock.sleep(7200)
    book.bill_until_now(10)
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "epoch": 1, "split": "train", "loss": 4.0}\n')
    write_state_file(tmp_path, read_state(tmp_path, settings), campaign_identity(settings, 1.0), 83.0)
    return settings


def test_a_state_file_has_the_keys_that_scripts_read(settings: PlaybookConfig) -> None:
    path = settings.checkpoint_dir / campaign_state.NAME
    assert json.loads(path.read_text()) == {
        "elapsed_time": 7200.0, "elapsed_hours": 2.0, "days": 0.0833, "training_days": 0.0833, "step": 10, "epoch": 1,
        "cost_usd": 25.78, "forecast_usd": pytest.approx(25 + 0.78 / 10 * 5000, abs=0.01), "budget_usd": 500.0,
        "gate": None, "flags": [], "gpu_percent": 83.0,
        "campaign": {"model_name": "facebook/musicgen-small", "dataset_dir": "data", "speed": 1.0},
    }  # fmt: skip
    content = read_state_file(settings.checkpoint_dir)
    assert content is not None and content.gpu_percent == 83.0 and content.campaign["speed"] == 1.0


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:40],
        lambda text: text.replace('"step": 10', '"step": "many"'),
        lambda text: text.replace("7200.0", "null"),
        lambda text: json.dumps({**json.loads(text), "campaign": {}}),
        lambda text: json.dumps([text]),
        lambda text: "",
    ],
)
def test_a_damaged_state_file_is_noticed(settings: PlaybookConfig, damage: object) -> None:
    folder, identity = settings.checkpoint_dir, campaign_identity(settings, 1.0)
    path = folder / campaign_state.NAME
    assert check_state_file(folder, identity)
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    assert read_state_file(folder) is None and not check_state_file(folder, identity)
    path.unlink()
    assert check_state_file(folder, identity), "before the first line there is none"


def test_another_campaigns_state_file_is_refused(settings: PlaybookConfig) -> None:
    identity = campaign_identity(settings, 1.0) | {"model_name": "other"}
    with pytest.raises(UserError, match="model_name facebook/musicgen-small, here other"):
        check_state_file(settings.checkpoint_dir, identity)
