"""The GPU meter, beside an nvidia-smi of our own on PATH."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from kwela.machines import gpu, programs


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "nvidia-smi"


def answers(smi: Path, utilisation: str, names: str, status: int = 0) -> None:
    """As nvidia-smi does, one line a card; a question other than ours fails."""
    smi.write_text(
        f"""#!/bin/sh
case "$*" in
"--query-gpu=utilization.gpu --format=csv,noheader,nounits") printf '{utilisation}' ;;
"--query-gpu=name,memory.total --format=csv,noheader,nounits") printf '{names}' ;;
*) exit 6 ;;
esac
exit {status}
"""
    )
    smi.chmod(0o755)


def test_the_playbooks_card_is_described_in_its_form(smi: Path) -> None:
    answers(smi, "93\\n", "Tesla T4, 15360\\n")
    assert gpu.describe() == "Tesla T4 (16.1 GB VRAM)"
    assert gpu.utilisation() == 93.0


def test_several_cards_are_averaged_and_counted(smi: Path) -> None:
    answers(smi, "100\\n0\\n50\\n[N/A]\\n", "Tesla T4, 15360\\nTesla T4, 15360\\nNVIDIA L4, 23034\\n")
    assert gpu.utilisation() == 50.0
    assert gpu.utilisations() == [100.0, 0.0, 50.0]
    assert gpu.describe() == "2 x Tesla T4 (16.1 GB VRAM), NVIDIA L4 (24.2 GB VRAM)"


def test_without_a_gpu_there_is_no_figure_rather_than_zero(smi: Path) -> None:
    assert gpu.utilisation() is None and gpu.describe() == "none"
    answers(smi, "NVIDIA-SMI has failed because it couldn't communicate with the driver\\n", "", status=9)
    assert gpu.utilisation() is None and gpu.describe() == "none"
    answers(smi, "No devices were found\\n", "No devices were found\\n")
    assert gpu.utilisation() is None and gpu.describe() == "none"
    answers(smi, "0\\n", "Tesla T4, 15360\\n")  # a card at rest is another thing
    assert gpu.utilisation() == 0.0


def test_what_a_hanging_program_started_is_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "wrapper"
    script.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o755)

    def is_alive() -> bool:
        """Return whether the wrapper's sleep still runs; one that has ended may wait for its parent."""
        time.sleep(0.1)
        child = (tmp_path / "child").read_text().strip()
        state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True).stdout
        return state.strip()[:1] not in ("", "Z")

    assert programs.output([str(script)], 0.5) is None and not is_alive()
    monkeypatch.setattr(programs.os, "killpg", lambda number, sign: os.kill(number, sign))  # the control
    programs._hanging.pop(str(script)).wait(5)
    assert programs.output([str(script)], 0.5) is None and is_alive()
    os.kill(int((tmp_path / "child").read_text()), 9)
