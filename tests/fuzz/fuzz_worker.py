"""Read one file a line of stdin, as `python fuzz_worker.py KIND OUT FOLDER`, and print what came of it as JSON.

FOLDER holds the module `readers`, whose READERS[KIND] reads the file.

{"outcome": "read" | "refused" | "raised" | "wrote", "what": ...}. OUT is the only folder that the reader may
write to, beside the folder of the file itself; "wrote" names a path elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

_WRITES = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
)


class Guard:
    """Notes each path outside `allowed` that this process creates, changes or removes."""

    def __init__(self, allowed: list[Path]) -> None:
        self.allowed = [str(path) + os.sep for path in allowed] + ["/dev/", "/proc/self/"]
        self.found: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at an audit event of Python (PEP 578)."""
        if event == "open":
            path, mode, flags = arguments
            writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            paths = [path] if writing else []
        else:
            paths = list(arguments[:2]) if event in _WRITES else []
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                place = os.path.realpath(os.fsdecode(path))
                if not (place + os.sep).startswith(tuple(self.allowed)):
                    self.found.append(f"{event} {place}")


def outcome(kind: str, path: Path, out: Path, guard: Guard) -> dict[str, str]:
    """Read `path`, and say whether it was read, refused in one line, or else."""
    from readers import READERS

    from kwela.errors import KwelaError

    guard.found.clear()
    try:
        READERS[kind](path, out)
        found = {"outcome": "read", "what": ""}
    except KwelaError as error:
        whole = 0 < len(str(error)) < 1000 and "\n" not in str(error).strip()
        found = {"outcome": "refused" if whole else "raised", "what": str(error)[:1000]}
    except Exception:
        found = {"outcome": "raised", "what": traceback.format_exc()[-2000:]}
    return {"outcome": "wrote", "what": guard.found[0]} if guard.found else found


def main() -> None:
    """Answer until stdin closes."""
    kind, out = sys.argv[1], Path(sys.argv[2]).resolve()
    sys.path.insert(0, sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    guard = Guard([out, out.parent])
    sys.dont_write_bytecode = True
    sys.addaudithook(guard)
    for line in sys.stdin:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        print(json.dumps(outcome(kind, Path(line.rstrip("\n")), out, guard)), file=answers, flush=True)


if __name__ == "__main__":
    main()
