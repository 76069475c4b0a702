"""The idle watch: real connections, real files, a real shutdown command; only time is ours."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from kwela import files
from kwela.engine import checkpoint
from kwela.errors import KwelaError
from kwela.machines import idle, running_commands
from scratch import ROOT, kwela

MINUTE = 60.0
HOUR = 3600.0


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> idle.Watch:
    """Two hours, 15 minutes' warning; to stop the machine is to write a line to `stopped`. No GPU on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(idle, "PROC", tmp_path / "proc")  # other kwela commands may run on this machine
    (programs / "wall").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/wall\n')
    (programs / "wall").chmod(0o755)
    (tmp_path / "checkpoints").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    stop = f"sh -c 'echo stopped >> {tmp_path}/stopped'"
    state = tmp_path / "state.json"
    log = tmp_path / "auto-shutdown.log"
    folders, logs = [tmp_path / "checkpoints"], [tmp_path / "requests.log"]
    spare = tmp_path / "run" / "spare.json"
    return idle.Watch(folders, log, state, 2 * HOUR, 15 * MINUTE, stop, [ports[0]], [ports[1]], logs, spare)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def minutes(watch: idle.Watch, start: float, stop: float, boot: str = "boot-1") -> idle.State:
    """A look a minute, as the timer has it: each reads the state that the one before left."""
    state = idle.State()
    for minute in range(int(start), int(stop) + 1):
        state = idle.look(watch, now=1000 + minute * MINUTE, boot=boot)
    return state


def stops(watch: idle.Watch) -> int:
    file = watch.state.parent / "stopped"
    return len(file.read_text().splitlines()) if file.exists() else 0


def log(watch: idle.Watch) -> list[str]:
    """The log's lines without their times."""
    return [line.split(maxsplit=2)[2] for line in watch.log.read_text().splitlines()]


def step(watch: idle.Watch, at: float) -> None:
    """A training step's line, with the time of its writing."""
    file = watch.folders[0] / "phase_2_5" / "metrics.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}\n")
    os.utime(file, (at, at))


def connection(port: int) -> tuple[socket.socket, socket.socket, socket.socket]:
    server = socket.create_server(("127.0.0.1", port))
    client = socket.create_connection(("127.0.0.1", port))
    return server, client, server.accept()[0]


def test_two_quiet_hours_stop_the_machine_and_it_is_warned_first(watch: idle.Watch) -> None:
    minutes(watch, 0, 119)
    assert stops(watch) == 0  # one minute short
    minutes(watch, 120, 120)
    assert stops(watch) == 1
    assert log(watch) == [
        "idle: no training step, kwela command, GPU use, SSH session or request; stops in 2 h 00 min",
        "WARNING: idle for 1 h 45 min; stops in 0 h 15 min unless used",
        f"stopping: idle for 2 h 00 min: {watch.shutdown}",
    ]
    assert (
        watch.state.parent / "wall"
    ).read_text() == "kwela: this machine is idle and stops in 0 h 15 min\n"


def test_a_training_step_starts_the_two_hours_anew(watch: idle.Watch) -> None:
    minutes(watch, 0, 110)
    step(watch, at=5e8)  # long ago by the machine's clock: what counts is that it changed
    assert minutes(watch, 111, 111).busy == "a training step"
    minutes(watch, 112, 230)
    assert stops(watch) == 0
    minutes(watch, 231, 231)
    assert stops(watch) == 1
    assert sum("WARNING" in line for line in log(watch)) == 2  # a warning of its own for the second stretch


@pytest.mark.parametrize(("percent", "ends"), [(40, 0), (1, 1)])
def test_a_gpu_in_use_keeps_the_machine_up_and_one_at_rest_does_not(
    watch: idle.Watch, percent: int, ends: int
) -> None:
    smi = watch.state.parent / "bin" / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho 0\necho {percent}\n")  # the second of two cards
    smi.chmod(0o755)
    minutes(watch, 0, 130)
    assert bool(stops(watch)) == bool(ends)


