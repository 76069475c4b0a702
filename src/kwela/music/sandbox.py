"""Read untrusted MIDI in a child process, so that a crash, a hang or a memory bomb stays there.

- Each process has one child, which starts at the first file (0.2 s) and stays: a file costs one exchange over
  two pipes. A forked worker drops its parent's child and starts its own.
- A request is the file's bytes; the reply is a JSON header and raw arrays. Nothing is unpickled.
- The child may use MEMORY bytes and SECONDS of processor time a file, and can't write files. It is killed
  when it does not answer in time; the next file gets a new child.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from symusic import core

from kwela.music import note_count, smf_reader
from kwela.music.smf_container import NotReadable, unwrap

MEMORY = 1 << 30
SECONDS = 10
MAX_REPLY = 1 << 28
COMMAND = [sys.executable, "-P", "-m", "kwela.music.sandbox"]

_LENGTHS = struct.Struct("<QQ")  # reply: bytes of JSON, bytes of arrays. Request: bytes of MIDI, 1 to count

# The columns of each kind of event, in the order of symusic's `from_numpy`; `smf_reader` writes them so.
_NOTES = (core.NoteTickList, {"time": "i4", "duration": "i4", "pitch": "i1", "velocity": "i1"})
_CONTROLS = (core.ControlChangeTickList, {"time": "i4", "number": "u1", "value": "u1"})
_BENDS = (core.PitchBendTickList, {"time": "i4", "value": "i4"})
_PEDALS = (core.PedalTickList, {"time": "i4", "duration": "i4"})
_TEMPOS = (core.TempoTickList, {"time": "i4", "mspq": "i4"})
_METERS = (core.TimeSignatureTickList, {"time": "i4", "numerator": "u1", "denominator": "u1"})
_KEYS = (core.KeySignatureTickList, {"time": "i4", "key": "i1", "tonality": "u1"})
_OF_TRACK = {"notes": _NOTES, "controls": _CONTROLS, "pitch_bends": _BENDS, "pedals": _PEDALS}
_OF_SCORE = {"tempos": _TEMPOS, "time_signatures": _METERS, "key_signatures": _KEYS}


class ParserDied(Exception):
    """The child crashed, gave no answer or exceeded a limit; the message says which."""


class Refused(Exception):
    """The file can't be read; the message is the reason, in words for the user."""


# ---- the child's side


def describe(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Read a MIDI file into a JSON-able header and the arrays it lists, as bytes."""
    return smf_reader.read(data)


def _limit(soft_seconds: int) -> None:
    """Let the processor time of this file end at `soft_seconds` from now."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + soft_seconds + 1, hard))


def _confine() -> None:
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, mapped + MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def serve() -> None:
    """Answer requests on stdin until it closes: the child's main loop."""
    with contextlib.suppress(OSError, ValueError, ImportError):  # not every system can limit address space
        _confine()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while head := stdin.read(_LENGTHS.size):
        length, counted = _LENGTHS.unpack(head)
        data = stdin.read(length)
        with contextlib.suppress(OSError, ValueError, ImportError):
            _limit(SECONDS)
        try:
            header, arrays = describe(data)
            if counted:
                names = ("notes_in_file", "notes_after_end")
                header["counts"] |= zip(names, note_count.count_notes(unwrap(data)), strict=True)
        except MemoryError:
            header, arrays = {"error": f"reading it takes over {MEMORY >> 20} MiB of memory"}, []
        except NotReadable as error:
            header, arrays = {"error": str(error)}, []
        except Exception as error:
            header, arrays = {"error": f"can't be read as MIDI ({type(error).__name__})"}, []
        text = json.dumps(header).encode()
        stdout.write(_LENGTHS.pack(len(text), sum(map(len, arrays))))
        stdout.write(text)
        stdout.writelines(arrays)
        stdout.flush()


# ---- the parent's side

_lock = threading.Lock()
_child: subprocess.Popen[bytes] | None = None


def _start() -> subprocess.Popen[bytes]:
    global _child
    if _child is None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        _child = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,  # so that only the parent receives Ctrl-C
        )
        assert _child.stdin
        os.set_blocking(_child.stdin.fileno(), False)
    return _child


