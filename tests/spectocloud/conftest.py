from __future__ import annotations

from pathlib import Path

import pytest
from small_pairs import TUNE, write_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("pair"), "tune", TUNE)
