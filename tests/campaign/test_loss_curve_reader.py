"""The curve of a run is read line by line as it grows, however the file changes."""

from __future__ import annotations

import json
from pathlib import Path

from kwela.campaign.decide.loss_curve import LossCurveReader, read_loss_curve
from kwela.campaign.money.clock import FakeClock
from kwela.campaign.run.commands import CampaignCommands
from kwela.campaign.run.running_campaign import Environment, RunningCampaign
from kwela.engine import journal
from kwela.playbook import PlaybookConfig


def rows(*steps: int) -> str:
    return "".join(
        json.dumps({"step": step, "epoch": 1, "split": "train", "loss": 4 - step / 100}) + "\n"
        for step in steps
    )


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def steps_of(reader: LossCurveReader) -> list[int]:
    return [step for step, _ in reader.read().train]


def test_a_poll_reads_only_the_bytes_that_are_new(tmp_path: Path) -> None:
    metrics, reader = tmp_path / "metrics.jsonl", LossCurveReader(tmp_path)
    assert steps_of(reader) == [] and reader.metrics.bytes_read == 0
    append(metrics, rows(*range(10, 10_010, 10)))
    assert len(steps_of(reader)) == 1000 and reader.metrics.bytes_read == metrics.stat().st_size
    before, new = reader.metrics.bytes_read, rows(10_010)
    for _ in range(3):
        reader.read()
    assert reader.metrics.bytes_read == before
    append(metrics, new)
    assert steps_of(reader)[-1] == 10_010 and reader.metrics.bytes_read == before + len(new)


def test_a_torn_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    metrics, reader = tmp_path / "metrics.jsonl", LossCurveReader(tmp_path)
    line = rows(20)
    append(metrics, rows(10) + line[:25])
    assert steps_of(reader) == [10]
    append(metrics, line[25:-1])  # all but its line feed
    assert steps_of(reader) == [10]
    append(metrics, "\n" + rows(30))
    assert steps_of(reader) == [10, 20, 30]


def test_a_run_that_resumes_cuts_the_curve_back(tmp_path: Path) -> None:
    metrics, reader = tmp_path / "metrics.jsonl", LossCurveReader(tmp_path)
    append(metrics, rows(10, 20, 30, 40))
    before = reader.read()
    journal.cut_metrics(metrics, 20, evaluated=True)
    assert steps_of(reader) == [10, 20] and reader.read().step == 20
    append(metrics, rows(30, 40, 50))
    assert steps_of(reader) == [10, 20, 30, 40, 50]
    assert [step for step, _ in before.train] == [10, 20, 30, 40], "a curve that was returned stays as it was"


def test_a_cut_that_later_rows_have_outgrown_is_noticed_too(tmp_path: Path) -> None:
    metrics, reader = tmp_path / "metrics.jsonl", LossCurveReader(tmp_path)
    append(metrics, rows(10, 20, 30))
    assert steps_of(reader) == [10, 20, 30]
    journal.cut_metrics(metrics, 10, evaluated=True)
    append(metrics, rows(15, 20, 25, 30, 35))
    assert steps_of(reader) == [10, 15, 20, 25, 30, 35]


def test_a_file_that_is_cut_in_place_or_removed_begins_anew(tmp_path: Path) -> None:
    metrics, reader = tmp_path / "metrics.jsonl", LossCurveReader(tmp_path)
    append(metrics, rows(10, 20, 30))
    assert steps_of(reader) == [10, 20, 30]
    with metrics.open("r+b") as file:
        file.truncate(len(rows(10)))
    assert steps_of(reader) == [10]
    metrics.unlink()
    assert steps_of(reader) == []
    append(metrics, rows(5))
    assert steps_of(reader) == [5] == [step for step, _ in read_loss_curve(tmp_path).train]


def test_the_step_of_the_last_checkpoint_counts_where_it_is_ahead_of_the_log(tmp_path: Path) -> None:
    append(tmp_path / "metrics.jsonl", rows(10))
    (tmp_path / "status.json").write_text('{"step": 14}')
    assert LossCurveReader(tmp_path).read().step == 14


def test_the_polls_of_an_orchestrator_read_only_new_bytes(tmp_path: Path) -> None:
    settings = PlaybookConfig(checkpoint_dir=tmp_path, proxy_groups={"drums": ["drum"]})
    commands = CampaignCommands([], *[lambda *_: []] * 3)
    campaign = RunningCampaign(settings, commands, FakeClock(), Environment("i"))
    metrics = tmp_path / "metrics.jsonl"
    append(metrics, rows(*range(10, 5010, 10)))
    campaign.recover()
    for _ in range(20):
        campaign.do_periodic_work()
        assert campaign.read_state().curve.step == 5000
    append(metrics, rows(5010))
    assert campaign.read_state().curve.step == 5010
    assert campaign.curve_reader.metrics.bytes_read == metrics.stat().st_size
