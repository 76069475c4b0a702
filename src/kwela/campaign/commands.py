"""The commands that a campaign runs, handed in by the CLI, and what it learns from the JSON that they print."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kwela import files
from kwela.campaign.child import Child
from kwela.campaign.metrics import Row, read_json
from kwela.playbook import Evaluation

BATCH = 8  # prompts at once: what a GPU of 16 GB holds
TIMEOUT = 6 * 3600.0  # seconds, of one command
BASE, TUNED = "base", "tuned"
GENERATION, AUTHENTICITY, DAMAGE = "generation.json", "authenticity.json", "damage.json"


@dataclass(frozen=True)
class Commands:
    """train: the whole command. The others print JSON.

    sample(model, prompts, seed, out, stream): clips in `out`, of a checkpoint or of "base".
    authenticity(tuned, base, out), damage(tuned, base, model, out): judge the clips in two folders.
    """

    train: Sequence[str]
    sample: Callable[[str, Sequence[str], int, Path, bool], Sequence[str]]
    authenticity: Callable[[Path, Path, Path], Sequence[str]]
    damage: Callable[[Path, Path, Path, Path], Sequence[str]]


@dataclass(frozen=True)
class Measured:
    """Authenticity in 0..1 with its interval, or why there is none; the base model's beside it."""

    authenticity: float | None = None
    interval: tuple[float, float] | None = None
    why_not: str = ""
    base: float | None = None


class NotAnswered(Exception):
    """A command failed; why, in a line."""


class Stopped(Exception):
    """The campaign was told to stop while it waited for a command."""


class Runner:
    """Runs the commands one after another. lock: see child.Child. wait: called between looks; stopping: give up?"""

    def __init__(self, lock: Path, wait: Callable[[], None], stopping: Callable[[], bool]) -> None:
        self.lock, self.wait, self.stopping = lock, wait, stopping

    def ask(self, command: Sequence[str], log: Path) -> Row:
        """The JSON object that `command` prints. Its stderr goes to `log`. Raises NotAnswered, or Stopped."""
        log.parent.mkdir(parents=True, exist_ok=True)
        answer = log.with_suffix(".out")
        with log.open("wb") as errors, answer.open("wb") as out:
            child = Child(command, self.lock, out, errors)
            until = time.monotonic() + TIMEOUT
            while (code := child.poll()) is None:
                if self.stopping() or time.monotonic() > until:
                    child.stop()
                    if self.stopping():
                        raise Stopped
                    raise NotAnswered(f"took over {TIMEOUT / 3600:.0f} hours")
                self.wait()
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise NotAnswered((lines or [f"exit status {code}"])[-1].removeprefix("error: "))
        return read_json(answer)


def _sample(settings: Evaluation, commands: Commands, place: Path, source: str, weights: str, run: Runner) -> None:
    """test_output_N.wav in `place`, a few prompts at a time, and what one clip alone took; or what is there already."""
    prompts = [settings.prompts[k % len(settings.prompts)] for k in range(settings.samples)]
    key = {"prompts": prompts, "seed": settings.seed, "seconds": settings.seconds, "weights": weights}
    if read_json(place / GENERATION).get("of") == key:
        return
    shutil.rmtree(place, ignore_errors=True)  # of other weights
    scratch, log = place.with_name(f".{place.name}"), place.with_suffix(".log")
    one = run.ask(commands.sample(source, prompts[:1], settings.seed, scratch, True), log)
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        made = run.ask(commands.sample(source, some, settings.seed + start, scratch, False), log)
        place.mkdir(parents=True, exist_ok=True)
        for number, sample in enumerate(made["samples"], start + 1):
            Path(sample["wav"]).replace(place / f"test_output_{number}.wav")  # its FLAC would count as another clip
    shutil.rmtree(scratch, ignore_errors=True)
    took = {name: one.get(name) for name in ("seconds", "first_audio_seconds", "device")}
    files.write(place / GENERATION, json.dumps({**took, "of": key}, indent=1) + "\n")


def measure(settings: Evaluation, commands: Commands, folder: Path, model: Path, run: Runner) -> Measured:
    """Sample the model and the base model on the same prompts, and judge both; all of it is left in `folder`.

    Samples that are there already for the same prompts and weights are not made again. Raises Stopped.
    """
    for name in ("reference_dir", "contrast_dir"):
        place = getattr(settings, name)
        if place is None or not place.is_dir():
            return Measured(why_not=f"evaluation.{name}: {'not set' if place is None else f'no folder {place}'}")
    if not model.is_file():
        return Measured(why_not=f"{model}: no such checkpoint")
    tuned, base = folder / TUNED, folder / BASE
    said: Row = {}
    try:
        for place, source, weights in ((base, "base", ""), (tuned, str(model), f"{model.stat().st_mtime_ns}")):
            doing = f"kwela generate audio ({place.name})"
            _sample(settings, commands, place, source, weights, run)
        doing = "kwela judge authenticity"
        said = run.ask(commands.authenticity(tuned, base, folder / "authenticity"), folder / "authenticity.log")
        files.write(folder / AUTHENTICITY, json.dumps(said, indent=1) + "\n")
        doing = ""  # damage is for the report: the gate has no rule on it
        damage = run.ask(commands.damage(tuned, base, model, folder / "damage"), folder / "damage.log")
        files.write(folder / DAMAGE, json.dumps(damage, indent=1) + "\n")
    except NotAnswered as error:
        if doing:
            return Measured(why_not=f"{doing}: {error}")
    if said.get("status") != "measured":
        return Measured(why_not=f"{said.get('status', 'no status')}: {said.get('why', 'no answer')}")
    if not said.get("ci"):
        return Measured(why_not=f"a score of {said.get('score')} without an interval")
    return Measured(said["score"], (said["ci"][0], said["ci"][1]), base=said.get("base"))
