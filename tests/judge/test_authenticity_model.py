from __future__ import annotations

import numpy as np
import pytest

from kwela import stats
from kwela.judge.authenticity import classifier as model

RNG = np.random.default_rng(0)


def sides(
    shift: float, artists: int = 24, takes: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Gaussian features (N, 6), `shift` between the sides in the first, half of the variance the artist's."""
    rng = np.random.default_rng(seed)
    genuine = np.repeat([True, False], artists * takes)
    own = np.repeat(rng.normal(size=(2 * artists, 6)), takes, axis=0)
    features = own + rng.normal(size=own.shape)
    features[genuine, 0] += shift
    return features, genuine, [f"artist {k // takes}" for k in range(len(features))]


def fitted(
    features: np.ndarray, genuine: np.ndarray, artists: list[str], seed: int = 0
) -> model.CrossValidatedClassifier:
    return model.fit(features, genuine, model.split_by_artist(genuine, artists, seed))


def held_out_auc(features: np.ndarray, genuine: np.ndarray, artists: list[str]) -> float:
    odds = fitted(features, genuine, artists).held_out.log_odds
    return stats.auc(odds[genuine], odds[~genuine])


def test_auc_is_that_of_the_shift() -> None:
    features, genuine, artists = sides(3.0)
    # Two unit variances: d' = 3 / sqrt(2), AUC = Phi(d' / sqrt(2)) = 0.933.
    assert held_out_auc(features, genuine, artists) == pytest.approx(0.933, abs=0.04)


def test_an_artist_is_never_on_both_sides_of_a_split() -> None:
    """Every artist has a signature and a random label: only who has heard the artist can know."""
    artists = np.repeat(np.arange(40), 4)
    honest, leaking = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        genuine = (rng.permutation(40) % 2 == 0)[artists]
        features = rng.normal(size=(40, 25))[artists] + 0.1 * rng.normal(size=(160, 25))
        honest.append(held_out_auc(features, genuine, [str(a) for a in artists]))
        leaking.append(
            held_out_auc(features, genuine, [str(k) for k in range(160)])
        )  # each clip its own artist
    assert np.mean(honest) < 0.65 and np.mean(leaking) > 0.9


def test_no_more_than_5_percent_of_held_out_contrast_pass() -> None:
    for seed in range(3):
        features, genuine, artists = sides(1.5, seed=seed)
        found = fitted(features, genuine, artists)
        past = found.held_out.log_odds[~genuine] > found.threshold
        assert 0.03 < past.mean() <= 0.05


def test_probabilities_are_calibrated() -> None:
    features, genuine, artists = sides(2.0, artists=150)
    said = fitted(features, genuine, artists).held_out.probability
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)):
        there = (said >= low) & (said < high)
        assert genuine[there].mean() == pytest.approx(said[there].mean(), abs=0.12)


def test_what_is_like_neither_side_is_out_of_distribution_and_never_passes() -> None:
    features, genuine, artists = sides(3.0)
    found = fitted(features, genuine, artists)
    beyond = np.zeros((1, 6))
    beyond[0, 0] = 40.0  # the line says reference, louder than of any reference clip
    judged = found.score(beyond)
    assert (
        judged.log_odds[0] > found.threshold and judged.outside[0] and not judged.passes(found.threshold)[0]
    )
    assert found.held_out.outside.mean() < 0.03
    fresh, real, _ = sides(3.0, seed=9)
    assert found.score(fresh[real]).outside.mean() < 0.1


def test_shuffled_labels_are_chance() -> None:
    features, _, artists = sides(3.0, artists=20)
    aucs = []
    for seed in range(6):
        labels = np.repeat(np.random.default_rng(seed).permutation(40) % 2 == 0, 4)
        aucs.append(held_out_auc(features, labels, artists))
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.1)


def test_it_is_a_function_of_its_arguments_and_needs_artists() -> None:
    features, genuine, artists = sides(1.0)
    first, second = (fitted(features, genuine, artists, seed=3).held_out.log_odds for _ in range(2))
    assert np.array_equal(first, second)
    with pytest.raises(ValueError, match="artists"):
        model.split_by_artist(genuine, [f"{g}" for g in genuine])
