"""Tell which kwela commands work on this machine now, from /proc: encoding, data sets, judging, exporting.

A command works if its processes, with those that they started, have used a share of a core or moved data
since the last look. One that only waits does not: a machine must not be paid for because something hangs. The
commands that wait by design, and those that serve requests, are not counted themselves; what they start is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BUSY_FROM = 0.05  # of a core, over the time since the last look
MOVING_FROM = 256e3  # bytes a second, read and written
WAITING = ("idle-watch", "campaign run", "campaign status", "serve", "studio")
# The repository's scripts that run a command in their own process.
FRONT_DOORS = {
    "dataset_setup.py": "dataset magnatagatune",
    "training_orchestrator.py": "campaign run",
    "build_manifests.py": "manifests",
}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Process:
    """started: seconds since boot. ticks: of the processor, also of children that have ended."""

    number: int
    parent: int
    started: float
    ticks: float
    command: str | None  # such as "train musicgen"; None: not kwela's

    @property
    def key(self) -> str:
        return f"{self.number}:{self.started}"


Usage = dict[str, list[float]]  # process -> its ticks and bytes so far


def look(proc: Path, before: Usage, seconds: float, now: float) -> tuple[str, Usage]:
    """Return what works, as "dataset folder at 93 % of a core" ("" if nothing does), and the usage so far.

    proc: /proc. before, seconds: the usage and the time of the last look, which was `seconds` ago. now:
    seconds since boot.
    """
    processes = {each.number: each for each in _processes(proc)}
    usage: Usage = {}
    ticks: dict[str, float] = {}
    moved: dict[str, float] = {}
    for each in processes.values():
        command = _command_of(each, processes)
        if command is None:
            continue
        so_far = usage[each.key] = [each.ticks, _bytes(proc, each.number)]
        is_new = each.started >= now - seconds
        earlier = before.get(each.key, [0.0, 0.0] if is_new else so_far)
        ticks[command] = ticks.get(command, 0.0) + so_far[0] - earlier[0]
        moved[command] = moved.get(command, 0.0) + so_far[1] - earlier[1]
    if seconds <= 0 or not ticks:
        return "", usage
    busiest = max(ticks, key=lambda command: ticks[command])
    share = ticks[busiest] / TICKS / seconds
    if share >= BUSY_FROM:
        return f"{busiest} at {share:.0%} of a core", usage
    mover = max(moved, key=lambda command: moved[command])
    rate = moved[mover] / seconds
    return (f"{mover}, {rate / 1e6:.1f} MB/s" if rate >= MOVING_FROM else ""), usage


def _command_of(process: _Process, processes: dict[int, _Process]) -> str | None:
    """Return the kwela command that a process belongs to; None for others and for those that wait."""
    seen: set[int] = set()
    here: _Process | None = process
    while here is not None and here.number not in seen:
        if here.command is not None:
            return None if here.command.startswith(WAITING) else here.command
        seen.add(here.number)
        here = processes.get(here.parent)
    return None


def _processes(proc: Path) -> Iterator[_Process]:
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            # The name in brackets may hold spaces and brackets. See proc_pid_stat(5) for the fields after it.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ticks = sum(float(fields[k]) for k in (11, 12, 13, 14))
            yield _Process(
                int(folder.name), int(fields[1]), float(fields[19]) / TICKS, ticks, command_name(words)
            )


def command_name(words: Sequence[str]) -> str | None:
    """Return the kwela command in a process's words, such as "train musicgen"; None if it is not kwela's."""
    script = _script_at(words)
    for k, word in enumerate(words):
        name = word.rpartition("/")[2]
        is_script = k == script
        is_program = name == "kwela" and (k == 0 or is_script)
        is_module = k > 0 and words[k - 1] == "-m" and (word == "kwela" or word.startswith("kwela."))
        if is_program or is_module:
            rest = words[k + 1 :]
            first = next((at for at, each in enumerate(rest) if each and not each.startswith("-")), None)
            if first is None:
                return name
            second = rest[first + 1 : first + 2]
            return " ".join([rest[first], *(each for each in second if each.isalpha())])
        if (k == 0 or is_script) and name in FRONT_DOORS:
            return FRONT_DOORS[name]
    return None


def _script_at(words: Sequence[str]) -> int | None:
    """Return where the script stands that a Python runs, behind Python's options; None without one."""
    if not words[0].rpartition("/")[2].startswith("python"):
        return None
    at = 1
    while at < len(words) and words[at].startswith("-"):
        if words[at].startswith(("-c", "-m")):
            return None
        at += 2 if words[at] in ("-X", "-W") else 1
    return at if at < len(words) else None


def _bytes(proc: Path, number: int) -> float:
    """Return the bytes that a process has read and written; 0 where that may not be looked at."""
    with suppress(OSError, ValueError, KeyError):
        lines = (proc / str(number) / "io").read_text().splitlines()
        fields = dict(line.split(": ") for line in lines)
        return float(fields["rchar"]) + float(fields["wchar"])
    return 0.0
