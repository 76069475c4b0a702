"""Campaigns of seconds: a config of a folder's own, and the driver run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("campaign_driver.py")
DAYS_A_SECOND = 86400.0

# Five simulated days a second. The gate comes when 30 % of the steps are done.
SPEED = 5 * DAYS_A_SECOND


def config(folder: Path, **changes: Any) -> Path:
    """config.json in `folder`: cheap, so that the seconds in which a process starts don't cost a fortune.

    The folders of the gate's music hold as many clips as it takes, but no sound.
    """
    values = json.loads((ROOT / "ai-service" / "config.json").read_text())
    for name in ("reference", "contrast"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(40):
            (folder / name / f"artist {number}-song.wav").touch()
    evaluation = {"reference_dir": "reference", "contrast_dir": "contrast", "samples": 3}
    values |= {
        "gpu_cost_per_hour": 0.1,
        "budget_usd": 5000,
        "week_5_threshold_days": 999,  # minutes of a loaded machine
        "gate_at_fraction": 0.3,
        "plan_days": 1000,
        "setup_cost_usd": 0,
        "disk_gb": 0,
        "reserve_minutes": 30,
        "checkpoint_dir": "ck",
        "flag_cost_usd": 10000,
        "evaluation": evaluation,
        "flags": {"disk_filling": {"free_gb": 0}},
        "go_nogo_thresholds": {"max_val_loss": 5.0, "max_cost_usd": 5000},
    }
    (folder / "config.json").write_text(json.dumps(values | changes))
    return folder / "config.json"


def start(file: Path, *options: str, speed: float = SPEED) -> subprocess.Popen[str]:
    command = [sys.executable, str(DRIVER), str(file), "--speed", str(speed), *options]
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | one,
        cwd=file.parent,
    )


def run(file: Path, *options: str, speed: float = SPEED) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a whole session."""
    process = start(file, *options, speed=speed)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err
