"""The commands that a campaign runs, handed in by the CLI, and what it learns from the JSON that they print."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kwela import files
from kwela.campaign.decide.json_files import JsonObject, read_json
from kwela.campaign.decide.judge_requirements import unmet_requirement
from kwela.campaign.run.child import Child
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

    def ask(self, command: Sequence[str], log: Path) -> JsonObject:
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


def _sample(
    settings: Evaluation, commands: Commands, place: Path, source: str, weights: str, run: Runner
) -> None:
    """test_output_N.wav in `place`, a few prompts at a time, and what one clip alone took.

    What is there already of the same key is kept: a stop costs the prompts that were under way.
    """
    prompts = [settings.prompts[k % len(settings.prompts)] for k in range(settings.samples)]
    key = {"prompts": prompts, "seed": settings.seed, "seconds": settings.seconds, "weights": weights}
    scratch, log = place.with_name(f".{place.name}"), place.with_suffix(".log")
    if read_json(place / GENERATION).get("of") != key:
        shutil.rmtree(place, ignore_errors=True)  # of other weights
        one = run.ask(commands.sample(source, prompts[:1], settings.seed, scratch, True), log)
        took = {name: one.get(name) for name in ("seconds", "first_audio_seconds", "device")}
        files.write(place / GENERATION, json.dumps({**took, "of": key}, indent=1) + "\n")
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        places = [place / f"test_output_{number}.wav" for number in range(start + 1, start + len(some) + 1)]
        if all(path.is_file() for path in places):
            continue
        said = run.ask(commands.sample(source, some, settings.seed + start, scratch, False), log)
        made = [path for sample in said.get("samples", []) if (path := Path(sample.get("wav", ""))).is_file()]
        if len(made) != len(some):
            raise NotAnswered(f"{len(made)} of {len(some)} clips were made")
        for path, kept in zip(made, places, strict=True):
            path.replace(kept)  # its FLAC would count as another clip
    shutil.rmtree(scratch, ignore_errors=True)


def forget(folder: Path, model: Path) -> None:
    """Remove what was measured of other weights than `model`'s: if these can't be, nothing was."""
    if read_json(folder / TUNED / GENERATION).get("of", {}).get("weights") != _named(model):
        shutil.rmtree(folder / TUNED, ignore_errors=True)
        for name in (AUTHENTICITY, DAMAGE):
            (folder / name).unlink(missing_ok=True)


def _named(model: Path) -> str:
    return str(model.stat().st_mtime_ns) if model.is_file() else "none"


def measure(settings: Evaluation, commands: Commands, folder: Path, model: Path, run: Runner) -> Measured:
    """Sample the model and the base model on the same prompts, and judge both; all of it is left in `folder`.

    Samples that are there already for the same prompts and weights are not made again. Raises Stopped.
    """
    if why := unmet_requirement(settings):
        return Measured(why_not=why)
    if not model.is_file():
        return Measured(why_not=f"{model}: no such checkpoint")
    tuned, base = folder / TUNED, folder / BASE
    forget(folder, model)
    said: JsonObject = {}
    try:
        for place, source, weights in ((base, "base", ""), (tuned, str(model), _named(model))):
            doing = f"kwela generate audio ({place.name})"
            _sample(settings, commands, place, source, weights, run)
        doing = "kwela judge authenticity"
        said = run.ask(
            commands.authenticity(tuned, base, folder / "authenticity"), folder / "authenticity.log"
        )
        files.write(folder / AUTHENTICITY, json.dumps(said, indent=1) + "\n")
        doing = ""  # damage is for the report: the gate has no rule on it
        damage = run.ask(commands.damage(tuned, base, model, folder / "damage"), folder / "damage.log")
        files.write(folder / DAMAGE, json.dumps(damage, indent=1) + "\n")
    except NotAnswered as error:
        if doing:
            return Measured(why_not=f"{doing}: {error}")
    if said.get("status") != "measured":
        return Measured(why_not=f"{said.get('status', 'no status')}: {said.get('why', 'no answer')}")
    if said.get("score") is None or not said.get("ci"):
        return Measured(why_not=f"the judge's score is {said.get('score')}, its interval {said.get('ci')}")
    return Measured(said["score"], (said["ci"][0], said["ci"][1]), base=said.get("base"))
