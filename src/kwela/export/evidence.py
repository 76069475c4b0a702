"""The JSON that stands beside every artefact: what it is, where it came from, what was checked and what not.

`<file name>.json`: format, sha256, bytes, inputs, outputs, opset, shapes_tested, max_abs_error (per output,
against PyTorch), tolerance, quantisation_drift (null: nothing is quantised), latency_ms and machine,
checkpoint (sha256, epoch, step, which weights), training_data (its hash and kind), licence, versions,
not_checked.
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
# Raise this when the same checkpoint gives another artefact: other numbers, names, shapes or metadata.
# Artefacts of an earlier version are then made again. tests/export/test_recipe.py compares exports with
# recorded ones and shows when.
RECIPE_VERSION = 1


def path_of(artefact: Path) -> Path:
    """Return the path of an artefact's evidence: `<file name>.json`, beside it."""
    return artefact.with_name(artefact.name + ".json")


def write(artefact: Path, findings: Evidence, origin: Evidence) -> None:
    """Write the evidence of `artefact`, which is in its place."""
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


def holds(artefact: Path, origin: Evidence) -> bool:
    """Return whether `artefact` is whole and was made from this very checkpoint, by these versions."""
    try:
        written = json.loads(path_of(artefact).read_text(encoding="utf-8"))
        same_origin = all(written[key] == value for key, value in origin.items())
        return same_origin and written["sha256"] == digest(artefact)[0]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def digest(artefact: Path) -> tuple[str, int]:
    """Return the SHA-256 and the bytes of a file or a folder.

    Of a folder are hashed its files' relative paths, sizes and contents, in order of path.
    """
    if artefact.is_file():
        return files.sha256(artefact), artefact.stat().st_size
    parts = sorted(path for path in artefact.rglob("*") if path.is_file())
    if not parts:
        raise FileNotFoundError(artefact)
    whole = hashlib.sha256()
    for path in parts:
        whole.update(f"{path.relative_to(artefact).as_posix()}\0{path.stat().st_size}\0".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest(), sum(path.stat().st_size for path in parts)


def origin(path: Path, state: Mapping[str, Any], packages: Sequence[str]) -> Evidence:
    """Describe what an artefact was made from and by. A second export must find this part unchanged."""
    progress = state["progress"]
    return {
        "checkpoint": {
            "sha256": files.sha256(path),
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
    """Describe the data: its hash, its kind, and what follows for the use of the model."""
    data_hash = state["meta"]["data_hash"]
    train, val = (Path(state["config"]["data"][f"{side}_manifest"]) for side in ("train", "val"))
    synthetic = train.parts[-3:-1] == ("smoke", "manifests")
    try:
        known = rows.data_hash([train, val]) == data_hash
    except (OSError, ValueError):
        known = False
    demo = manifest.is_demo(train.parent) if known else None
    if synthetic:
        kind, note = "synthetic smoke set", "random tones: no musical use"
    elif demo:
        kind, note = (
            "demo corpus",
            "free encodings of music21, rendered; rights of each piece: rights.json of the corpus",
        )
    elif known:
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
