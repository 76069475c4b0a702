"""Make samples with the tuned and the untuned model on the same prompts, and have both judged.

Everything is left in one folder:

    base/ tuned/         test_output_N.wav, and generation.json: how they were made and what one clip took
    authenticity.json    the judge's answer; damage.json: the other judge's
    authenticity/ ...    what the judges leave, and a log of each command
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from kwela import files
from kwela.campaign.decide.json_files import JsonObject, read_json
from kwela.campaign.decide.judge_requirements import unmet_requirement
from kwela.campaign.run.commands import CampaignCommands, CommandFailed, CommandRunner
from kwela.playbook import Evaluation

PROMPTS_AT_ONCE = 8  # what a GPU of 16 GB holds
BASE, TUNED = "base", "tuned"
GENERATION, AUTHENTICITY, DAMAGE = "generation.json", "authenticity.json", "damage.json"


@dataclass(frozen=True)
class AuthenticityMeasurement:
    """Authenticity in 0..1 with its 95 % interval, or why there is none; base: that of the untuned model."""

    authenticity: float | None = None
    interval: tuple[float, float] | None = None
    why_not: str = ""
    base: float | None = None


def measure_authenticity(
    settings: Evaluation, commands: CampaignCommands, folder: Path, model: Path, runner: CommandRunner
) -> AuthenticityMeasurement:
    """Sample the model and the untuned model, judge both, and leave the answers in `folder`.

    Samples that are there already for the same prompts and weights are not made again. Raises StopRequested.
    """
    if reason := unmet_requirement(settings):
        return AuthenticityMeasurement(why_not=reason)
    if not model.is_file():
        return AuthenticityMeasurement(why_not=f"{model}: no such checkpoint")
    tuned, base = folder / TUNED, folder / BASE
    remove_outdated(folder, model)
    step = ""
    try:
        for place, source, weights in ((base, "base", ""), (tuned, str(model), _weights_id(model))):
            step = f"kwela generate audio ({place.name})"
            _make_samples(settings, commands, place, source, weights, runner)
        step = "kwela judge authenticity"
        command = commands.authenticity(tuned, base, folder / "authenticity")
        answer = runner.run(command, folder / "authenticity.log")
        _write_json(folder / AUTHENTICITY, answer)
    except CommandFailed as error:
        return AuthenticityMeasurement(why_not=f"{step}: {error}")
    try:  # the gate has no rule on damage, so without an answer only the report lacks something
        command = commands.damage(tuned, base, model, folder / "damage")
        _write_json(folder / DAMAGE, runner.run(command, folder / "damage.log"))
    except CommandFailed:
        pass
    return _measurement(answer)


def _measurement(answer: JsonObject) -> AuthenticityMeasurement:
    """Return what the authenticity judge's answer says."""
    score, interval = answer.get("score"), answer.get("ci")
    if answer.get("status") != "measured":
        reason = f"{answer.get('status', 'no status')}: {answer.get('why', 'no answer')}"
        return AuthenticityMeasurement(why_not=reason)
    if score is None or not interval:
        return AuthenticityMeasurement(why_not=f"the judge's score is {score}, its interval {interval}")
    return AuthenticityMeasurement(score, (interval[0], interval[1]), base=answer.get("base"))


def _make_samples(
    settings: Evaluation,
    commands: CampaignCommands,
    place: Path,
    source: str,
    weights: str,
    runner: CommandRunner,
) -> None:
    """Make test_output_N.wav in `place`, a few prompts at a time, and record what one clip alone took.

    Clips that are there already of the same prompts, seed and weights are kept: a stop costs only the clips
    that were under way.
    """
    prompts = [settings.prompts[k % len(settings.prompts)] for k in range(settings.samples)]
    key = {"prompts": prompts, "seed": settings.seed, "seconds": settings.seconds, "weights": weights}
    scratch, log = place.with_name(f".{place.name}"), place.with_suffix(".log")
    if read_json(place / GENERATION).get("of") != key:
        shutil.rmtree(place, ignore_errors=True)  # of other weights
        single = runner.run(commands.sample(source, prompts[:1], settings.seed, scratch, True), log)
        timing = {name: single.get(name) for name in ("seconds", "first_audio_seconds", "device")}
        _write_json(place / GENERATION, {**timing, "of": key})
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        batch = prompts[start : start + PROMPTS_AT_ONCE]
        places = [place / f"test_output_{start + k}.wav" for k in range(1, len(batch) + 1)]
        if all(path.is_file() for path in places):
            continue
        answer = runner.run(commands.sample(source, batch, settings.seed + start, scratch, False), log)
        listed = [Path(sample.get("wav", "")) for sample in answer.get("samples", [])]
        made = [path for path in listed if path.is_file()]
        if len(made) != len(batch):
            raise CommandFailed(f"{len(made)} of {len(batch)} clips were made")
        for path, kept in zip(made, places, strict=True):
            path.replace(kept)  # its FLAC is left behind: it would count as another clip
    shutil.rmtree(scratch, ignore_errors=True)


def remove_outdated(folder: Path, model: Path) -> None:
    """Remove what was measured of other weights than `model`'s, so that no report says it of these."""
    if read_json(folder / TUNED / GENERATION).get("of", {}).get("weights") != _weights_id(model):
        shutil.rmtree(folder / TUNED, ignore_errors=True)
        for name in (AUTHENTICITY, DAMAGE):
            (folder / name).unlink(missing_ok=True)


def _weights_id(model: Path) -> str:
    return str(model.stat().st_mtime_ns) if model.is_file() else "none"


def _write_json(path: Path, value: JsonObject) -> None:
    files.write(path, json.dumps(value, indent=1) + "\n")
