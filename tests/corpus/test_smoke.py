"""The synthetic set is small, the same every time, pairs up, and says what it is."""

from __future__ import annotations

import hashlib

from kwela.corpus.demo import smoke
from kwela.corpus.pairs import manifest
from kwela.corpus.pairs.rows import read
from kwela.music import audio, midi
from kwela.spectocloud.config import SpectocloudData


def digest(folder) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        smoke.make(tmp_path / name, pieces=4, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_every_pair_earns_a_row_matches_itself_and_names_its_emotion(tmp_path):
    smoke.make(tmp_path, pieces=8)
    report = manifest.build(tmp_path / "audio", tmp_path / "midi", tmp_path / "out", align=True, quiet=True)
    assert report.counts["kept"] == 8 and report.emotion_sources == {"directory": 8}
    rows = read(tmp_path / "out" / "spectocloud_train.jsonl", SpectocloudData.row_keys)
    assert all(abs(row["offset"]) < 0.02 for row in rows)
    assert all(5 < audio.duration(row["audio_path"]) < 10 for row in rows)
    assert all(len(midi.notes(midi.read(row["midi_path"]))) > 8 for row in rows)


def test_its_documentation_warns():
    assert smoke.__doc__.startswith("SYNTHETIC MUSIC, FOR SMOKE TESTS ONLY")
    assert "FOR SMOKE TESTS ONLY" in smoke.make.__doc__