def test_an_ssh_session_keeps_the_machine_up_until_it_is_left(watch: idle.Watch) -> None:
    server, client, accepted = connection(watch.ssh[0])
    assert minutes(watch, 0, 130).busy == "an SSH session"
    assert stops(watch) == 0
    client.close(), accepted.close(), server.close()
    assert minutes(watch, 131, 131).busy == ""


def test_an_open_page_is_a_request_and_a_listening_port_is_none(watch: idle.Watch) -> None:
    server = socket.create_server(("127.0.0.1", watch.requests[0]))
    assert minutes(watch, 0, 0).busy == ""
    client = socket.create_connection(("127.0.0.1", watch.requests[0]))
    assert minutes(watch, 1, 1).busy == "a request"
    client.close(), server.close()


def test_a_request_between_two_looks_is_seen_in_the_access_log(watch: idle.Watch) -> None:
    minutes(watch, 0, 110)
    with watch.request_logs[0].open("a") as lines:
        lines.write('127.0.0.1 "GET / HTTP/1.1" 200\n')
    assert minutes(watch, 111, 111).busy == "a request"
    assert minutes(watch, 112, 230).busy == "" and stops(watch) == 0


@pytest.mark.full
def test_the_tensorboard_service_logs_its_requests_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "ai-service" / "training_logs").mkdir(parents=True)
    text = (ROOT / "deployment/systemd/kwela-tensorboard.service").read_text()
    place = {"@PYTHON@": sys.executable, "@ROOT@": str(tmp_path), "@HOST@": "127.0.0.1", "6006": str(port)}
    for mark, value in place.items():
        text = text.replace(mark, value)
    start = next(
        line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart=")
    )
    log = tmp_path / "ai-service" / "training_logs" / "requests.log"
    service = subprocess.Popen(shlex.split(start), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        page = f"http://127.0.0.1:{port}/"
        for _ in range(120):
            with suppress(OSError):
                urllib.request.urlopen(page).close()
                break
            time.sleep(0.5)
        for _ in range(20):
            if log.read_text():
                break
            time.sleep(0.1)
        first = log.stat().st_mtime
        time.sleep(6)  # more than one of its own load cycles
        assert log.stat().st_mtime == first
        urllib.request.urlopen(page).close()
        time.sleep(0.5)
        assert log.stat().st_mtime > first and all(
            "GET / HTTP/1" in line for line in log.read_text().splitlines()
        )
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.wait(30)


def test_a_save_is_never_cut_short(watch: idle.Watch) -> None:
    draft = watch.folders[0] / "phase_2_5" / ".last.pt.tmp"
    draft.parent.mkdir()
    draft.write_bytes(b"half")
    minutes(watch, 0, 125)
    assert stops(watch) == 0 and "waits: .last.pt.tmp is being saved" in log(watch)
    draft.unlink()
    minutes(watch, 126, 126)
    assert stops(watch) == 1


def test_the_drafts_of_checkpoints_and_of_small_files_are_seen(
    watch: idle.Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:  # in the middle of the writing
        seen.append(idle._draft_being_written(watch))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint.copy(Path(__file__), watch.folders[0] / "last.pt")
    files.write(watch.folders[0] / "status.json", "{}")
    assert seen[0] == ".last.pt.tmp" and any(name.startswith(".status.json.") for name in seen)
    assert idle._draft_being_written(watch) == ""


def test_a_draft_that_a_killed_process_left_holds_up_nothing(watch: idle.Watch) -> None:
    draft = watch.folders[0] / ".last.pt.tmp"
    draft.write_bytes(b"half")
    os.utime(draft, (0, 0))
    minutes(watch, 0, 120)
    assert stops(watch) == 1


def test_a_timer_that_slept_or_a_boot_does_not_count_as_idle(watch: idle.Watch) -> None:
    minutes(watch, 0, 0)
    assert minutes(watch, 600, 600).idle == idle.MAX_QUIET  # ten hours nobody looked: five minutes
    assert minutes(watch, 601, 700, boot="boot-2").idle == 99 * MINUTE
    assert stops(watch) == 0


DAMAGED = [
    *("", "{", "[1]", '{"no": "such"}', '{"boot": "boot-1", "idle": "y"}', '{"boot": "boot-1", "idle": NaN}'),
    *(
        '{"boot": "boot-1", "idle": -1e9}',
        '{"boot": "boot-1", "seen": 1e9}',
        '{"boot": "boot-1", "seen": "x"}',
    ),
    *(
        '{"boot": "boot-1", "idle": 60, "warned": 1e9}',
        '{"boot": "boot-1", "warned": "soon"}',
        '{"boot": "boot-1", "written": []}',
        '{"boot": "boot-1", "used": []}',
        '{"boot": "boot-1", "used": {"1:1": ["x", 1]}}',
        '{"boot": "boot-1", "used": {"1:1": [1]}}',
        '{"boot": 7, "busy": 7}',
    ),
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_state_starts_the_count_anew(watch: idle.Watch, text: str) -> None:
    assert minutes(watch, 0, 9).idle == 9 * MINUTE
    watch.state.write_text(text)
    assert minutes(watch, 10, 10).idle == 0
    assert minutes(watch, 11, 12).idle == 2 * MINUTE  # and it is counted on


def test_a_shutdown_that_fails_is_said_and_tried_again(watch: idle.Watch) -> None:
    broken = replace(watch, shutdown="no-such-command --now")
    with pytest.raises(KwelaError, match=r"no-such-command --now: .*: the machine runs on"):
        minutes(broken, 0, 120)
    assert log(watch)[-1].startswith("NOT STOPPED: no-such-command --now")
    minutes(watch, 121, 121)
    assert stops(watch) == 1


def test_a_full_disk_does_not_keep_the_machine_up(
    watch: idle.Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    (watch.folders[0] / "in the way").touch()
    nowhere = watch.folders[0] / "in the way" / "state.json"
    full = replace(watch, log=Path("/dev/full"), state=nowhere)
    minutes(full, 0, 119)
    assert stops(watch) == 0  # not a minute early
    minutes(full, 120, 120)
    assert stops(watch) == 1
    said = capfd.readouterr().err
    assert f"{nowhere}: " in said and f"the count is kept in {full.spare}" in said
    assert "--log /dev/full: No space left on device; not in it: stopping: idle for 2 h 00 min" in said


def test_the_spare_count_ends_with_the_full_disk(watch: idle.Watch) -> None:
    (watch.folders[0] / "in the way").touch()
    minutes(replace(watch, state=watch.folders[0] / "in the way" / "state.json"), 0, 60)
    assert minutes(watch, 61, 61).idle == 61 * MINUTE  # room again: the count goes on
    assert not watch.spare.exists()
    watch.state.write_text("damaged")
    assert minutes(watch, 62, 62).idle == 0  # a spare that stayed would be counted on from here


def test_with_nowhere_to_write_a_watch_that_goes_on_remembers(watch: idle.Watch) -> None:
    lost = replace(
        watch, log=Path("/dev/full"), state=Path("/proc/nothing/state"), spare=Path("/proc/nothing/spare")
    )
    saw = None
    for minute in range(121):
        saw = idle.look(lost, saw, now=1000 + minute * MINUTE, boot="boot-1")
    assert stops(watch) == 1


def test_a_wall_that_hangs_holds_up_nothing(watch: idle.Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def run(command: list[str], **settings: Any) -> Any:
        if command[0] == "wall":
            raise subprocess.TimeoutExpired(command, settings["timeout"])
        return real(command, **settings)

    monkeypatch.setattr(subprocess, "run", run)
    minutes(watch, 0, 120)
    assert stops(watch) == 1


def test_every_minute_tries_again_where_the_shutdown_failed_and_nothing_can_be_printed(
    watch: idle.Watch,
) -> None:
    tries = watch.state.parent / "tries"
    stop = f"sh -c 'echo >> {tries}; exit 1'"
    quiet = asdict(idle.State(idle.BOOT_ID_FILE.read_text().strip(), 0.0, 2 * HOUR, 0.0, {}, ""))
    watch.state.write_text(json.dumps(quiet))
    arguments = [*command(replace(watch, shutdown=stop)), "--every", "1", "--warn-minutes", "0"]
    with Path("/dev/full").open("w") as full:  # a log file on the same disk
        alone = "import pathlib, sys; from kwela import cli; from kwela.machines import idle; "
        alone += "idle.PROC = pathlib.Path('/nowhere'); cli.main(sys.argv[1:])"
        running = subprocess.Popen([sys.executable, "-c", alone, *arguments], stdout=full, stderr=full)
    try:
        for _ in range(300):
            if tries.exists() and len(tries.read_text().splitlines()) >= 3:
                break
            assert running.poll() is None, "it ended itself"
            time.sleep(0.1)
        assert len(tries.read_text().splitlines()) >= 3
    finally:
        running.terminate()
        running.wait(30)


def command(watch: idle.Watch) -> list[str]:
    options = {
        "--folder": watch.folders[0],
        "--log": watch.log,
        "--state": watch.state,
        "--shutdown": watch.shutdown,
    }
    options |= {"--ssh-port": watch.ssh[0], "--port": watch.requests[0]}
    options["--request-log"] = watch.request_logs[0]
    return ["idle-watch", *(str(word) for option in options.items() for word in option)]


def test_the_command_goes_on_where_the_last_one_left_off(watch: idle.Watch, tmp_path: Path) -> None:
    first = kwela(tmp_path, *command(watch))
    assert (first.status, first.out) == (0, "idle for 0 min; stops in 120 min\n"), first.err
    state = json.loads(watch.state.read_text())
    state["idle"] += 2 * HOUR
    watch.state.write_text(json.dumps(state))
    warned = kwela(tmp_path, *command(watch), "--json")
    assert json.loads(warned.out)["stops_in_seconds"] == 0 and stops(watch) == 0  # it warns first, always
    state = json.loads(watch.state.read_text())
    state["warned"] -= 15 * MINUTE
    watch.state.write_text(json.dumps(state))
    assert kwela(tmp_path, *command(watch)).status == 0
    assert stops(watch) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hours", "0"], "--hours"),
        (["--hours", "1", "--warn-minutes", "60"], "--warn-minutes 60: not less than --hours 1"),
        (["--hours", "nan"], "--hours"),
    ],
)
def test_bad_input_is_one_line(watch: idle.Watch, tmp_path: Path, arguments: list[str], says: str) -> None:
    done = kwela(tmp_path, *command(watch), *arguments)
    assert done.status in (1, 2) and says in done.err and len(done.err.splitlines()) == 1, done


# ------------------------------------------------------------------ kwela commands that work


def process(
    watch: idle.Watch,
    number: int,
    words: str,
    cpu: float = 0.0,
    parent: int = 1,
    io: float = 0,
    began: float = 0.0,
) -> None:
    """A process as /proc shows it. cpu, began: seconds."""
    folder = idle.PROC / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    ticks = int(cpu * running_commands.TICKS)
    start = int(began * running_commands.TICKS)
    middle = " ".join(["0"] * 9)
    (folder / "stat").write_text(
        f"{number} (a (b) c) S {parent} {middle} {ticks} 0 0 0 20 0 1 0 {start} 0 0\n"
    )
    (folder / "cmdline").write_bytes(words.replace(" ", "\0").encode() + b"\0")
    (folder / "io").write_text(f"rchar: {int(io)}\nwchar: 0\nsyscr: 1\n")


@pytest.mark.parametrize(
    ("words", "parent", "seen"),
    [
        ("/venv/bin/python -m kwela dataset folder data", 1, "kwela dataset folder at 50% of a core"),
        ("/venv/bin/python /venv/bin/kwela judge midi --quick", 1, "kwela judge midi at 50% of a core"),
        ("python -X dev -u /venv/bin/kwela export --all", 1, "kwela export at 50% of a core"),
        ("python -c kwela kwela", 1, ""),
        ("python3 dataset_setup.py --limit 3", 1, "kwela dataset magnatagatune at 50% of a core"),
        (
            "/usr/bin/python3 -m torch.distributed.run --nproc 2 -m kwela train midi",
            1,
            "kwela train midi at 50%",
        ),
        ("python -c from:multiprocessing:spawn", 7, "kwela manifests at 50% of a core"),
        ("python -m kwela export --all", 1, "kwela export at 50% of a core"),
        ("python -m kwela idle-watch --every 60", 1, ""),  # it watches itself
        ("python -m kwela campaign run --resume", 1, ""),  # it waits; what it starts counts
        ("python training_orchestrator.py --resume", 1, ""),
        ("python -m kwela campaign status --watch", 1, ""),
        ("python -m kwela train musicgen --config x", 8, "kwela train musicgen at 50%"),  # of a campaign
        ("nvidia-smi", 8, ""),
        ("vim kwela", 1, ""),
        ("grep -r kwela .", 1, ""),
        ("python -m other dataset", 1, ""),
    ],
)
def test_a_kwela_command_that_works_is_use(watch: idle.Watch, words: str, parent: int, seen: str) -> None:
    process(watch, 7, "python -m kwela manifests --audio-root a")
    process(watch, 8, "python -m kwela campaign run")
    process(watch, 9, words, cpu=100.0, parent=parent)
    assert minutes(watch, 0, 0).busy == ""  # only what was used since the last look counts
    process(watch, 9, words, cpu=130.0, parent=parent)
    busy = minutes(watch, 1, 1).busy
    assert busy.startswith(seen) if seen else busy == "", busy


def test_a_command_that_hangs_is_no_use_and_one_that_copies_is(watch: idle.Watch) -> None:
    for minute in range(3):
        process(watch, 9, "kwela judge midi", cpu=100.0 + minute)  # a sixtieth of a core
        assert minutes(watch, minute, minute).busy == ""
    for minute in range(3, 5):
        process(watch, 9, "kwela dataset folder x", cpu=103.0, io=minute * 60e6)
        busy = minutes(watch, minute, minute).busy
    assert busy == "kwela dataset folder, 1.0 MB/s"


def test_a_command_that_began_since_the_last_look_counts_whole(watch: idle.Watch) -> None:
    minutes(watch, 0, 0)
    process(watch, 9, "kwela tokens check a.mid", cpu=9.0, began=1030.0)
    assert minutes(watch, 1, 1).busy == "kwela tokens check at 15% of a core"


def test_a_working_command_holds_up_the_stop(watch: idle.Watch) -> None:
    for minute in range(200):
        process(watch, 9, "kwela dataset magnatagatune", cpu=float(30 * minute))
        minutes(watch, minute, minute)
    assert stops(watch) == 0
    for minute in range(200, 320):
        minutes(watch, minute, minute)
    assert stops(watch) == 1


def test_this_process_is_found_in_the_real_proc(watch: idle.Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", script, "-m", "kwela", "judge", "clouds"])
    try:
        before = running_commands.look(Path("/proc"), {}, 1.0, time.clock_gettime(time.CLOCK_BOOTTIME))[1]
        time.sleep(0.5)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        _, after = running_commands.look(Path("/proc"), before, 0.5, now)
        (key,) = [each for each in after if each.startswith(f"{busy.pid}:")]
        assert after[key][0] > before[key][0]
    finally:
        busy.kill()
        busy.wait(5)
