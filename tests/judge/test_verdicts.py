"""The verdicts of the damage judge and of the cloud judge, from figures worked out by hand."""

from __future__ import annotations

import math

import pytest

from kwela.judge.clouds import page as clouds_page
from kwela.judge.damage.page import MEASURES, Change, verdict
from kwela.stats import NOT_MEASURED, Interval

LOOPS = MEASURES["looping"]  # worse upwards, from 0.10 on
HIGHS = MEASURES["highs"]  # worse downwards, from 3 dB on


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.15, 0.3, 0.01, "worse"),
        (0.15, 0.3, 0.05, "worse"),
        (0.15, 0.3, 0.06, "can't tell"),  # the interval of a few odd clips is too sure of itself
        (0.15, 0.3, math.nan, "worse"),  # no pairs, so no p
        (0.10, 0.3, 0.01, "can't tell"),
        (0.05, 0.3, 0.01, "can't tell"),
        (0.05, 0.1, 0.01, "not worse"),
        (-0.3, -0.15, 0.01, "not worse"),
        (math.nan, math.nan, 0.01, "not measured"),
    ],
)
def test_damage_is_worse_only_where_the_interval_and_p_both_say_so(
    low: float, high: float, p: float, expected: str
) -> None:
    assert verdict(Change(Interval((low + high) / 2, low, high), p), LOOPS) == expected


def test_lost_highs_are_damage_and_won_ones_are_not() -> None:
    assert verdict(Change(Interval(-5, -6, -4), 0.01), HIGHS) == "worse"
    assert verdict(Change(Interval(-5, -6, -3), 0.01), HIGHS) == "can't tell"
    assert verdict(Change(Interval(5, 4, 6), 0.01), HIGHS) == "not worse"
    assert verdict(Change(NOT_MEASURED, math.nan), HIGHS) == "not measured"


def ratios(**changed: Interval) -> dict[str, Interval]:
    """The model's movement over the target's: calm, and following, unless `changed`."""
    shifts = [f"moved_{after}{kind}" for after in ("1ms", "23ms", "372ms") for kind in ("", "_colour")]
    return dict.fromkeys(shifts, Interval(1.0, 0.9, 1.1)) | changed


@pytest.mark.parametrize("measure", ["moved_1ms", "moved_1ms_colour", "moved_23ms", "moved_23ms_colour"])
def test_a_cloud_is_steady_only_if_the_whole_interval_of_its_movement_lies_below(measure: str) -> None:
    assert clouds_page._steadiness_verdicts(ratios()) == {"steady": True, "follows": True}
    unsure = ratios(**{measure: Interval(1.2, 0.9, 1.5)})
    assert clouds_page._steadiness_verdicts(unsure) == {"steady": False, "follows": True}
    moving = ratios(moved_372ms_colour=Interval(1.2, 0.9, 1.6))
    assert clouds_page._steadiness_verdicts(moving)["steady"], "after 372 ms a cloud may move"


def test_a_cloud_follows_only_if_the_whole_interval_of_its_movement_lies_above() -> None:
    unsure = ratios(moved_372ms=Interval(0.9, 0.5, 1.2))
    assert clouds_page._steadiness_verdicts(unsure) == {"steady": True, "follows": False}
    assert clouds_page._steadiness_verdicts(ratios(moved_1ms=NOT_MEASURED)) == {
        "steady": None,
        "follows": None,
    }
