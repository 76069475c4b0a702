"""Settings: precedence, paths, and errors that name the key."""

from pathlib import Path

import pytest
import yaml

from kwela import config
from kwela.errors import UserError


@pytest.mark.parametrize("family", ["spectocloud", "midi"])
def test_the_shipped_yaml_spells_out_the_defaults(family: str) -> None:
    shipped = config.load(family)
    root = config.repo_root()
    bare = config.SCHEMAS[family]()
    assert shipped.training == bare.training
    assert shipped.optim == bare.optim
    assert shipped.scheduler == bare.scheduler
    assert shipped.data.train_manifest == root / bare.data.train_manifest
    assert shipped.data.batch_size == {"spectocloud": 32, "midi": 64}[family]


def test_precedence_is_defaults_then_file_then_preset_then_set(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"training": {"epochs": 7, "log_every": 3}, "data": {"batch_size": 9}}))
    loaded = config.load("midi", file, preset="tiny", overrides=["training.epochs=5"])
    assert loaded.training.log_every == 3  # file over default
    assert loaded.data.batch_size == 2  # preset over file
    assert loaded.training.epochs == 5  # --set over preset


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {epoch: 3}", "training.epoch: unknown key (did you mean training.epochs?)"),
        ("trainin: {epochs: 3}", "trainin: unknown key (did you mean training?)"),
        ("training: 3", "training: expected a group of keys"),
        ("training: {epochs: many}", "training.epochs: "),
        ("training: {epochs: 0}", "training.epochs: "),
        ("optim: {betas: [0.9, 1.5]}", "optim.betas: each must be in [0, 1)"),
        ("model: {width: 100, heads: 6}", "model: width 100 must be a multiple"),
        ("- a\n- b", "a config is a mapping"),
        ("a: [", "not readable as a config"),
    ],
)
def test_a_bad_config_is_one_line_naming_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        config.load("midi", file)
    message = str(caught.value)
    assert "mine.yaml" in message
    assert expected in message
    assert "\n" not in message


def test_a_bad_override_names_itself() -> None:
    with pytest.raises(UserError, match=r"--set optim\.lrr=1: optim\.lrr: unknown key \(did you mean optim\.lr\?\)"):
        config.load("midi", overrides=["optim.lrr=1"])
    with pytest.raises(UserError, match=r"write it as a\.b=value"):
        config.load("midi", overrides=["optim.lr"])


def test_the_same_paths_come_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = config.load("spectocloud", Path("spectocloud_training_config.yaml")).data
    monkeypatch.chdir(config.repo_root() / "training" / "cuda_session")
    beside = config.load("spectocloud", Path("spectocloud_training_config.yaml")).data
    assert here == beside
    assert here.train_manifest.is_absolute()


def test_a_missing_config_says_where_it_was_sought(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such config file \(sought in "):
        config.load("midi", Path("nowhere.yaml"))
