"""What every comparison here shares: where its figure goes, and the machine it was taken on."""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> str:
    """The processor's name and how many cores this process may use: "AMD EPYC, 2 cores"."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} core{'s' * (cores != 1)}"


def write(
    name: str,
    ours: float,
    peer: float | None,
    unit: str,
    peer_name: str | None,
    peer_version: str | None,
    lower_is_better: bool = False,
) -> None:
    """Write `results/<name>.json` and print it in one line. ratio: over 1, ours is better; None without a
    peer.
    """
    ratio = None if peer is None else (peer / ours if lower_is_better else ours / peer)
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "ratio": ratio,
        "peer_name": peer_name,
        "peer_version": peer_version,
        "machine": machine(),
        "date": date.today().isoformat(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    beside = "" if peer is None else f", {peer_name} {peer_version} {peer:.4g}: {ratio:.3g}x"
    print(f"{name}: {ours:.4g} {unit}{beside}")
