"""A scorecard says the same in JSON, on its page and in a terminal, and never writes NaN as a figure."""

import json
import math

from kwela.judge.shared.scorecard import Scorecard, ScorecardRow, Section
from kwela.stats import Interval


def card():
    rows = [
        ScorecardRow.from_interval("model", Interval(0.5, 0.4, 0.6), 12),
        ScorecardRow.from_interval("floor", Interval(math.nan, math.nan, math.nan), note="no second draw"),
    ]
    section = Section("Distance", rows, "Lower is better.", "Chamfer", "distance.png")
    return Scorecard(
        "Clouds", "Labels are derived.", True, 7, {"distance": section}, {"beats_baselines": True}
    )


def test_the_json_has_the_contracts_shape_and_no_nan(tmp_path):
    card().write(tmp_path, "clouds")
    found = json.loads((tmp_path / "clouds.json").read_text(), parse_constant=lambda word: 1 / 0)
    assert found["tables"]["distance"][0] == {"row": "model", "value": 0.5, "ci": [0.4, 0.6], "n": 12}
    assert found["tables"]["distance"][1]["value"] is None and found["verdicts"] == {"beats_baselines": True}


def test_the_page_opens_with_its_warning_and_says_what_was_not_measured():
    page = card().page()
    assert page.startswith("Labels are derived.\n") and "| floor | not measured |" in page
    assert "![Distance](distance.png)" in page and "0.4 .. 0.6" in page
    assert "--quick" in page and "Seed 7" in page and "Seed 7" in card().summary()
    assert "not measured" in card().summary() and "n=12" in card().summary()


def test_verdicts_read_as_words_and_short_figures():
    verdicts = {
        "gap_closed": {"value": 0.8714523, "ci": [0.7734, 0.934]},
        "steady": True,
        "not_beaten": [],
        "p": None,
    }
    page = Scorecard("Clouds", verdicts=verdicts).page()
    assert "- **gap closed**: 0.871 [0.773 .. 0.934]" in page and "- **steady**: yes" in page
    assert "- **not beaten**: none" in page and "- **p**: not measured" in page


def test_a_bar_in_a_name_opens_no_column():
    page = Scorecard("T", sections={"s": Section("S", [ScorecardRow("symbolic | model", 0.5)])}).page()
    assert "| symbolic \\| model | 0.5 |" in page
