"""The cloud judge's distances against figures worked out by hand and by brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kwela.judge.clouds.metrics import (
    MODEL,
    SHIFTS,
    TARGET_AGAIN,
    CloudScores,
    _measure_clouds,
    _windows_of_other_songs,
    cloud_distances,
    f_score,
    rank_songs,
)
from kwela.judge.clouds.windows import Window, WindowWithTarget
from kwela.spectocloud.target import Cloud


def cloud(points: list[list[float]] | np.ndarray, shade: float = 0.5) -> Cloud:
    positions = np.asarray(points, np.float32)
    return Cloud(positions, np.full((len(positions), 7), shade, np.float32))


def test_a_cloud_is_no_distance_from_itself_in_any_order() -> None:
    rng = np.random.default_rng(0)
    one = Cloud(rng.random((300, 3), np.float32), rng.random((300, 7), np.float32))
    order = rng.permutation(300)
    far = cloud_distances(one, Cloud(one.positions[order], one.attributes[order]))
    assert far == (0, 1, 1, 0, 0)


def test_by_hand() -> None:
    far = cloud_distances(cloud([[0, 0, 0], [1, 0, 0]], 0.2), cloud([[0, 0, 0]], 0.7))
    assert far.chamfer == pytest.approx(0.5)  # (0 + 1) / 2 there, 0 back
    assert far.fine == pytest.approx(2 * 0.5 * 1 / 1.5)  # precision 1/2, recall 1
    assert far.colour == pytest.approx(0.5, abs=1e-6) and far.properties == pytest.approx(0.5, abs=1e-6)


def test_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((80, 3)), rng.random((120, 3))
    far = np.square(a[:, None] - b).sum(-1)
    expected = far.min(1).mean() + far.min(0).mean()
    assert cloud_distances(cloud(a), cloud(b)).chamfer == pytest.approx(expected, rel=1e-5)


def test_colours_are_compared_with_the_match_and_not_by_index() -> None:
    rng = np.random.default_rng(2)
    one = Cloud(rng.random((200, 3), np.float32), rng.random((200, 7), np.float32))
    turned = Cloud(one.positions[::-1].copy(), one.attributes[::-1].copy())
    wrong = Cloud(one.positions, one.attributes[::-1].copy())
    assert cloud_distances(one, turned).colour == 0
    assert cloud_distances(one, wrong).colour > 0.2


def test_all_points_in_one_place_have_precision_without_recall() -> None:
    rng = np.random.default_rng(3)
    wanted = cloud(rng.random((500, 3)))
    heap = cloud(np.repeat(wanted.positions[:1], 500, axis=0))
    assert cloud_distances(heap, wanted).fine < 0.02


def test_colour_is_of_the_first_four_attributes_and_properties_of_the_others() -> None:
    place = np.zeros((1, 3), np.float32)
    zeros, ones = np.zeros((1, 7), np.float32), np.ones((1, 7), np.float32)
    tinted = ones.copy()
    tinted[:, :4] = [0.1, 0.2, 0.3, 0.4]
    far = cloud_distances(Cloud(place, zeros), Cloud(place, tinted))
    assert far.colour == pytest.approx(0.25) and far.properties == 1
    assert cloud_distances(Cloud(place, tinted), Cloud(place, zeros)) == far
    both = Cloud(np.array([[0, 0, 0], [1, 0, 0]], np.float32), np.concatenate([zeros, ones]))
    assert cloud_distances(both, Cloud(place, zeros)).colour == pytest.approx((0.5 + 0) / 2), (
        "each way is averaged"
    )
    assert (
        cloud_distances(both, Cloud(place, zeros)).coarse == cloud_distances(Cloud(place, zeros), both).coarse
    )


@pytest.mark.parametrize(
    ("gap", "fine", "coarse"), [(0.02, 1, 1), (0.0201, 0, 1), (0.05, 0, 1), (0.0501, 0, 0)]
)
def test_radii_are_two_and_five_hundredths_of_the_cube(gap: float, fine: float, coarse: float) -> None:
    wanted = Cloud(np.zeros((1, 3)), np.zeros((1, 7)))
    far = cloud_distances(Cloud(np.array([[gap, 0, 0]]), np.zeros((1, 7))), wanted)
    assert (far.fine, far.coarse) == (fine, coarse) and far.chamfer == pytest.approx(2 * gap**2)


@pytest.mark.parametrize("part", ["positions", "attributes"])
@pytest.mark.parametrize("side", [0, 1])
def test_points_that_are_not_finite_are_infinitely_far(part: str, side: int) -> None:
    pair = [cloud([[0, 0, 0], [1, 0, 0]]), cloud([[0, 0, 0]])]
    values = getattr(pair[side], part).copy()
    values[0, 0] = np.nan
    pair[side] = pair[side]._replace(**{part: values})
    assert cloud_distances(*pair) == (np.inf, 0, 0, np.inf, np.inf)


def test_f_score_by_hand() -> None:
    assert f_score(np.array([0, 1.0]), np.array([0, 0, 0, 1.0]), 0.5) == pytest.approx(2 * 0.5 * 0.75 / 1.25)
    assert f_score(np.array([0, 1.0]), np.ones(3), 0.5) == 0


def test_windows_are_compared_with_those_1_23_and_372_ms_later() -> None:
    later = {name: round(1000 * seconds, 2) for name, seconds in SHIFTS.items()}
    assert later == {"moved_1ms": 1.0, "moved_23ms": 23.22, "moved_372ms": 371.52}


def test_songs_are_ranked_by_the_mean_of_their_windows() -> None:
    measures = {"chamfer": {MODEL: np.array([1.0, 5.0, 2.0, 3.0])}}
    assert rank_songs(CloudScores(np.array(["b", "b", "c", "a"]), measures)) == ["c", "a", "b"]


def test_a_cloud_knows_its_song_if_it_is_nearer_to_its_own_target_than_to_every_other() -> None:
    wanted, near, far = (cloud([[x, 0, 0]]) for x in (0.0, 0.5, 0.9))
    sources = {MODEL: cloud([[0.1, 0, 0]]), "nearest neighbour": cloud([[0.45, 0, 0]]), "mean cloud": near}
    found = _measure_clouds(sources, wanted, [far, near])
    assert found["own_song"] == {MODEL: 1, "nearest neighbour": 0}
    assert found["chamfer"][MODEL] == pytest.approx(2 * 0.1**2) and found["coarse"]["mean cloud"] == 0
    assert _measure_clouds({MODEL: cloud([[0.25, 0, 0]])}, wanted, [near])["own_song"][MODEL] == 0, (
        "as near is not nearer"
    )
    assert _measure_clouds({TARGET_AGAIN: wanted}, wanted, [])["own_song"] == {TARGET_AGAIN: 1}


def windows_of(*songs: str) -> list[WindowWithTarget]:
    """Held-out windows of which only the song matters."""
    plain = Window("", Path(), Path(), np.zeros(64), 0.0, 0.0)
    return [WindowWithTarget(replace(plain, song=song), None, cloud([[0, 0, 0]])) for song in songs]


def test_strangers_are_windows_of_other_songs_one_of_each_up_to_seven() -> None:
    songs = [f"song {k // 2}" for k in range(20)]
    chosen = _windows_of_other_songs(windows_of(*songs), seed=0)
    for song, others in zip(songs, chosen, strict=True):
        names = [songs[k] for k in others]
        assert len(names) == len(set(names)) == 7 and song not in names
    assert (
        chosen
        == _windows_of_other_songs(windows_of(*songs), seed=0)
        != _windows_of_other_songs(windows_of(*songs), seed=1)
    )
    assert {k for others in chosen for k in others} == set(range(20)), "any window of a song may be drawn"
    assert _windows_of_other_songs(windows_of("a", "b", "b"), seed=0)[1:] == [[0], [0]]


def test_f_score_of_nothing_in_reach_is_0() -> None:
    assert f_score(np.ones(3), np.ones(3), 0.5) == 0


def test_an_empty_cloud_is_refused() -> None:
    with pytest.raises(ValueError, match="0 and 1 points"):
        cloud_distances(cloud(np.zeros((0, 3))), cloud([[0, 0, 0]]))
