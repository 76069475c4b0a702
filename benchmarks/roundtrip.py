"""Check the codec on every MIDI file of a folder: `python benchmarks/roundtrip.py FOLDER`.

Each file is encoded, decoded, written, read and encoded again: the ids must be the same, every step allowed
by the grammar, and the errors within the bounds. Prints counts and the largest errors; exit status 1 if any
file fails.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from symusic import Score

from kwela.errors import UserError
from kwela.music import midi, tokens

BOUNDS = {"onset_error": 1 / 48, "duration_error": 1 / 24, "velocity_error": 2, "tempo_error": 0.003}


def check(path: Path) -> tuple[dict[str, int | float], list[str]]:
    """The file's loss report, and what it broke."""
    try:
        score = midi.read(path)
    except UserError as error:
        return {}, [str(error)]
    ids = tokens.encode(score)
    decoded = tokens.decode(ids)
    broken = []
    if not np.array_equal(tokens.encode(decoded), ids):
        broken.append("other ids after decoding")
    if not np.array_equal(tokens.encode(Score.from_midi(decoded.dumps_midi())), ids):
        broken.append("other ids through a written file")
    state = tokens.start()
    try:
        for token in ids.tolist():
            state = tokens.advance(state, token)
    except ValueError as error:
        broken.append(str(error))
    report = tokens.loss_report(score)
    broken += [f"{name} {report[name]}" for name, bound in BOUNDS.items() if report[name] > bound + 1e-9]
    return report, [f"{path}: {what}" for what in broken]


def main(folder: str) -> int:
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    totals: Counter[str] = Counter()
    failures: list[str] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for report, broken in pool.map(check, paths, chunksize=8):
            failures += broken
            for name, count in report.items():
                totals[name] = max(totals[name], count) if name in BOUNDS else totals[name] + count
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{len(paths)} files, {len(failures)} failures")
    for name, count in totals.items():
        print(f"  {name:20s} {count:.5g}" if name in BOUNDS else f"  {name:20s} {count}")
    if totals["notes"]:
        print(f"  ids a note           {totals['ids'] / totals['notes']:.2f}")
    return 1 if failures or not paths else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/roundtrip.py FOLDER")
    sys.exit(main(sys.argv[1]))
