"""A checkpoint to artefacts: made beside their place, checked, then put there with their evidence.

An artefact that fails its check leaves nothing, and an older one stays. One that came from the same checkpoint by the
same versions is left as it is.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal

import kwela
from kwela import files
from kwela.engine import checkpoint
from kwela.export import evidence, greedy, to_coreml, to_onnx
from kwela.export.signature import SIGNATURES, Signature
from kwela.midi_generator.model import MidiGenerator
from kwela.music import tokens

Name = Literal["spectocloud", "midi_generator"]


def export(name: Name, path: Path, out: Path) -> list[Path]:
    """Export the checkpoint `path` of family `name` into the folder `out`; returns the files and packages now there.

    Raises UserError for a checkpoint that is damaged, holds code, or is of another family or tokenizer, and for an
    `out` that can't be written; KwelaError, with the figures, where an artefact doesn't compute what PyTorch does.
    """
    state = checkpoint.load(path)
    signature = SIGNATURES[name]
    model = checkpoint.rebuild(
        path, state, name, signature.build, tokens.tokenizer_hash() if signature.writes_ids else ""
    )
    written = []

    artefact = out / f"{name}.onnx"
    origin = evidence.origin(path, state, to_onnx.PACKAGES)
    metadata = _metadata(signature, state, origin)
    if not _up_to_date(artefact, origin):
        with files.draft(artefact, ending=f".tmp{artefact.suffix}") as draft:
            to_onnx.convert(model, signature, metadata, draft)
            findings = to_onnx.check(draft, model, signature)
            if isinstance(model, MidiGenerator):
                window = state["config"]["model"]["window"]
                findings["greedy"] = greedy.compare(draft, model, window, to_onnx.THREADS, to_onnx.TOLERANCE)
            findings["latency_ms"] = to_onnx.latency(draft, model, signature)
        evidence.write(artefact, findings, origin)
        worst, ms = max(findings["max_abs_error"].values()), findings["latency_ms"][0]["p50"]
        print(f"{artefact}: within {worst:.1e} of PyTorch, {ms:.2g} ms a call", flush=True)
    written += [artefact, evidence.path_of(artefact)]

    artefact = out / f"{name}.mlpackage"
    if to_coreml.available():
        origin = evidence.origin(path, state, to_coreml.PACKAGES)
        if not _up_to_date(artefact, origin):
            with files.draft(artefact, ending=f".tmp{artefact.suffix}") as draft:
                findings = to_coreml.convert(model, signature, metadata, draft)
            evidence.write(artefact, findings, origin)
            print(f"{artefact}: converted; Core ML itself runs on Apple's systems only", flush=True)
        written += [artefact, evidence.path_of(artefact)]
    else:
        _no_coreml()

    if signature.writes_ids:
        written.append(out / "grammar.json")  # for a host that has no Python
        files.write(written[-1], json.dumps(tokens.tables(), indent=1) + "\n")
    return written


def _metadata(signature: Signature, state: dict[str, Any], origin: evidence.Evidence) -> dict[str, str]:
    """What the artefact itself tells a host."""
    return {
        "family": state["family"],
        "kwela_version": kwela.__version__,
        "checkpoint_sha256": origin["checkpoint"]["sha256"],
        "tokenizer_hash": state["tokenizer_hash"],
        "model": json.dumps(state["config"]["model"]),
        **({"window": str(state["config"]["model"]["window"])} if signature.writes_ids else {}),
        "training_data": json.dumps(origin["training_data"]),
        "licence": json.dumps(origin["licence"]),
        **signature.meaning,
    }


def _up_to_date(artefact: Path, origin: evidence.Evidence) -> bool:
    fresh = evidence.holds(artefact, origin)
    if fresh:
        print(f"{artefact}: up to date", flush=True)
    return fresh


@functools.cache  # once a process, however many models it exports
def _no_coreml() -> None:
    print(
        "Core ML: coremltools is not installed, so no .mlpackage was written (pip install 'kwela[coreml]')",
        flush=True,
    )
