"""Settings: precedence, paths, and errors that name the key."""

from pathlib import Path

import pytest
import yaml

from kwela import config
from kwela.errors import UserError
from kwela.midi_generator.config import MidiGeneratorConfig
from kwela.spectocloud.config import SpectocloudConfig


@pytest.mark.parametrize(("schema", "batch_size"), [(SpectocloudConfig, 32), (MidiGeneratorConfig, 64)])
def test_the_shipped_yaml_spells_out_the_defaults(schema: type[config.TrainConfig], batch_size: int) -> None:
    shipped = config.load(schema)
    root = config.repo_root()
    bare = schema()
    assert shipped.training == bare.training
    assert shipped.optim == bare.optim
    assert shipped.scheduler == bare.scheduler
    assert shipped.data.train_manifest == root / bare.data.train_manifest
    assert shipped.data.batch_size == batch_size


def test_precedence_is_defaults_then_file_then_preset_then_set(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"training": {"epochs": 7, "log_every": 3}, "data": {"batch_size": 9}}))
    loaded = config.load(MidiGeneratorConfig, file, preset="tiny", overrides=["training.epochs=5"])
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
        config.load(MidiGeneratorConfig, file)
    message = str(caught.value)
    assert "mine.yaml" in message
    assert expected in message
    assert "\n" not in message


def test_a_bad_override_names_itself() -> None:
    with pytest.raises(
        UserError, match=r"--set optim\.lrr=1: optim\.lrr: unknown key \(did you mean optim\.lr\?\)"
    ):
        config.load(MidiGeneratorConfig, overrides=["optim.lrr=1"])
    with pytest.raises(UserError, match=r"write it as a\.b=value"):
        config.load(MidiGeneratorConfig, overrides=["optim.lr"])


def test_the_same_paths_come_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = config.load(SpectocloudConfig, Path("spectocloud_training_config.yaml")).data
    monkeypatch.chdir(config.repo_root() / "training" / "cuda_session")
    beside = config.load(SpectocloudConfig, Path("spectocloud_training_config.yaml")).data
    assert here == beside
    assert here.train_manifest.is_absolute()


def test_a_missing_config_says_where_it_was_sought(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such config file \(searched in "):
        config.load(MidiGeneratorConfig, Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("mine.yaml", "seed: 2020-13-45", "month must be in 1..12"),
        ("mine.yaml", "seed: !!bool x", "a value does not fit its tag"),
        ("mine.yaml", "seed: " + "[" * 5000, "nested too deeply"),
        ("mine.json", "[" * 200_000, "nested too deeply"),
        ("mine.yaml", "seed: " + "x" * 100_000, "seed: must be a whole number"),
        ("mine.yaml", "seed: 1\ntraining: [1", "not YAML at line 2, column 13"),
        ("mine.json", '{"seed": 1,\n}', "not JSON at line "),
        (
            "mine.json",
            '{"data": {"cache_dir": "a\\u0000b"}}',
            "data.cache_dir: holds a character that is no text",
        ),
        (
            "mine.json",
            '{"data": {"cache_dir": "a\\ud800b"}}',
            "data.cache_dir: holds a character that is no text",
        ),
        ("mine.yaml", "<html><body>404</body></html>", "it is a web page, not the file; download it again"),
    ],
)
def test_an_odd_file_is_one_short_line(tmp_path: Path, name: str, text: str, expected: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        config.load(MidiGeneratorConfig, file)
    message = str(caught.value).removeprefix(str(file))
    assert expected in message and len(message) < 200 and "\n" not in message


@pytest.mark.parametrize(("name", "text"), [("mine.yaml", "seed: 7\r\n"), ("mine.JSON", '{"seed": 7}')])
def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert config.read_file(file) == {"seed": 7}
    file.write_text(text, encoding="utf-16")
    with pytest.raises(UserError, match="settings not readable: its text is UTF-16; save it as UTF-8"):
        config.read_file(file)


def test_a_few_aliases_do_not_become_a_billion_values(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    lists = ["&a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [
        f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)
    ]
    file.write_text("seed:\n" + "".join(f"- {one}\n" for one in lists))
    with pytest.raises(
        UserError, match=r"mine\.yaml: not readable as a config: line 3: aliases \(\*name\) are not"
    ):
        config.load(MidiGeneratorConfig, file)
    assert (
        len(yaml.safe_load(file.read_text())["seed"][8]) == 9
    )  # the control: YAML itself takes it, 9^9 values


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("training.epochs=", "training.epochs: must be a whole number (got None)"),
        ("model.width=100", "model: width 100 must be a multiple"),
        ("optim.betas=[0.9, 2]", "optim.betas: each must be in [0, 1)"),
        ("seed=2020-13-45", "not a YAML value"),
    ],
)
def test_a_bad_value_of_an_override_is_not_blamed_on_the_file(item: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(MidiGeneratorConfig, overrides=["training.log_every=3", item])
    assert str(caught.value).startswith(f"--set {item}: {expected}")


def test_a_bad_value_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training: {epochs: 0}")
    with pytest.raises(UserError, match=r"mine\.yaml: training\.epochs: "):
        config.load(MidiGeneratorConfig, file, overrides=["seed=1", "training.log_every=2"])
