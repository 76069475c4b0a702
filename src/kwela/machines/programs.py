"""Ask another program something, without ever waiting for one that can't be killed.

A program that waits for a lost driver or disk outlives SIGKILL, and `subprocess.run` waits for it for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

SHUTDOWN_QUESTION = ["systemctl", "show", "--property=SystemState", "--value"]

# Program -> the process of it that outlived its kill. No other is started before it has ended.
_hanging: dict[str, subprocess.Popen[str]] = {}


def output(command: Sequence[str], seconds: float) -> str | None:
    """Return what a program prints; None if it is missing, fails, or takes longer than `seconds`."""
    earlier = _hanging.get(command[0])
    if earlier is not None and earlier.poll() is None:
        return None
    _hanging.pop(command[0], None)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,  # a group that can be killed with all that it started
        )
    except OSError:
        return None
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout:
            process.stdout.close()
        _hanging[command[0]] = process
        return None
    return printed if process.returncode == 0 else None


def machine_goes_down() -> bool:
    """Return whether systemd is shutting this machine down, as far as it says so within two seconds."""
    return (output(SHUTDOWN_QUESTION, 2) or "").strip() == "stopping"
