"""What a campaign leaves to read and to hand over, however it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from campaign_driver import SAMPLE
from made_campaign import config

from kwela import playbook
from kwela.campaign.decide import gate
from kwela.campaign.money import ledger
from kwela.campaign.money.clock import FakeClock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.report import blocks, campaign_plots, campaign_report, deliverables, documents
from kwela.campaign.run import success_criteria
from kwela.campaign.run.campaign_state import read_state
from kwela.errors import KwelaError
from kwela.judge.authenticity.features import FEATURES_VERSION


def held(folder: Path, hours: float = 1.0) -> tuple[playbook.PlaybookConfig, Ledger]:
    """A campaign that has weights and has cost a dollar an hour; its gate says HOLD."""
    settings, clock = playbook.load(config(folder, budget_usd=500)), FakeClock()
    book = Ledger(settings.checkpoint_dir / ledger.NAME, clock)
    book.open({}, 500.0, 0.0)
    book.begin_span(Machine("i", "spot", 1.0))
    clock.sleep(3600 * hours)
    book.bill_until_now(10)
    unknown = gate.GateMeasurements(1.0, hours, hours, 3.0, 3.5, None, None)
    book.record("gate", **gate.decide(unknown, settings.go_nogo_thresholds).to_json(), why="gate", step=10)
    (settings.checkpoint_dir / "best_model.pt").write_bytes(b"weights")
    return settings, book


def test_before_go_the_index_says_so_and_nothing_is_offered_to_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, book = held(tmp_path)
    folder = settings.checkpoint_dir / "deliverables"
    campaign_report.write_report(settings)
    offered, announcement = folder / deliverables.WEIGHTS, folder / "announcement_draft.md"
    assert (folder / "INDEX.md").read_text().startswith("# Deliverables\n\nBefore GO (the gate: HOLD)\n")
    assert not offered.exists() and not announcement.exists()
    book.clock.sleep(1)  # type: ignore[attr-defined]
    book.record("override", why="heard", verdict="HOLD")
    campaign_report.write_report(settings)  # somebody's word is no measurement
    assert "\nAfter HOLD, overridden: heard\n" in (folder / "INDEX.md").read_text()
    assert "the gate: HOLD, overridden: heard" in (folder / "README_draft.md").read_text()
    assert not offered.exists() and not announcement.exists()
    book.clock.sleep(1)  # type: ignore[attr-defined]
    passed = gate.GateMeasurements(1.0, 1.0, 1.0, 3.0, 3.5, 0.5, (0.42, 0.58))
    book.record("gate", **gate.decide(passed, settings.go_nogo_thresholds).to_json(), why="gate", step=10)
    for _ in range(2):
        campaign_report.write_report(settings)
        assert "\nAfter GO\n" in (folder / "INDEX.md").read_text() and announcement.exists()
        assert offered.samefile(settings.checkpoint_dir / "best_model.pt")

    def refuse(*_: Any) -> None:
        raise OSError("no links on this disk")

    offered.unlink()
    monkeypatch.setattr(os, "link", refuse)
    campaign_report.write_report(settings)
    assert offered.read_bytes() == b"weights" and offered.stat().st_nlink == 1
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("version", "told"), [({}, True), ({"features_version": "today's"}, False)])
def test_authenticity_of_an_older_judge_is_told_as_such(
    tmp_path: Path, version: dict[str, Any], told: bool
) -> None:
    if version:
        version = {"features_version": FEATURES_VERSION}
    answer = {"status": "measured", "score": 0.45, "ci": [0.4, 0.5], "base": 0.2, **version}
    place = tmp_path / success_criteria.EVALUATION
    place.mkdir()
    (place / "authenticity.json").write_text(json.dumps(answer))
    section = documents.markdown_text(list(campaign_report._authenticity(tmp_path)), tmp_path)
    assert "45.0%" in section and ("version 1 of the judge" in section) == told
    text = success_criteria.score_text(success_criteria.read_evaluation(tmp_path).authenticity)
    assert text.startswith("45.0% [40.0% .. 50.0%]") and ("version 1" in text) == told


def test_an_extension_moves_neither_target_nor_criterion(tmp_path: Path) -> None:
    settings, book = held(tmp_path, hours=600)
    book.record("budget", budget_usd=9000.0, who="us")
    now = read_state(settings.checkpoint_dir, settings)
    cost = next(
        row
        for row in success_criteria.dashboard(settings.checkpoint_dir, now)
        if row.metric == "Training Cost"
    )
    assert (cost.target, cost.actual, cost.status) == ("≤$500", "$600.00; extended to $9,000", "missed")
    criteria = success_criteria.criteria(settings.checkpoint_dir, now)
    assert (success_criteria.MISSED, "Total cost ≤ $500 ($600.00; extended to $9,000)") in criteria


def test_a_prompt_of_700_words_is_clipped_on_paper_alone(tmp_path: Path) -> None:
    for words in ("word " * 700, "W" * 4000, "a\n" * 700):
        made = documents.write_document([blocks.Table(["File", "Prompt"], [["x", words]])], tmp_path, "page")
        assert made[2].read_bytes().startswith(b"%PDF") and words in made[1].read_text()
    made_by = [sys.executable, "-c", SAMPLE, str(tmp_path), "1"]
    subprocess.run(made_by, check=True, capture_output=True)
    wav = tmp_path / "test_output_0.wav"
    campaign_plots.draw_spectrograms(
        [("for $5_{ or $6 " * 200, wav)], tmp_path / "picture.png"
    )  # not mathematics


def test_deliverables_outlive_a_pdf_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = held(tmp_path)

    def fail(document: Any) -> bytes:
        raise ValueError("The row with index 1 is too high")

    monkeypatch.setattr(documents, "pdf_bytes", fail)
    with pytest.raises(KwelaError, match=r"report\.pdf: not written: The row with index 1 is too high"):
        campaign_report.write_report(settings)
    index = (settings.checkpoint_dir / "deliverables/INDEX.md").read_text()
    assert "| Report |" in index and (settings.checkpoint_dir / "report/report.html").is_file()


def test_a_report_outlives_pictures_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = held(tmp_path)
    monkeypatch.setattr(campaign_plots, "gpu_usd_by_day", lambda rows: 1 / 0)
    written = campaign_report.write_report(settings)
    page = Path(written["report"][0]).read_text()
    assert "beside the budget. (The picture could not be drawn.)" in page
    assert Path(written["report"][2]).read_bytes().startswith(b"%PDF")
