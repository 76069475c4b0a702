"""What kwela does on small made inputs is what it did when tests/golden/recorded was written."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).with_name("golden")
RECORDED = GOLDEN / "recorded"
TOLERANCES = {"exact": 0.0, "arithmetic": 1e-6, "trained": 1e-3, "bits": 1e-6}
QUICK = ["command_line", "bad_usage", "emotion", "tokens", "manifests", "datasets", "cloud_target", "campaign_ahead",
         "campaign_files", "train_spectocloud", "train_midi", "generate_midi", "smoke_set"]  # fmt: skip
SLOW = sorted({path.stem for path in RECORDED.glob("*.json")} - {*QUICK, "machine"})


def differences(old: Any, new: Any, tolerance: float, values: bool = True, where: str = "") -> list[str]:
    """The places where two records differ. values: False compares the types and keys only, not what they
    hold.
    """
    if type(old) is not type(new):
        return [f"{where}: {old!r} became {new!r}"]
    if isinstance(old, dict):
        pairs = [(key, old.get(key), new.get(key)) for key in sorted({*old, *new})]
        return [
            line for key, a, b in pairs for line in differences(a, b, tolerance, values, f"{where}/{key}")
        ]
    if isinstance(old, list) and values:
        if len(old) != len(new):
            return [f"{where}: {len(old)} items became {len(new)}"]
        pairs = enumerate(zip(old, new, strict=True))
        return [line for k, (a, b) in pairs for line in differences(a, b, tolerance, values, f"{where}/{k}")]
    if not values or old == new:
        return []
    if isinstance(old, float) and tolerance and math.isclose(old, new, rel_tol=tolerance, abs_tol=1e-9):
        return []
    return [f"{where}: {old!r} became {new!r}"]


def compare(old: dict[str, Any], new: dict[str, Any], same_machine: bool) -> list[str]:
    """The differences of two records of one subject, each part by its own tolerance."""
    out = [] if old.keys() == new.keys() else [f"parts {sorted(old)} became {sorted(new)}"]
    for part, tolerance in TOLERANCES.items():
        values = part != "bits" or same_machine
        out += differences(old.get(part), new.get(part), tolerance, values, part)
    return out


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def check(out: Path, names: list[str]) -> None:
    """Record the subjects `names` in a process of their own, and compare each with its old record."""
    done = subprocess.run([sys.executable, GOLDEN / "record.py", out, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    same_machine = read(out, "machine") == read(RECORDED, "machine")
    found = {name: compare(read(RECORDED, name), read(out, name), same_machine) for name in names}
    changed = [f"{name}: {line}" for name, lines in found.items() for line in lines]
    assert not changed, f"{len(changed)} differences (tests/golden/README.md):\n" + "\n".join(changed[:30])


def test_quick_subjects_are_as_recorded(tmp_path: Path) -> None:
    check(tmp_path, QUICK)


@pytest.mark.full
@pytest.mark.parametrize("name", SLOW)
def test_slow_subjects_are_as_recorded(tmp_path: Path, name: str) -> None:
    check(tmp_path, [name])


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("exact", ["words", 3]),
        ("exact", ["word", 4]),
        ("arithmetic", {"cost": 1.00001}),
        ("arithmetic", {"costs": 1.0}),
        ("trained", {"loss": 2.003}),
        ("bits", {"sha256": "bb"}),
    ],
)
def test_a_changed_value_is_seen(part: str, changed: Any) -> None:
    kept = {
        "exact": ["word", 3],
        "arithmetic": {"cost": 1.0},
        "trained": {"loss": 2.0},
        "bits": {"sha256": "aa"},
    }
    assert compare(kept, kept, same_machine=True) == []
    assert len(compare(kept, kept | {part: changed}, same_machine=True)) >= 1


def test_what_another_machine_may_change_is_no_difference() -> None:
    kept = {"arithmetic": {"cost": 1.0}, "trained": {"loss": 2.0}, "bits": {"sha256": "aa", "rows": [1]}}
    here = {
        "arithmetic": {"cost": 1.0 + 1e-8},
        "trained": {"loss": 2.001},
        "bits": {"sha256": "bb", "rows": [2, 3]},
    }
    assert compare(kept, here, same_machine=False) == []
    assert len(compare(kept, here, same_machine=True)) == 2
