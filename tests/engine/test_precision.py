"""Training takes the precision that is fast here, says so, and keeps it in a resumed run."""

from __future__ import annotations

import pytest
import torch
from runs import differences
from trainee import fit

from kwela.config import Training
from kwela.engine import checkpoint, precision
from kwela.errors import Interrupted

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
AUTO = Training(amp_dtype="auto")
SHORT = ("training.epochs=2", "training.min_epochs=0", "training.amp_dtype=auto", "scheduler.warmup_steps=0")


@pytest.fixture
def native(monkeypatch):
    """A switch: an x86 CPU with native bfloat16, or one without it."""

    def switch(there: bool) -> None:
        monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: there)

    return switch


def test_precision_is_what_was_asked_or_says_so():
    assert precision.choose(Training(amp=False), CUDA) == (None, None)
    assert precision.choose(Training(amp_dtype="float16"), CUDA) == (torch.float16, None)
    assert precision.choose(Training(amp_dtype="bfloat16"), CPU) == (torch.bfloat16, None)
    for dtype in ("float16", "bfloat16"):  # a scaler is not sure to work on Apple's GPU
        assert precision.choose(Training(amp_dtype=dtype), MPS)[0] is torch.bfloat16
    assert "needs a CUDA GPU" in (precision.choose(Training(amp_dtype="float16"), MPS)[1] or "")
    dtype, note = precision.choose(Training(amp_dtype="float16"), CPU)
    assert dtype in (torch.bfloat16, None) and "float16 needs a GPU" in note


@pytest.mark.parametrize(("there", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_a_cpu_trains_in_bfloat16_only_where_it_is_native(native, there, dtype):
    native(there)
    for training in (AUTO, Training(amp_dtype="float16")):
        chosen, note = precision.choose(training, CPU)
        assert chosen is dtype and f"training in {precision.name(dtype)} (" in note
    assert precision.choose(Training(amp_dtype="bfloat16"), CPU)[0] is torch.bfloat16  # it was asked for
    assert precision.choose(Training(amp=False, amp_dtype="auto"), CPU) == (None, None)


@pytest.mark.parametrize(
    ("limit", "capability", "native"),
    [
        (None, "AVX512", True),
        ("AVX512_CORE_AMX", "AVX512", True),
        ("AVX512_CORE", "AVX512", False),  # oneDNN then imitates bfloat16, and says that it runs
        ("AVX2", "AVX512", False),
        (None, "AVX2", False),
        (None, "DEFAULT", False),
    ],
)
def test_a_cpu_counts_as_it_is_used(monkeypatch, limit, capability, native):
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert precision.cpu_has_bfloat16() is native


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), None)],
)
def test_a_gpu_trains_in_what_its_generation_is_fast_in(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.choose(AUTO, CUDA)[0] is dtype


def test_a_device_of_which_nothing_is_known_is_timed(monkeypatch):
    monkeypatch.setattr(precision.platform, "machine", lambda: "riscv64")
    generator = torch.get_rng_state()
    dtype, note = precision.choose(AUTO, CPU)
    assert dtype in (None, torch.bfloat16) and "timed: bfloat16 runs at " in note
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.parametrize("began", [True, False])
def test_a_resumed_run_keeps_its_precision_on_another_machine(tmp_path, native, capsys, began):
    native(began)
    fit(tmp_path / "whole", *SHORT, quiet=True)
    with pytest.raises(Interrupted):
        fit(tmp_path / "part", *SHORT, quiet=True, switches={"signal_at": (3,)})
    native(not began)
    fit(tmp_path / "part", *SHORT)
    name = "bfloat16" if began else "float32"
    assert f"going on in {name}, in which the run began" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "part" / "last.pt")["meta"]["precision"] == name
    assert differences(tmp_path / "whole", tmp_path / "part") == []
    fit(tmp_path / "other", *SHORT, quiet=True)  # the control: a new run on the other machine
    assert differences(tmp_path / "whole", tmp_path / "other") != []


def test_what_the_settings_ask_for_anew_is_taken(tmp_path, native):
    native(False)
    with pytest.raises(Interrupted):
        fit(tmp_path / "out", *SHORT, quiet=True, switches={"signal_at": (3,)})
    fit(tmp_path / "out", *SHORT[:2], "training.amp_dtype=bfloat16", quiet=True)
    assert checkpoint.load(tmp_path / "out" / "last.pt")["meta"]["precision"] == "bfloat16"


def test_a_checkpoint_made_before_shows_its_precision_by_its_settings_or_its_scaler():
    old = {"meta": {}, "scaler": {}, "config": {"training": {"amp": True, "amp_dtype": "bfloat16"}}}
    new = (None, "new")
    assert precision.resumed(new, AUTO, CPU, old)[0] is torch.bfloat16
    scaled = old | {"scaler": {"scale": 1.0}}
    assert precision.resumed(new, AUTO, CUDA, scaled)[0] is torch.float16
    assert "began in float16, which needs a CUDA GPU" in precision.resumed(new, AUTO, CPU, scaled)[1]
