"""Stop a machine without a training step, GPU use, an SSH session or a request for two hours.

- A look takes a moment and is meant to come once a minute, from a timer. Idle time is the sum of the quiet
  minutes seen, kept in a small state file: a clock that jumps or a timer that slept can't stop a machine in
  use.
- A boot starts the count anew.
- A full disk doesn't keep a machine up: the count is then kept in memory, and what can't be logged goes to
  stderr.
- It warns first, in the log and to whoever is logged in, and never stops in the middle of a save.
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

from kwela import files
from kwela.errors import KwelaError, UserError
from kwela.machines import gpu

BOOT = Path("/proc/sys/kernel/random/boot_id")
SPARE = Path("/run/kwela-idle-watch.json")  # memory, which only root can write to

GPU_BUSY = 5.0  # percent; a card at rest shows 0 to 2
GAP = 300.0  # seconds of quiet that one look may add, however long ago the last was
SAVING = 600.0  # seconds since a draft was last written to; older ones were left by a killed process
ESTABLISHED = "01"  # a TCP connection's state. https://docs.kernel.org/networking/proc_net_tcp.html


@dataclass(frozen=True)
class Watch:
    """What is watched, and what then happens."""

    folders: Sequence[Path]  # checkpoint folders, at any depth below
    log: Path
    state: Path
    limit: float  # seconds of quiet until it stops
    warn: float  # seconds ahead of that
    shutdown: str  # a command
    ssh: Sequence[int]  # ports on which a connection is a session
    requests: Sequence[int]  # ports on which it is a request
    request_logs: Sequence[
        Path
    ]  # access logs: a request that came and went between two looks is a new line there
    spare: Path = SPARE  # holds the state for as long as `state` can't be written


@dataclass
class State:
    """Between two looks. Times are of the clock that starts at boot and can't be set."""

    boot: str = ""
    seen: float = 0.0  # of the last look
    idle: float = 0.0  # seconds of quiet
    warned: float | None = None
    written: dict[str, float] = field(
        default_factory=dict
    )  # metrics and access logs -> when they were last written
    busy: str | None = None  # what the last look saw; "" nothing


def look(watch: Watch, last: State | None = None, now: float | None = None, boot: str | None = None) -> State:
    """Look once: count the quiet, log what changed, warn, stop the machine. Returns the state it leaves.

    last: what the look before returned; None: as it was written down. now, boot: seconds since boot and the
    boot's id, for tests. A log or a state that can't be written is said on stderr. Raises KwelaError if the
    shutdown fails.
    """
    if not BOOT.exists():
        raise UserError("kwela idle-watch: it watches Linux machines only")
    now = time.clock_gettime(time.CLOCK_BOOTTIME) if now is None else now
    boot = BOOT.read_text().strip() if boot is None else boot
    last = last or _read(watch.spare) or _read(watch.state) or State()
    if last.boot != boot or max(last.seen, last.warned or 0.0) > now:
        last = State(boot, seen=now, written=last.written)
    metrics = {str(file): when for file, when in _written(watch, "metrics.jsonl")}
    logs = {str(file): file.stat().st_mtime for file in watch.request_logs if file.exists()}
    stepped, asked = (any(last.written.get(f) != t for f, t in files.items()) for files in (metrics, logs))
    busy = _busy(watch, stepped, asked)
    changed = last.busy is None or bool(last.busy) != bool(busy)
    state = State(
        boot, now, 0.0 if busy else last.idle + min(now - last.seen, GAP), last.warned, metrics | logs, busy
    )
    left = watch.limit - state.idle
    if busy:
        state.warned = None
        if changed:
            _log(watch, f"in use: {busy}")
    elif changed:
        _log(watch, f"idle: no training step, GPU use, SSH session or request; stops in {_span(left)}")
    stop = False
    if not busy and left <= watch.warn:
        if state.warned is None:
            state.warned = now
            _log(
                watch,
                f"WARNING: idle for {_span(state.idle)}; stops in {_span(max(left, watch.warn))} unless used",
            )
            _tell(f"kwela: this machine is idle and stops in {_span(watch.warn)}")
        stop = left <= 0 and now - state.warned >= watch.warn
    if stop and (draft := _draft(watch)):
        _log(watch, f"waits: {draft} is being saved")
        stop = False
    _keep(watch, state)
    if stop:
        _log(watch, f"stopping: idle for {_span(state.idle)}: {watch.shutdown}")
        _stop(watch)
    return state


def _busy(watch: Watch, stepped: bool, asked: bool) -> str:
    """Return what the machine is used for; "" when nothing."""
    load = max(gpu.utilisations(), default=0.0)
    reasons = {
        "a training step": stepped,
        f"GPU at {load:.0f} %": load >= GPU_BUSY,
        "an SSH session": _connected(watch.ssh),
        "a request": asked or _connected(watch.requests),
    }
    return ", ".join(what for what, is_so in reasons.items() if is_so)


def _connected(ports: Sequence[int]) -> bool:
    """Whether a TCP connection to one of our ports is open."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            local, state = line.split()[1], line.split()[3]
            if state == ESTABLISHED and int(local.rsplit(":", 1)[1], 16) in ports:
                return True
    return False


def _draft(watch: Watch) -> str:
    """Return the name of a file that is being written in a checkpoint folder; "" when none is."""
    return next(
        (file.name for file, when in _written(watch, ".*.tmp") if 0 <= time.time() - when < SAVING), ""
    )


def _written(watch: Watch, pattern: str) -> Iterator[tuple[Path, float]]:
    """Yield the files of that name in the watched folders, and when each was last written."""
    for folder in watch.folders:
        for file in folder.rglob(pattern):
            with suppress(FileNotFoundError):  # renamed into its place just now
                yield file, file.stat().st_mtime


def _read(path: Path) -> State | None:
    """Return the last look's state; None if there is none or it is damaged: the count then starts anew."""
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
        times = [state.seen, state.idle, *([] if state.warned is None else [state.warned])]
        sound = all(0 <= each < math.inf for each in times) and isinstance(state.written, dict)
        return state if sound else None
    except (OSError, ValueError, TypeError):
        return None


def _keep(watch: Watch, state: State) -> None:
    """Write the state for the next look, in its place, or in the spare place while that can't be written."""
    text = json.dumps(asdict(state)) + "\n"
    try:
        files.write(watch.state, text, durable=False)  # lost: the count starts anew
        with suppress(OSError):
            watch.spare.unlink()
    except KwelaError as error:
        _complain(f"{error}; the count is kept in {watch.spare}")
        try:
            files.write(watch.spare, text, durable=False)
        except KwelaError as again:
            _complain(str(again))


def _log(watch: Watch, message: str) -> None:
    line = f"{datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')} {message}"
    try:
        watch.log.parent.mkdir(parents=True, exist_ok=True)
        with watch.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        _complain(f"--log {watch.log}: {error.strerror}; not in it: {message}")


def _complain(message: str) -> None:
    with suppress(OSError):  # stderr may be a file on the same full disk
        print(f"kwela idle-watch: {message}", file=sys.stderr)


def _tell(message: str) -> None:
    """To every terminal of the machine, where there is a way to."""
    if shutil.which("wall"):
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["wall", message], check=False, timeout=10)


def _stop(watch: Watch) -> None:
    try:
        subprocess.run(shlex.split(watch.shutdown), check=True, timeout=120)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _log(watch, f"NOT STOPPED: {watch.shutdown}: {error}")
        raise KwelaError(f"{watch.shutdown}: {error}: the machine runs on") from error


def _span(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min"
