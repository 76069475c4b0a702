"""Stop a machine that nobody has used for two hours.

Use is a training step, a working kwela command, a busy GPU, an SSH session or a request.

- A timer is meant to call `look` once a minute, and the call takes a moment. A small state file holds the
  idle time, which is the sum of the quiet minutes between looks. So a clock that jumps or a timer that slept
  can't stop a machine in use.
- A boot starts the count anew.
- A full disk doesn't keep a machine running: the count is then kept in memory, and what can't be logged goes
  to stderr.
- The watch warns first, in the log and on every terminal, and never stops a machine in the middle of a save.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from kwela import files, terminal
from kwela.errors import KwelaError, UserError
from kwela.machines import gpu, running_commands

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
PROC = Path("/proc")
SPARE_STATE_FILE = Path("/run/kwela-idle-watch.json")  # It lies in memory, and only root can write to it.

GPU_BUSY_FROM = 5.0  # percent of use from which a GPU is busy; one at rest shows 0 to 2
MAX_QUIET = 300.0  # seconds that one look may add to the quiet, however long ago the last look was
# A draft is the hidden file that a save writes before it renames it. One that nobody has written to for this
# many seconds was left by a killed process.
MAX_DRAFT_AGE = 600.0
# The state of an open TCP connection, by https://docs.kernel.org/networking/proc_net_tcp.html.
ESTABLISHED = "01"


@dataclass(frozen=True)
class Watch:
    """Say what is watched, and what happens once the machine is idle."""

    folders: Sequence[Path]  # checkpoint folders, at any depth below
    log: Path
    state: Path
    limit: float  # seconds of quiet after which the machine stops
    warn: float  # seconds between the warning and the stop
    shutdown: str  # the command that stops the machine
    ssh: Sequence[int]  # ports on which an open connection is an SSH session
    requests: Sequence[int]  # ports on which an open connection is a request
    # Access logs. They show a request that came and went between two looks.
    request_logs: Sequence[Path]
    spare: Path = SPARE_STATE_FILE  # the file that holds the state while `state` can't be written


@dataclass
class State:
    """Hold what one look leaves for the next. Times are seconds since boot; nobody can set that clock."""

    boot: str = ""  # the id of the boot
    seen: float = 0.0  # the time of the last look
    idle: float = 0.0  # seconds of quiet so far
    warned: float | None = None  # the time of the warning; None if there was none
    # Metrics files and access logs, and when each was last written.
    written: dict[str, float] = field(default_factory=dict)
    busy: str | None = None  # what the last look saw in use; "" if nothing was, None before the first look
    used: running_commands.Usage = field(default_factory=dict)  # by the processes of kwela commands


def look(watch: Watch, last: State | None = None, now: float | None = None, boot: str | None = None) -> State:
    """Look once: count the quiet time, log what changed, warn, stop the machine; return the new state.

    last: the state that the look before returned; without it, the state file is read. now, boot: the seconds
    since boot and the boot's id; tests set them. If a log or a state can't be written, stderr says so. Raises
    KwelaError if the shutdown fails.
    """
    if not BOOT_ID_FILE.exists():
        raise UserError("kwela idle-watch: it watches Linux machines only")
    now = time.clock_gettime(time.CLOCK_BOOTTIME) if now is None else now
    boot = BOOT_ID_FILE.read_text().strip() if boot is None else boot
    last = last or _read_state(watch.spare) or _read_state(watch.state) or State()
    if last.boot != boot or max(last.seen, last.warned or 0.0) > now:
        last = State(boot, seen=now, written=last.written)
    working, used = running_commands.look(PROC, last.used, now - last.seen, now)
    metrics = {str(file): when for file, when in _write_times(watch, "metrics.jsonl")}
    logs = {str(file): file.stat().st_mtime for file in watch.request_logs if file.exists()}
    trained, requested = (
        any(last.written.get(file) != when for file, when in times.items()) for times in (metrics, logs)
    )
    busy = _uses(watch, trained, requested, working)
    changed = last.busy is None or bool(last.busy) != bool(busy)
    state = State(
        boot,
        now,
        0.0 if busy else last.idle + min(now - last.seen, MAX_QUIET),
        last.warned,
        metrics | logs,
        busy,
        used,
    )
    left = watch.limit - state.idle
    if busy:
        state.warned = None
        if changed:
            _log(watch, f"in use: {busy}")
    elif changed:
        quiet = "no training step, kwela command, GPU use, SSH session or request"
        _log(watch, f"idle: {quiet}; stops in {_duration(left)}")
    stop = False
    if not busy and left <= watch.warn:
        if state.warned is None:
            state.warned = now
            time_left = _duration(max(left, watch.warn))
            _log(watch, f"WARNING: idle for {_duration(state.idle)}; stops in {time_left} unless used")
            _warn_terminals(f"kwela: this machine is idle and stops in {_duration(watch.warn)}")
        stop = left <= 0 and now - state.warned >= watch.warn
    if stop and (draft := _draft_being_written(watch)):
        _log(watch, f"waits: {draft} is being saved")
        stop = False
    _write_state(watch, state)
    if stop:
        _log(watch, f"stopping: idle for {_duration(state.idle)}: {watch.shutdown}")
        _stop_machine(watch)
    return state


def _uses(watch: Watch, trained: bool, requested: bool, working: str) -> str:
    """Return what the machine is used for; "" if it is idle. working: as `running_commands.look` has it."""
    load = max(gpu.utilisations(), default=0.0)
    reasons = {
        "a training step": trained,
        f"kwela {working}": bool(working),
        f"GPU at {load:.0f} %": load >= GPU_BUSY_FROM,
        "an SSH session": _has_connection(watch.ssh),
        "a request": requested or _has_connection(watch.requests),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def _has_connection(ports: Sequence[int]) -> bool:
    """Tell whether a TCP connection to one of these ports of this machine is open."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            local, state = line.split()[1], line.split()[3]
            if state == ESTABLISHED and int(local.rsplit(":", 1)[1], 16) in ports:
                return True
    return False


