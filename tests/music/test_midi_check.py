"""`kwela tokens check`: the notes of a file's bytes are kept or counted as lost, and the sum is checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_midi import midi, on, quarters, track

from kwela.cli import main
from kwela.music import midi_check, note_count

PLAIN = midi(track(*quarters(60, 61)))
LOSING = midi(track((0, on(60)), *quarters(60), b"\0\xff\x2f\0", b"\0" + on(62), end=None))


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["tokens", "check", *map(str, arguments)])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_the_report_of_one_file(tmp_path: Path, capsys):
    (tmp_path / "a.mid").write_bytes(LOSING)
    status, said, _ = run(capsys, tmp_path / "a.mid")
    assert status == 0
    line = "3 notes in the file: 1 kept, 2 lost (notes_after_end 1, notes_same_onset 1)"
    assert said.splitlines()[:2] == [str(tmp_path / "a.mid"), f"  {line}"]


def test_a_folder_is_checked_file_by_file_and_bad_files_are_named(tmp_path: Path, capsys):
    for name, data in (("a.mid", PLAIN), ("b/c.KAR", LOSING), ("d.mid", b"MThd"), ("e.txt", b"")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    status, said, error = run(capsys, tmp_path, "--json")
    reports = json.loads(said)
    assert (status, error.count("\n")) == (2, 1)
    assert "d.mid: truncated" in error
    assert list(reports["files"]) == [str(tmp_path / "a.mid"), str(tmp_path / "b/c.KAR")]
    assert list(reports["refused"]) == [str(tmp_path / "d.mid")]
    assert run(capsys, tmp_path)[1].startswith(f"not read: {tmp_path / 'd.mid'}: truncated")
    assert run(capsys, tmp_path / "a.mid", tmp_path / "b/c.KAR")[1].endswith(
        "2 files\n  5 notes in the file: 3 kept, 2 lost (notes_after_end 1, notes_same_onset 1)\n"
    )
    (tmp_path / "empty").mkdir()
    status, _, error = run(capsys, tmp_path / "empty")
    assert (status, "holds no MIDI files" in error) == (2, True)


def test_a_note_that_is_not_accounted_for_fails(tmp_path: Path, capsys, monkeypatch):
    """The negative control: a note that the reader does not find shows."""
    (tmp_path / "a.mid").write_bytes(PLAIN)
    read = midi_check.midi.read_counted

    def losing(path):
        score, counts = read(path)
        del score.tracks[0].notes[0]
        return score, counts

    monkeypatch.setattr(midi_check.midi, "read_counted", losing)
    status, said, error = run(capsys, tmp_path / "a.mid")
    assert (status, "1 NOT ACCOUNTED FOR" in said, "not accounted for" in error) == (1, True, True)


def test_the_count_takes_any_bytes_after_an_end_of_track():
    assert note_count.count_notes(LOSING) == (2, 1)
    for junk in (b"\xff" * 50, b"\0\xf4", b"\x90", b"\0\x90\x3c", b"\0\x3c\x50", bytes(9)):
        data = midi(track(*quarters(60), b"\0\xff\x2f\0", junk, end=None))
        assert note_count.count_notes(data) == (1, 0)
