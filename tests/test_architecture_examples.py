"""The worked examples of docs/architecture.md run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```\n", PAGE, re.DOTALL))


def run_example(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "example.py").write_text(code, encoding="utf-8")
    return subprocess.run([sys.executable, "example.py"], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    done = run_example(EXAMPLES[name], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_an_example_of_each_kind() -> None:
    assert EXAMPLES.keys() == {"family", "red_flag", "judge", "provider"}


def test_a_broken_example_is_seen(tmp_path: Path) -> None:
    assert run_example(EXAMPLES["red_flag"] + "\nassert not seen\n", tmp_path).returncode == 1
