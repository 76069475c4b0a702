"""What evidence says of the training data: only what the manifests still prove."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import meta, save, settings

from kwela.corpus.pairs.manifest import REPORT
from kwela.corpus.pairs.rows import data_hash
from kwela.engine import checkpoint
from kwela.export import evidence


def said_of(folder: Path, report: dict[str, Any], change_after: bool = False) -> tuple[str, dict[str, Any]]:
    folder.mkdir(parents=True)
    paths = {f"{side}_manifest": folder / f"midi_{side}.jsonl" for side in ("train", "val")}
    for path in paths.values():
        path.write_text("{}\n")
    (folder / REPORT).write_text(json.dumps(report))
    source = save(
        folder / "best.pt",
        "midi_generator",
        {},
        torch.nn.Linear(1, 1),
        config={"model": {}, **settings({name: str(path) for name, path in paths.items()})},
        meta=meta(data_hash(list(paths.values()))),
    )
    if change_after:
        paths["train_manifest"].write_text("{} \n")
    found = evidence.describe_origin(source, checkpoint.load(source), ())
    return found["training_data"]["kind"], found["licence"]


@pytest.mark.parametrize(
    ("place", "report", "changed", "kind", "synthetic", "demo"),
    [
        ("manifests", {"demo": True}, False, "demo corpus", False, True),
        ("manifests", {}, False, "the user's own files", False, False),
        ("manifests", {"demo": True}, True, "unknown", False, None),
        ("smoke/manifests", {}, False, "synthetic smoke set", True, False),
    ],
)
def test_the_kind_of_data_is_said_only_while_its_manifests_prove_it(
    tmp_path: Path,
    place: str,
    report: dict[str, Any],
    changed: bool,
    kind: str,
    synthetic: bool,
    demo: bool | None,
) -> None:
    found, licence = said_of(tmp_path / place, report, changed)
    assert (found, licence["synthetic"], licence["demo"]) == (kind, synthetic, demo)
    assert str(tmp_path) not in json.dumps([found, licence])


def test_an_artefact_is_up_to_date_while_it_and_its_origin_are_what_was_written(tmp_path: Path) -> None:
    artefact, origin = tmp_path / "model.onnx", {"tokenizer_hash": "a", "versions": {"kwela": "1"}}
    artefact.write_bytes(b"12345")
    assert not evidence.is_up_to_date(artefact, origin), "there is none yet"
    evidence.write(artefact, {"opset": 18}, origin)
    written = json.loads((tmp_path / "model.onnx.json").read_text())
    assert (tmp_path / "model.onnx.json").read_text().startswith('{\n "'), "a key a line, for people"
    digest = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"  # sha256sum of 12345
    assert (written["file"], written["bytes"], written["sha256"]) == ("model.onnx", 5, digest)
    assert written["opset"] == 18 and written["tokenizer_hash"] == "a" and written["machine"]["cores"] >= 1
    assert evidence.is_up_to_date(artefact, origin)
    assert not evidence.is_up_to_date(artefact, origin | {"tokenizer_hash": "b"}), "another vocabulary"
    assert not evidence.is_up_to_date(artefact, origin | {"more": 1}), "of which the evidence says nothing"
    artefact.write_bytes(b"12346")
    assert not evidence.is_up_to_date(artefact, origin), "another artefact of the same size"
    artefact.unlink()
    assert not evidence.is_up_to_date(artefact, origin), "no artefact"


@pytest.mark.parametrize("damaged", ["[]", "[1", '{"sha256": 3}'])
def test_an_artefact_with_damaged_evidence_is_out_of_date(tmp_path: Path, damaged: str) -> None:
    artefact = tmp_path / "model.onnx"
    artefact.write_bytes(b"1")
    evidence.path_of(artefact).write_text(damaged)
    assert not evidence.is_up_to_date(artefact, {})


def test_a_folders_hash_is_of_names_sizes_and_contents_in_order_of_path(tmp_path: Path) -> None:
    package = tmp_path / "x.mlpackage"
    with pytest.raises(FileNotFoundError, match=r"x\.mlpackage"):
        evidence.digest(package)
    for name, content in (("b", b"1"), ("Data/a", b"22"), ("Data/Z/c", b"")):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(content)
    written = b"Data/Z/c\0" + b"0\0" + b"Data/a\0" + b"2\0" + b"22" + b"b\0" + b"1\0" + b"1"
    assert evidence.digest(package) == (hashlib.sha256(written).hexdigest(), 3)
    assert evidence.digest(package / "b") == (hashlib.sha256(b"1").hexdigest(), 1)


@pytest.mark.parametrize(("average", "weights"), [(None, "model"), ({"w": torch.ones(1)}, "average (EMA)")])
def test_an_origin_says_which_weights_of_which_step_by_which_versions(
    tmp_path: Path, average: dict[str, Any] | None, weights: str
) -> None:
    source = save(tmp_path / "best.pt", "spectocloud", {}, torch.nn.Linear(1, 1), ema=average)
    found = evidence.describe_origin(source, checkpoint.load(source), ("torch",))
    assert found["checkpoint"] == {
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "family": "spectocloud",
        "epoch": 3,
        "step": 12,
        "weights": weights,
    }
    assert found["tokenizer_hash"] == "" and found["versions"]["torch"] == torch.__version__
    assert found["training_data"] == {
        "sha256": "d" * 64,
        "kind": "unknown",
        "manifests": ["spectocloud_train.jsonl", "spectocloud_val.jsonl"],
    }
    assert found["licence"] == {"synthetic": False, "demo": None, "note": found["licence"]["note"]}


def test_a_folders_hash_changes_with_a_name_and_with_a_byte(tmp_path: Path) -> None:
    package = tmp_path / "x.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "a").write_bytes(b"12")
    first = evidence.digest(package)
    (package / "Data" / "a").rename(package / "Data" / "b")
    second = evidence.digest(package)
    (package / "Data" / "b").write_bytes(b"13")
    third = evidence.digest(package)
    assert len({first[0], second[0], third[0]}) == 3 and first[1] == third[1] == 2
