"""The cloud judge's distances against figures worked out by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from kwela.judge.cloud_scores import apart, f_score
from kwela.spectocloud.target import Cloud


def cloud(points: list[list[float]] | np.ndarray, shade: float = 0.5) -> Cloud:
    positions = np.asarray(points, np.float32)
    return Cloud(positions, np.full((len(positions), 7), shade, np.float32))


def test_a_cloud_is_no_distance_from_itself_in_any_order() -> None:
    rng = np.random.default_rng(0)
    one = Cloud(rng.random((300, 3), np.float32), rng.random((300, 7), np.float32))
    order = rng.permutation(300)
    far = apart(one, Cloud(one.positions[order], one.attributes[order]))
    assert far == (0, 1, 1, 0, 0)


def test_by_hand() -> None:
    far = apart(cloud([[0, 0, 0], [1, 0, 0]], 0.2), cloud([[0, 0, 0]], 0.7))
    assert far.chamfer == pytest.approx(0.5)  # (0 + 1) / 2 there, 0 back
    assert far.fine == pytest.approx(2 * 0.5 * 1 / 1.5)  # precision 1/2, recall 1
    assert far.colour == pytest.approx(0.5, abs=1e-6) and far.properties == pytest.approx(0.5, abs=1e-6)


def test_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((80, 3)), rng.random((120, 3))
    far = np.square(a[:, None] - b).sum(-1)
    expected = far.min(1).mean() + far.min(0).mean()
    assert apart(cloud(a), cloud(b)).chamfer == pytest.approx(expected, rel=1e-5)


def test_colours_are_compared_with_the_match_and_not_by_index() -> None:
    rng = np.random.default_rng(2)
    one = Cloud(rng.random((200, 3), np.float32), rng.random((200, 7), np.float32))
    turned = Cloud(one.positions[::-1].copy(), one.attributes[::-1].copy())
    wrong = Cloud(one.positions, one.attributes[::-1].copy())
    assert apart(one, turned).colour == 0
    assert apart(one, wrong).colour > 0.2


def test_all_points_in_one_place_have_precision_without_recall() -> None:
    rng = np.random.default_rng(3)
    wanted = cloud(rng.random((500, 3)))
    heap = cloud(np.repeat(wanted.positions[:1], 500, axis=0))
    assert apart(heap, wanted).fine < 0.02


def test_f_score_of_nothing_in_reach_is_0() -> None:
    assert f_score(np.ones(3), np.ones(3), 0.5) == 0


def test_an_empty_cloud_is_refused() -> None:
    with pytest.raises(ValueError, match="0 and 1 points"):
        apart(cloud(np.zeros((0, 3))), cloud([[0, 0, 0]]))
