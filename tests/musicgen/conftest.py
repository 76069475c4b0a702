"""The stand-in base, and a data set of real music: made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import musicgen_set
import pytest

from kwela.config import MusicgenConfig
from kwela.musicgen import base, codes, data, tiny


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stand-in is built: what `base.find("tiny", ...)` asks for."""
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="session")
def folder(stand_in: Path) -> Path:
    return tiny.build(stand_in)


@pytest.fixture(scope="session")
def whole(folder: Path):  # type: ignore[no-untyped-def]
    """transformers' whole model. Not to be changed."""
    return base.load(folder)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """training_metadata.csv of ten-second clips, 16 kHz, of pieces from the demo corpus."""
    return musicgen_set.make(tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all of `table`: for runs that aren't about the cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def cached(table: Path, folder: Path, place: Path) -> codes.Cached:
    clips = data.read(table)
    names = sorted({prompt for clip in clips for prompt in data.prompts(clip.tags, musicgen_set.TEMPLATES)})
    return codes.cache([clip.path for clip in clips], names, folder, place, workers=1, say=str, quiet=True)


@pytest.fixture
def settings(table: Path, place: Path, stand_in: Path, cached: codes.Cached) -> MusicgenConfig:
    """The tiny preset on `table`, whose codes and states are in the cache already."""
    del cached
    return musicgen_set.settings(table, place, stand_in)
