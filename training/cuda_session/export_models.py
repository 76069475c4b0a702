"""Front door: `kwela export`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from front_door import run

if __name__ == "__main__":  # a worker process imports this file too
    run("export")
