"""Run the comparisons and write their table: `python benchmarks/run.py [NAME...]` (names: files beside this
one).

Each comparison runs in a process of its own, ours and the peer's in the same run, and writes
`benchmarks/results/<name>.json`; the table in `benchmarks/README.md` is made from all results that are there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPARISONS = ("tokenise", "chamfer", "midi_train", "manifest", "logmel", "token_cache", "musicgen_step")
START, END = "<!-- results -->", "<!-- /results -->"


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in COMPARISONS]
    if unknown:
        print(f"run.py: {unknown[0]}: no such comparison (known: {', '.join(COMPARISONS)})", file=sys.stderr)
        return 2
    failed = []
    for name in names or COMPARISONS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py"]).returncode:
            failed.append(name)
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text.split(START)[0], text.split(END)[1]
    readme.write_text(f"{head}{START}\n{table()}\n{END}{tail}", encoding="utf-8")
    print(table())
    if failed:
        print(f"run.py: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def table() -> str:
    rows = [
        "| comparison | kwela | peer | unit | ratio | beside | machine | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in sorted((HERE / "results").glob("*.json")):
        r = json.loads(file.read_text(encoding="utf-8"))
        peer, ratio, beside = "", "", ""
        if r["peer"] is not None:
            peer, ratio, beside = (
                f"{r['peer']:.4g}",
                f"{r['ratio']:.3g}x",
                f"{r['peer_name']} {r['peer_version']}",
            )
        cells = [r["name"], f"{r['ours']:.4g}", peer, r["unit"], ratio, beside, r["machine"], r["date"]]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
