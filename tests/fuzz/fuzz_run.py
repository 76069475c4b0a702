"""Read thousands of damaged files of each kind, and count what came of it.

    python tests/fuzz/fuzz_run.py --count 10000             all kinds, a few minutes
    python tests/fuzz/fuzz_run.py --count 2000 --kind midi --seeds FOLDER   start from real files too
    python tests/fuzz/fuzz_run.py --kind midi --case 1234   make one case again and print what came of it

A file is read in a process of its own kind (`fuzz_worker.py`). A case passes if the file is read, or refused in
one line. It fails if an exception that is not kwela's comes up, the process ends, an answer takes more than
LIMIT seconds, or something outside the output folder is written. Failing files are kept in `--keep`.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import seed_files
from byte_mutator import mutated

HERE = Path(__file__).resolve().parent
LIMIT = 5.0  # seconds for one file
GOOD = ("read", "refused")


@dataclass
class Tally:
    """What came of the files of one kind. slowest: seconds. failures: (name of the case, what happened)."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)


class Worker:
    """The process that reads the files of one kind; a new one takes the place of one that ended."""

    def __init__(self, kind: str, folder: Path, readers: Path = HERE) -> None:
        program = str(HERE / "fuzz_worker.py")
        self.command = [sys.executable, program, kind, str(folder / "out"), str(readers)]
        self.process: subprocess.Popen[bytes] | None = None

    def read(self, path: Path, limit: float = LIMIT) -> tuple[str, str, float]:
        """Outcome, what happened, seconds. A process that does not answer in time is killed."""
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        begun = time.monotonic()
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(os.fsencode(path) + b"\n")
        self.process.stdin.flush()
        ready = select.select([self.process.stdout], [], [], limit)[0]
        line = self.process.stdout.readline() if ready else b""
        seconds = time.monotonic() - begun
        if line:
            found = json.loads(line)
            return found["outcome"], found["what"], seconds
        status = self.process.poll() if not ready else self.process.wait()
        self.close()
        if ready:
            return "crashed", f"the process ended with status {status}", seconds
        return "hung", f"no answer in {limit:.0f} s", seconds

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def seeds_of(kind: str, more: Path | None) -> dict[str, bytes]:
    """The whole files of a kind; with those under `more` whose suffix one of them has, in order of name."""
    made = seed_files.KINDS[kind]()
    suffixes = {Path(name).suffix for name in made}
    real = sorted(path for path in more.rglob("*") if path.suffix in suffixes) if more else []
    return made | {f"{k}-{path.name}": path.read_bytes() for k, path in enumerate(real)}


def fuzz(
    kind: str,
    cases: range,
    folder: Path,
    more: Path | None = None,
    keep: Path | None = None,
    until: float = 1e99,
) -> Tally:
    """Read the unchanged files, which must be read, then the changed ones named by `cases`, in `folder`."""
    whole = seeds_of(kind, more)
    names, tally, worker = list(whole), Tally(), Worker(kind, folder)
    place = folder / "in"
    place.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            (place / f"0-{name}").write_bytes(whole[name])
            outcome, what, _ = worker.read(place / f"0-{name}", 60.0)  # the first one imports what it needs
            if outcome != "read" and not (more and outcome == "refused"):
                raise AssertionError(f"{kind}: the unchanged {name}: {outcome}: {what}")
        for case in cases:
            if time.monotonic() > until:
                break
            name = names[case % len(names)]
            path = place / f"{case}-{name}"
            data = mutated(whole[name], list(whole.values()), case)
            path.write_bytes(data)
            if worker.process is None:  # a new process imports before it reads
                (place / f"0-{names[0]}").write_bytes(whole[names[0]])
                worker.read(place / f"0-{names[0]}", 60.0)
            outcome, what, seconds = worker.read(path)
            tally.outcomes[outcome] += 1
            tally.slowest = max(tally.slowest, seconds)
            if outcome not in GOOD:
                tally.failures.append((path.name, what))
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / path.name).write_bytes(data)
            path.unlink(missing_ok=True)
    finally:
        worker.close()
    return tally


def main() -> int:
    """Print a table of the kinds; exit status 1 if a case failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="files, over all kinds")
    parser.add_argument("--first", type=int, default=0, help="the first case's number")
    parser.add_argument("--kind", action="append", choices=seed_files.KINDS, help="these kinds alone")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument(
        "--seeds", type=Path, help="a folder of real files to start from, beside the made ones"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the files that failed")
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no case after so long")
    args = parser.parse_args()
    kinds, until, failed = args.kind or list(seed_files.KINDS), time.monotonic() + args.seconds, False
    print(f"{'kind':12}{'files':>8}{'read':>8}{'refused':>9}{'failed':>8}{'slowest':>10}")
    for kind in kinds:
        share = range(args.first, args.first + max(1, args.count // len(kinds)))
        cases = share if args.case is None else range(args.case, args.case + 1)
        with tempfile.TemporaryDirectory() as folder:
            tally = fuzz(kind, cases, Path(folder), args.seeds, args.keep, until)
        of = tally.outcomes
        print(
            f"{kind:12}{of.total():8}{of['read']:8}{of['refused']:9}{len(tally.failures):8}{tally.slowest:8.2f} s",
            flush=True,
        )
        for name, what in tally.failures[:20]:
            print(f"  {name}: {what}")
        failed |= bool(tally.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
