"""What a test of a judge need not pay for: worker processes, pictures, and work that other tests have
done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kwela import files, plots

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", autouse=True)
def one_process(module_patch: pytest.MonkeyPatch) -> None:
    """A worker process (test_fanout) imports for longer than it would hear a test's few clips."""
    module_patch.setattr(os, "cpu_count", lambda: 1)


@pytest.fixture
def real_pictures() -> None:
    """For a test that looks at the pictures."""


@pytest.fixture(autouse=True)
def blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are empty files, except with `real_pictures`: they take longer to draw than most
    judgements.
    """
    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr(
            plots, "save", lambda figure, path, dpi=110: files.write(path, b"", durable=False)
        )
