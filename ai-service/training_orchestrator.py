"""Front door: `kwela campaign run`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from front_door import run

if __name__ == "__main__":
    run("campaign", "run")
