"""The recipe's version is raised when the same weights give another artefact: recorded values show that they
do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import CLOUD_SIZE, MIDI_SIZE

from kwela import families, files
from kwela.export import evidence, to_onnx

RECORDED = Path(__file__).with_name("recipe.json")
SIZES = {"spectocloud": CLOUD_SIZE, "midi_generator": MIDI_SIZE}


def described(family: str) -> dict[str, Any]:
    """What an artefact of a family is: what it says of itself, and what it computes with weights from a
    formula.
    """
    signature = families.named(family).signature
    model = families.named(family).build(SIZES[family]).eval()
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight.copy_(0.2 * torch.sin(0.7 * torch.arange(weight.numel()) + number).view_as(weight))
        outputs = model(*signature.example(model, signature.tested[0]).values())
    lengths = {name: dict(axes) for name, axes in signature.lengths.items()}
    words = json.dumps([lengths, signature.outputs, dict(signature.meaning), to_onnx.OPSET])
    values = {
        name: [round(float(value), 5) for value in output.flatten()[:: max(1, output.numel() // 8)]]
        for name, output in zip(signature.outputs, outputs, strict=True)
    }
    return {"words": files.sha256(words.encode()), "values": values}


@pytest.mark.parametrize("family", SIZES)
def test_the_same_weights_give_the_artefact_of_this_version(family: str) -> None:
    recorded, now = json.loads(RECORDED.read_text()), described(family)
    assert recorded["version"] == evidence.RECIPE_VERSION, f"record again: python {Path(__file__).name}"
    why = "another artefact than recorded: raise kwela.export.evidence.RECIPE_VERSION, then record again"
    assert now["words"] == recorded[family]["words"], why
    for name, values in recorded[family]["values"].items():
        assert now["values"][name] == pytest.approx(values, abs=2e-4), why


def test_another_version_makes_an_artefact_again(tmp_path: Path) -> None:
    """So does the recipe of older kwelas, a hash of their source text."""
    artefact = tmp_path / "model.onnx"
    artefact.write_bytes(b"graph")
    evidence.write(artefact, {}, {"versions": {"recipe": "0b21133609e01d0e"}})
    assert not evidence.is_up_to_date(artefact, {"versions": {"recipe": evidence.RECIPE_VERSION}})
    evidence.write(artefact, {}, {"versions": {"recipe": evidence.RECIPE_VERSION}})
    assert evidence.is_up_to_date(artefact, {"versions": {"recipe": evidence.RECIPE_VERSION}})


if __name__ == "__main__":
    kept = {"version": evidence.RECIPE_VERSION} | {family: described(family) for family in SIZES}
    RECORDED.write_text(json.dumps(kept, indent=1) + "\n")
    sys.exit()
