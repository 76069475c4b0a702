"""Files pair by name, then by folder, and what stays undecided is said."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from kwela.corpus.pairs import scan
from kwela.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def paired(
    tmp_path: Path, audio: list[str], midi: list[str]
) -> tuple[list[tuple[str, str]], list[str], list[list[str]]]:
    roots = touch(tmp_path / "a", *audio), touch(tmp_path / "m", *midi)
    found = scan.find(roots[0], scan.AUDIO, "audio"), scan.find(roots[1], scan.MIDI, "midi")
    result = scan.pair(*found, *roots)

    def short(path: Path) -> str:
        return path.relative_to(tmp_path).as_posix()

    return (
        [(short(pair.audio), short(pair.midi)) for pair in result.pairs],
        [short(file) for file in result.unmatched],
        [[short(file) for file in files] for files in result.ambiguous],
    )


def test_every_format_is_found_in_any_case_and_nothing_else(tmp_path):
    names = ["1.wav", "2.MP3", "3.Flac", "4.ogg", "5.m4a", "6.AAC", "7.txt", "._8.wav", ".git/9.wav", "wav"]
    found = scan.find(touch(tmp_path, *names), scan.AUDIO, "audio")
    assert [file.name for file in found] == ["1.wav", "2.MP3", "3.Flac", "4.ogg", "5.m4a", "6.AAC"]
    assert all(file.is_absolute() for file in found)


def test_links_are_followed_once(tmp_path):
    touch(tmp_path / "elsewhere", "x.mid")
    touch(tmp_path / "root", "y.mid")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root")
    assert [file.name for file in scan.find(tmp_path / "root", scan.MIDI, "midi")] == ["x.mid", "y.mid"]


def test_a_unique_stem_pairs_whatever_its_folder(tmp_path):
    assert paired(tmp_path, ["happy/x.wav"], ["x.MIDI"]) == ([("a/happy/x.wav", "m/x.MIDI")], [], [])


def test_a_stem_that_repeats_pairs_by_folder(tmp_path):
    pairs, unmatched, ambiguous = paired(tmp_path, ["1/x.wav", "2/x.wav", "3/x.wav"], ["1/x.mid", "2/x.mid"])
    assert pairs == [("a/1/x.wav", "m/1/x.mid"), ("a/2/x.wav", "m/2/x.mid")]
    assert unmatched == ["a/3/x.wav"] and ambiguous == []


@pytest.mark.parametrize(
    ("audio", "midi"),
    [
        (["x.wav", "x.mp3"], ["x.mid"]),  # one folder, two recordings
        (["1/x.wav", "2/x.wav"], ["x.mid"]),  # neither shares the MIDI's folder
        (["1/x.wav", "2/x.wav"], ["3/x.mid", "4/x.mid"]),
    ],
)
def test_a_tie_that_remains_is_reported_never_guessed(tmp_path, audio, midi):
    pairs, unmatched, ambiguous = paired(tmp_path, audio, midi)
    assert pairs == unmatched == []
    assert len(ambiguous) == 1 and len(ambiguous[0]) == len(audio) + len(midi)


def test_composed_and_decomposed_accents_are_one_name(tmp_path):
    one, two = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert one != two
    assert len(paired(tmp_path, [f"{one}.wav"], [f"{two}.mid"])[0]) == 1


def test_near_misses_are_the_most_alike_names_each_once(tmp_path):
    audio = [tmp_path / f"song_{i:03}.wav" for i in range(4)]
    midi = [tmp_path / f"Song{i:03}.mid" for i in (9, 2, 1)]
    near = scan.near_misses(audio, midi)
    assert len(near) == 3 and len({pair.audio for pair in near}) == len({pair.midi for pair in near}) == 3
    assert {(pair.audio.name, pair.midi.name) for pair in near} >= {
        ("song_001.wav", "Song001.mid"),
        ("song_002.wav", "Song002.mid"),
    }


def test_a_missing_or_empty_root_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder.*--audio-root"):
        scan.find(tmp_path / "nowhere", scan.AUDIO, "audio")
    with pytest.raises(UserError, match=f"{tmp_path}: holds no midi files"):
        scan.find(touch(tmp_path, "notes.txt"), scan.MIDI, "midi")
