"""The stand-in base, and a data set of real music: made once for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import musicgen_set
import pytest
from filelock import FileLock

from kwela.musicgen import base_model, code_cache, data, tiny
from kwela.musicgen.config import MusicgenConfig


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session, which several workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "musicgen"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def stand_in(shared: Path) -> Path:
    """Where the stand-in is built: what `base_model.find("tiny", ...)` asks for."""
    tiny.build(shared / "base")
    return shared / "base"


@pytest.fixture(scope="session")
def folder(stand_in: Path) -> Path:
    return tiny.build(stand_in)


@pytest.fixture(scope="session")
def whole(folder: Path):  # type: ignore[no-untyped-def]
    """transformers' whole model. Not to be changed."""
    return base_model.load(folder)


@pytest.fixture(scope="session")
def table(shared: Path) -> Path:
    """training_metadata.csv of ten-second clips, 16 kHz, of pieces from the demo corpus."""
    table = shared / "music" / "training_metadata.csv"
    with FileLock(shared / "music.lock"):
        if not table.exists():  # it is written last
            table.parent.mkdir(exist_ok=True)
            musicgen_set.make(table.parent)
    return table


@pytest.fixture(scope="session")
def place(shared: Path) -> Path:
    """A cache that holds all of `table`: for runs that aren't about the cache."""
    (shared / "cache").mkdir(exist_ok=True)
    return shared / "cache"


@pytest.fixture(scope="session")
def cached(table: Path, folder: Path, place: Path) -> code_cache.CodeCache:
    clips = data.read_table(table)
    names = sorted(
        {prompt for clip in clips for prompt in data.make_prompts(clip.tags, musicgen_set.TEMPLATES)}
    )
    return code_cache.fill(
        [clip.path for clip in clips], names, folder, place, workers=1, say=str, quiet=True
    )


@pytest.fixture
def settings(table: Path, place: Path, stand_in: Path, cached: code_cache.CodeCache) -> MusicgenConfig:
    """The tiny preset on `table`, whose codes and states are in the cache already."""
    del cached
    return musicgen_set.settings(table, place, stand_in)
