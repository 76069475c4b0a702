"""Which precision a machine multiplies fastest in, and which one a run trains in.

- What is known of a device decides. Only where nothing is known, the two precisions are timed for a moment.
- A CPU counts as it is used, not as it is: PyTorch and oneDNN may be told to leave instructions out
  (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA).
- A run keeps the precision that it began with, also on another machine, unless the settings ask for another
  or the device can't.
"""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import torch

from kwela.config import Training

Choice = tuple[torch.dtype | None, str | None]  # autocast's dtype (None: float32), and a line to print

_NAMES = {None: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_GAIN = 1.1  # how much faster a timed bfloat16 must be
_SIZE, _TRIES = 512, 5


def name(dtype: torch.dtype | None) -> str:
    """Return the precision's name, as checkpoints keep it."""
    return _NAMES[dtype]


def fastest(device: torch.device) -> tuple[torch.dtype | None, str]:
    """Return the precision in which the device multiplies fastest, and how that is known."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        what = f"compute capability {major}.{minor}"
        if major >= 8:
            return torch.bfloat16, what
        return (torch.float16 if major == 7 else None), what  # most older ones have hardly any float16 units
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64", "i386", "i686"):
        if cpu_has_bfloat16():
            return torch.bfloat16, "native on this CPU"
        return None, "this CPU has no native bfloat16, as PyTorch uses it"
    return _timed(device)


def cpu_has_bfloat16() -> bool:
    """Return whether PyTorch and oneDNN use native bfloat16 instructions of this x86 CPU."""
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL").upper()
    allowed = limit in ("ALL", "DEFAULT") or any(word in limit for word in ("BF16", "FP16", "AMX", "AVX10"))
    # oneDNN also runs bfloat16 where it only imitates it, so its own answer alone does not do.
    return (
        allowed
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and torch.cpu._is_avx512_bf16_supported()
    )


def choose(training: Training, device: torch.device) -> Choice:
    """Return the precision of a new run, and a line to print where the settings do not say it."""
    if not training.amp:
        return None, None
    if training.amp_dtype == "auto":
        dtype, why = fastest(device)
        return dtype, f"training.amp_dtype auto: training in {_NAMES[dtype]} ({why})"
    if training.amp_dtype == "float16" and device.type != "cuda":  # its gradient scaler needs CUDA
        if device.type == "mps":
            return torch.bfloat16, "training.amp_dtype float16 needs a CUDA GPU: training in bfloat16"
        dtype, why = fastest(device)
        return dtype, f"training.amp_dtype float16 needs a GPU: training in {_NAMES[dtype]} ({why})"
    return _DTYPES[training.amp_dtype], None


def resumed(new: Choice, training: Training, device: torch.device, state: dict[str, Any]) -> Choice:
    """Return the precision of a resumed run.

    new: what `choose` returns for the settings and this device. state: of the checkpoint.
    """
    before = state["config"]["training"]
    wanted = new[0]
    asked_for = training.amp_dtype != "auto" and training.amp_dtype != before.get("amp_dtype")
    if training.amp != before.get("amp") or asked_for:
        return new
    began = _began(state)
    if began is None or began == _NAMES[wanted]:
        return new
    if began == "float16" and device.type != "cuda":
        return wanted, f"the run began in float16, which needs a CUDA GPU: going on in {_NAMES[wanted]}"
    here = f"a new one would train in {_NAMES[wanted]}"
    return _DTYPES[began], f"going on in {began}, in which the run began ({here})"


def _began(state: dict[str, Any]) -> str | None:
    """Return in which precision a checkpoint's run trains. None: it is an old one that does not show it."""
    kept = state["meta"].get("precision")
    if kept in _DTYPES:
        return str(kept)
    training = state["config"]["training"]
    if not training.get("amp"):
        return "float32"
    if state["scaler"]:
        return "float16"
    return "bfloat16" if training.get("amp_dtype") == "bfloat16" else None


def _timed(device: torch.device) -> tuple[torch.dtype | None, str]:
    """Time a layer's forward and backward in float32 and in bfloat16."""
    x = torch.ones(_SIZE, _SIZE, device=device)
    weight = torch.ones(_SIZE, _SIZE, device=device, requires_grad=True)

    def seconds(dtype: torch.dtype | None) -> float:
        best = float("inf")
        for _ in range(_TRIES + 1):
            start = time.perf_counter()
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                (x @ weight).sum().backward()
            if device.type == "mps":
                torch.mps.synchronize()
            best = min(best, time.perf_counter() - start)
        return best

    try:
        gain = seconds(None) / seconds(torch.bfloat16)
    except (RuntimeError, TypeError):  # the device does not know bfloat16
        return None, "bfloat16 does not run here"
    faster = gain >= _GAIN
    return (torch.bfloat16 if faster else None), f"timed: bfloat16 runs at {gain:.1f} x the speed of float32"
