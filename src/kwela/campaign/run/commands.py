"""The commands that a campaign runs, which the command line hands in, and the JSON that they print."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kwela.campaign.decide.json_files import JsonObject, read_json
from kwela.campaign.run.child_process import GRACE, ChildProcess

TIMEOUT = 6 * 3600.0  # seconds, of one command
LOG_TAIL = 65536  # bytes of a command's log in which its last line is sought


@dataclass(frozen=True)
class CampaignCommands:
    """train: the whole command. The others return a command that prints JSON.

    sample(model, prompts, seed, out, stream): makes clips in `out` by a checkpoint or by "base".
    authenticity(tuned, base, out), damage(tuned, base, model, out): judge the clips in two folders.
    """

    train: Sequence[str]
    sample: Callable[[str, Sequence[str], int, Path, bool], Sequence[str]]
    authenticity: Callable[[Path, Path, Path], Sequence[str]]
    damage: Callable[[Path, Path, Path, Path], Sequence[str]]


class CommandFailed(Exception):
    """A command failed; the message is its last line."""


class StopRequested(Exception):
    """The campaign has to stop while a command is under way."""


class CommandRunner:
    """Runs commands one after another.

    lock: as ChildProcess has it. wait: called until a command has ended. must_stop: whether to give it up.
    grace, while_stopping: as ChildProcess.stop has them.
    """

    def __init__(
        self,
        lock: Path,
        wait: Callable[[], None],
        must_stop: Callable[[], bool],
        grace: Callable[[], float] = lambda: GRACE,
        while_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self.lock, self.wait, self.must_stop = lock, wait, must_stop
        self.grace, self.while_stopping = grace, while_stopping

    def run(self, command: Sequence[str], log: Path) -> JsonObject:
        """Return the JSON object that `command` prints; its stderr goes to `log`.

        Raises CommandFailed or StopRequested.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.with_suffix(".out")
        with log.open("wb") as errors, output.open("wb") as out:
            child = ChildProcess(command, self.lock, out, errors)
            try:
                code = self._watch(child)
            except BaseException:  # a full disk: nothing would check the budget of a child that goes on
                child.stop(self.grace)
                raise
        if code:
            raise CommandFailed(_last_line(log) or f"exit status {code}")
        return read_json(output)

    def _watch(self, child: ChildProcess) -> int:
        """Wait until the command ends, and return its exit status."""
        deadline = time.monotonic() + TIMEOUT
        while (code := child.poll()) is None:
            if self.must_stop() or time.monotonic() > deadline:
                child.stop(self.grace, self.while_stopping)
                if self.must_stop():
                    raise StopRequested
                raise CommandFailed(f"took over {TIMEOUT / 3600:.0f} hours")
            self.wait()
        return code


def _last_line(log: Path) -> str:
    """Return the last line of a log, which may be gigabytes long, without "error: "."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return (lines or [""])[-1].removeprefix("error: ")
