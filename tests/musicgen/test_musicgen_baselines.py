"""The figures a model must beat, against slow direct ones and where theory knows them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kwela.musicgen import baselines

SIZE = 8


def slow(train: list[np.ndarray], held_out: list[np.ndarray], book: int) -> tuple[float, float]:
    """Constant and bigram cross-entropy of one codebook, code by code."""
    ones: dict[int, int] = {}
    pairs: dict[tuple[int, int], int] = {}
    for clip in train:
        row = [int(code) for code in clip[book]]
        for code in row:
            ones[code] = ones.get(code, 0) + 1
        for pair in itertools.pairwise(row):
            pairs[pair] = pairs.get(pair, 0) + 1

    def alone(code: int) -> float:
        return (ones.get(code, 0) + len(ones) / SIZE) / (sum(ones.values()) + len(ones))

    def after(code: int, before: int) -> float:
        followers = [count for (first, _), count in pairs.items() if first == before]
        if not followers:
            return alone(code)
        return (pairs.get((before, code), 0) + len(followers) * alone(code)) / (
            sum(followers) + len(followers)
        )

    nats, pair_nats, count = 0.0, 0.0, 0
    for clip in held_out:
        row = [int(code) for code in clip[book]]
        for at, code in enumerate(row):
            nats -= math.log(alone(code))
            pair_nats -= math.log(after(code, row[at - 1]) if at else alone(code))
            count += 1
    return nats / count, pair_nats / count


def chain(rng: np.random.Generator, frames: int, stay: float) -> np.ndarray:
    """Two codebooks, each of which keeps its code with chance `stay`."""
    ids = rng.integers(SIZE, size=(2, frames))
    for at in range(1, frames):
        kept = rng.random(2) < stay
        ids[kept, at] = ids[kept, at - 1]
    return ids.astype(np.int16)


def test_they_are_the_direct_computation_also_for_codes_never_seen():
    rng = np.random.default_rng(0)
    train = [
        rng.integers(SIZE - 3, size=(3, n)).astype(np.int16) for n in (9, 30, 1)
    ]  # three codes never occur
    held_out = [rng.integers(SIZE, size=(3, n)).astype(np.int16) for n in (12, 1, 25)]
    found = baselines.measure(iter(train), held_out, SIZE)
    direct = [slow(train, held_out, book) for book in range(3)]
    for book, (constant, bigram) in enumerate(direct, 1):
        assert found[f"constant_ce_{book}"] == pytest.approx(constant)
        assert found[f"bigram_ce_{book}"] == pytest.approx(bigram)
    assert found["constant_ce"] == pytest.approx(np.mean([constant for constant, _ in direct]))
    assert found["bigram_ce"] == pytest.approx(np.mean([bigram for _, bigram in direct]))
    assert list(found)[:2] == ["constant_ce", "bigram_ce"]


def test_both_are_probabilities():
    train = [np.array([[0, 1, 1, 2]], np.int16)]
    for before in ([], [1], [7]):  # at the beginning, after a known code, after one never seen
        clips = [np.array([[*before, code]], np.int16) for code in range(SIZE)]
        lone = baselines.measure(train, [np.array([before], np.int16)], SIZE) if before else None
        for name in ("constant_ce", "bigram_ce"):
            nats = [baselines.measure(train, [clip], SIZE)[name] * clip.shape[1] for clip in clips]
            known = lone[name] if lone else 0.0
            assert sum(math.exp(known - one) for one in nats) == pytest.approx(1.0)


def test_a_bigram_hears_a_markov_chain_and_nothing_in_independent_codes():
    rng = np.random.default_rng(1)
    stay = 0.7
    train, held_out = ([chain(rng, 400, stay) for _ in range(count)] for count in (30, 8))
    found = baselines.measure(train, held_out, SIZE)
    moved = (1 - stay) / SIZE
    entropy = -((stay + moved) * math.log(stay + moved) + (SIZE - 1) * moved * math.log(moved))
    assert found["bigram_ce"] == pytest.approx(entropy, abs=0.03)
    assert found["constant_ce"] == pytest.approx(math.log(SIZE), abs=0.03)
    train, held_out = ([chain(rng, 400, 0.0) for _ in range(count)] for count in (30, 8))
    found = baselines.measure(train, held_out, SIZE)
    assert found["bigram_ce"] == pytest.approx(found["constant_ce"], abs=0.02)
