"""Write a model to one ONNX file, and check that onnxruntime computes with it what PyTorch does."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from kwela.errors import KwelaError
from kwela.signature import Signature

OPSET = 20
TOLERANCE = 1e-4  # largest absolute difference from PyTorch, on any output
THREADS = 2  # of onnxruntime
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


def convert(model: nn.Module, signature: Signature, metadata: Mapping[str, str], file: Path) -> None:
    """Write `model` to `file` as one ONNX file, weights inside, every length in `signature` symbolic."""
    names = {name for axes in signature.lengths.values() for name in axes.values()}
    length = {name: torch.export.Dim(name) for name in names}
    with torch.no_grad(), quiet("torch.onnx"):
        program = torch.onnx.export(
            model,
            kwargs=signature.example(model, signature.traced),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(signature.lengths),
            output_names=list(signature.outputs),
            dynamic_shapes={
                name: {axis: length[size] for axis, size in axes.items()}
                for name, axes in signature.lengths.items()
            },
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto)
    onnx.save_model(proto, file)


def check(file: Path, model: nn.Module, signature: Signature) -> dict[str, Any]:
    """Compare `file` in onnxruntime with `model` at the tested sizes, and return its entries of the evidence.

    Raises KwelaError with the figure and the sizes where an output differs by more than TOLERANCE, in its
    shape, or isn't finite.
    """
    runtime = session(file)
    for port in runtime.get_inputs():
        lengths = {axis: size for axis, size in enumerate(port.shape) if isinstance(size, str)}
        if lengths != signature.lengths[port.name]:
            raise KwelaError(f"{port.name} came out as {port.shape}: a length was taken for a constant")
    errors = dict.fromkeys(signature.outputs, 0.0)
    for sizes in signature.tested:
        with torch.no_grad():
            inputs = signature.example(model, sizes)
            wanted = dict(zip(signature.outputs, model(**inputs), strict=True))
        got = runtime.run(list(wanted), {name: tensor.numpy() for name, tensor in inputs.items()})
        at = ", ".join(f"{name} {size}" for name, size in sizes.items())
        for (name, right), array in zip(wanted.items(), got, strict=True):
            if array.shape != right.shape:
                raise KwelaError(f"{name} has shape {array.shape}, PyTorch's {tuple(right.shape)}, at {at}")
            error = float(np.abs(array - right.numpy()).max(initial=0))
            if not error <= TOLERANCE:
                raise KwelaError(
                    f"{name} differs from PyTorch's by {error:.2g} at {at} "
                    f"(allowed: {TOLERANCE:g}); nothing was exported"
                )
            errors[name] = max(errors[name], error)
    return {
        "format": "ONNX",
        "opset": OPSET,
        "inputs": {port.name: f"{port.type} {port.shape}" for port in runtime.get_inputs()},
        "outputs": {port.name: f"{port.type} {port.shape}" for port in runtime.get_outputs()},
        "shapes_tested": list(signature.tested),
        "max_abs_error": errors,
        "tolerance": TOLERANCE,
        "quantisation_drift": None,
        "not_checked": ["other execution providers than onnxruntime's on the CPU"],
    }


def latency(file: Path, model: nn.Module, signature: Signature, runs: int = 60) -> list[dict[str, Any]]:
    """Measure a call at each timed size: milliseconds, p50 and p95 of `runs`, after ten unmeasured calls."""
    runtime = session(file)
    rows = []
    for sizes in signature.timed:
        with torch.no_grad():
            feed = {name: tensor.numpy() for name, tensor in signature.example(model, sizes).items()}
        times = []
        for _ in range(10 + runs):
            started = time.perf_counter()
            runtime.run(None, feed)
            times.append(1000 * (time.perf_counter() - started))
        p50, p95 = np.percentile(times[10:], (50, 95))
        rows.append({**sizes, "p50": round(float(p50), 3), "p95": round(float(p95), 3), "runs": runs})
    return rows


def session(file: Path) -> onnxruntime.InferenceSession:
    """Open `file` on onnxruntime's CPU provider."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _strip(proto: onnx.ModelProto) -> None:
    """Drop torch's notes on how it made the graph: they hold source lines with this machine's paths."""
    graph = proto.graph
    for holder in (
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *graph.value_info,
    ):
        del holder.metadata_props[:]
        holder.doc_string = ""


@contextmanager
def quiet(exporter: str) -> Iterator[None]:
    """Hold back an exporter's remarks on optional packages, on its own deprecations and on where it runs."""
    logger = logging.getLogger(exporter)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
