"""Export a checkpoint: make each artefact beside its place, check it, then put it there with its evidence.

An artefact that fails its check leaves nothing, and an older one stays. One that was made from the same
checkpoint by the same versions is left as it is.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

import kwela
from kwela import families, files, terminal
from kwela.engine import checkpoint
from kwela.errors import KwelaError
from kwela.export import evidence, to_coreml, to_onnx
from kwela.music import tokens
from kwela.signature import Signature


@dataclass(frozen=True)
class Source:
    """What is exported: a checkpoint, its state, the model it holds, and what that takes and gives."""

    path: Path
    state: dict[str, Any]
    model: nn.Module
    signature: Signature


def export(name: str, path: Path, out: Path) -> list[Path]:
    """Export the checkpoint `path` of family `name` into the folder `out`; return what is now there.

    Raises UserError for a checkpoint that is damaged, holds code, or is of another family or tokenizer, and
    for an `out` that can't be written; KwelaError, with the figures, where an artefact doesn't compute what
    PyTorch does.
    """
    family = families.named(name)
    signature, state = family.signature, checkpoint.load(path)
    source = Source(path, state, family.rebuild(path, state), signature)
    written = _export_onnx(source, out / f"{name}.onnx")
    if to_coreml.available():
        written += _export_coreml(source, out / f"{name}.mlpackage")
    else:
        _say_no_coreml()
    if signature.writes_ids:
        grammar = out / "grammar.json"  # for a host that has no Python
        files.write(grammar, json.dumps(tokens.tables(), indent=1) + "\n")
        written.append(grammar)
    return written


def _export_onnx(source: Source, artefact: Path) -> list[Path]:
    origin = evidence.describe_origin(source.path, source.state, to_onnx.PACKAGES)
    model, signature = source.model, source.signature
    if not _up_to_date(artefact, origin):
        with _draft(artefact) as draft:
            to_onnx.convert(model, signature, _metadata(source, origin), draft)
            findings = to_onnx.check(draft, model, signature)
            if signature.check_use:
                settings = source.state["config"]["model"]
                findings |= signature.check_use(draft, model, settings, to_onnx.THREADS, to_onnx.TOLERANCE)
            findings["latency_ms"] = to_onnx.latency(draft, model, signature)
        evidence.write(artefact, findings, origin)
        worst, ms = max(findings["max_abs_error"].values()), findings["latency_ms"][0]["p50"]
        terminal.say(f"{artefact}: within {worst:.1e} of PyTorch, {ms:.2g} ms a call")
    return [artefact, evidence.path_of(artefact)]


def _export_coreml(source: Source, artefact: Path) -> list[Path]:
    origin = evidence.describe_origin(source.path, source.state, to_coreml.PACKAGES)
    if not _up_to_date(artefact, origin):
        metadata = _metadata(source, origin)
        with files.draft(artefact, ending=f".tmp{artefact.suffix}") as draft:
            findings = to_coreml.convert(source.model, source.signature, metadata, draft)
        evidence.write(artefact, findings, origin)
        terminal.say(f"{artefact}: converted; Core ML itself runs on Apple's systems only")
    return [artefact, evidence.path_of(artefact)]


@contextmanager
def _draft(artefact: Path) -> Iterator[Path]:
    """Give the path of a draft. A check's error begins with the artefact's name, not with the draft's."""
    with files.draft(artefact, ending=f".tmp{artefact.suffix}") as draft:
        try:
            yield draft
        except KwelaError as error:
            raise type(error)(f"{artefact.name}: {error}") from error


def _metadata(source: Source, origin: evidence.Evidence) -> dict[str, str]:
    """Return what the artefact itself says to a host."""
    state, signature = source.state, source.signature
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
    up_to_date = evidence.is_up_to_date(artefact, origin)
    if up_to_date:
        terminal.say(f"{artefact}: up to date")
    return up_to_date


@functools.cache  # once a process, however many models it exports
def _say_no_coreml() -> None:
    terminal.say(
        "Core ML: coremltools is not installed, so no .mlpackage was written (pip install 'kwela[coreml]')"
    )