def _draft_being_written(watch: Watch) -> str:
    """Return the name of a draft that is being written in a checkpoint folder; "" if none is."""
    return next(
        (
            file.name
            for file, when in _write_times(watch, ".*.tmp")
            if 0 <= time.time() - when < MAX_DRAFT_AGE
        ),
        "",
    )


def _write_times(watch: Watch, pattern: str) -> Iterator[tuple[Path, float]]:
    """Yield each file in the watched folders whose name fits the pattern, and when it was last written."""
    for folder in watch.folders:
        for file in folder.rglob(pattern):
            with suppress(FileNotFoundError):  # A draft may be renamed between the two calls.
                yield file, file.stat().st_mtime


def _read_state(path: Path) -> State | None:
    """Return the state that this file holds. None if it is missing or damaged; the count then starts anew."""
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
        times = [state.seen, state.idle, *([] if state.warned is None else [state.warned])]
        is_valid = all(0 <= each < math.inf for each in times) and isinstance(state.written, dict)
        is_valid = is_valid and isinstance(state.used, dict)
        pairs = [list(map(float, pair)) for pair in state.used.values()] if is_valid else []
        is_valid = is_valid and all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in pairs)
        return state if is_valid else None
    except (OSError, ValueError, TypeError):
        return None


def _write_state(watch: Watch, state: State) -> None:
    """Write the state for the next look to the state file, or to the spare file if that can't be written."""
    text = json.dumps(asdict(state)) + "\n"
    try:
        files.write(watch.state, text, durable=False)  # If a crash loses it, the count starts anew.
        with suppress(OSError):
            watch.spare.unlink()
    except KwelaError as state_error:
        _print_error(f"{state_error}; the count is kept in {watch.spare}")
        try:
            files.write(watch.spare, text, durable=False)
        except KwelaError as spare_error:
            _print_error(str(spare_error))


def _log(watch: Watch, message: str) -> None:
    line = f"{datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')} {message}"
    try:
        watch.log.parent.mkdir(parents=True, exist_ok=True)
        with watch.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")
    except OSError as error:
        _print_error(f"--log {watch.log}: {error.strerror}; not in it: {message}")


def _print_error(message: str) -> None:
    with suppress(OSError):  # Stderr may be a file on the same full disk.
        terminal.say(f"kwela idle-watch: {message}", sys.stderr)


def _warn_terminals(message: str) -> None:
    """Write the message on every terminal of the machine, if it has the `wall` command."""
    if shutil.which("wall"):
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["wall", message], check=False, timeout=10)


def _stop_machine(watch: Watch) -> None:
    try:
        subprocess.run(shlex.split(watch.shutdown), check=True, timeout=120)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _log(watch, f"NOT STOPPED: {watch.shutdown}: {error}")
        raise KwelaError(f"{watch.shutdown}: {error}: the machine runs on") from error


def _duration(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min"