def stop() -> None:
    """End this process's child, if it has one."""
    global _child
    if _child is not None:
        child, _child = _child, None
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            pipe.close()  # type: ignore[union-attr]


def _forget() -> None:
    """Drop, in a forked worker, the child that belongs to the parent."""
    global _child, _lock
    _lock = threading.Lock()
    if _child is not None:
        child, _child = _child, None
        child.returncode = 0  # the parent waits for it
        for pipe in (child.stdin, child.stdout):
            pipe.close()  # type: ignore[union-attr]


os.register_at_fork(after_in_child=_forget)
atexit.register(stop)


def _wait(readable: list[IO[bytes]], writable: list[IO[bytes]], deadline: float) -> None:
    if not any(select.select(readable, writable, [], max(0.0, deadline - time.monotonic()))):
        raise ParserDied(f"the parser gave no answer in {2 * SECONDS} s")


def _write(pipe: IO[bytes], data: bytes, deadline: float) -> None:
    rest = memoryview(data)
    while rest:
        _wait([], [pipe], deadline)
        rest = rest[pipe.write(rest) or 0 :]


def _read(pipe: IO[bytes], size: int, deadline: float) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        _wait([pipe], [], deadline)
        got: int = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        rest = rest[got:]
    return data


def _exchange(data: bytes, counted: bool) -> tuple[dict[str, Any], bytearray]:
    child = _start()
    assert child.stdin and child.stdout
    deadline = time.monotonic() + 2 * SECONDS  # of wall time; the child limits its own processor time
    try:
        _write(child.stdin, _LENGTHS.pack(len(data), counted) + data, deadline)
        text, arrays = _LENGTHS.unpack(_read(child.stdout, _LENGTHS.size, deadline))
        if text + arrays > MAX_REPLY:
            raise ParserDied(f"the parser's answer is over {MAX_REPLY >> 20} MiB")
        return json.loads(_read(child.stdout, text, deadline)), _read(child.stdout, arrays, deadline)
    except (EOFError, BrokenPipeError):
        code = child.wait()
    if code == -signal.SIGXCPU:
        raise ParserDied(f"parsing it takes over {SECONDS} s")
    raise ParserDied(
        f"the parser crashed (signal {-code})" if code < 0 else f"the parser ended (status {code})"
    )


def parse(data: bytes) -> core.ScoreTick:
    """Return the symusic score (in ticks) of a MIDI file's bytes. Raises Refused or ParserDied."""
    return parse_counted(data, counted=False)[0]


def parse_counted(data: bytes, counted: bool = True) -> tuple[core.ScoreTick, dict[str, int]]:
    """Return the score of a MIDI file's bytes and the counts of `smf_reader`.

    counted: also count the notes in the bytes, independently of the reader. Raises Refused or ParserDied.
    """
    with _lock:
        try:
            header, arrays = _exchange(data, counted)
        except BaseException:  # KeyboardInterrupt too: after half an exchange the pipes hold the rest of it
            stop()
            raise
    if "error" in header:
        raise Refused(header["error"])
    return _score(header, arrays), header["counts"]


def _score(header: dict[str, Any], arrays: bytearray) -> core.ScoreTick:
    """Build the score that `describe` laid out."""
    at = 0

    def unpack(owner: Any, kinds: dict[str, Any], lengths: list[int]) -> None:
        nonlocal at
        for (name, (events, columns)), length in zip(kinds.items(), lengths, strict=True):
            if length:
                values = []
                for dtype in columns.values():
                    values.append(np.frombuffer(arrays, dtype, length, at))
                    at += values[-1].nbytes
                setattr(owner, name, events.from_numpy(*values))

    score = core.ScoreTick(header["tpq"])
    unpack(score, _OF_SCORE, header["score"])
    score.markers = core.TextMetaTickList([core.TextMetaTick(*text) for text in header["markers"]])
    for described in header["tracks"]:
        track = core.TrackTick(*described["of"])
        unpack(track, _OF_TRACK, described["events"])
        track.lyrics = core.TextMetaTickList([core.TextMetaTick(*text) for text in described["lyrics"]])
        score.tracks.append(track)
    return score


if __name__ == "__main__":
    serve()
