"""The commands that a campaign runs, which the command line hands in, and the JSON that they print."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kwela.campaign.decide.json_files import JsonObject, read_json
from kwela.campaign.run.child_process import ChildProcess

TIMEOUT = 6 * 3600.0  # seconds, of one command


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
    """

    def __init__(self, lock: Path, wait: Callable[[], None], must_stop: Callable[[], bool]) -> None:
        self.lock, self.wait, self.must_stop = lock, wait, must_stop

    def run(self, command: Sequence[str], log: Path) -> JsonObject:
        """Return the JSON object that `command` prints; its stderr goes to `log`.

        Raises CommandFailed or StopRequested.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.with_suffix(".out")
        with log.open("wb") as errors, output.open("wb") as out:
            child = ChildProcess(command, self.lock, out, errors)
            deadline = time.monotonic() + TIMEOUT
            while (code := child.poll()) is None:
                if self.must_stop() or time.monotonic() > deadline:
                    child.stop()
                    if self.must_stop():
                        raise StopRequested
                    raise CommandFailed(f"took over {TIMEOUT / 3600:.0f} hours")
                self.wait()
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CommandFailed((lines or [f"exit status {code}"])[-1].removeprefix("error: "))
        return read_json(output)
