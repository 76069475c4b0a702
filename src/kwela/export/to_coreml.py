"""A model to a Core ML package, through torch.export.

- float32 throughout: Core ML runs on Apple's systems only, so a loss of precision could not be measured here.
- Batch 1, as a host draws or plays one thing at a time. Ids and context are int32: Core ML has no int64
  inputs.
- Core ML has no empty tensors, so the MIDI generator's package holds two functions over one set of weights:
  `prime`, without a past, and `main`, with a past of at least 1. A host primes, then calls `main`. Needs iOS
  18 or macOS 15.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kwela.errors import KwelaError
from kwela.export.to_onnx import quiet
from kwela.signature import Signature

LONGEST = 1024  # of a length that may differ: ids a call, past
TARGET = "iOS18"
aten = torch.ops.aten
# coremltools 9 can't convert these operations, so they are decomposed first.
UNKNOWN = (aten.addcmul, aten.clamp_min, aten.lerp)
PACKAGES = ("torch", "coremltools")
NOT_CHECKED = (
    "Core ML's numbers and latency: it runs on Apple's systems only. The package was converted (float64 "
    "steps become float32) and its inputs and outputs inspected; compare it with the ONNX file on a Mac "
    "before use."
)
Ports = dict[str, dict[str, dict[str, str]]]  # function -> "inputs" and "outputs" -> name -> type and shape


def available() -> bool:
    """Return whether coremltools is installed."""
    return importlib.util.find_spec("coremltools") is not None


def convert(
    model: nn.Module, signature: Signature, metadata: Mapping[str, str], package: Path
) -> dict[str, Any]:
    """Write `model` to the folder `package`, read it back, and return its entries of the evidence.

    Raises KwelaError if coremltools can't convert the model, or the package's names aren't the signature's.
    """
    functions: dict[str, nn.Module] = {"main": model}
    if "past" in signature.traced:
        functions["prime"] = Prime(model)
    bars = contextlib.redirect_stderr(io.StringIO())  # of its progress
    with quiet("coremltools"), bars, tempfile.TemporaryDirectory(prefix="kwela-coreml-") as scratch:
        import coremltools as ct

        whole = ct.utils.MultiFunctionDescriptor()
        whole.default_function_name = "main"
        part = Path(scratch) / "main.mlpackage"
        try:
            for name, module in functions.items():
                part = Path(scratch) / f"{name}.mlpackage"
                _convert(module, signature).save(str(part))
                whole.add_function(str(part), src_function_name="main", target_function_name=name)
            if len(functions) > 1:
                part = Path(scratch) / "whole.mlpackage"
                ct.utils.save_multifunction(whole, str(part))
        except Exception as error:  # coremltools raises whatever its passes raise
            raise KwelaError(
                f"Core ML: coremltools can't convert the model: {' '.join(str(error).split())}"
            ) from error
        finished = ct.models.MLModel(str(part), skip_model_load=True)
        finished.user_defined_metadata.update(metadata)
        finished.save(str(package))
        ports = _ports(package)
    for name, found in ports.items():
        wanted = _inputs(functions[name], signature)
        if set(found["inputs"]) != set(wanted) or set(found["outputs"]) != set(signature.outputs):
            raise KwelaError(
                f"Core ML: {name} takes {list(found['inputs'])} and gives {list(found['outputs'])}"
            )
    return {
        "format": f"Core ML, {TARGET}, float32",
        "opset": None,
        "functions": ports,
        "shapes_tested": [],
        "max_abs_error": None,
        "quantisation_drift": None,
        "latency_ms": None,
        "not_checked": [NOT_CHECKED],
    }


class Prime(nn.Module):
    """A cached decoder's first call: the same inputs, and no past."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, emotion: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, keys and values. input_ids: (1, T); emotion: (1, 64); context: (1, T, 4)."""
        return self.model(input_ids, emotion, context, *self.model.empty_past(1))  # type: ignore[operator]


def _inputs(module: nn.Module, signature: Signature) -> list[str]:
    return [name for name in signature.lengths if not (isinstance(module, Prime) and name.startswith("past"))]


def _convert(module: nn.Module, signature: Signature) -> Any:
    """One function as an MLModel, batch 1."""
    import coremltools as ct

    model = module.model if isinstance(module, Prime) else module
    length = {
        name: torch.export.Dim(name, min=1, max=LONGEST)
        for axes in signature.lengths.values()
        for name in axes.values()
        if name != "batch"
    }
    inputs = _inputs(module, signature)
    with torch.no_grad():
        example = signature.example(model, {**signature.traced, "batch": 1})
        program = torch.export.export(
            module,
            (),
            {name: example[name] for name in inputs},
            dynamic_shapes={
                name: {
                    axis: length[size] for axis, size in signature.lengths[name].items() if size != "batch"
                }
                for name in inputs
            },
        )
    return ct.convert(
        program.run_decompositions(torch._decomp.get_decompositions(UNKNOWN)),
        outputs=[ct.TensorType(name=name) for name in signature.outputs],
        minimum_deployment_target=getattr(ct.target, TARGET),
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )


def _ports(package: Path) -> Ports:
    """Read what a package's functions take and give. An output's shape is often left open."""
    import coremltools as ct

    description = ct.models.MLModel(str(package), skip_model_load=True).get_spec().description
    functions = {function.name: function for function in description.functions} or {"main": description}
    return {
        name: {
            "inputs": {port.name: _shape(port.type.multiArrayType) for port in function.input},
            "outputs": {port.name: _shape(port.type.multiArrayType) for port in function.output},
        }
        for name, function in functions.items()
    }


def _shape(array: Any) -> str:
    """Format an array's type, as "float32 (1, 1..1024, 4)"."""
    ranges = [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges]
    ranges = ranges or [(size, size) for size in array.shape]
    sizes = ", ".join(f"{low}..{high}" if low != high else f"{low}" for low, high in ranges)
    kind = array.ArrayDataType.Name(array.dataType).lower()
    return f"{kind} ({sizes})" if sizes else kind
