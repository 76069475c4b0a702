"""The playbook's settings file, and its front door to the data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kwela import playbook
from kwela.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "corpus"))

from made_mtt import make  # noqa: E402


def test_the_shipped_file_spells_out_the_defaults() -> None:
    shipped = json.loads((ROOT / "ai-service" / "config.json").read_text())
    assert set(shipped) == set(playbook.PlaybookConfig.model_fields)
    settings = playbook.load(ROOT / "ai-service" / "config.json")
    assert settings.dataset_dir == ROOT / "ai-service" / "datasets"
    assert settings.num_epochs == 20 and settings.go_nogo_thresholds.max_cost_usd == 600


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_epoch": 3}, r"num_epoch: unknown key \(did you mean num_epochs\?\)"),
        ({"go_nogo_thresholds": {"max_cost": 1}}, r"go_nogo_thresholds.max_cost: unknown key .*max_cost_usd"),
        ({"batch_size": 0}, "batch_size: must be at least 1"),
        ({"flags": {"nan": {"action": "shout"}}}, "flags.nan.action: .*'warn' or 'stop'"),
        ({"proxy_groups": {}}, "proxy_groups: "),
    ],
)
def test_a_bad_key_or_value_is_named(tmp_path: Path, change: dict, complaint: str) -> None:
    values = json.loads((ROOT / "ai-service" / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"config\.json: {complaint}"):
        playbook.load(tmp_path / "config.json")


def setup(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "dataset_setup.py", *arguments]
    return subprocess.run(command, cwd=ROOT / "ai-service", capture_output=True, text=True, timeout=120)


def test_the_front_door_makes_the_set(tmp_path: Path) -> None:
    make(tmp_path / "magnatagatune")
    done = setup("--datasets", str(tmp_path), "--min-tags", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Loaded 40 clips with 26 tag columns\n")
    assert "Created training subset:" in done.stdout
    assert (tmp_path / "amapiano_proxy" / "training_metadata.csv").is_file()
    report = json.loads(setup("--datasets", str(tmp_path), "--min-tags", "2", "--json").stdout)
    assert report["kept"] == len(list((tmp_path / "amapiano_proxy" / "audio").iterdir()))


def test_without_data_one_line_says_where_it_is(tmp_path: Path) -> None:
    done = setup("--datasets", str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "mp3.zip.002 (https://" in done.stderr and "annotations_final.csv (https://" in done.stderr
    assert not (tmp_path / "amapiano_proxy").exists()
