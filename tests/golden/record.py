"""Write down what kwela does on small made inputs: `python tests/golden/record.py OUT [SUBJECT...] [--list]`.

One JSON file a subject. Two checkouts behave alike if `diff -r` of their records is empty. A record has up to
four parts, which differ in how another machine may differ (see tests/test_golden.py):

    exact       equal everywhere: text, ids, counts, hashes of integers
    arithmetic  plain arithmetic in floating point
    trained     results of training: losses
    bits        hashes of floats, and whatever follows from sampling: equal on the same kind of machine only
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Read before torch is imported: the number of threads decides the order of sums.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "100"}
os.environ |= {"HF_HUB_OFFLINE": "1", "TZ": "UTC", "AWS_EC2_METADATA_DISABLED": "true", "NO_COLOR": "1"}
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

import campaign_subjects  # noqa: E402, F401
import command_subjects  # noqa: E402, F401
import judge_subjects  # noqa: E402, F401
import training_subjects  # noqa: E402, F401
from bench import SUBJECTS, Bench  # noqa: E402


def fingerprint() -> dict[str, str]:
    """What decides the last bits of floating point here: the processor and the version of torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.processor(), "torch": version("torch")}


def record(out: Path, names: list[str]) -> None:
    """Run the subjects `names` in a scratch folder and write OUT/<name>.json and OUT/machine.json."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "machine.json").write_text(json.dumps(fingerprint(), indent=1) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch).resolve())
        for name in names:
            found = bench.normal(SUBJECTS[name](bench))
            text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
            (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("subjects", nargs="*", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="print the subjects' names and stop")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(SUBJECTS))
        return
    if unknown := set(asked.subjects) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    record(asked.out.resolve(), asked.subjects or list(SUBJECTS))


if __name__ == "__main__":
    main()
