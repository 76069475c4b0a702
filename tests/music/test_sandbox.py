"""A parser that crashes, hangs, or eats memory takes its child process down and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from symusic import ControlChange, KeySignature, Note, PitchBend, Score, Tempo, TextMeta, TimeSignature, Track

from kwela.music import sandbox


@pytest.fixture(autouse=True)
def fresh_child():
    sandbox.stop()
    yield
    sandbox.stop()


def full_score() -> Score:
    """One of everything that symusic reads."""
    score = Score(480)
    score.tempos.append(Tempo(0, mspq=400_000))
    score.time_signatures.append(TimeSignature(0, 3, 4))
    score.key_signatures.append(KeySignature(0, -3, 1))
    score.markers.append(TextMeta(5, "verse – één"))
    for program, is_drum in ((7, False), (0, True)):
        track = Track("hand", program, is_drum)
        track.notes.append(Note(10, 20, 60, 100))
        track.notes.append(Note(30, 2000, 127, 1))
        track.controls.append(ControlChange(10, 64, 127))
        track.controls.append(ControlChange(300, 64, 0))
        track.pitch_bends.append(PitchBend(11, -8192))
        score.tracks.append(track)
    return score


MIDI = full_score().dumps_midi()


def facts(score):
    """All but the pedals, which symusic begins at 0 in every channel but the first."""
    tracks = [
        (t.name, t.program, t.is_drum, *map(list, (t.notes, t.controls, t.pitch_bends, t.lyrics)))
        for t in score.tracks
    ]
    return (
        score.tpq,
        list(score.tempos),
        list(score.time_signatures),
        list(score.key_signatures),
        list(score.markers),
        tracks,
    )


def rigged(monkeypatch, body: str) -> None:
    """Let the child run `body` in place of the parser when a file ends in "!"; `data` is the file."""
    program = (
        "import os, time\nfrom kwela.music import sandbox\nparser = sandbox.describe\n"
        f"def describe(data):\n    if not data.endswith(b'!'):\n        return parser(data)\n    {body}\n"
        "sandbox.describe = describe\nsandbox.serve()\n"
    )
    monkeypatch.setattr(sandbox, "COMMAND", [sys.executable, "-c", program])


def test_the_score_is_what_symusic_reads_itself():
    assert facts(sandbox.parse(MIDI)) == facts(Score.from_midi(MIDI))
    assert facts(sandbox.parse(MIDI)) != facts(Score(480))
    assert [[(p.time, p.duration) for p in track.pedals] for track in sandbox.parse(MIDI).tracks] == [
        [(10, 290)],
        [(10, 290)],
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), 11)", "crashed \\(signal 11\\)"),
        ("os._exit(3)", "ended \\(status 3\\)"),
        ("os.write(1, b'\\xff' * 16); time.sleep(60)", "answer is over"),
    ],
)
def test_a_crash_is_an_error_and_the_next_file_parses(monkeypatch, body, message):
    rigged(monkeypatch, body)
    first = facts(sandbox.parse(MIDI))
    with pytest.raises(sandbox.ParserDied, match=message):
        sandbox.parse(b"!")
    assert facts(sandbox.parse(MIDI)) == first


def test_a_hang_is_cut_off(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 0.5)
    rigged(monkeypatch, "time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(sandbox.ParserDied, match="no answer"):
        sandbox.parse(b"!")
    assert time.monotonic() - began < 10
    assert sandbox._child is None


def test_a_busy_loop_is_cut_off_by_its_processor_time(monkeypatch):
    rigged(monkeypatch, "sandbox._limit(0)\n    while True: pass")
    with pytest.raises(sandbox.ParserDied, match="takes over"):
        sandbox.parse(b"!")


def test_a_memory_bomb_is_refused_and_the_child_lives_on(monkeypatch):
    rigged(monkeypatch, "return {'size': len(bytearray(2 << 30))}, []")
    sandbox.parse(MIDI)
    child = sandbox._child
    with pytest.raises(sandbox.Refused, match="1024 MiB"):
        sandbox.parse(b"!")
    sandbox.parse(MIDI)
    assert sandbox._child is child


def test_the_child_cannot_write_files(monkeypatch, tmp_path):
    target = tmp_path / "x"
    rigged(monkeypatch, f"os.write(os.open({str(target)!r}, os.O_CREAT | os.O_WRONLY), data)")
    with pytest.raises((sandbox.Refused, sandbox.ParserDied), match=r"OSError|signal 25"):
        sandbox.parse(b"MThd!")
    assert target.read_bytes() == b""


def test_a_parser_error_is_a_reason():
    with pytest.raises(sandbox.Refused, match="truncated inside its header"):
        sandbox.parse(b"MThd")


def test_one_child_serves_many_files():
    sandbox.parse(MIDI)
    child = sandbox._child
    for _ in range(20):
        sandbox.parse(MIDI)
    assert sandbox._child is child


def test_threads_take_turns():
    results: list = []
    threads = [threading.Thread(target=lambda: results.append(facts(sandbox.parse(MIDI)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(result == results[0] for result in results)


def test_a_forked_worker_has_a_child_of_its_own():
    sandbox.parse(MIDI)
    ours = sandbox._child.pid
    read, write = os.pipe()
    worker = os.fork()
    if worker == 0:
        sandbox.parse(MIDI)
        os.write(write, str(sandbox._child.pid).encode())
        sandbox.stop()
        os._exit(0)
    theirs = int(os.read(read, 20))
    os.waitpid(worker, 0)
    assert theirs != ours
    assert facts(sandbox.parse(MIDI)) == facts(Score.from_midi(MIDI))
    assert sandbox._child.pid == ours


def test_the_child_ends_with_its_parent():
    program = (
        "from kwela.music import sandbox; import os, sys; "
        "sandbox.parse(bytes.fromhex(sys.argv[1])); print(sandbox._child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, MIDI.hex()], capture_output=True, text=True)
    child = int(done.stdout)
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended, and no one is left to wait for it
            return
        time.sleep(0.05)
    pytest.fail("the sandbox outlived a parent killed with SIGKILL")


def test_the_child_imports_only_what_it_needs():
    program = "import sys, kwela.music.sandbox; print(sorted({'torch', 'pydantic', 'scipy', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
