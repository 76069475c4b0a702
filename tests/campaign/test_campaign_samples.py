"""The gate's samples are made in batches, and judged only where the judge has what it needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from campaign_driver import SAMPLE, SAY
from made_campaign import config

from kwela import playbook
from kwela.campaign.decide.judge_requirements import unmet_requirement
from kwela.campaign.run import commands, evaluation
from kwela.playbook import Evaluation


def silent(folder: Path, clips: int, artists: int = 40) -> Path:
    folder.mkdir()
    for number in range(clips):
        (folder / f"artist {number % artists}-song {number}.wav").touch()
    return folder


def test_music_that_cannot_be_judged_is_told_before_anything_is_sampled(tmp_path: Path) -> None:
    enough, few, alike = (
        silent(tmp_path / "r", 40),
        silent(tmp_path / "few", 24),
        silent(tmp_path / "one", 40, 19),
    )
    (model := tmp_path / "best.pt").touch()

    def fail(*_: Any) -> list[str]:
        raise AssertionError("sampled or judged")

    shortest = {"reference_dir": enough, "contrast_dir": silent(tmp_path / "c", 40), "seconds": 1}
    for directories, why in (
        ({}, "evaluation.reference_dir: not set"),
        (
            {"reference_dir": enough, "contrast_dir": tmp_path / "none"},
            f"evaluation.contrast_dir: {tmp_path / 'none'}",
        ),
        (
            {"reference_dir": few, "contrast_dir": enough},
            f"{few}: 24 clips by 24 artists, 40 clips by 20 are needed",
        ),
        (
            {"reference_dir": enough, "contrast_dir": alike},
            f"{alike}: 40 clips by 19 artists, 40 clips by 20 are",
        ),
        (shortest, "evaluation.seconds: 1: the judge needs 5"),
    ):
        runner = commands.CommandRunner(tmp_path / "lock", lambda: None, lambda: False)
        settings, commands_that_fail = (
            Evaluation(**directories),
            commands.CampaignCommands([], fail, fail, fail),
        )
        measured = evaluation.measure_authenticity(
            settings, commands_that_fail, tmp_path / "evaluation", model, runner
        )
        assert why in measured.why_not and measured.authenticity is None
    assert unmet_requirement(Evaluation(reference_dir=enough, contrast_dir=tmp_path / "c")) == ""


def samples(
    settings: Evaluation, folder: Path, asked: list[int], most: int, **answers: Any
) -> evaluation.AuthenticityMeasurement:
    """Measure, and stop in the middle of the command after `most`; answers: what commands print instead."""
    model = folder / "best.pt"
    if not model.exists():
        model.touch()

    def say(name: str, answer: Any) -> list[str]:
        return [sys.executable, "-c", SAY, json.dumps(answers.get(name, answer))]

    def sample(model: str, prompts: Any, seed: int, out: Path, stream: bool) -> list[str]:
        asked.append(seed)
        return (
            say("sample", 0)
            if "sample" in answers
            else [sys.executable, "-c", SAMPLE, str(out), str(len(prompts))]
        )

    good = {"status": "measured", "score": 0.45, "ci": [0.4, 0.5], "base": 0.1}
    answering = commands.CampaignCommands(
        [], sample, lambda *_: say("authenticity", good), lambda *_: say("damage", {})
    )
    runner = commands.CommandRunner(folder / "lock", lambda: None, lambda: len(asked) > most)
    return evaluation.measure_authenticity(settings, answering, folder / "evaluation", model, runner)


def test_a_stop_costs_the_clips_that_were_under_way_and_no_others(tmp_path: Path) -> None:
    settings = playbook.load(config(tmp_path)).evaluation.model_copy(update={"samples": 18, "seed": 100})
    asked: list[int] = []
    with pytest.raises(commands.StopRequested):
        samples(settings, tmp_path, asked, most=2)
    assert asked == [100, 100, 108]  # one alone, for its latency; eight; and the next eight
    asked.clear()
    assert samples(settings, tmp_path, asked, most=99).authenticity == 0.45
    assert asked == [108, 116, 100, 100, 108, 116]  # the rest of the base model's, then the tuned one's
    assert len(list((tmp_path / "evaluation/base").glob("*.wav"))) == 18
    asked.clear()
    assert samples(settings, tmp_path, asked, most=99).authenticity == 0.45 and asked == []
    other = settings.model_copy(update={"seed": 200})
    samples(other, tmp_path, asked, most=99)
    assert asked == [200, 200, 208, 216] * 2  # nothing of another seed is kept


def test_an_answer_that_lacks_what_was_asked_for_is_no_answer(tmp_path: Path) -> None:
    settings = playbook.load(config(tmp_path)).evaluation
    for answer in ({}, {"samples": [{}]}, {"samples": [{"wav": "gone.wav"}] * 3}):
        measured = samples(settings, tmp_path, [], 99, sample=answer)
        assert measured.why_not == "kwela generate audio (base): 0 of 3 clips were made"
    measured = samples(settings, tmp_path, [], 99, authenticity={"status": "measured", "ci": [0.4, 0.5]})
    assert measured.authenticity is None and "score is None" in measured.why_not
