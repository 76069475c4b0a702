"""Write and check the evidence of an artefact: a JSON file that stands beside it as `<file name>.json`.

The evidence has three parts:

- The file: its sha256 and its bytes.
- What the exporter found: format, inputs, outputs, opset, shapes_tested, max_abs_error (of each output,
  against PyTorch), tolerance, latency_ms on which machine, and not_checked. quantisation_drift is null,
  because kwela quantises nothing.
- The origin: the checkpoint (its sha256, epoch, step and kind of weights), training_data (its hash and kind),
  its licence, and the versions of the packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kwela
from kwela import files
from kwela.corpus.pairs import manifest, rows

Evidence = dict[str, Any]
# Raise this version when a change of the code changes an artefact: its numbers, names, shapes or metadata.
# The next export then makes older artefacts again. tests/export/test_recipe.py compares new exports with
# recorded ones, so it fails when the version must be raised.
RECIPE_VERSION = 1


def path_of(artefact: Path) -> Path:
    """Return the path of an artefact's evidence: `<file name>.json`, beside it."""
    return artefact.with_name(artefact.name + ".json")


def write(artefact: Path, findings: Evidence, origin: Evidence) -> None:
    """Write the evidence of `artefact`. The artefact must exist, because its hash is part of the evidence."""
    sha256, size = digest(artefact)
    evidence = {
        "file": artefact.name,
        "sha256": sha256,
        "bytes": size,
        **findings,
        "machine": machine(),
        **origin,
    }
    files.write(path_of(artefact), json.dumps(evidence, indent=1) + "\n")


def is_up_to_date(artefact: Path, origin: Evidence) -> bool:
    """Return whether `artefact` is undamaged and its evidence names this origin."""
    try:
        written = json.loads(path_of(artefact).read_text(encoding="utf-8"))
        same_origin = all(written[key] == value for key, value in origin.items())
        return same_origin and written["sha256"] == digest(artefact)[0]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def digest(artefact: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file or a folder, and its size in bytes.

    The hash of a folder covers the relative path, size and content of each file, in the order of the paths.
    Raises FileNotFoundError if there is no file.
    """
    if artefact.is_file():
        return files.sha256(artefact), artefact.stat().st_size
    paths = sorted(path for path in artefact.rglob("*") if path.is_file())
    if not paths:
        raise FileNotFoundError(artefact)
    hasher = hashlib.sha256()
    for path in paths:
        hasher.update(f"{path.relative_to(artefact).as_posix()}\0{path.stat().st_size}\0".encode())
        hasher.update(path.read_bytes())
    return hasher.hexdigest(), sum(path.stat().st_size for path in paths)


def describe_origin(checkpoint: Path, state: Mapping[str, Any], packages: Sequence[str]) -> Evidence:
    """Describe the checkpoint, the training data and the package versions that an artefact is made from.

    state: what the checkpoint holds. packages: the names of those whose versions matter. An artefact is made
    again when its origin has changed.
    """
    progress = state["progress"]
    return {
        "checkpoint": {
            "sha256": files.sha256(checkpoint),
            "family": state["family"],
            "epoch": progress["epoch"],
            "step": progress["step"],
            "weights": "average (EMA)" if state["ema"] else "model",
        },
        "tokenizer_hash": state["tokenizer_hash"],
        **_training_data(state),
        "versions": {"kwela": kwela.__version__, "recipe": RECIPE_VERSION}
        | {name: version(name) for name in packages},
    }


def _training_data(state: Mapping[str, Any]) -> Evidence:
    """Describe the training data (its hash and kind) and what is known about the rights in it."""
    data_hash = state["meta"]["data_hash"]
    train, val = (Path(state["config"]["data"][f"{side}_manifest"]) for side in ("train", "val"))
    synthetic = train.parts[-3:-1] == ("smoke", "manifests")
    try:
        manifests_unchanged = rows.data_hash([train, val]) == data_hash
    except (OSError, ValueError):
        manifests_unchanged = False
    demo = manifest.is_demo(train.parent) if manifests_unchanged else None
    # The notes are part of the origin: rewording one makes every artefact out of date.
    if synthetic:
        kind, note = "synthetic smoke set", "random tones: no musical use"
    elif demo:
        kind, note = (
            "demo corpus",
            "free encodings of music21, rendered; rights of each piece: rights.json of the corpus",
        )
    elif manifests_unchanged:
        kind, note = "the user's own files", "kwela does not know their rights"
    else:
        kind, note = (
            "unknown",
            "the manifests it was trained on are not at their place any more, or have changed",
        )
    return {
        "training_data": {"sha256": data_hash, "kind": kind, "manifests": [train.name, val.name]},
        "licence": {"synthetic": synthetic, "demo": demo, "note": note},
    }


def machine() -> Evidence:
    """Describe the machine that a latency was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return {"cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
