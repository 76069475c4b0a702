"""What every Python front door shares: run one `kwela` command, with the repository's own Python where need be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> None:
    """Run `kwela COMMAND` with this script's arguments.

    A Python without kwela hands over to the repository's .venv; where there is none, one line and exit status 2.
    """
    try:
        from kwela.cli import main
    except ModuleNotFoundError as missing:
        python = ROOT / ".venv" / "bin" / "python"
        # sys.prefix, not sys.executable: a virtual environment's python is a link to the one that made it.
        if not python.is_file() or Path(sys.prefix).resolve() == python.parents[1].resolve():
            print(
                f"{sys.argv[0]}: this Python has no {missing.name}: run scripts/install.sh first",
                file=sys.stderr,
            )
            sys.exit(2)
        os.execv(python, [str(python), *sys.argv])
    main([*command, *sys.argv[1:]])
