"""`grammar.json`: the 388 ids and what may follow what, for a host that has no Python (see `tokens.tables`)."""

from __future__ import annotations

import json
from pathlib import Path

from kwela import files
from kwela.music import tokens


def write(folder: Path) -> Path:
    """Write `tokens.tables()` to `folder`/grammar.json. Returns its path."""
    path = folder / "grammar.json"
    files.write(path, json.dumps(tokens.tables(), indent=1) + "\n")
    return path
